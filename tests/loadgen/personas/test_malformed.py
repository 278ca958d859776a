"""The malformed: what is sent is wrong in the eyes of h11 and wsproto, and what is answered is booked."""

from collections import defaultdict
from math import ceil

import h11
import pytest
import wsproto
from wsproto import events
from wsproto.connection import Connection, ConnectionType
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from loadgen.cases import requests
from loadgen.clients.client import Client
from loadgen.clients.engine import Engine
from loadgen.net.wire import CLOSE, FIN, close_code, frame
from loadgen.personas import malformed
from loadgen.personas.malformed import malformed_frames
from tests.loadgen.stage import (
    WebSocket,
    answer,
    listening,
    meeting,
    parsed,
    playing,
    read_until,
    reset,
    talking,
    until,
)
from tests.support.errors import error_of

_HTTP = requests.cases("x:1", "/", "/rooms/lobby/messages", "/ws")
_FOREIGN = requests.foreign("x:1", "/", "/rooms/foreign-page/messages", "/ws")

#: What h11 or wsproto lets through. A proxy before or behind may read it differently, so a server should not.
_TAKEN = frozenset((
    "method of 5,000 letters", "target outside ASCII", "target with a fragment", "target that is no path",
    "target with an encoded NUL", "version 3.7", "HTTP/2 preface", "value with a control character",
    "bare LF after a field", "bare LF everywhere", "folded field",
    "Host with a path", "Host with a user", "Host with a space",
    "the same length twice", "a list of lengths", "length and chunks", "chunks and length", "chunks in HTTP/1.0",
    "chunk size ended by a bare LF",
    "upgrade with a short key", "upgrade with a key that is not base64", "upgrade with two keys",
    "upgrade with version 12", "upgrade in HTTP/1.0",
))  # fmt: skip

#: What is not wrong before more of it has come.
_BEGINNINGS = frozenset((
    "bare CR everywhere", "HTTP/0.9", "SSH", "SMTP", "Redis", "blank lines", "PROXY protocol", "chunks that never come",
))  # fmt: skip


def test_requests_are_refused_by_an_independent_parser() -> None:
    for name in set(_HTTP) - _TAKEN - _BEGINNINGS:
        if name.startswith("upgrade"):
            error_of(RemoteProtocolError, _upgrade, _HTTP[name])
        else:
            error_of(h11.RemoteProtocolError, _read, _HTTP[name])


def _upgrade(request: bytes) -> None:
    wsproto.WSConnection(wsproto.ConnectionType.SERVER).receive_data(request)


def _read(request: bytes) -> None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(request)
    while server.next_event() not in (h11.NEED_DATA, h11.PAUSED):
        pass


def test_frames_are_refused_by_an_independent_parser() -> None:
    for name, sent in malformed_frames().items():
        server = Connection(ConnectionType.SERVER)
        try:
            server.receive_data(sent)
            heard = list(server.events())
        except LocalProtocolError:
            continue  # what follows a close
        assert isinstance(heard[-1], events.CloseConnection), name
        assert heard[-1].code in {1002, 1007, 1009}, name


def test_messages_are_utf8_in_one_frame_of_at_most_16_kib() -> None:
    for name, message in malformed.CHAT_TEXTS.items():
        assert len(message.decode()) <= 16 * 1024, name


def test_every_request_has_one_thing_wrong() -> None:
    for cases in (_HTTP, _FOREIGN):
        assert len(set(cases.values())) == len(cases)
    assert all(request.count(b"Host: x:1") <= 2 for request in _HTTP.values())


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        (b"\x88\x02\x03\xf0", 1008),
        (b"\x8a\x00\x8a\x00\x88\x06\x03\xf1text", 1009),
        (b"\x88\x00", 1005),
        (b"\x8a\x00", None),
        (b"\x88\x05\x03\xf0", None),
        (b"", None),
        (b"\x88", None),
        (bytes(500) + b"\x88\x7d\x03\xea" + b"x" * 123, 1002),
    ],
)
def test_the_last_word_is_found_at_the_end_of_the_stream(tail: bytes, code: int | None) -> None:
    assert close_code(tail) == code


@pytest.mark.parametrize("name", _FOREIGN)
def test_what_it_asks_is_valid_and_says_where_it_comes_from(name: str) -> None:
    request, _ = parsed(_FOREIGN[name])
    fields = dict(request.headers)
    by_another_name = fields[b"host"] == b"page.invalid"
    assert by_another_name is name.endswith("by another name")
    assert by_another_name or b"cross-site" in fields.values() or fields[b"origin"] == b"http://page.invalid"
    if name.startswith("WebSocket"):
        server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        server.receive_data(_FOREIGN[name])
        assert isinstance(next(server.events()), events.Request)
    elif name.startswith("text"):
        assert (request.method, fields[b"content-type"]) == (b"POST", b"text/plain"), "which needs no permission"


# How they are played


async def test_requests_are_played_case_by_case_whole_and_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each client played all cases whole before any in pieces, and no run was long enough for that."""
    sent: defaultdict[int, list[bytes]] = defaultdict(list)

    def send(engine: Engine, client: Client, data: bytes) -> bool:
        sent[client.number].append(data)
        return usual_send(engine, client, data)

    usual_send = Engine.send
    monkeypatch.setattr(Engine, "send", send)
    monkeypatch.setattr(malformed.CaseByCase, "returns_seconds", 600.0)
    malformed_requests = list(_HTTP.values())
    async with listening() as server, playing(server.url, "malformed-http", clients=3, host="x:1") as play:
        for turn in range(2):
            for number, pieces in enumerate((1, 2, 200)):
                stream = await server.accept()
                request = malformed_requests[number + turn]
                assert await read_until(stream, lambda got: got.endswith(b"\r\n\r\n")) == request
                assert b"".join(sent[number]) == request
                assert len(sent[number][0]) == ceil(len(request) / pieces)
                await answer(stream, 400)
                await stream.aclose()
            await until(lambda turn=turn: play.cohort.ended == {"answered 400": 3 * turn + 3})  # type: ignore[misc]
            sent.clear()
            for client in play.clients:
                play.engine.reopen(client)
        assert play.cohort.answers == {"answered 400": 6}


@pytest.mark.parametrize(
    ("case", "status", "closes", "by_name"),
    [
        ("two lengths", 200, False, "answered 200"),
        # only the status was booked, so smuggling to a path that is not there was still "refused" by its 404
        ("two lengths", 404, False, "answered 404"),
        ("a list of lengths", 404, False, None),  # it may be taken
        # Go answers before it reads the body, and closes if that is no body: Caddy was said to accept bad chunks
        ("chunk size in words", 200, True, "answered 200 and closed"),
        ("two lengths", 200, True, "answered 200"),
        # Tomcat does what RFC 9112 section 6.3 permits, and what nobody can smuggle with
        ("length and chunks", 200, True, "answered 200 and closed"),
        ("chunks and length", 200, True, "answered 200 and closed"),
        (next(iter(_FOREIGN)), 200, False, "answered 200"),
    ],
)
async def test_a_request_that_is_taken_is_booked_by_name(
    case: str, status: int, closes: bool, by_name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(malformed, "PAUSE_SECONDS", 60.0 if closes else 0.05)
    monkeypatch.setattr(malformed.MalformedHttp, "cases", lambda _: {case: _HTTP[case]})
    async with meeting("foreign-page" if case in _FOREIGN else "malformed-http", host="x:1") as (play, stream):
        asked = await read_until(stream, lambda got: got.endswith((b"hello", b"\r\n\r\n")) and got.count(b"\r\n\r\n"))
        assert asked == {**_FOREIGN, **_HTTP}[case]
        await answer(stream, status)
        if closes:
            await stream.aclose()
        await until(lambda: play.cohort.ended or play.cohort.left)
        told = {f"{case}: {by_name}": 1} if by_name else {}
        assert play.cohort.answers == {f"answered {status}": 1, **told}
        assert bool(requests.accepted(play.cohort.answers)) is (case in {"two lengths", *_FOREIGN} and status == 200)


async def test_silence_and_a_close_without_a_word_are_booked_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malformed, "PATIENCE_SECONDS", 600.0)
    monkeypatch.setattr(malformed, "PAUSE_SECONDS", 600.0)
    monkeypatch.setattr(malformed.CaseByCase, "returns_seconds", 0.01)
    async with listening() as server, playing(server.url, "malformed-http") as play:
        stream = await server.accept()
        await stream.receive_some()
        monkeypatch.setattr(malformed, "PATIENCE_SECONDS", 0.2)  # on the next connection
        await stream.aclose()
        await until(lambda: play.cohort.left)
        assert play.cohort.ended
        assert play.cohort.answers == {"method with a NUL: closed": 1, "method with a delimiter: nothing in 0.2 s": 1}


async def test_frames_are_played_case_by_case_and_booked_by_close_code() -> None:
    async with listening() as server, playing(server.url, "malformed-frames", clients=3) as play:
        for _ in range(3):
            stream = await server.accept()
            socket = WebSocket(stream)
            await socket.accept()
            heard = await socket.receive()
            assert isinstance(heard, events.CloseConnection)
            await stream.send_all(frame(FIN | CLOSE, int(heard.code).to_bytes(2), mask=None))
            reset(stream)
        await until(lambda: play.cohort.ended == {"close 1002": 3})
        assert play.cohort.answers == {"close 1002": 3}


async def test_messages_are_played_one_after_the_other_on_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malformed, "PAUSE_SECONDS", 0.01)
    async with talking("malformed-chat") as (play, socket):
        await socket.say(type="hello")
        for name, sent in malformed.CHAT_TEXTS.items():
            assert (await socket.text()).encode() == sent, name
            await socket.say(type="pong" if name == "comment" else "error", code="bad_json")
        taken = len(malformed.CHAT_TEXTS) - 1
        await until(lambda: play.cohort.answers == {"error bad_json": taken, "comment: pong": 1})
        await socket.send(events.CloseConnection(1011))
        await until(lambda: play.cohort.ended == {"close 1011": 1})
        assert any(name.endswith(": close 1011") for name in play.cohort.answers), "under the name of its case"


async def test_a_message_that_is_met_with_silence_is_booked_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malformed, "PATIENCE_SECONDS", 0.05)
    async with listening() as server, playing(server.url, "malformed-chat") as play:
        await server.websocket()
        await until(lambda: play.cohort.answers["an array: nothing in 0.05 s"])
        assert play.cohort.held == 1
