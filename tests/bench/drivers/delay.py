"""A TCP proxy that holds each answer of a server back: `python -m tests.bench.drivers.delay PORT SECONDS`.

It prints the port it listens on. Answers keep their order, and many are under way at a time, as on a long line.
"""

import sys
from functools import partial

import trio

#: Chunks of answers under way on one connection; a page of fifty messages is one.
_UNDER_WAY = 10_000
_CHUNK = 65_536


async def _serve(server_port: int, delay: float, client: trio.SocketStream) -> None:
    server = await trio.open_tcp_stream("127.0.0.1", server_port)
    send, receive = trio.open_memory_channel[tuple[float, bytes]](_UNDER_WAY)
    try:
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(_hear, server, delay, send)
            nursery.start_soon(_answer, client, receive)
            while data := await client.receive_some(_CHUNK):
                await server.send_all(data)
            nursery.cancel_scope.cancel()
    except* trio.BrokenResourceError:
        pass  # one of them was killed, or has closed before it had read all; the other sees that


async def _hear(server: trio.SocketStream, delay: float, send: trio.MemorySendChannel[tuple[float, bytes]]) -> None:
    async with send:
        while data := await server.receive_some(_CHUNK):
            await send.send((trio.current_time() + delay, data))


async def _answer(client: trio.SocketStream, receive: trio.MemoryReceiveChannel[tuple[float, bytes]]) -> None:
    async for due, data in receive:
        await trio.sleep_until(due)
        await client.send_all(data)
    await client.send_eof()


async def _main(server_port: int, delay: float) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    await trio.serve_listeners(partial(_serve, server_port, delay), listeners)


if __name__ == "__main__":
    trio.run(_main, int(sys.argv[1]), float(sys.argv[2]))
