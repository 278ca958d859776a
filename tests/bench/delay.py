"""A way to a server that takes longer: what is sent there arrives so much later, and nothing overtakes.

Owns: the relay. May not: know what is said. Answers come back at once, so a round trip is longer by the delay, once.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

#: Chunks under way; a client that sends more waits.
UNDER_WAY = 1_000


@asynccontextmanager
async def farther(port: int, seconds: float) -> AsyncIterator[int]:
    """The port by which a server of the loopback is so much farther away."""

    async def relay(client: trio.SocketStream) -> None:
        async with client, await trio.open_tcp_stream("127.0.0.1", port) as server, trio.open_nursery() as nursery:
            late, arriving = trio.open_memory_channel[tuple[float, bytes]](UNDER_WAY)
            nursery.start_soon(_deliver, arriving, server)
            nursery.start_soon(_copy, server, client)
            async for data in client:
                await late.send((trio.current_time() + seconds, bytes(data)))
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, relay, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _deliver(arriving: trio.MemoryReceiveChannel[tuple[float, bytes]], server: trio.SocketStream) -> None:
    async for due, data in arriving:
        await trio.sleep_until(due)
        await server.send_all(data)


async def _copy(server: trio.SocketStream, client: trio.SocketStream) -> None:
    async for data in server:
        await client.send_all(data)
