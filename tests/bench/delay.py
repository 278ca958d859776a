"""A TCP proxy that delays each answer of a server: `python -m tests.bench.delay PORT SECONDS` prints its port.

Answers keep their order, and many are under way at a time, as on a long line.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

#: Chunks of answers under way on one connection.
UNDER_WAY = 10_000


@asynccontextmanager
async def delayed(port: int, seconds: float) -> AsyncIterator[int]:
    """The port of a proxy to a server of the loopback."""
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, partial(_relay, port, seconds), 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _relay(port: int, seconds: float, client: trio.SocketStream) -> None:
    late, arriving = trio.open_memory_channel[tuple[float, bytes]](UNDER_WAY)

    async def receive() -> None:
        async with late:
            async for data in server:
                await late.send((trio.current_time() + seconds, bytes(data)))

    async def answer() -> None:
        async for due, data in arriving:
            await trio.sleep_until(due)
            await client.send_all(data)
        await client.send_eof()

    try:
        async with client, await trio.open_tcp_stream("127.0.0.1", port) as server, trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            nursery.start_soon(answer)
            async for data in client:
                await server.send_all(data)
            nursery.cancel_scope.cancel()
    except* trio.BrokenResourceError:
        pass  # one side has closed or was killed; the other side is closed here


async def _main(port: int, seconds: float) -> None:
    async with delayed(port, seconds) as its_port:
        print(its_port, flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_main, int(sys.argv[1]), float(sys.argv[2]))
