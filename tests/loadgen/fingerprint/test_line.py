"""How the end of a connection is seen, with and without reading."""

import pytest
import trio

from loadgen.fingerprint.line import EndedError, Ending, Line
from tests.loadgen.fingerprint.rawserver import line_to, reset

PATIENCE = 10


async def until(line: Line, ending: Ending) -> None:
    with trio.fail_after(PATIENCE):
        while line.ending is not ending:  # noqa: ASYNC110  the kernel sets no event
            await trio.sleep(0.001)


async def test_an_open_line_has_no_ending() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"hello")
        await trio.sleep_forever()

    async with line_to(serve) as line:
        assert await line.receive() == b"hello"
        assert line.ending is None
        assert 0 < line.round_trip_seconds < PATIENCE


async def test_fin() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"bye")

    async with line_to(serve) as line:
        await until(line, Ending.FIN)
        assert await line.receive_raw(2) == b"by"
        assert await line.receive() == b"e"
        for receive in (line.receive, lambda: line.receive_raw(1)):
            with pytest.raises(EndedError, match="FIN"):
                await receive()


@pytest.mark.parametrize("sends_first", [False, True])
async def test_rst(sends_first: bool) -> None:
    """The kernel tells it once, to a send as well; the next read says "end of stream", which was taken for FIN."""
    async with line_to(reset) as line:
        await until(line, Ending.RST)
        if sends_first:
            with pytest.raises(EndedError, match="RST"):
                await line.send(b"x")
        for receive in (line.receive, line.receive, lambda: line.receive_raw(1)):
            with pytest.raises(EndedError, match="RST"):
                await receive()


async def test_two_may_send() -> None:
    got = b""
    complete = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal got
        while len(got) < 2_000_000:
            got += await stream.receive_some()
        complete.set()

    async with line_to(serve) as line, trio.open_nursery() as nursery:
        for letter in (b"a", b"b"):
            nursery.start_soon(line.send, letter * 1_000_000)
        with trio.fail_after(PATIENCE):
            await complete.wait()
    assert got in {b"a" * 1_000_000 + b"b" * 1_000_000, b"b" * 1_000_000 + b"a" * 1_000_000}
