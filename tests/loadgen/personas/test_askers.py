"""Personas that ask one thing at a time, at a higher cost to the server than to themselves."""

import json
import re

import h11
import jwt
import pytest
import trio
from wsproto import events

from loadgen.personas import _shapes, askers
from loadgen.personas.askers import bad_token
from tests.loadgen.stage import (
    PATIENCE,
    WebSocket,
    answer,
    listening,
    meeting,
    parsed,
    playing,
    read_until,
    talking,
    until,
)
from tests.support.tokens import ALGORITHMS, key_file


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(askers, "REFUSED_SECONDS", 0.05)
    monkeypatch.setattr(askers, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(askers, "POST_EVERY_SECONDS", 0.02)


async def _asked(stream: trio.SocketStream) -> tuple[h11.Request, bytes]:
    """The next request, with its body."""
    request, parser = parsed(await read_until(stream, lambda got: b"\r\n\r\n" in got))
    body = b""
    with trio.fail_after(PATIENCE):
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                body += event.data
            else:
                parser.receive_data(await stream.receive_some())
    assert parser.trailing_data[0] == b"", "one request at a time"
    return request, body


# ask-the-log


async def _wrote(stream: trio.SocketStream) -> None:
    request, body = await _asked(stream)
    assert (request.method, request.target) == (b"POST", b"/rooms/ask-the-log/messages")
    assert len(body) == 8000
    await answer(stream, 201, b"{}")


async def test_each_writes_once_and_asks_one_question_again_and_again() -> None:
    async with listening() as server, playing(server.url, "ask-the-log", clients=3) as play:
        asked = set()
        for _ in range(3):
            stream = await server.accept()
            await _wrote(stream)
            for _ in range(3):
                request, _ = await _asked(stream)
                asked.add(request.target)
                await answer(stream, 200, b"{}")
        assert asked == {b"/rooms", b"/rooms/ask-the-log/messages?after=0&limit=200", b"/search?q=words&limit=20"}
        await until(lambda: play.cohort.answers == {"answered 201": 3, "answered 200": 9})
        assert {client.pause(200) for client in play.clients} == {0.0}  # type: ignore[attr-defined]


async def test_what_is_not_there_is_not_asked_for_again_and_an_answer_that_closes_is_what_ends_it() -> None:
    async with meeting("ask-the-log") as (play, stream):
        await _wrote(stream)
        targets = []
        for status in (404, 404, 503, 200, 413):
            request, _ = await _asked(stream)
            targets.append(request.target.split(b"?")[0])
            await answer(stream, status, b"", *[b"Connection: close"] * (status == 413))
        assert targets == [b"/rooms", b"/rooms/ask-the-log/messages", *[b"/search"] * 3]
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"answered 413": 1})
        assert play.cohort.answers["answered 413"] == 1


async def test_a_refusal_is_waited_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(askers, "REFUSED_SECONDS", 600.0)
    async with meeting("ask-the-log") as (play, stream):
        await _wrote(stream)
        await _asked(stream)
        await answer(stream, 400)
        await until(lambda: play.cohort.answers["answered 400"])
        with trio.move_on_after(0.05):
            raise AssertionError(await stream.receive_some())


# catch-up


async def test_it_writes_a_little_and_joins_from_the_beginning_again_and_again_and_waits_after_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with talking("catch-up") as (play, socket):
        written = [await socket.hear() for _ in range(askers.MESSAGES)]
        monkeypatch.setattr(askers, "REFUSED_SECONDS", 600.0)
        assert {(message["type"], message["room"]) for message in written} == {("publish", "catch-up")}
        join = {"type": "join", "id": 0, "room": "catch-up", "after": "0"}
        for number in range(1, 4):
            assert await socket.hear() == join
            await socket.say(type="joined", id=0, room="catch-up", cursor="e-9", messages=[])
            await socket.say(type="ack", id=number, room="catch-up")
            await socket.say(type="message", room="catch-up", offset=10, text="x")
            await until(lambda number=number: play.cohort.deliveries == number)  # type: ignore[misc]
        assert await socket.hear() == join
        monkeypatch.setattr(askers, "AGAIN_SECONDS", 600.0)
        monkeypatch.setattr(askers, "REFUSED_SECONDS", 0.05)
        await socket.send(events.Ping(b"there?"))
        assert isinstance(await socket.receive(), events.Pong)
        await socket.say(type="error", id=0, code="rate_limited")
        assert await socket.hear() == join
        assert play.cohort.answers == {"joined": 3, "error rate_limited": 1}


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
        assert play.clients[0].pause(429) == askers.POST_EVERY_SECONDS  # type: ignore[attr-defined]
    isolates = posted[b"text/plain; charset=utf-8", b"\xe2"]
    assert isolates.count("\u2066") == isolates.count("\u2069") == len(isolates) / 2
    marks = posted[b"text/plain; charset=utf-8", b"a"]
    assert set(marks.split("a")) == {"", "\u0301" * 8}
    fields = json.loads(posted[b"application/json", b"{"])
    assert len(fields) > 6_000
    assert fields["text"] == "", "which no server takes"


# fill-rooms


async def test_it_writes_in_a_room_joins_it_and_goes_on_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room that is refused is tried again, from the writing on."""
    monkeypatch.setattr(askers, "FILL_ROOMS_ROOMS", 3)
    async with talking("fill-rooms") as (play, socket):
        for kind, room, told in (
            ("publish", 0, "ack"),
            ("join", 0, "joined"),
            ("publish", 1, "error"),
            ("publish", 1, "ack"),
            ("join", 1, "joined"),
            ("publish", 2, "ack"),
            ("join", 2, "error"),
            ("publish", 2, "ack"),
            ("join", 2, "joined"),
        ):
            said = await socket.hear()
            assert (said["type"], said["room"]) == (kind, f"fill-0-{room}")
            await socket.say(type=told, id=said["id"], code="unavailable" if told == "error" else "")
        await until(lambda: play.cohort.answers == {"ack": 4, "joined": 3, "error unavailable": 2})
        await socket.send(events.Ping(b"there?"))
        assert isinstance(await socket.receive(), events.Pong), "it sits in them, and has no other to join"


# join-many


async def _joins(socket: WebSocket, number: int) -> list[dict[str, object]]:
    return [await socket.hear() for _ in range(number)]


async def test_join_many_joins_on_as_it_is_answered() -> None:
    async with talking("join-many") as (play, socket):
        asked = await _joins(socket, askers.WINDOW)
        assert {message["type"] for message in asked} == {"join"}
        await socket.say(type="hello")
        half = askers.WINDOW // 2
        for message in asked[: half - 1]:
            await socket.say(type="joined", id=message["id"], room=message["room"])
        await until(lambda: play.cohort.answers == {"joined": half - 1})
        assert play.client._asked == askers.WINDOW, "many at a time"  # type: ignore[attr-defined]
        await socket.say(type="error", id=asked[half - 1]["id"], code="too_many_rooms")
        asked += await _joins(socket, half)
        assert len({message["room"] for message in asked}) == len(asked)
        assert play.cohort.answers == {"joined": half - 1, "error too_many_rooms": 1}


async def test_join_many_stops_when_there_are_no_more_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(askers, "JOIN_MANY_ROOMS", 60)
    async with talking("join-many") as (play, socket):
        for number in range(60):
            message = await socket.hear()
            assert message["id"] == number
            await socket.say(type="joined", id=number, room=message["room"])
        await until(lambda: play.cohort.answers == {"joined": 60})


# bad-tokens


def test_each_is_another_one_and_short_enough_to_be_looked_at() -> None:
    tokens = [bad_token(number) for number in range(800)]
    assert len(set(tokens)) == len(tokens)
    assert max(map(len, tokens)) < 4_096
    assert sum(len(token) > 3_000 for token in tokens) == 100, "one of eight has useless claims"


def test_what_is_wrong_with_each() -> None:
    """All but the noise are whole, and their claims are in order, so that nothing but the signature tells."""
    with pytest.raises(jwt.DecodeError):
        jwt.get_unverified_header(bad_token(0))
    headers = [jwt.get_unverified_header(bad_token(number)) for number in range(1, 8)]
    assert {header["alg"] for header in headers} == {"none", *ALGORITHMS}
    assert ["kid" in header for header in headers].count(True) == 1, "most name no key"
    for number, algorithm in enumerate((header["alg"] for header in headers), 1):
        token = bad_token(number)
        claims = jwt.decode(token, options={"verify_signature": False, "verify_exp": True, "require": ["sub", "exp"]})
        assert claims["sub"] == f"u_{number}"
        if algorithm != "none":
            with pytest.raises(jwt.InvalidSignatureError):
                jwt.decode(token, key_file(algorithm), algorithms=[algorithm])


async def _shown(stream: trio.SocketStream) -> tuple[bytes, str]:
    request, _ = await _asked(stream)
    return request.target, dict(request.headers)[b"authorization"].decode()


async def test_it_asks_again_at_once_with_another_token() -> None:
    async with listening() as server, playing(server.url, "bad-tokens", clients=2) as play:
        targets, tokens = set(), set()
        for _ in range(2):
            stream = await server.accept()
            for status in (401, 403, 429, 401):
                target, token = await _shown(stream)
                targets.add(target)
                tokens.add(token)
                assert token.startswith("Bearer ")
                await answer(stream, status, b"{}")
        assert targets == {b"/rooms/bad-tokens/messages", b"/ws"}
        assert len(tokens) == 8
        await until(lambda: play.cohort.answers == {"answered 401": 4, "answered 403": 2, "answered 429": 2})


@pytest.mark.parametrize("first_bytes", [0, 10])
async def test_a_websocket_that_it_is_given_is_booked_and_left(
    first_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited for ever for the end of a 101 whose first piece did not have the status."""
    monkeypatch.setattr(_shapes, "ATTACKER_RETURNS_SECONDS", 0.01)
    async with listening() as server, playing(server.url, "bad-tokens", clients=2) as play:
        for _ in range(2):
            stream = await server.accept()
            target, _ = await _shown(stream)
            if target == b"/ws":
                said = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02{}"
                await stream.send_all(said[:first_bytes])
                await until(lambda: play.cohort.received_bytes == first_bytes)
                await stream.send_all(said[first_bytes:])
                with trio.fail_after(PATIENCE):
                    assert await stream.receive_some() == b""
        await until(lambda: play.cohort.answers == {"answered 101": 1})
        assert (await _shown(await server.accept()))[0] == b"/ws", "it comes back"


# sign-outs


async def test_each_signs_out_as_another_guest_again_and_again() -> None:
    async with listening() as server, playing(server.url, "sign-outs", clients=2) as play:
        tokens = set()
        for _ in range(2):
            stream = await server.accept()
            for status in (204, 429):
                request, _ = await _asked(stream)
                assert (request.method, request.target) == (b"DELETE", b"/session")
                tokens.add(dict(request.headers)[b"authorization"])
                await answer(stream, status)
        assert len(tokens) == 4
        assert all(re.fullmatch(rb"Bearer \w{16}", token) for token in tokens), "which is a guest's"
        await until(lambda: play.cohort.answers == {"answered 204": 2, "answered 429": 2})
