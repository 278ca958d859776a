"""Personas that ask and do not read."""

import os
from collections.abc import Callable

import pytest
import trio
from wsproto import events

from loadgen.net.answers import ALL_WRITTEN
from loadgen.personas import registry, slow_http, slow_ws
from tests.loadgen.stage import Server, WebSocket, answer, listening, meeting, parsed, playing, read_until, reset, until

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_http, "LOOK_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(slow_ws, "LOOK_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(slow_http, "SIP_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(slow_ws, "SPEAK_EVERY_SECONDS", 0.02)


async def _asked(server: Server) -> trio.SocketStream:
    stream = await server.accept()
    asked = await read_until(stream, lambda got: got.count(b"\r\n\r\n") == slow_http.REQUESTS)
    request, _ = parsed(asked)
    assert (request.method, request.target) == (b"GET", b"/page")
    assert asked == asked[: len(asked) // slow_http.REQUESTS] * slow_http.REQUESTS
    return stream


def _stuff(stream: trio.SocketStream) -> int:
    """Write until the peer's window is shut."""
    stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
    sent = 0
    while True:
        try:
            sent += os.write(stream.socket.fileno(), b"x" * 1000)
        except BlockingIOError:
            return sent


async def test_half_of_them_read_a_little_and_the_others_only_the_status() -> None:
    async with listening() as server, playing(server.url, "slow-read", clients=4, path="/page") as play:
        for _ in play.clients:
            stream = await _asked(server)
            await stream.send_all(_HEAD)
            assert _stuff(stream) < 100_000
        await until(lambda: play.cohort.received_bytes > 10 * slow_http.SIP_BYTES)
        assert play.cohort.held == 4
        assert not play.cohort.ended
        assert [client._sips for client in play.clients] == [False, True] * 2  # type: ignore[attr-defined]
        assert play.cohort.answers == {"answered 200": 4}


async def test_a_server_that_is_slow_to_write_is_waited_for_and_the_first_client_reads_nothing() -> None:
    async with listening() as server, playing(server.url, "slow-read", path="/page") as play:
        stream = await _asked(server)
        await stream.send_all(_HEAD)
        await until(lambda: play.cohort.answers)
        await trio.sleep(0.1)  # time for a few looks
        assert play.cohort.answers == {"answered 200": 1}, "not all is written"
        before = play.cohort.received_bytes
        _stuff(stream)
        await trio.sleep(0.1)
        assert play.cohort.received_bytes == before


def _abandon(stream: trio.SocketStream) -> None:
    """Close; what stands unsent keeps the FIN back, so that a client that does not read is not told."""
    stream.socket.close()


@pytest.mark.parametrize(
    ("how", "reason"), [(reset, "connection reset by peer"), (_abandon, "closed with its answers unread")]
)
async def test_the_end_is_noticed_without_reading(how: Callable[[trio.SocketStream], None], reason: str) -> None:
    async with listening() as server, playing(server.url, "slow-read", path="/page") as play:
        stream = await _asked(server)
        await stream.send_all(_HEAD)
        _stuff(stream)
        await until(lambda: play.cohort.answers)
        how(stream)
        await until(lambda: play.cohort.ended == {reason: 1})
        assert play.cohort.answers == {"answered 200": 1}, "it waited"


_MANY, _LONG = slow_http.REQUESTS, b"X: " + b"x" * 5000 + b"\r\n"


@pytest.mark.parametrize(("chunk", "is_told"), [(b"hello" * 20, True), (b"x" * 100_000, False)], ids=["short", "long"])
async def test_a_server_that_waits_for_nobody_is_told_also_if_its_answers_are_chunked(
    chunk: bytes, is_told: bool
) -> None:
    """Without a length in the head none was told, and the attack was held that had taken nothing of the server."""
    one = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(chunk), chunk)
    async with listening() as server, playing(server.url, "slow-read", path="/page") as play:
        stream = await _asked(server)
        if is_told:
            await stream.send_all(one * _MANY)
        else:
            with trio.move_on_after(0.3):
                await stream.send_all(one)
        told = {"answered 200": 1, **({ALL_WRITTEN: 1} if is_told else {})}
        await until(lambda: play.cohort.answers == told)
        assert play.cohort.received_bytes < 50_000, "it reads no long answer to its end"


@pytest.mark.parametrize(("answers", "closes", "more"), [(_MANY, False, b""), (1, True, b""), (1, False, _LONG)])
async def test_a_server_that_waits_for_nobody_is_told(answers: int, closes: bool, more: bytes) -> None:
    """A hundred small answers fit into the kernels' buffers, and so does the only one of a server that closes.

    Only 1,000 bytes were searched for their length: over TLS, with long heads, no server was told.
    """
    one = b"HTTP/1.1 200 OK\r\n" + more + b"Content-Length: 5\r\n\r\nhello"
    async with listening() as server, playing(server.url, "slow-read", path="/page") as play:
        stream = await _asked(server)
        await stream.send_all(one * answers)
        if answers < _MANY:  # else it forgets the length at its next look
            await until(lambda: play.client._asked_bytes == slow_http.REQUESTS * len(one))  # type: ignore[attr-defined]
        if more:
            return
        if closes:
            await stream.aclose()
        await until(lambda: play.cohort.answers == {"answered 200": 1, ALL_WRITTEN: 1})
        await until(lambda: bool(play.cohort.ended) is closes)
        await trio.sleep(0.1)  # time for a few looks
        assert play.cohort.answers[ALL_WRITTEN] == 1


async def test_a_refusal_is_read_to_its_end() -> None:
    async with listening() as server, playing(server.url, "slow-read", path="/page") as play:
        stream = await _asked(server)
        await answer(stream, 503, b"x" * 1000)
        await stream.aclose()
        await until(lambda: play.cohort.refused == {"answered 503": 1})


async def test_a_deaf_member_joins_and_reads_nothing() -> None:
    async with meeting("slow-read-ws") as (play, stream):
        socket = WebSocket(stream)
        await socket.accept()
        assert (await socket.hear())["type"] == "join"
        await socket.send(events.TextMessage("unread" * 10))
        received = play.cohort.received_bytes
        assert (await socket.hear())["type"] == "publish", "the first clients speak"
        _stuff(stream)
        assert play.cohort.received_bytes == received
        _abandon(stream)
        await until(lambda: play.cohort.ended == {"closed with messages unread": 1})


async def test_the_others_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_ws, "SPEAKERS", 0)
    async with meeting("slow-read-ws") as (_, stream):
        socket = WebSocket(stream)
        await socket.accept()
        assert (await socket.hear())["type"] == "join"
        with trio.move_on_after(0.1):
            raise AssertionError(await socket.receive())


async def test_few_speak_and_of_a_small_crowd_as_many_as_of_a_large_one() -> None:
    """One in a hundred spoke: of 200 clients, so little was unread that no server waited for them, and it was held."""
    async with listening(backlog=256) as server, playing(server.url, "slow-read-ws", clients=30) as play:
        speaking = [client.index for client in play.clients if client._speaks]  # type: ignore[attr-defined]
        assert speaking == list(range(slow_ws.SPEAKERS))
        assert registry()["slow-read-ws"].receive_buffer_bytes
        await server.accept()
