"""Personas that ask one thing at a time, at a higher cost to the server than to themselves."""

from __future__ import annotations

import json

import h11
import pytest
import trio
from wsproto import events

from loadgen.personas import askers
from tests.loadgen.stage import Server, WebSocket, answer, listening, parsed, playing, read_until, until


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(askers, "REFUSED_SECONDS", 0.05)
    monkeypatch.setattr(askers, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(askers, "POST_EVERY_SECONDS", 0.02)


async def _asked(stream: trio.SocketStream) -> tuple[h11.Request, bytes]:
    """The next request, with its body."""
    request, parser = parsed(await read_until(stream, lambda got: b"\r\n\r\n" in got))
    body = b""
    while not isinstance(event := parser.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            body += event.data
        else:
            parser.receive_data(await stream.receive_some())
    assert parser.trailing_data[0] == b"", "one request at a time"
    return request, body


async def _opened(server: Server) -> WebSocket:
    socket = await server.websocket()
    await socket.say(type="hello")
    return socket


# ask-the-log


async def _wrote(server: Server) -> trio.SocketStream:
    stream = await server.accept()
    request, body = await _asked(stream)
    assert (request.method, request.target) == (b"POST", b"/rooms/ask-the-log/messages")
    assert len(body) == 8000
    await answer(stream, 201, b"{}")
    return stream


async def test_each_writes_once_and_asks_one_question_again_and_again() -> None:
    async with listening() as server, playing(server.url, "ask-the-log", clients=3) as play:
        asked = set()
        for _ in range(3):
            stream = await _wrote(server)
            for _ in range(3):
                request, _ = await _asked(stream)
                asked.add(request.target)
                await answer(stream, 200, b"{}")
        assert asked == {
            b"/rooms",
            b"/rooms/ask-the-log/messages?after=0&limit=200",
            b"/search?q=words&limit=20",
        }
        await until(lambda: play.cohort.answers == {"answered 201": 3, "answered 200": 9})


async def test_what_is_not_there_is_not_asked_for_again() -> None:
    async with listening() as server, playing(server.url, "ask-the-log"):
        stream = await _wrote(server)
        targets = []
        for status in (404, 404, 503, 200):
            request, _ = await _asked(stream)
            targets.append(request.target.split(b"?")[0])
            await answer(stream, status)
        assert targets == [b"/rooms", b"/rooms/ask-the-log/messages", b"/search", b"/search"]


async def test_a_refusal_is_waited_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(askers, "REFUSED_SECONDS", 600.0)
    async with listening() as server, playing(server.url, "ask-the-log") as play:
        stream = await _wrote(server)
        await _asked(stream)
        await answer(stream, 503)
        await until(lambda: play.cohort.answers["answered 503"])
        with trio.move_on_after(0.05):
            raise AssertionError(await stream.receive_some())


async def test_an_answer_that_closes_is_what_the_end_is_booked_under() -> None:
    async with listening() as server, playing(server.url, "ask-the-log") as play:
        stream = await server.accept()
        await _asked(stream)
        await answer(stream, 413, b"", b"Connection: close")
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"answered 413": 1})
        assert play.cohort.answers == {"answered 413": 1}


# catch-up


async def test_it_writes_a_little_and_joins_from_the_beginning_again_and_again() -> None:
    async with listening() as server, playing(server.url, "catch-up") as play:
        socket = await _opened(server)
        written = [await socket.hear() for _ in range(askers.MESSAGES)]
        assert {(message["type"], message["room"]) for message in written} == {("publish", "catch-up")}
        for number in range(1, 4):
            join = await socket.hear()
            assert join == {"type": "join", "id": 0, "room": "catch-up", "after": "0"}
            await socket.say(type="joined", id=0, room="catch-up", cursor="e-9", messages=[])
            await socket.say(type="message", room="catch-up", offset=10, text="x")
            await until(lambda number=number: play.cohort.deliveries == number)  # type: ignore[misc]
        assert play.cohort.answers == {"joined": 3}


async def test_it_waits_after_a_refusal_and_answers_pings() -> None:
    async with listening() as server, playing(server.url, "catch-up") as play:
        socket = await _opened(server)
        for _ in range(askers.MESSAGES):
            await socket.hear()
        await socket.hear()
        await socket.send(events.Ping(b"there?"))
        assert isinstance(await socket.receive(), events.Pong)
        await socket.say(type="error", id=0, code="rate_limited")
        assert (await socket.hear())["type"] == "join"
        assert play.cohort.answers == {"error rate_limited": 1}
        await socket.send(events.CloseConnection(1013))
        await until(lambda: play.cohort.refused == {"close 1013": 1})


# costly-text


async def test_isolates_keys_and_marks_are_posted_again_and_again_whatever_is_answered() -> None:
    async with listening() as server, playing(server.url, "costly-text", clients=3) as play:
        posted = {}
        for _ in range(3):
            stream = await server.accept()
            for status in (400, 429):
                request, body = await _asked(stream)
                assert (request.method, request.target) == (b"POST", b"/rooms/lobby/messages")
                assert 61_900 < len(body) <= 62_000
                await answer(stream, status)
            posted[dict(request.headers)[b"content-type"], body[:1]] = body.decode()
        await until(lambda: play.cohort.answers == {"answered 400": 3, "answered 429": 3})
    isolates = posted[b"text/plain; charset=utf-8", b"\xe2"]
    assert isolates.count("\u2066") == isolates.count("\u2069") == len(isolates) / 2
    marks = posted[b"text/plain; charset=utf-8", b"a"]
    assert set(marks.split("a")) == {"", "\u0301" * 8}
    fields = json.loads(posted[b"application/json", b"{"])
    assert len(fields) > 6_000
    assert fields["text"] == "", "which no server takes"


# fill-rooms


async def test_it_writes_in_a_room_and_joins_it_and_goes_on_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(askers, "FILL_ROOMS_ROOMS", 3)
    async with listening() as server, playing(server.url, "fill-rooms") as play:
        socket = await _opened(server)
        for number in range(3):
            said = await socket.hear()
            assert (said["type"], said["room"]) == ("publish", f"fill-0-{number}")
            await socket.say(type="ack", id=said["id"], room=said["room"])
            said = await socket.hear()
            assert (said["type"], said["room"]) == ("join", f"fill-0-{number}")
            await socket.say(type="message", room=said["room"], text="mine")
            await socket.say(type="joined", id=said["id"], room=said["room"])
        await until(lambda: play.cohort.answers == {"ack": 3, "joined": 3})
        await socket.send(events.Ping(b"there?"))
        assert isinstance(await socket.receive(), events.Pong), "it sits in them, and has no other to join"


async def test_a_room_that_is_refused_is_tried_again_later() -> None:
    async with listening() as server, playing(server.url, "fill-rooms") as play:
        socket = await _opened(server)
        for refused in ("publish", "publish", "join"):
            said = await socket.hear()
            while said["type"] != refused:
                await socket.say(type="ack", id=said["id"], room=said["room"])
                said = await socket.hear()
            assert said["room"] == "fill-0-0"
            await socket.say(type="error", id=said["id"], code="unavailable")
        said = await socket.hear()
        assert (said["type"], said["room"]) == ("publish", "fill-0-0")
        assert play.cohort.answers == {"error unavailable": 3, "ack": 1}
