"""A connection to a server that a test controls byte by byte: how its end is seen, and answers of every form."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from loadgen.fingerprint.found import Failed, Finding, NotApplicable
from loadgen.fingerprint.site import NotServedError, TurnedAwayError, exchange, tried
from loadgen.net import sockets, target
from loadgen.net.line import Answer, EndedError, Ending, GarbledError, Line, dial
from loadgen.net.wire import request
from tests.loadgen.stage import PATIENCE, listening, read_until, reset, until
from tests.support.certificates import server_context

GET = request("GET", "/", "127.0.0.1")


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Line, trio.SocketStream]]:
    """Both ends of a connection."""
    async with listening() as server, dial(target.find(server.url)) as line:
        yield line, await server.accept()


async def test_an_open_line_has_no_ending_and_comes_from_the_address_that_was_asked_for() -> None:
    async with listening() as server, dial(target.find(server.url), source="127.16.3.7") as line:
        stream = await server.accept()
        assert stream.socket.getpeername()[0] == "127.16.3.7"
        await stream.send_all(b"hello")
        assert await line.receive() == b"hello"
        assert line.ending is None
        assert 0 < sockets.round_trip_seconds(line.fileno) < PATIENCE


async def test_a_fin_is_reported_after_all_data() -> None:
    async with connected() as (line, stream):
        await stream.send_all(b"bye")
        await stream.aclose()
        await until(lambda: line.ending is Ending.FIN)
        assert await line.receive_raw(2) == b"by"
        assert await line.receive() == b"e"
        for receive in (line.receive, lambda: line.receive_raw(1)):
            with pytest.raises(EndedError, match="FIN"):
                await receive()


async def test_tls_may_end_before_tcp_does() -> None:
    async with listening() as server, trio.open_nursery() as nursery:

        async def serve() -> None:
            stream = trio.SSLStream(await server.accept(), server_context(), server_side=True)
            await stream.do_handshake()
            await stream.unwrap()

        nursery.start_soon(serve)
        async with dial(target.find(server.url.replace("http", "https"))) as line:
            with pytest.raises(EndedError, match="FIN"):
                await line.receive()
            assert line.ending is None
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("first", ["send", "receive", "receive_raw"])
async def test_a_reset_is_reported_by_every_later_call(first: str) -> None:
    """The kernel tells it once, to a send as well; the next read says "end of stream", which was taken for FIN."""
    async with connected() as (line, stream):
        reset(stream)
        await until(lambda: line.ending is Ending.RST)
        acts: dict[str, Callable[[], Awaitable[object]]] = {
            "send": lambda: line.send(b"x"),
            "receive": line.receive,
            "receive_raw": lambda: line.receive_raw(1),
        }
        for act in (acts[first], acts["receive"], acts["receive_raw"]):
            with pytest.raises(EndedError, match="RST"):
                await act()


async def test_two_may_send() -> None:
    async with connected() as (line, stream), trio.open_nursery() as nursery:
        for letter in (b"a", b"b"):
            nursery.start_soon(line.send, letter * 1_000_000)
        got = await read_until(stream, lambda got: len(got) >= 2_000_000)
    assert got in {b"a" * 1_000_000 + b"b" * 1_000_000, b"b" * 1_000_000 + b"a" * 1_000_000}


# -- answers -----------------------------------------------------------------------------------------------------------


async def answered(said: bytes, *, keep: bool = True) -> Answer:
    """Ask a server that says this."""
    async with connected() as (line, stream):
        await stream.send_all(said)
        if not keep:
            await stream.send_eof()
        return await exchange(line, [GET])


@pytest.mark.parametrize(
    ("said", "status", "closes", "found"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, False, {}),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, False, {}),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, False, {}),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 404, True, {}),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200, True, {}),
        (b"HTTP/1.1 204 No Content\r\nX-A: 1\r\nx-a: 2\r\n\r\n", 204, False, {"fields": {"x-a": "1, 2"}}),
        (b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nhello", 200, True, {"fields": {"server": "old"}}),  # to the end
        # hints are no answers
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 X\r\n\r\n", 204, False,
         {"hints": (100, 103)}),
    ],
)  # fmt: skip
async def test_an_answer_is_read_to_its_end(said: bytes, status: int, closes: bool, found: dict[str, object]) -> None:
    answer = await answered(said, keep=b"old" not in said)
    assert (answer.status, answer.closes, answer.size) == (status, closes, len(said))
    assert {name: getattr(answer, name) for name in found} == found


@pytest.mark.parametrize(
    "said",
    [
        b"220 mail.example ESMTP\r\n\r\n",
        b"220 mail.example ESMTP",  # and the end
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"\x15\x03\x03\x00\x02\x02\x46",  # a TLS alert
        b"HTTP/1.1 100 Continue\r\n\r\n" * 101,  # for ever, and victims stood still for seconds
    ],
)
async def test_what_is_no_http(said: bytes) -> None:
    with pytest.raises(GarbledError, match="the answer is no HTTP"):
        await answered(said, keep=False)


async def test_the_end_without_an_answer() -> None:
    with pytest.raises(EndedError, match="FIN"):
        await answered(b"", keep=False)
    async with connected() as (line, stream):
        reset(stream)
        with pytest.raises(EndedError, match="RST"):
            await exchange(line, [GET])


async def test_an_answer_may_come_before_all_is_sent() -> None:
    async with connected() as (line, stream):
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        head = request("POST", "/", "127.0.0.1", f"Content-Length: {1 << 30}")
        answer = await exchange(line, [head, *[bytes(1 << 16)] * 1000])
        assert answer.status == 413


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_without_a_place_has_not_answered(status: int) -> None:
    with pytest.raises(TurnedAwayError, match=f"turned away: {status}"):
        await answered(b"HTTP/1.1 %d Later\r\nContent-Length: 0\r\n\r\n" % status)


@pytest.mark.parametrize(
    ("error", "finding"),
    [
        (TurnedAwayError("turned away: 503"), Failed(why="turned away: 503")),
        (EndedError(Ending.RST), Failed(why="reset")),
        (trio.TooSlowError(), Failed(why="no answer in time")),
        (NotServedError("no WebSocket"), NotApplicable(why="no WebSocket")),
    ],
)
async def test_a_probe_whose_connection_fails_is_a_finding(error: Exception, finding: Finding) -> None:
    async def play() -> Finding:
        raise error

    assert await tried(play) == finding
