"""A server of one connection that does what a test tells it, byte by byte."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from loadgen import target
from loadgen.fingerprint.line import Line, dial
from tests.loadgen.fingerprint.plant import RESET


@asynccontextmanager
async def line_to(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[Line]:
    """A line to a server that runs `serve` and then closes."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def attend() -> None:
        async with await listener.accept() as stream:
            await serve(stream)

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(attend)
        async with dial(target.find(f"http://127.0.0.1:{listener.socket.getsockname()[1]}")) as line:
            yield line
        nursery.cancel_scope.cancel()


async def reset(stream: trio.SocketStream) -> None:
    """End the connection with RST."""
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
    stream.socket.close()
