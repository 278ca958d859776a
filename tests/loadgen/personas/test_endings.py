"""How an attacker ends: it stays until the server ends it, is booked under what the server said, and comes back.

A member of the load comes back only if its server plans the end.
"""

from contextlib import suppress
from unittest.mock import Mock

import pytest
import trio
from wsproto import events

from loadgen.clients.client import Attacker
from loadgen.clients.traffic import SENTENCE
from loadgen.personas import registry
from loadgen.personas._shapes import Dripper
from loadgen.personas.honest import NOT_HELD
from tests.loadgen.stage import (
    DEADLINE_ANSWER,
    answer,
    listening,
    meeting,
    playing,
    read_until,
    request_of,
    unread,
    until,
)

SILENT = ("idle-connect", "expect-continue")
DRIPPERS = ("slow-head", "drip-head", "slow-handshake", "slow-body", "slow-chunk", "slow-tls")
FLOODERS = ("big-head", "many-fields", "big-body", "sse-flood")
LINGERERS = (
    "slow-frame",
    "slow-fragment",
    "no-pong",
    "vanish",
    "catch-up",
    "join-many",
    "fill-rooms",
    "malformed-chat",
)
STREAM_HEAD = b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n"
FLOODERS_BY_FRAME = ("ping-flood", "pong-flood", "empty-fragments", "tiny-frames", "room-churn", "long-messages")


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for persona in registry().values():
        if issubclass(persona, Attacker):
            monkeypatch.setattr(persona, "returns_seconds", 0.01)
        if issubclass(persona, Dripper):
            monkeypatch.setattr(persona, "every_seconds", 0.001)


@pytest.mark.parametrize("name", [*SILENT, *DRIPPERS, *FLOODERS])
async def test_an_answer_alone_does_not_make_it_go_and_is_what_its_end_is_booked_under(name: str) -> None:
    async with listening() as server, playing(server.url, name) as play:
        stream = await server.accept()
        if name in SILENT:
            await until(lambda: play.cohort.held)
        else:
            await read_until(stream, lambda got: len(got) > 20)
        for cut in range(len(DEADLINE_ANSWER)):
            await stream.send_all(DEADLINE_ANSWER[cut : cut + 1])
        await until(lambda: play.cohort.answers == {"answered 408": 1})
        if name in FLOODERS:
            await _read_to_the_end(stream)
        assert play.cohort.held == 1
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"answered 408": 1})
        assert play.cohort.lifetime.count == 1
        await server.accept()


async def _read_to_the_end(stream: trio.SocketStream) -> None:
    """Read until nothing more is sent."""
    quiet = False
    while not quiet:
        with trio.move_on_after(0.1) as scope:
            await stream.receive_some()
        quiet = scope.cancelled_caught


@pytest.mark.parametrize(
    ("name", "code", "booked"),
    [*((name, 1008, "ended") for name in (*LINGERERS, *FLOODERS_BY_FRAME)), ("catch-up", 1013, "refused")],
)
async def test_the_end_of_a_websocket_is_booked_under_its_close_code(name: str, code: int, booked: str) -> None:
    async with listening() as server, playing(server.url, name) as play:
        socket = await server.websocket()
        await until(lambda: play.cohort.held)
        await socket.send(events.Ping(b"first"))
        await socket.send(events.CloseConnection(code, "too much"))
        with trio.move_on_after(0.05):  # a server that reads on for a moment, so that its words are not lost in a RST
            with suppress(trio.BrokenResourceError):
                while await socket.stream.receive_some():
                    pass
        await socket.stream.aclose()
        await until(lambda: getattr(play.cohort, booked) == {f"close {code}": 1})
        assert play.cohort.answers[f"close {code}"] == 1
        await request_of(await server.accept())


@pytest.mark.parametrize("name", ["descriptor-exhaust", "slow-frame", "vanish", "no-close", "ping-flood"])
async def test_a_request_that_is_turned_away_is_a_refusal(name: str) -> None:
    async with meeting(name) as (play, stream):
        await request_of(stream)
        await answer(stream, 503)
        await stream.aclose()
        await until(lambda: play.cohort.refused == {"answered 503": 1})


@pytest.mark.parametrize(("name", "code"), [("idle", 1012), ("chat", 1001)])
async def test_a_member_is_back_after_a_planned_end(name: str, code: int) -> None:
    """Each client of a run was ended, and so the target fell short, where a worker was restarted as planned."""
    traffic, said = Mock(), f"lg-01234567 {{}} {SENTENCE}"
    async with listening() as server, playing(server.url, name, traffic=traffic) as play:
        socket = await server.websocket()
        assert "after" not in await socket.hear()
        await socket.say(type="joined", id=-1, cursor="e-7", messages=[{"text": said.format(0)}])
        await socket.say(type="message", cursor="e-8", text=said.format(1))
        await socket.send(events.CloseConnection(code))
        socket = await server.websocket()
        assert (await socket.hear())["after"] == "e-8"
        await socket.say(type="joined", id=-1, cursor="e-9", messages=[{"text": said.format(2)}])
        await until(lambda: play.cohort.held == 1)
        assert (play.client.delivered, play.cohort.deliveries) == (2, 2), "not what was said before it came"
        assert not play.cohort.ended
        if name == "chat":
            calls = [call[0] for call in traffic.mock_calls]
            assert calls == ["enter", "heard", "leave", "found", "enter"]
        await socket.send(events.CloseConnection(1008))
        await until(lambda: play.cohort.ended == {"close 1008": 1})
        assert play.cohort.opened == 2


async def test_a_poll_that_crosses_with_the_end_of_an_idle_connection_is_sent_once_more() -> None:
    """As browsers do: each poll of a busy room was ended by the restart of its worker."""
    async with listening() as server, playing(server.url, "poll") as play:
        stream = await server.accept()
        await request_of(stream)
        await answer(stream, 200, b'{"cursor":"e-1","messages":[]}')
        await unread(stream)
        await stream.aclose()
        stream = await server.accept()
        assert b"after=e-1" in (await request_of(stream)).target
        assert not play.cohort.answers
        await answer(stream, 200, b'{"cursor":"e-1","messages":[]}')
        assert b"after=e-1" in (await request_of(stream)).target
        await answer(stream, 200, b'{"cursor":"e-2","messages":[]}', b"Connection: close")
        stream = await server.accept()
        assert b"after=e-2" in (await request_of(stream)).target
        assert not play.cohort.ended
        assert play.cohort.answers == {NOT_HELD: 1}, "a chat that holds no poll was said to do all well"
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"closed": 1})


@pytest.mark.parametrize("is_read", [True, False])
async def test_a_poll_that_is_cut_while_it_is_held_has_ended(is_read: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is no idle one: a server that cuts polls must not pass, by a reset neither."""
    monkeypatch.setattr("loadgen.net.sockets.CROSSING_SECONDS", 3.0 if is_read else -1.0)
    async with listening() as server, playing(server.url, "poll") as play:
        stream = await server.accept()
        await request_of(stream)
        await answer(stream, 200, b'{"cursor":"e-1","messages":[]}')
        await (request_of(stream) if is_read else unread(stream))
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"closed" if is_read else "connection reset by peer": 1})


async def test_an_event_that_is_cut_into_chunks_is_delivered() -> None:
    """Behind nginx, which cuts where its buffer is full, a run called messages missed that every stream had got."""
    async with listening() as server, playing(server.url, "sse") as play:
        stream = await server.accept()
        await request_of(stream)
        await stream.send_all(STREAM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        events = [b'data: {"text":"lg-01234567 %d %b"}\n\n' % (number, SENTENCE.encode()) for number in range(2)]
        said = b"retry: 9\nid: e-1\ndata: {}\n\n" + b"".join(events)
        for part in (said[:45], said[45:46], said[46:60], said[60:]):
            chunk = b"%x;a=b\r\n%b\r\n" % (len(part), part)
            for cut in range(len(chunk)):
                await stream.send_all(chunk[cut : cut + 1])
        await until(lambda: play.client.delivered == 2)
        assert play.cohort.deliveries == 2
        await stream.send_all(b"0\r\n\r\n")
        assert (b"last-event-id", b"e-1") in (await request_of(await server.accept())).headers, "a planned end"


@pytest.mark.parametrize(
    ("said", "last"), [(b"retry: 9\n", b""), (b"retry: 9\n\n", b""), (b"data: {}\nretry: 8\n\n", b": hi\n\n")]
)
async def test_a_stream_that_says_at_its_end_when_to_come_back_is_not_ended(said: bytes, last: bytes) -> None:
    """Each stream of a run was ended by the restart of its worker; a quiet one that died came back as if told to."""
    async with listening() as server, playing(server.url, "sse") as play:
        for end in (b"retry: 7\n", last):
            stream = await server.accept()
            await request_of(stream)
            for part in (STREAM_HEAD + b"Connection: close\r\n\r\n" + said[:3], said[3:], end):
                received = play.cohort.received_bytes + len(part)
                await stream.send_all(part)
                await until(lambda received=received: play.cohort.received_bytes == received)  # type: ignore[misc]
            assert play.cohort.held
            assert not play.cohort.ended
            await stream.aclose()
        await until(lambda: play.cohort.ended == {"closed": 1})
        assert play.cohort.opened == 2
