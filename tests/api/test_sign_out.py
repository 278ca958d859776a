"""Sign-outs: earlier tokens of the user are invalid on every transport, also after a restart."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio

from chatserver.api import services
from chatserver.api.tokens import MAX_LIFETIME
from chatserver.log.interface import Draft, LogUnavailable
from chatserver.log.memory import MemoryLog
from chatserver.log.signouts import SignOut
from tests.api.asking import cookie, hold_back
from tests.support.moderating import sanction
from tests.support.peers import ask, chatter, connect, publish, request
from tests.support.serving import Serving, serving, until
from tests.support.steps import few_in_a_step
from tests.support.tokens import bearer, token


@pytest.fixture
async def house(key: str) -> AsyncIterator[Serving]:
    async with serving(token_key=(key,)) as server:
        yield server


def old(**claims: Any) -> str:
    """A token made some seconds ago. Tokens made in the second of the sign-out are invalid as well."""
    return token(iat=int(time.time()) - 5, **claims)


async def sign_out(server: Serving, headers: dict[str, str]) -> None:
    answer = await ask(server.address, "DELETE", "/session", headers=headers)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["set-cookie"].startswith("chat_session=; Path=/; Max-Age=0; HttpOnly")


async def status(server: Serving, headers: dict[str, str]) -> int:
    return (await ask(server.address, "GET", "/session", headers=headers)).status


async def test_a_sign_out_ends_earlier_tokens_of_the_user_and_no_later_ones(house: Serving) -> None:
    mine, other, without, bob = old(), old(extra=1), token(iat=None), old(sub="u_bob")
    assert [await status(house, bearer(each)) for each in (mine, other, without, bob)] == [200] * 4
    await sign_out(house, cookie(mine))
    assert [await status(house, bearer(each)) for each in (mine, other, without, bob)] == [401, 401, 401, 200]
    assert (await ask(house.address, "GET", "/session", headers=cookie(mine))).json["guest"], "a new guest"
    assert await status(house, bearer(token(iat=int(time.time()) + 2))) == 200
    assert (await ask(house.address, "DELETE", "/session", headers=bearer(mine))).status == 401


async def test_sign_outs_of_users_are_limited_in_number(house: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is not dropped, unlike that of a guest, since that would make revoked tokens valid again."""
    monkeypatch.setattr("chatserver.chat.signed_out.MAX_USERS", 2)
    ann, bob, cat = (bearer(old(sub=f"u_{name}")) for name in ("ann", "bob", "cat"))
    for each in (ann, bob, cookie("a-guest-that-is-not-counted")):
        await sign_out(house, each)
    assert [await status(house, each) for each in (ann, bob, cat)] == [401, 401, 200]
    refused = await ask(house.address, "DELETE", "/session", headers=cat)
    assert (refused.status, refused.error, await status(house, cat)) == (503, "unavailable", 200)
    await sign_out(house, bearer(token(sub="u_ann", iat=int(time.time()) + 2)))
    with mock.patch.object(house.server.parts.services.identities.signed_out, "wall_ms", return_value=1 << 60):
        await sign_out(house, cat)


async def test_a_sign_out_ends_a_token_from_an_issuer_with_a_wrong_clock(house: Serving) -> None:
    """A token whose `iat` is after the sign-out must not stay valid, and an `iat` of -1e308 must not overflow."""
    for sub, ahead in (("u_ann", 5.0004), ("u_bob", -1e308)):
        mine = token(sub=sub, iat=time.time() + ahead)
        assert await status(house, bearer(mine)) == 200
        await sign_out(house, bearer(mine))
        assert await status(house, bearer(mine)) == 401, sub


#: Requests, each with a room or a word of its own, and what they ask of the log.
WAITING = (
    ("rooms/news-{}/messages", "", "head"),
    ("rooms/news-{}", "", "head"),
    ("rooms", "", "rooms"),
    ("unread", "markers", "of_user"),
    ("audit", "audit", "read"),
    ("search?q=word-{}", "index", "find"),
    ("search?q=tea&room=news-{}", "index", "find"),
    ("rooms/news-{}/events", "", "head"),
    ("rooms/news-{}/messages?wait=60", "", "head"),
    ("poll?room=news-{}&wait=60", "", "head"),
    ("rooms/news-{}/messages", "", "read"),
    ("poll?room=news-{}:1", "", "read"),
    ("poll?room=news-{}&kinds=message", "", "read"),
)


@pytest.mark.parametrize("banned", [False, True])
async def test_a_request_that_waits_for_the_log_is_not_answered(
    key: str, monkeypatch: pytest.MonkeyPatch, *, banned: bool
) -> None:
    """A request authorized before the sign-out, or a ban, would get messages from after it; a stream, all of them."""
    log, moderator = MemoryLog(), {"role": "moderator"}
    async with serving(engine=log, token_key=(key,)) as server, AsyncExitStack() as stack:
        for number, (path, area, read) in enumerate(WAITING):
            for room in [f"news-{number}"] * 60:  # more than a load brings into memory
                log.submit(Draft(room, "u_eve", "Eve", f"tea {number}"), lambda result: None)
            with monkeypatch.context() as patch:
                may_tell = hold_back(patch, getattr(log, area) if area else log, read)
                mine, other = (bearer(old(sub=f"{name}_{number}", chat=moderator)) for name in ("ann", "bob"))
                peers = [await stack.enter_async_context(connect(server.address)) for _ in range(2)]
                for peer, headers in zip(peers, (mine, other), strict=True):
                    await peer.send(request("GET", f"/{path.format(number)}", headers=headers))
                await server.in_phase("serving", 2)
                if banned:
                    where = f"news-{number}" if "news" in path else "*"
                    await sanction(server.address, where, kind="ban", user=f"ann_{number}")
                else:
                    await sign_out(server, mine)
                may_tell.set()
                # `unread` names no forbidden room
                refused = 200 if banned and path == "unread" else 403 if banned else 401
                assert [(await peer.head()).status for peer in peers] == [refused, 200], path
            loaded = server.server.parts.hub.rooms.get(f"news-{number}")
            people = [] if loaded is None else [each.face.id for each in loaded.presence.people()]
            assert not banned or f"ann_{number}" not in people, path


@pytest.mark.parametrize("banned", [False, True])
async def test_a_held_poll_that_waits_for_the_log_is_not_answered(
    key: str, monkeypatch: pytest.MonkeyPatch, banned: bool
) -> None:
    """A poll whose cursor has left the ring waits for the log; a sign-out or a ban must find its user meanwhile."""
    log = MemoryLog()
    mine, other = bearer(old()), bearer(old(sub="u_bob"))
    async with serving(engine=log, token_key=(key,), ring_messages=16) as server, AsyncExitStack() as stack:
        await publish(server.address, "news", "first")
        peers = [await stack.enter_async_context(connect(server.address)) for _ in range(2)]
        for peer, headers in zip(peers, (mine, other), strict=True):
            await peer.send(request("GET", "/poll?room=news:1&wait=60", headers=headers))
        await server.in_phase("held", 2)
        may_tell = hold_back(monkeypatch, log, "read")
        for room in ("other", *["news"] * 40):  # one group, which exceeds the ring
            log.submit(Draft(room, "u_eve", "Eve", "secret"), lambda result: None)
        await server.in_phase("serving", 2)
        if banned:
            await sanction(server.address, "news", kind="ban", user="u_ann", seconds=60)
        else:
            await sign_out(server, mine)
        may_tell.set()
        refused, answered = [await peer.response() for peer in peers]
        assert (refused.status, answered.status) == (403 if banned else 401, 200)
        page = answered.json["rooms"]["news"]
        assert (page["recovered"], [each["offset"] for each in page["messages"]]) == (True, list(range(2, 42)))


async def test_a_waiting_stream_opens_though_an_old_sign_out_is_removed(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_tell = hold_back(monkeypatch, log := MemoryLog(), "head")
    async with serving(engine=log, token_key=(key,)) as server, connect(server.address) as mine:
        await sign_out(server, bearer(old()))
        later = bearer(token(iat=int(time.time()) + 2))
        await mine.send(request("GET", "/rooms/news/events", headers=later))
        await server.in_phase("serving", 1)
        server.server.parts.services.identities.signed_out.restore([])  # as the sweep does much later
        may_tell.set()
        await server.in_phase("stream")


@pytest.mark.jumping_clock
async def test_a_sign_out_ends_the_users_connections_on_every_transport(
    house: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_in_a_step(monkeypatch)
    mine, bob = old(), old(sub="u_bob")
    async with (
        chatter(house.address, headers=bearer(mine)) as by_bearer,
        chatter(house.address) as by_auth,
        chatter(house.address, headers=bearer(bob)) as neighbour,
        connect(house.address) as stream,
        connect(house.address) as poll,
    ):
        await by_auth.ask("auth", token=old(extra=2))
        for each in (by_bearer, by_auth, neighbour):
            await each.ask("join", room="lobby")
        await stream.send(request("GET", "/rooms/lobby/events", headers=bearer(mine)))
        assert (await stream.head()).status == 200
        await poll.send(request("GET", "/rooms/lobby/messages?wait=60", headers=bearer(mine)))
        await house.in_phase("held")
        await sign_out(house, bearer(mine))
        for each in (by_bearer, by_auth):
            assert str(await each.closed()) == "4503 signed out"
        assert (await poll.response()).error == "unauthenticated"
        await stream.rest()
        await house.counted("expired", 3)
        assert (await neighbour.ask("ping"))["type"] == "pong"


async def test_a_user_who_has_signed_out_is_in_no_room(key: str) -> None:
    """Those whose connection had ended before, or who polled, were listed until their lease ended."""
    mine = bearer(old())
    async with serving(token_key=(key,), presence_grace=300.0) as server, chatter(server.address) as neighbour:
        for room in ("lobby", "news", "tea"):
            await neighbour.ask("join", room=room)
        async with (
            chatter(server.address, headers=mine) as friend,
            connect(server.address) as stream,
            connect(server.address) as poll,
        ):
            await friend.ask("join", room="lobby")
            await stream.send(request("GET", "/rooms/lobby/events", headers=mine))
            await poll.send(request("GET", "/rooms/news/messages?wait=60", headers=mine))
            await server.in_phase("held")
            await ask(server.address, "GET", "/poll?room=tea", headers=mine)
            await sign_out(server, mine)
            await friend.closed()
        for room in ("lobby", "news", "tea"):
            listed = partial(neighbour.ask, "members", room=room)
            await until(listed, lambda answer: answer["members"] == [neighbour.hello["user"]])


async def test_several_sign_outs_at_a_time_are_all_done(house: Serving) -> None:
    people = [f"u_{number}" for number in range(5)]
    async with trio.open_nursery() as nursery:

        async def one(sub: str) -> None:
            async with chatter(house.address, headers=bearer(old(sub=sub))) as friend:
                nursery.start_soon(sign_out, house, bearer(old(sub=sub, extra=1)))
                assert (await friend.closed()).code == 4503

        for sub in people:
            nursery.start_soon(one, sub)


async def test_a_guest_who_signs_out_becomes_a_new_guest(house: Serving) -> None:
    made = (await ask(house.address, "POST", "/session", {"name": "Ann"})).json
    async with chatter(house.address, headers=cookie(made["token"])) as friend:
        assert friend.hello["user"] == made["user"]
        await sign_out(house, cookie(made["token"]))
        assert (await friend.closed()).code == 4503
    base = made["token"].partition("~")[0]
    assert [await status(house, bearer(each)) for each in (made["token"], base)] == [401, 401]
    async with chatter(house.address, headers=cookie(base)) as again:
        assert again.hello["user"] != made["user"]
        assert "set-cookie" in again.handshake.headers, "it gets a new token"


async def test_a_sign_out_without_a_token_only_clears_the_cookie(house: Serving) -> None:
    await sign_out(house, {})
    await sign_out(house, cookie("a.b.c"))
    answer = await ask(house.address, "DELETE", "/session", headers={"Origin": "https://evil.example"})
    assert answer.status == 403


async def test_a_sign_out_holds_after_a_restart(tmp_path: Path, key: str) -> None:
    log, mine = f"sqlite:{tmp_path / 'chat.db'}", old()
    async with serving(log=log, token_key=(key,)) as server:
        guest = (await ask(server.address, "POST", "/session")).json["token"]
        for each in (mine, guest):
            await sign_out(server, bearer(each))
        kept, _ = await server.server.parts.log.signouts.load(0)
        assert [each.until - each.time for each in kept] == [MAX_LIFETIME * 1000] * 2, "as long as a token may be valid"
    async with serving(log=log, token_key=(key,)) as server:
        assert [await status(server, bearer(each)) for each in (mine, guest, old(sub="u_bob"))] == [401, 401, 200]


async def test_a_sign_out_that_is_not_stored_is_not_done(house: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(sign_out: SignOut) -> None:
        raise LogUnavailable("the disk is full")

    monkeypatch.setattr(house.server.parts.log.signouts, "add", failing)
    answer = await ask(house.address, "DELETE", "/session", headers=bearer(old()))
    assert (answer.status, answer.error) == (503, "unavailable")
    assert await status(house, bearer(old())) == 200


async def test_signing_out_has_the_rate_of_publishing(key: str) -> None:
    """Each sign-out syncs the disk, so a guest that makes and ends sessions is limited like a publisher."""
    async with serving(token_key=(key,), publish_rate=0.01) as server:
        later = int(time.time()) + 5
        tokens = [token(iat=later + seconds) for seconds in range(2)]  # a sign-out by the first leaves the second
        answers = [await ask(server.address, "DELETE", "/session", headers=bearer(each)) for each in tokens]
        assert [answer.status for answer in answers] == [204, 429]
        assert int(answers[1].headers["retry-after"]) > 1


async def test_guests_of_one_network_cannot_have_the_sign_out_of_another_forgotten(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last 10,000 are kept, and any text is a guest's token."""
    monkeypatch.setattr(services, "SIGN_OUT_RATE", 0.001)
    monkeypatch.setattr(services, "SIGN_OUT_BURST", 3.0)
    async with serving(publish_rate=100.0, token_key=(key,)) as server:
        answers = [
            await ask(server.address, "DELETE", "/session", headers={"Authorization": f"Bearer {name:-<20}"})
            for name in "abcd"
        ]
        assert [answer.status for answer in answers] == [204, 204, 204, 429]
        assert int(answers[-1].headers["retry-after"]) > 1
        await sign_out(server, bearer(old()))  # of a user, which is not forgotten
