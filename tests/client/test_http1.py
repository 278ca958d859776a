"""The HTTP client over real connections to a script: kept connections, retries, and errors."""

import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from chatserver.client import http1
from chatserver.client.credentials import Credentials
from chatserver.client.errors import Unavailable
from chatserver.client.http1 import ANSWER_TIMEOUT, MAX_CONNECTIONS, MAX_IDLE, HttpClient, Response
from chatserver.client.http_transport import EARLY_ANSWER, http_conversation
from chatserver.client.requests import Join
from chatserver.client.stream import EndedError, parse_target
from chatserver.client.wire import Connected, Joined, Message
from chatserver.exits import innermost
from tests.client.fake import ZED, message
from tests.support.answering import answering
from tests.support.serving import eventually

pytestmark = pytest.mark.jumping_clock

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CLOSE, RESET, SILENCE = b"", b"!", b"..."


class Script:
    """Connections, and their answers to each request in turn; `CLOSE` and `RESET` end it, `SILENCE` does not answer."""

    def __init__(self, *connections: list[bytes]) -> None:
        self.heads: list[list[bytes]] = []
        self._connections = list(connections)

    async def serve(self, stream: trio.SocketStream) -> None:
        answers, heads = self._connections.pop(0), list[bytes]()
        self.heads.append(heads)
        for answer in answers:
            if answer == RESET:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if answer in (CLOSE, RESET):
                return
            data = b""
            while b"\r\n\r\n" not in data:
                more = await stream.receive_some()
                if not more:
                    return
                data += more
            heads.append(data)
            if answer == SILENCE:
                await trio.sleep_forever()
            await stream.send_all(answer)
        await stream.receive_some()


@asynccontextmanager
async def talking(script: Script, credentials: Credentials | None = None, path: str = "") -> AsyncIterator[HttpClient]:
    async with answering(script.serve) as address:
        client = HttpClient(parse_target(address + path), credentials or Credentials())
        yield client
        await client.aclose()


async def test_a_connection_is_kept_and_names_the_client() -> None:
    script = Script([b"HTTP/1.1 200 OK\r\nSet-Cookie: s=1; Path=/\r\nContent-Length: 2\r\n\r\n{}", OK])
    async with talking(script, path="/behind/a/path") as client:
        assert (await client.request("GET", "/rooms")).body == b"{}"
        await client.request("POST", "/session", {"name": "Ann"})
    (heads,) = script.heads
    assert heads[0].startswith(b"GET /behind/a/path/rooms HTTP/1.1\r\n")
    assert b"Cookie" not in heads[0]
    assert b"Content" not in heads[0]
    assert b"Cookie: s=1\r\n" in heads[1]
    assert heads[1].endswith(b'{"name":"Ann"}')


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_closed_client_keeps_no_connection_though_it_is_cancelled(*, is_late: bool) -> None:
    """All but the first were left to the garbage collector, and so was one whose answer came after the close."""
    ended, may_answer = 0, trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal ended
        async for _ in stream:
            await may_answer.wait()
            await stream.send_all(OK)
        ended += 1

    async with answering(serve) as address:
        client = HttpClient(parse_target(address), Credentials())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.request, "GET", "/1")
            nursery.start_soon(client.request, "GET", "/2")
            if is_late:
                await trio.testing.wait_all_tasks_blocked()
                await client.aclose()
            may_answer.set()
        if not is_late:
            with trio.CancelScope() as scope:
                scope.cancel()
                await client.aclose()
        await eventually(lambda: ended == 2)


async def test_an_answer_nobody_asked_for_does_not_answer_the_next_request() -> None:
    """A server that sent one answer too many was heard with each answer given to the request after its own."""
    stale = OK.replace(b"{}", b"[]")
    async with talking(Script([OK + stale], [OK])) as client:
        assert [(await client.request("GET", "/")).body for _ in range(2)] == [b"{}", b"{}"]


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    """The error tells the answer, not that the server has closed."""
    async with talking(Script([b"HTTP/1.0 403 X\r\n\r\n<html>", CLOSE], [OK])) as client:
        response = await client.request("GET", "/")
        assert (response.status, response.body) == (403, b"<html>")
        assert (await client.request("GET", "/")).body == b"{}"


async def test_a_refusal_before_the_end_of_a_request_is_its_answer() -> None:
    """A text far over the limit was sent again until its caller gave up, and no other request meanwhile."""
    refusal = b"HTTP/1.1 413 X\r\nContent-Length: 2\r\n\r\n{}"
    async with talking(Script([refusal, CLOSE], [OK])) as client:
        assert (await client.request("POST", "/", "x" * 20_000_000)).status == 413
        assert (await client.request("GET", "/")).status == 200


async def test_a_token_is_sent_in_a_header_field_only() -> None:
    script = Script([OK])
    async with talking(script, Credentials(token="secret", cookie="s=1")) as client:
        await client.request("GET", "/")
    assert b"Authorization: Bearer secret\r\n" in script.heads[0][0]
    assert script.heads[0][0].count(b"secret") == 1
    assert b"Cookie" not in script.heads[0][0]


def test_cookies_are_kept_up_to_a_size_and_the_first_ones_stay() -> None:
    """A proxy that named each of its cookies anew made the head grow until the server refused it."""
    credentials = Credentials()
    for number in range(100):
        credentials.take([(b"Set-Cookie", b"c%d=%s; Path=/" % (number, b"x" * 1000))])
    credentials.take([(b"set-cookie", b"c0=y")])
    ((_, sent),) = credentials.fields
    assert sent.startswith(b"c0=y;")
    assert len(sent) < 10_000


def test_a_cookie_is_sent_back_as_it_came() -> None:
    """RFC 6265, section 5.2. A proxy's JSON was dropped, and 16 KB of escaped quotes took 0.3 s to read."""
    credentials = Credentials(cookie="old=1; guest=g1")
    odd = rb'{"n":1,"x":"\"' + rb"\"" * 2_000 + b'"}'
    credentials.take([(b"Set-Cookie", b"route=" + odd + b"; Path=/; Max-Age=9"), (b"Set-Cookie", b"guest=g2;Secure")])
    credentials.take([(b"Set-Cookie", each) for each in (b"", b"; a=b", b"=b", b"none", b"u=\xe9", b"t=a\tb")])
    assert credentials.fields == [(b"Cookie", b"old=1; guest=g2; route=" + odd)]
    assert Credentials(cookie="a=\n1; \u20ac=2; b=3\n").cookie == "b=3"


@pytest.mark.parametrize("ending", [CLOSE, RESET])
async def test_a_kept_connection_that_the_server_closed_is_replaced(ending: bytes) -> None:
    script = Script([OK, ending], [OK])
    async with talking(script) as client:
        await client.request("GET", "/1")
        await trio.testing.wait_all_tasks_blocked()
        await client.request("GET", "/2")
    assert [len(heads) for heads in script.heads] == [1, 1]


async def test_a_change_without_a_key_has_a_connection_of_its_own() -> None:
    """A kept one may have been closed meanwhile: with its answer lost, the change was made again on another."""
    script = Script([OK, OK, b"HTTP/1.1 2", CLOSE], [OK], [b"HTTP/1.1 2", CLOSE])
    async with talking(script) as client:
        await client.call("GET", "/1")
        await client.call("DELETE", "/2")
        await client.call("GET", "/3")
        with pytest.raises(Unavailable, match="hung up"):
            await client.call("POST", "/4")
    assert [len(heads) for heads in script.heads] == [2, 1, 1]


async def test_a_connection_that_was_idle_for_long_is_replaced() -> None:
    """Behind a NAT that forgets idle connections, the request after a pause waited 30 s for an answer."""
    script = Script([OK, OK, SILENCE], [OK])
    async with talking(script) as client:
        await client.request("GET", "/1")
        await trio.sleep(MAX_IDLE - 1)
        await client.request("GET", "/2")
        await trio.sleep(MAX_IDLE + 1)
        await client.request("GET", "/3")
    assert [len(heads) for heads in script.heads] == [2, 1]


async def test_a_malformed_answer_is_an_error() -> None:
    for answers, why in (
        ([CLOSE], "the server hung up"),
        ([SILENCE], "no answer within 30 s"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", CLOSE], "the server hung up"),
        ([b"SSH-2.0-OpenSSH\r\n"], "^the server does not speak HTTP: it sent 'SSH-2.0-OpenSSH'$"),
        ([b"\x15\x03\x01\x00\x02\x02\x16"], r"it sent '\\x15\\x03"),
        ([b"HTTP/1.1 two hundred\r\n\r\n"], "the server does not speak HTTP: illegal status line"),
    ):
        async with talking(Script(answers)) as client:
            with pytest.raises(EndedError, match=why):
                pytest.fail(f"{answers} is {await client.request('GET', '/')}")


async def test_an_answer_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "MAX_ANSWER", 1000)
    async with talking(Script([b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000])) as client:
        with pytest.raises(EndedError, match="more than 1,000 B"):
            await client.request("GET", "/")


async def test_an_answer_over_a_slow_line_is_read_as_long_as_it_comes() -> None:
    """A client on a line of 2 KB/s asked for the same page again every 30 s, and never had it."""
    *parts, last = [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"s", b"l", b"o", b"w"]

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        for part in parts:
            await trio.sleep(ANSWER_TIMEOUT - 1)
            await stream.send_all(part)
        await trio.sleep(ANSWER_TIMEOUT + (1 if is_stuck else -1))
        await stream.send_all(last)

    async with answering(serve) as address:
        client = HttpClient(parse_target(address), Credentials())
        is_stuck = False
        assert (await client.request("GET", "/")).body == b"slow"
        await client.aclose()
        is_stuck = True
        with pytest.raises(EndedError, match="no answer within 30 s"):
            await client.request("GET", "/")


async def test_errors_of_proxies_are_read_as_well() -> None:
    page = "not an answer of a chat server, perhaps the sign-in page of this network"
    for answer, code, retry_after, final, words in (
        (b'503 X\r\nRetry-After: 7\r\n\r\n{"error":{"code":"full","message":"later"}}', "full", 7.0, False, ": later"),
        *((b"%d X\r\n\r\n<html>" % status, "unavailable", None, False, "") for status in (429, 502, 521, 529)),
        (b"501 X\r\n\r\n<html>", "http_501", None, True, f": {page}"),
        (b"429 X\r\nRetry-After: " + b"9" * 400 + b"\r\n\r\n<html>", "unavailable", None, False, ""),
        (b"200 OK\r\n\r\n<html>", "unavailable", None, False, f": {page}"),
        (b"404 Not Found\r\nRetry-After: soon\r\n\r\n[]", "http_404", None, True, f": {page}"),
        (b"404 Not Found\r\n\r\n" + b"[" * 100_000, "http_404", None, True, f": {page}"),
    ):
        head, _, body = answer.partition(b"\r\n\r\n")
        wire = b"HTTP/1.1 " + head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        async with talking(Script([wire])) as client:
            response = await client.request("GET", "/")
        ending = response.ending
        assert (response.error.code, ending.retry_after, ending.final) == (code, retry_after, final), head
        assert ending.why == f"the server answered {response.status}{words}"


def test_a_refusal_of_one_room_is_no_refusal_of_the_user() -> None:
    """A poll gets 401 for a room that guests may no longer read; the bot stays in the others."""
    for status, room, concerns_rooms in (
        (401, None, False), (401, "staff", True), (403, None, True), (404, "staff", True), (429, "staff", False),
        (503, "staff", False),
    ):  # fmt: skip
        body = json.dumps({"error": {"code": "no", "message": "no", **({"room": room} if room else {})}}).encode()
        assert Response(status, {}, body).is_about_rooms is concerns_rooms, (status, room)
    assert [Response(status, {}, b"<html>").is_about_rooms for status in (404, 414)] == [False, True]


async def test_an_answer_for_a_room_left_meanwhile_is_ignored() -> None:
    """Otherwise a KeyError ends the client."""
    answers: list[object] = [
        {"user": ZED}, {"cursor": "e1-0", "recovered": True},
        {"rooms": {"left": {"cursor": "e1-9", "recovered": False}}},
        {"rooms": {"lobby": {"cursor": "e1-1", "recovered": True, "messages": [message(1, "hi")]}}},
    ]  # fmt: skip
    bodies = [json.dumps(answer).encode() for answer in answers]
    said = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body for body in bodies]
    async with (
        talking(Script(said[:2], [*said[2:], SILENCE])) as client,
        http_conversation("poll", client.target, Credentials()) as conversation,
    ):
        await conversation.send(Join(id=1, room="lobby"))
        began = trio.current_time()
        frames = [await conversation.receive() for _ in range(3)]
        assert trio.current_time() >= began + EARLY_ANSWER, "after an answer that was early and had no news"
    assert isinstance(frames[2], Message)


@pytest.mark.parametrize("clock", [b"soon", b"Mon, 30 Nov 2026 00:00:00 +99999999999999999999"])
async def test_the_end_of_a_token_is_unknown_without_the_clock_of_the_server(clock: bytes) -> None:
    body = json.dumps({"user": ZED, "expires": "2026-11-30T00:00:00Z"}).encode()
    said = b"HTTP/1.1 200 OK\r\nDate: %b\r\nContent-Length: %d\r\n\r\n%b" % (clock, len(body), body)
    async with (
        talking(Script([said, SILENCE])) as client,
        http_conversation("poll", client.target, Credentials()) as conversation,
    ):
        assert isinstance(await conversation.receive(), Connected)


async def test_a_stream_has_its_own_connection_and_a_deadline_for_silence() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    script = Script(
        [OK],
        [head + b"2\r\nab\r\n"],
        [head + b"2\r\ncd\r\n0\r\n\r\n"],
        [b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"],
        [SILENCE],
    )
    async with talking(script) as client:
        await client.request("GET", "/")
        async with client.stream("/events") as body:
            assert await body.chunk(trio.current_time() + 50.0) == b"ab"
            with pytest.raises(EndedError, match="silent"):
                await body.chunk(trio.current_time() + 50.0)
        async with client.stream("/events") as body:
            assert await body.chunk(trio.current_time() + 50.0) == b"cd"
            assert await body.chunk(trio.current_time() + 50.0) is None
        for why in ("503", "no answer within 30 s"):
            with pytest.raises(EndedError, match=why):
                async with client.stream("/events"):
                    pass


async def test_a_stream_of_which_a_proxy_passes_on_single_bytes_is_silent() -> None:
    """Each byte counted as a sign of life, so for hours there was no message, and no word of it."""

    async def serve(stream: trio.SocketStream) -> None:
        while head := await stream.receive_some():
            if b"/events" in head:
                await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
                for byte in b"retry: 2000\n" + 20 * b"data: ":
                    await trio.sleep(4)
                    await stream.send_all(bytes([byte]))
                return
            body = json.dumps({"user": ZED, "cursor": "e1-0", "recovered": True}).encode()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async def hear(address: str) -> None:
        async with http_conversation("sse", parse_target(address), Credentials()) as conversation:
            await conversation.send(Join(id=1, room="lobby"))
            while True:
                await conversation.receive()

    async with answering(serve) as address:
        with pytest.raises(ExceptionGroup) as raised:
            await hear(address)
        assert str(innermost(raised.value)) == "the server has gone silent"


async def test_a_room_that_is_joined_again_has_one_stream() -> None:
    """So a program may leave and join it at once: the session then sends the join only."""
    streams: list[bool] = []

    async def serve(stream: trio.SocketStream) -> None:
        while head := await stream.receive_some():
            if b"/events" in head:
                streams.append(True)
                await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
                await stream.receive_some()
                streams.remove(True)
                return
            body = json.dumps({"user": ZED, "cursor": "e1-0", "recovered": True}).encode()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with (
        answering(serve) as address,
        http_conversation("sse", parse_target(address), Credentials()) as conversation,
    ):
        for id_ in (1, 2):
            await conversation.send(Join(id=id_, room="lobby"))
            await trio.testing.wait_all_tasks_blocked(0.1)
        assert streams == [True]


async def test_rooms_are_asked_for_side_by_side_and_one_room_in_the_order_of_its_requests() -> None:
    """50 rooms joined at a round trip of 200 ms took 12 s, one after the other."""
    asked: list[str] = []
    waiting = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        while head := await stream.receive_some():
            path = head.split(b" ")[1].decode()
            if path.startswith("/rooms/"):
                asked.append(path.split("/")[2])
                await waiting.wait()
            elif path.startswith("/poll"):
                await trio.sleep_forever()
            body = json.dumps({"user": ZED, "cursor": "e1-0", "recovered": True}).encode()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with (
        answering(serve) as address,
        http_conversation("poll", parse_target(address), Credentials()) as conversation,
    ):
        await conversation.receive()
        names = [f"r{number}" for number in range(2 * MAX_CONNECTIONS)]
        for id_, room in enumerate(["r0", *names], start=1):
            await conversation.send(Join(id=id_, room=room))
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert len(asked) == len(set(asked)) == MAX_CONNECTIONS, "bounded, and one of each room"
        waiting.set()
        frames = [await conversation.receive() for _ in range(len(names) + 1)]
    ids = [frame.id for frame in frames if isinstance(frame, Joined)]
    assert sorted(ids) == list(range(1, len(names) + 2))
    assert ids.index(1) < ids.index(2)
