"""The client with the real server."""

import time
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from chatserver.client import (
    Complaint,
    Connected,
    Entered,
    Expiring,
    Forbidden,
    Gap,
    Invalid,
    NotFound,
    Reconnecting,
    TransportName,
    Unauthenticated,
    User,
    connect,
    feed,
    session,
)
from chatserver.settings.rooms import Audience, RoomPolicy
from tests.client.listener import SOON, TRANSPORTS, Listener, each_transport, listening, url
from tests.support.answering import answering
from tests.support.certificates import authority, certificate
from tests.support.moderating import moderate, moderated, sanction
from tests.support.partition import Link
from tests.support.peers import publish
from tests.support.ports import steady_port
from tests.support.serving import eventually, free_flags, server_process, serving
from tests.support.tokens import secret_file, token

TEXTS = [f"text {number}" for number in range(60)]
#: The number of servers that are killed in turn, and the texts of each person to each server.
LIVES, EACH = 3, 20


async def live(target: str, transport: TransportName, *, task_status: trio.TaskStatus[Listener]) -> None:
    """Follow the lobby while servers start and end."""
    async with listening(target, jitter=0.1, transport=transport) as listener:
        task_status.started(listener)
        await trio.sleep_forever()


async def has_no_route(stream: trio.SocketStream) -> None:
    while await stream.receive_some():
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n404 page not found\n")


@each_transport
async def test_a_proxy_may_have_no_route_to_the_server_for_a_while(transport: TransportName) -> None:
    """Traefik answers 404 then. It ended WebSockets and event streams for good, and took a poll out of its rooms."""
    port = steady_port()
    async with serving() as server, listening(f"127.0.0.1:{port}", transport=transport) as listener:
        way = Link(server.address.port)
        async with answering(way.serve, port):
            await listener.until(Entered)
        tried = len(listener.events(Reconnecting))
        async with answering(has_no_route, port):
            listener.say("hello")
            while "404" not in (await listener.until(Reconnecting, times=tried + 1))[-1].why:
                tried += 1
        async with answering(way.serve, port):
            assert await listener.texts(1) == ["hello"]


class Outage(Link):
    """Loses touch in the middle of the first long text: what comes after its first half never arrives."""

    is_over = False

    async def _pump(
        self, source: AsyncIterable[bytes | bytearray], sink: trio.SocketStream, ends: trio.CancelScope
    ) -> None:
        await super()._pump(self._halved(source), sink, ends)

    async def _halved(self, source: AsyncIterable[bytes | bytearray]) -> AsyncIterator[bytes | bytearray]:
        async for data in source:
            if len(data) < 8_000 or self.is_over:
                yield data
                continue
            self.is_over = True
            yield data[:4_000]
            await trio.sleep_forever()


@each_transport
async def test_a_text_that_an_outage_made_too_late_is_sent_again_and_stored_once(transport: TransportName) -> None:
    """At 3 KB/s, 8,000 characters and an outage of 10 s take longer than a body or a frame may."""
    async with (
        serving(body_deadline=0.3, body_deadline_max=0.3, message_deadline=0.3) as server,
        trio.open_nursery() as nursery,
    ):
        way = Outage(server.address.port)
        await nursery.start(way.run)
        async with listening(f"127.0.0.1:{way.port}", transport=transport) as listener:
            await listener.until(Entered)
            listener.say("x" * 8_000, "and on")
            assert await listener.texts(2) == ["x" * 8_000, "and on"]
            await listener.acknowledged(2)
            assert listener.errors == []
        assert way.is_over
        assert await server.closes("message-deadline" if transport == "ws" else "body-deadline") == 1
        assert await server.metric("chatserver_messages_total") == 2
        way.end()


async def test_no_message_is_lost_or_doubled_while_servers_are_killed(tmp_path: Path) -> None:
    """Each text is stored once and in order, whether it was acknowledged, in flight or not yet sent at the kill."""
    port = steady_port()
    flags, target = free_flags(tmp_path, port=port), f"127.0.0.1:{port}"
    people: dict[str, Listener] = {}
    async with trio.open_nursery() as nursery:
        for life in range(LIVES):
            async with server_process(tmp_path, *flags, is_forked=True):
                if life == 0:
                    for transport in TRANSPORTS:
                        people[transport] = await nursery.start(live, target, transport)
                for name, person in people.items():
                    person.say(*(f"{name} {text}" for text in TEXTS[life * EACH : (life + 1) * EACH]))
                for person in people.values():
                    await person.until(Entered, times=life + 1)  # not told to a reader 256 events behind
                    await person.acknowledged(life * EACH + EACH // 2)
                if life == LIVES - 1:
                    heard = {
                        name: await person.texts(len(TRANSPORTS) * LIVES * EACH) for name, person in people.items()
                    }
        nursery.cancel_scope.cancel()
    assert heard["ws"] == heard["poll"] == heard["sse"]
    for name, person in people.items():
        said = [text for text in heard["ws"] if text.startswith(name)]
        assert said == [f"{name} {text}" for text in TEXTS[: LIVES * EACH]]
        assert not person.events(Gap)
        assert not person.errors
        assert len(person.events(Reconnecting)) >= LIVES - 1


async def test_after_a_drain_the_guest_returns_as_the_same_user(tmp_path: Path) -> None:
    port = steady_port()
    flags, target = free_flags(tmp_path, port=port), f"127.0.0.1:{port}"
    async with trio.open_nursery() as nursery:
        async with server_process(tmp_path, *flags, is_forked=True) as server:
            listener: Listener = await nursery.start(live, target, "ws")
            await listener.until(Entered)
            server.process.terminate()
            assert await server.ended() == 0
        async with server_process(tmp_path, *flags, is_forked=True):
            await listener.until(Entered, times=2)
        nursery.cancel_scope.cancel()
    assert listener.events(Reconnecting)[0].why.startswith("the server is going away")
    first, again = listener.events(Connected)
    assert first == again


async def test_a_rate_limit_slows_down_and_loses_nothing() -> None:
    async with serving(publish_rate=25.0) as server, listening(url(server)) as listener:
        listener.say(*TEXTS)  # 50 at once, the rest at 25 a second
        assert await listener.texts(len(TEXTS)) == TEXTS


@pytest.mark.jumping_clock
@pytest.mark.parametrize(("size", "limit"), [(17_000, 16_384), (70_000, 16_384), (300_000, 16_384), (30_000, 65_536)])
async def test_a_text_too_long_is_refused_and_the_next_goes_on(size: int, limit: int) -> None:
    async with serving(max_message_bytes=limit) as server, listening(url(server), jitter=0.1) as listener:
        listener.say("x" * size, "short")
        assert await listener.texts(1) == ["short"]
        (error,) = listener.errors
        assert error.code == "too_large"


@each_transport
@pytest.mark.parametrize("where", ["sanctions", "kick"])
async def test_a_user_taken_out_of_a_room_is_told_why_and_stays_in_the_others(
    tmp_path: Path, transport: TransportName, where: str
) -> None:
    """Over plain HTTP a refused poll or stream ends one room, not the conversation."""
    async with moderated(tmp_path) as server, listening(url(server), transport=transport) as listener:
        ops = listener.chat.join("ops")
        await listener.until(Entered, times=2)
        user = await listener.chat.connected()
        ban: dict[str, Any] = {"kind": "ban", "seconds": 600} if where == "sanctions" else {}

        async def taken_out() -> bool:  # a kick finds a poll only while it is held
            answer = await moderate(server.address, "POST", f"/rooms/ops/{where}", user=user.id, **ban)
            return bool(answer.json.get("ended", True))

        await eventually(taken_out)
        (complaint,) = await listener.until(Complaint)
        assert (complaint.room, complaint.code) == ("ops", "forbidden")
        assert complaint.message.startswith("you are banned" if ban else "a moderator has taken you out")
        listener.say("still here")
        assert await listener.texts(1) == ["still here"]
        assert not listener.events(Reconnecting)
        with pytest.raises(Forbidden) as raised:
            await anext(aiter(ops))
        for told in (complaint.retry_after, raised.value.retry_after):
            assert (told is not None and 500 < told <= 600) if ban else told is None


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_a_muted_user_is_told_and_stays(tmp_path: Path, transport: TransportName) -> None:
    async with moderated(tmp_path) as server, listening(url(server), transport=transport) as listener:
        await listener.until(Entered)
        user = await listener.chat.connected()
        await server.in_phase("open" if transport == "ws" else "stream")
        await sanction(server.address, kind="mute", user=user.id)
        (complaint,) = await listener.until(Complaint)
        assert complaint == Complaint(None, "forbidden", "you may not write in lobby")
        await publish(server.address, "lobby", "go on")
        assert await listener.texts(1) == ["go on"]
        assert not listener.events(Reconnecting)


async def test_a_moderator_mutes_bans_lifts_and_kicks(tmp_path: Path) -> None:
    mod = token(sub="u_mod", name="Mod", chat={"role": "moderator"})
    async with moderated(tmp_path) as server, connect(url(server), token=mod) as chat, connect(url(server)) as guest:
        user = await guest.connected()
        guest.join("lobby")
        muted = await chat.sanction("mute", "lobby", user.id, seconds=600, reason="flood")
        assert (muted.kind, muted.room, muted.user, muted.reason, muted.by.id) == (
            "mute", "lobby", user.id, "flood", "u_mod",
        )  # fmt: skip
        with pytest.raises(Forbidden):
            await guest.publish("lobby", "hello")
        banned = await chat.sanction("ban", "*", network="192.0.2.7")
        assert (banned.user, banned.network, banned.until) == (None, "192.0.2.7", None)
        assert await chat.sanctions("*") == (banned, muted)
        assert await chat.sanctions("*", user=user.id) == (muted,)
        assert await chat.lift("lobby", muted.id) == muted
        assert (await guest.publish("lobby", "hello")).offset == 1
        with pytest.raises(NotFound):
            await chat.lift("lobby", muted.id)
        assert await chat.kick("lobby", user.id, reason="noise") == 1
        for wrong in ({"seconds": 0}, {"network": "here"}, {"reason": "\ud83d"}):
            with pytest.raises(Invalid):
                await chat.sanction("mute", "lobby", user.id, **wrong)
        with pytest.raises(Unauthenticated, match="this is for moderators"):
            await guest.kick("lobby", user.id)


async def test_a_kick_before_anything_was_read_costs_no_message(tmp_path: Path) -> None:
    """The room had no cursor then, so that joining it again from there began with the next message."""
    mod = token(sub="u_mod", name="Mod", chat={"role": "moderator"})
    async with moderated(tmp_path) as server, connect(url(server), token=mod) as chat, connect(url(server)) as guest:
        await chat.publish("lobby", "before")
        user, room = await guest.connected(), guest.join("lobby")
        await guest.members("lobby")  # on the same connection, so the room has been joined
        await chat.kick("lobby", user.id)
        await chat.publish("lobby", "meanwhile")
        with pytest.raises(Forbidden):
            await anext(room)
        assert (await anext(guest.join("lobby", after=room.cursor))).text == "meanwhile"


@pytest.mark.parametrize("transport", ["ws", "poll"])
async def test_a_refusal_for_too_many_rooms_loses_the_last_room_only(transport: TransportName) -> None:
    """A refusal of a poll that names no room applies to the room that was joined last."""
    async with serving(max_empty_rooms=1) as server, listening(url(server), transport=transport) as listener:
        await listener.until(Entered)
        listener.chat.join("empty")
        (complaint,) = await listener.until(Complaint)
        assert (complaint.room, complaint.code) == ("empty", "too_many_rooms")
        listener.say("still here")
        assert await listener.texts(1) == ["still here"]
        assert not listener.events(Reconnecting)


@each_transport
async def test_a_bot_learns_before_writing_whether_it_may(transport: TransportName) -> None:
    rooms = (("news", RoomPolicy(write=Audience.MODERATORS)),)
    async with serving(rooms=rooms) as server, connect(url(server), transport=transport) as bot:
        assert await bot.write_refusal("lobby") is None
        refusal = await bot.write_refusal("news")
        assert isinstance(refusal, Forbidden)
        assert refusal.message == "you may not write in news"
        with pytest.raises(Forbidden, match=refusal.message):
            await bot.publish("news", "hello")
        with pytest.raises(Invalid):
            await bot.write_refusal("no room?")


@each_transport
async def test_a_user_who_does_not_read_for_a_while_gets_everything(
    transport: TransportName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client keeps a bounded number of events, then only its cursor; the rest is read from the history."""
    monkeypatch.setattr(feed, "MAX_QUEUED_EVENTS", 32)
    monkeypatch.setattr(feed, "LOW_WATER", 16)
    monkeypatch.setattr(session, "HISTORY_LIMIT", 20)
    texts = [str(number) for number in range(3 * feed.MAX_QUEUED_EVENTS)]
    async with serving() as server, listening(url(server), transport=transport) as slow, connect(url(server)) as busy:
        await slow.until(Entered)
        for text in texts:
            await busy.publish("lobby", text)  # the events of the slow user are not read meanwhile
        assert await slow.texts(len(texts)) == texts
        assert not slow.events(Gap)


@each_transport
async def test_the_end_of_a_token_is_told_and_a_new_token_goes_on(transport: TransportName, tmp_path: Path) -> None:
    """Over plain HTTP nothing told it: a bot that renews its token at `Expiring` was refused when the first ended."""
    now = int(time.time())
    async with (
        serving(token_key=(secret_file(tmp_path),)) as server,
        connect(url(server), token=token(exp=now + 25), transport=transport) as chat,
    ):
        seen = []
        with trio.fail_after(SOON):
            async for event in chat.events():
                if isinstance(event, Expiring):
                    seen.append(event.seconds)
                    if len(seen) == 2:
                        break
                    await chat.authenticate(token(exp=now + 25))
    assert all(0 < seconds <= 30 for seconds in seen)


@each_transport
async def test_a_token_given_during_an_outage_is_that_of_the_next_connection(
    transport: TransportName, tmp_path: Path
) -> None:
    """The server refused the old one, which had expired meanwhile, and the client ended for good."""
    port, expired, users = steady_port(), token(exp=int(time.time()) - 60), []
    async with connect(f"127.0.0.1:{port}", token=expired, transport=transport) as chat, trio.open_nursery() as nursery:

        async def renew() -> None:
            users.append(await chat.authenticate(token()))

        await eventually(lambda: "refused" in str(chat.trouble))
        nursery.start_soon(renew)
        async with serving(port=port, token_key=(secret_file(tmp_path),)):
            chat.try_now()
            await eventually(lambda: users == [User("u_ann", "Ann")])
            assert (await chat.publish("lobby", "back")).offset == 1


async def test_an_attempt_with_an_old_token_is_not_the_end_once_a_new_one_is_given() -> None:
    """The server refused the old one while the new one waited, and the client ended for good."""
    old, new, is_given, heads = token(), token(sub="u_ben"), trio.Event(), list[bytes]()

    async def refuse_the_old_one(stream: trio.SocketStream) -> None:
        heads.append(bytes(await stream.receive_some()))
        await is_given.wait()
        if old.encode() in heads[-1]:
            await stream.send_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        await trio.sleep_forever()

    async with (
        answering(refuse_the_old_one) as address,
        connect(address, token=old, transport="poll") as chat,
        trio.open_nursery() as nursery,
    ):
        await eventually(lambda: len(heads) == 1)
        nursery.start_soon(chat.authenticate, new)
        await wait_all_tasks_blocked()
        is_given.set()
        await eventually(lambda: len(heads) == 2)
        assert [secret.encode() in head for secret, head in zip((old, new), heads, strict=True)] == [True, True]
        nursery.cancel_scope.cancel()


async def test_a_server_under_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust comes from the system, or from SSL_CERT_FILE."""
    cert, key = certificate(tmp_path)
    roots = tmp_path / "roots.pem"
    roots.write_bytes(authority().cert_pem.bytes())
    async with serving(tls_cert=cert, tls_key=key) as server:
        async with listening(f"https://localhost:{server.address.port}") as listener:
            (event,) = await listener.until(Reconnecting)
            assert "certificate: " in event.why
        monkeypatch.setenv("SSL_CERT_FILE", str(roots))
        for transport in TRANSPORTS:
            async with listening(f"https://localhost:{server.address.port}", transport=transport) as listener:
                listener.say("sealed")
                await listener.texts(1)
                await listener.acknowledged(1)
