"""A TCP proxy like a long line, or like a cut network: connections stay open, and nothing arrives.

`python -m tests.support.partition PORT SECONDS` prints the port of one that delays the answers of that server.
"""

import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing

import trio

#: Chunks of late answers under way on one connection.
UNDER_WAY = 10_000


class Link:
    """Forwards from its own `port` to a port of this host until it is cut.

    Each answer is `delay` seconds late. Answers keep their order, and many are under way at a time.
    """

    def __init__(self, to: int, *, delay: float = 0.0) -> None:
        self._to = to
        self._delay = delay
        self._whole = trio.Event()
        self._whole.set()
        self._last_words = b""
        self._running = trio.CancelScope()
        self.port = 0

    def cut(self) -> None:
        """Forward nothing from now on."""
        self._whole = trio.Event()

    def cut_behind(self, words: bytes) -> None:
        """Cut behind the next data that contains these words."""
        self._last_words = words

    def mend(self) -> None:
        """Forward again, beginning with the delayed bytes."""
        self._last_words = b""
        self._whole.set()

    def end(self) -> None:
        """Close all connections, and accept no more."""
        self._running.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        with self._running:
            await trio.serve_listeners(self.serve, listeners, task_status=task_status)  # type: ignore[arg-type]

    async def serve(self, client: trio.SocketStream) -> None:
        async with client:
            try:
                server = await trio.open_tcp_stream("127.0.0.1", self._to)
            except OSError:
                return  # no server listens: the client is refused as well
            await self._join(client, server)

    async def _join(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        async with server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, client, server, nursery.cancel_scope)
                if not self._delay:
                    nursery.start_soon(self._pump, server, client, nursery.cancel_scope)
                    return
                arriving, answers = trio.open_memory_channel[tuple[float, bytes]](UNDER_WAY)
                nursery.start_soon(self._receive, server, arriving)
                nursery.start_soon(self._pump_late, answers, client, nursery.cancel_scope)

    async def _receive(self, server: trio.SocketStream, arriving: trio.MemorySendChannel[tuple[float, bytes]]) -> None:
        async with arriving:
            try:
                async for data in server:
                    await arriving.send((trio.current_time() + self._delay, bytes(data)))
            except trio.BrokenResourceError:
                pass  # the end of the answers

    async def _late(self, answers: trio.MemoryReceiveChannel[tuple[float, bytes]]) -> AsyncGenerator[bytes, None]:
        async for due, data in answers:
            await trio.sleep_until(due)
            yield data

    async def _pump_late(
        self, answers: trio.MemoryReceiveChannel[tuple[float, bytes]], sink: trio.SocketStream, ends: trio.CancelScope
    ) -> None:
        async with aclosing(self._late(answers)) as late:  # the client may be gone before the last of them
            await self._pump(late, sink, ends)

    async def _pump(
        self, source: AsyncIterable[bytes | bytearray], sink: trio.SocketStream, ends: trio.CancelScope
    ) -> None:
        with trio.CancelScope():
            try:
                async for data in source:
                    await self._whole.wait()
                    if self._last_words and self._last_words in data:
                        self.cut()  # now: the answer may be there before `send_all` returns
                    await sink.send_all(data)
            except trio.BrokenResourceError:
                pass
        ends.cancel()


async def _main(port: int, seconds: float) -> None:
    link = Link(port, delay=seconds)
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        print(link.port, flush=True)


if __name__ == "__main__":
    trio.run(_main, int(sys.argv[1]), float(sys.argv[2]))
