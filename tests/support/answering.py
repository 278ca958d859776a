"""A server that does with each connection what a test says. May not: know a protocol."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio


@asynccontextmanager
async def answering(
    answer: Callable[[trio.SocketStream], Awaitable[object]], port: int = 0
) -> AsyncIterator[str]:  # fmt: skip
    """The address of a server that does this with each connection. Leaving the block is a crash."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, port, host="127.0.0.1"))
        yield f"127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()
