"""Users with tokens, on every transport: identity, rights, and the end of the sign-in."""

import itertools
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import trio

from chatserver import fair
from chatserver.api import tokens as tokens_module
from chatserver.api.conversation import Conversation
from chatserver.api.websocket_session import WebSocketSession
from chatserver.chat import principal
from chatserver.chat.hub import Hub
from chatserver.chat.member import Member
from chatserver.chat.principal import Principal
from chatserver.net import sockets
from chatserver.net.connection import Connection
from chatserver.reasons import Reason
from chatserver.settings.rooms import Audience, Guests, RoomPolicy
from tests.api.asking import cookie
from tests.support.peers import ClosedError, EndOfStreamError, ask, chatter, connect, frame, publish, request, say
from tests.support.serving import Serving, serving
from tests.support.tokens import SECRET, bearer, token
from tests.support.transports import collect, subscribe

ANN = {"id": "u_ann", "name": "Ann"}
ROOMS = (
    ("staff-*", RoomPolicy(read=Audience.GRANTED, write=Audience.GRANTED)),
    ("news", RoomPolicy(write=Audience.MODERATORS)),
    ("members", RoomPolicy(read=Audience.SIGNED_IN, write=Audience.SIGNED_IN)),
)


@pytest.fixture
async def house(key: str) -> AsyncIterator[Serving]:
    """A server where people sign in."""
    async with serving(token_key=(key,), rooms=ROOMS) as server:
        yield server


async def test_one_token_is_one_person_over_every_transport(house: Serving) -> None:
    mine = token()
    made = await ask(house.address, "POST", "/session", headers=bearer(mine))
    assert (made.status, made.json["token"], made.json["user"]) == (201, mine, ANN)
    assert 3500 < datetime.fromisoformat(made.json["expires"]).timestamp() - time.time() <= 3600
    assert (made.json["guest"], made.json["moderator"], made.json["moderates"]) == (False, False, [])
    assert made.json["tokens"] is True
    left = int(made.headers["set-cookie"].partition("Max-Age=")[2].partition(";")[0])
    assert 3500 < left <= 3600, "no longer than the token is valid"
    async with chatter(house.address) as other, chatter(house.address, headers=bearer(mine)) as friend:
        assert (friend.hello["user"], friend.hello["session"]) == (ANN, ""), "the token is not returned"
        await other.ask("auth", token=token(sub="u_bob", name="Bob"))
        await other.ask("join", room="members")
        await friend.ask("join", room="members")
        for headers in (bearer(mine), cookie(mine)):
            assert (await ask(house.address, "GET", "/session", headers=headers)).json["user"] == ANN
            said = await ask(house.address, "POST", "/rooms/members/messages", b"hi", headers=headers)
            assert (said.status, said.json["user"]) == (201, ANN)
            assert (await other.next("message"))["user"] == ANN
        async with connect(house.address) as peer:
            await peer.send(request("GET", "/rooms/members/events?after=0", headers=cookie(mine)))
            assert (await peer.head()).status == 200
            assert await peer.until(b'"name":"Ann"')
        async with connect(house.address) as peer:
            poll = await peer.request("GET", "/rooms/members/messages?after=0&wait=1", headers=cookie(mine))
            assert [message["user"] for message in poll.json["messages"]] == [ANN, ANN]
        members = await ask(house.address, "GET", "/rooms/members/members", headers=bearer(mine))
        assert members.json["count"] == 2, "Ann is one person on all transports"
    assert not any(mine in str(line) for line in house.logs)


async def test_the_name_and_the_id_are_those_of_the_token(house: Serving) -> None:
    answer = await ask(house.address, "POST", "/session", {"name": "Bob"}, headers=bearer(token()))
    assert answer.error == "bad_field"
    answer = await ask(house.address, "POST", "/session", headers=bearer(token(extra="x" * 2850)))
    assert (answer.status, answer.error) == (413, "too_large")


async def test_guests_are_asked_to_sign_in(house: Serving) -> None:
    for headers in ({}, cookie("x" * 22), cookie(token(exp=1)), cookie("a.b.c")):
        answer = await ask(house.address, "GET", "/rooms/members/messages", headers=headers)
        assert (answer.status, answer.error) == (401, "unauthenticated"), headers
        assert answer.headers["www-authenticate"] == 'Bearer realm="chat"'
    assert (await publish(house.address, "lobby", "hi"))["user"]["id"].startswith("g_")
    answer = await ask(house.address, "POST", "/rooms/news/messages", b"hi", headers=bearer(token()))
    assert (answer.status, answer.error) == (403, "forbidden"), "the user is known and lacks the right"


async def test_a_moderator_is_told_its_rooms(house: Serving) -> None:
    for rooms, moderator, moderates in (
        (None, True, ["*"]), ({"team-*": "rw", "ops": "r"}, False, ["team-*"]), ({"*": "rw"}, True, ["*"]),
    ):  # fmt: skip
        chat = {"role": "moderator", **({"rooms": rooms} if rooms else {})}
        said = await ask(house.address, "GET", "/session", headers=bearer(token(chat=chat)))
        assert (said.json["moderator"], said.json["moderates"]) == (moderator, moderates)


async def test_forged_tokens_are_rate_limited_on_each_transport(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "FAILURE_RATE", 0.001)
    monkeypatch.setattr(tokens_module, "FAILURE_BURST", 1.0)
    forged = token(number=1)
    async with serving(token_key=(key,)) as server, chatter(server.address) as friend:
        answers = [await ask(server.address, "GET", "/session", headers=bearer(forged)) for _ in range(2)]
        assert [(answer.status, answer.error) for answer in answers] == [
            (401, "unauthenticated"),
            (429, "rate_limited"),
        ]
        assert int(answers[1].headers["retry-after"]) >= 1
        signed_in = cookie(token())
        assert (await ask(server.address, "GET", "/session", headers=signed_in)).status == 429, "no guest meanwhile"
        assert "set-cookie" not in (await ask(server.address, "GET", "/", headers=signed_in)).headers
        refused = await friend.ask("auth", token=forged)
        assert (refused["code"], refused["retry_after"] > 0) == ("rate_limited", True)
        assert (await friend.ask("ping"))["type"] == "pong"


@pytest.mark.jumping_clock
async def test_auth_changes_the_member_in_its_rooms(house: Serving) -> None:
    async with chatter(house.address, headers=bearer(token(sub="u_bob", name="Bob"))) as bob:
        await bob.ask("join", room="lobby")
        async with chatter(house.address) as friend:
            guest = friend.hello["user"]
            await friend.ask("join", room="lobby")
            await friend.ask("join", room="tea")
            told = await friend.ask("auth", token=token(chat={"rooms": {"lobby": "rw"}}))
            assert told["user"] == ANN
            assert told["expires"].endswith("Z")
            assert (await friend.next("left"))["room"] == "tea", "the new user may not read this room"
            assert (await bob.ask("members", room="lobby"))["members"] == [{"id": "u_bob", "name": "Bob"}, ANN]
            seen: list[Any] = []
            while not any(ANN in each["joined"] for each in seen):
                seen.append(await bob.next("presence"))
            await friend.ask("publish", room="lobby", text="hi")
            assert (await bob.next("message"))["user"] == ANN
            assert (await ask(house.address, "GET", "/rooms/tea/members")).json["count"] == 0
            assert guest not in (await bob.ask("members", room="lobby"))["members"]
            await friend.ask("auth", token=token(name="Anne", chat={"rooms": {"lobby": "rw"}}))
            anne = {**ANN, "name": "Anne"}
            assert anne in (await bob.ask("members", room="lobby"))["members"]
            await friend.ask("auth", token=token(name="Anne", chat={"rooms": {"tea": "rw"}}))
            assert (await friend.next("left"))["room"] == "lobby", "the same user, who may read other rooms now"


async def test_auth_in_many_rooms_takes_several_steps(house: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a hundred rooms, one step of it took 0.7 ms. A room that the client is taken out of meanwhile stays so."""
    monkeypatch.setattr(fair, "perf_counter", itertools.count().__next__)  # each room takes longer than a step
    rooms, change = ["lobby", "tea", "news", "ops"], Hub.change_principal

    def change_and_expel(hub: Hub, member: Member, principal: Principal) -> None:
        change(hub, member, principal)
        session = cast(WebSocketSession, cast(Connection, member.connection).context)
        last = session.find("lobby")
        if last is not None:
            session.remove(last)
            hub.leave(last)

    async with chatter(house.address) as friend:
        for room in rooms:
            await friend.ask("join", room=room)
        with (
            mock.patch.object(Hub, "change_principal", change_and_expel),
            mock.patch.object(Conversation, "advance", autospec=True, side_effect=Conversation.advance) as steps,
        ):
            may_not_read_tea = {"rooms": {"[!t]*": "rw"}}
            await friend.peer.send(say(type="auth", token=token(chat=may_not_read_tea)) + say(type="ping", id=1))
            assert [(await friend.next("authenticated", "left", "pong"))["type"] for _ in range(3)] == [
                "authenticated", "left", "pong",
            ]  # fmt: skip
        assert steps.call_count >= len(rooms)
        present = {room: house.server.parts.hub.registry.presence(room).people() for room in rooms}
        assert {room: [each.face.id for each in people] for room, people in present.items()} == {
            "lobby": [], "tea": [], "news": ["u_ann"], "ops": ["u_ann"],
        }  # fmt: skip


def write(path: str, data: bytes) -> None:
    Path(path).write_bytes(data)


async def test_keys_are_read_again_at_sighup(house: Serving, key: str) -> None:
    async def status(number: int) -> int:
        return (await ask(house.address, "GET", "/session", headers=bearer(token(number=number)))).status

    assert [await status(number) for number in (0, 1)] == [200, 401]
    write(key, SECRET + b"x")
    house.server._reload()
    assert [await status(number) for number in (0, 1)] == [401, 200]
    write(key, b"short")
    house.server._reload()
    assert [await status(number) for number in (0, 1)] == [401, 200]
    [line] = [line for line in house.logs if line["event"] == "token_keys_not_reloaded"]
    house.logs.remove(line)


# -- the end of a sign-in ---------------------------------------------------------------------------------------------


def in_seconds(seconds: float, **claims: Any) -> str:
    return token(exp=principal.wall() + seconds, **claims)


@pytest.mark.jumping_clock
@pytest.mark.parametrize(("lasts", "pause"), [(55, 0.0), (55, 7.0), (32, 0.09)])
async def test_the_end_of_a_sign_in_is_announced(house: Serving, lasts: float, pause: float) -> None:
    """30 s before, whether the client is idle or busy; a neighbour with a longer token stays."""
    async with chatter(house.address) as friend, chatter(house.address, headers=bearer(in_seconds(600))) as other:
        await friend.ask("auth", token=in_seconds(lasts))
        for each in (friend, other):
            await each.ask("join", room="lobby")
        started = trio.current_time()

        async def talk() -> None:
            while True:
                await trio.sleep(pause or 7)
                for each in (friend, other) if pause else (other,):
                    await each.say(type="ping")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            told = await friend.next("expiring")
            assert 28 < told["seconds"] <= 31
            assert lasts - 31 < trio.current_time() - started < lasts - 27
            ending = await friend.closed()
            nursery.cancel_scope.cancel()
        assert (ending.code, lasts - 1 < trio.current_time() - started < lasts + 3) == (4503, True)
        await house.counted("expired")
        assert (await other.ask("ping"))["type"] == "pong"
        assert (await other.ask("members", room="lobby"))["count"] == 1


@pytest.mark.jumping_clock
async def test_a_sign_in_that_ends_soon_is_announced_at_once(house: Serving) -> None:
    """A client that has sent half a message is in its rooms no longer than others."""
    mine = bearer(in_seconds(9))
    async with (
        chatter(house.address, headers=mine) as one,
        chatter(house.address) as other,
        chatter(house.address, headers=mine) as half,
    ):
        await other.ask("auth", token=in_seconds(9))
        await half.next("expiring")
        await half.peer.send(frame("{", fin=False))
        assert (await half.closed()).code == 4503
        for each in (one, other):
            assert 6 < (await each.next("expiring"))["seconds"] <= 9
            assert (await each.closed()).code == 4503


@pytest.mark.jumping_clock
async def test_a_new_token_extends_the_sign_in(house: Serving) -> None:
    async with chatter(house.address, headers=bearer(in_seconds(40))) as friend:
        await friend.next("expiring")
        assert (await friend.ask("auth", token=in_seconds(500)))["type"] == "authenticated"
        for _ in range(3):
            await trio.sleep(15)
            assert (await friend.ask("ping"))["type"] == "pong"
        assert (await friend.ask("auth", token=token(exp=1)))["code"] == "unauthenticated"
        assert (await friend.ask("publish", room="members", text="hi"))["type"] == "ack", "the user has not changed"


@pytest.mark.jumping_clock
async def test_streams_and_polls_end_with_the_sign_in(house: Serving) -> None:
    mine = in_seconds(12)
    async with connect(house.address) as stream, connect(house.address) as poll:
        await stream.send(request("GET", "/rooms/members/events", headers=bearer(mine)))
        assert (await stream.head()).status == 200
        started = trio.current_time()
        answer = await poll.request("GET", "/rooms/members/messages?after=0&wait=60", headers=bearer(mine))
        assert (answer.status, answer.json["messages"]) == (200, [])
        await stream.rest()
        assert trio.current_time() - started < 19, "not only at the next heartbeat"
        await house.counted("expired")


@pytest.mark.jumping_clock
async def test_a_sign_in_ends_by_the_clock_of_the_system(house: Serving) -> None:
    """Deadlines stand still while a machine is suspended, and people wrote on although their tokens had expired."""
    mine = bearer(in_seconds(600))
    async with (
        chatter(house.address, headers=mine) as idle,
        chatter(house.address, headers=mine) as busy,
        chatter(house.address, headers=bearer(in_seconds(6000))) as other,
        connect(house.address) as stream,
    ):
        await stream.send(request("GET", "/rooms/members/events", headers=mine))
        assert (await stream.head()).status == 200
        with mock.patch.object(principal, "wall", return_value=time.time() + 3600):
            await busy.say(type="publish", id=1, room="members", text="late")
            assert (await busy.closed()).code == 4503
            assert (await idle.closed()).code == 4503
            await stream.rest()
            assert (await other.ask("ping"))["type"] == "pong"
        await house.counted("expired", 3)


@pytest.mark.jumping_clock
@pytest.mark.parametrize(("transport", "end"), [("websocket", ClosedError), ("events", EndOfStreamError)])
async def test_a_slow_reader_is_no_longer_in_a_room_than_its_sign_in(
    key: str, transport: str, end: type[Exception]
) -> None:
    """Bytes that it has not taken stop the deadline of its state, but not the end of its sign-in."""
    async with serving(token_key=(key,), send_buffer=4096, flush_window=60.0) as server:
        address, mine = server.address, bearer(in_seconds(40))
        async with subscribe(transport, address, "lobby", receive_buffer=4096, headers=mine) as slow:
            for _ in range(40):
                await publish(address, "lobby", "x" * 7_900)
            await trio.sleep(45)
            with pytest.raises(end):
                await collect(slow, 40)
        await server.counted("expired")


@pytest.mark.jumping_clock
async def test_a_slow_reader_that_answers_no_ping_is_closed_when_its_sign_in_ends(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enough bytes are acknowledged in each window, and never all, so no pong is missed."""
    async with (
        serving(token_key=(key,), flush_window=5.0) as server,
        chatter(server.address, headers=bearer(in_seconds(58))),
    ):
        outstanding = itertools.count(1_000_000, -10_000)
        monkeypatch.setattr(sockets, "outstanding", lambda descriptor: next(outstanding))
        await trio.sleep(75)
        assert server.ended(Reason.EXPIRED) == 1


@pytest.mark.jumping_clock
async def test_without_rights_for_guests_a_websocket_has_time_to_sign_in(key: str) -> None:
    async with serving(token_key=(key,), guests=Guests.NONE) as server:
        started = trio.current_time()
        async with (
            chatter(server.address) as silent,
            chatter(server.address) as talker,
            chatter(server.address) as friend,
        ):
            assert (await friend.ask("join", room="lobby"))["code"] == "unauthenticated"
            await trio.sleep(10)
            assert (await friend.ask("auth", token=token()))["type"] == "authenticated"
            for _ in range(3):  # a guest that talks has no more time than a silent one
                assert (await talker.ask("ping"))["type"] == "pong"
                await trio.sleep(4)
            assert (await friend.ask("ping"))["type"] == "pong"
            assert not server.ended(Reason.EXPIRED)
            for each in (silent, talker):
                with pytest.raises(ClosedError, match="4503"):
                    await each.hear()
            assert trio.current_time() - started < 26
            await trio.sleep(28)  # the user who has signed in is pinged like any other
            assert (await friend.ask("join", room="lobby"))["type"] == "joined"
        assert "set-cookie" not in (await ask(server.address, "GET", "/")).headers
