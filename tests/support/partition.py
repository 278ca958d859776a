"""A TCP proxy that can stop forwarding, like a cut network: connections stay open, and nothing arrives."""

import socket

import trio


class Link:
    """Forwards from its own `port` to a port of this host until it is cut."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._whole = trio.Event()
        self._whole.set()
        self._last_words = b""
        self.port = 0

    @property
    def is_cut(self) -> bool:
        return not self._whole.is_set()

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

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self._serve, listeners, task_status=task_status)  # type: ignore[arg-type]

    async def _serve(self, client: trio.SocketStream) -> None:
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
                nursery.start_soon(self._pump, server, client, nursery.cancel_scope)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, ends: trio.CancelScope) -> None:
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
