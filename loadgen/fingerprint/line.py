"""One connection of ours, and how it ended.

Owns: the socket, its options, TLS around it, and the two ways a server ends it: FIN and RST. May not: know HTTP or
WebSocket, or decide when to give up; whoever waits on a line does so under a limit of its own.
"""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final

import trio

#: A server that has not accepted by then is taken for dead.
CONNECT_SECONDS: Final = 5.0

READ_BYTES: Final = 64 * 1024

#: States of TCP as TCP_INFO tells them (linux/tcp_states.h), of those in which the other side has ended it.
_TCP_CLOSE: Final = 7
_TCP_CLOSE_WAIT: Final = 8


class Ending(StrEnum):
    """How the server ended a connection."""

    FIN = "FIN"
    RST = "RST"


class EndedError(Exception):
    """The server ended the connection."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.value)
        self.ending = ending


class Line:
    """A connection that stands."""

    def __init__(self, sock: trio.socket.SocketType, stream: trio.abc.Stream, connect_seconds: float) -> None:
        self.opened = trio.current_time()
        self.connect_seconds = connect_seconds
        self._sock = sock
        self._stream = stream
        self._sending = trio.Lock()  # a dripper and whoever answers pings share the line

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        async with self._sending:
            try:
                await self._stream.send_all(data)
            except trio.BrokenResourceError:
                raise EndedError(Ending.RST) from None

    async def receive(self) -> bytes:
        """Wait for bytes; never empty."""
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except trio.BrokenResourceError:
            raise EndedError(Ending.RST) from None
        if not data:
            raise EndedError(Ending.FIN)
        return bytes(data)

    async def receive_raw(self, most: int) -> bytes:
        """Take so many bytes off the socket as they are, under TLS the encrypted ones."""
        try:
            data = await self._sock.recv(most)
        except OSError:
            raise EndedError(Ending.RST) from None
        if not data:
            raise EndedError(Ending.FIN)
        return data

    @property
    def ending(self) -> Ending | None:
        """Whether the server has ended it, without reading: a FIN is noticed when all before it was taken."""
        state = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return {_TCP_CLOSE: Ending.RST, _TCP_CLOSE_WAIT: Ending.FIN}.get(state)


@asynccontextmanager
async def dial(
    address: str,
    port: int,
    *,
    family: socket.AddressFamily,
    source: str | None = None,
    tls: ssl.SSLContext | None = None,
    host: str = "",
    receive_buffer_bytes: int = 0,
    segment_bytes: int = 0,
) -> AsyncIterator[Line]:
    """Connect, from `source` if one is given; the connection is gone when the block is left."""
    with trio.socket.socket(family) as sock:
        if receive_buffer_bytes:  # before connect: the window's scale is settled in the handshake
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        if segment_bytes:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment_bytes)
        if source is not None:
            await sock.bind((source, 0))
        begun = trio.current_time()
        with trio.fail_after(CONNECT_SECONDS):
            await sock.connect((address, port))
            connect_seconds = trio.current_time() - begun
            stream: trio.abc.Stream = trio.SocketStream(sock)
            if tls is not None:
                # servers that close without close_notify are common, and it is the close that we are here for
                secure = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
                await secure.do_handshake()
                stream = secure
        yield Line(sock, stream, connect_seconds)
