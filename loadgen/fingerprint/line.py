"""One connection of ours, and how it ended.

Owns: the socket, its options, TLS around it, and the two ways a server ends it: FIN and RST. May not: know HTTP or
WebSocket, or decide when to give up; every wait on a line is under a limit of the caller's.
"""

import socket
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final

import trio

from loadgen.target import Target, client_context

#: A server that has not accepted by then is taken for dead.
CONNECT_SECONDS: Final = 5.0

READ_BYTES: Final = 64 * 1024

#: States of TCP in which the other side has ended it (linux/tcp_states.h).
_TCP_CLOSE: Final = 7
_TCP_CLOSE_WAIT: Final = 8

#: Where `struct tcp_info` (linux/tcp.h) has the smoothed round trip, in microseconds; its first byte is the state.
_ROUND_TRIP: Final = slice(68, 72)


class Ending(StrEnum):
    FIN = "FIN"
    RST = "RST"


class EndedError(Exception):
    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.value)
        self.ending = ending


class Line:
    def __init__(self, sock: trio.socket.SocketType, stream: trio.abc.Stream) -> None:
        self._sock = sock
        self._stream = stream
        self._sending = trio.Lock()  # a dripper and the answers to pings share the line

    async def send(self, data: bytes) -> None:
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
            raise EndedError(self._end_of_stream())
        return bytes(data)

    async def receive_raw(self, most: int) -> bytes:
        """Take so many bytes off the socket as they are, under TLS the encrypted ones."""
        try:
            data = await self._sock.recv(most)
        except OSError:
            raise EndedError(Ending.RST) from None
        if not data:
            raise EndedError(self._end_of_stream())
        return data

    def _end_of_stream(self) -> Ending:
        # a reset that a send has met is not told again: to the next reader it is the end
        return self.ending or Ending.FIN

    @property
    def ending(self) -> Ending | None:
        """Whether the server has ended it, without reading: a FIN is noticed when all before it was taken."""
        return {_TCP_CLOSE: Ending.RST, _TCP_CLOSE_WAIT: Ending.FIN}.get(self._tcp_info()[0])

    @property
    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def round_trip_seconds(self) -> float:
        """How far away the server is, as the kernel measured it."""
        return int.from_bytes(self._tcp_info()[_ROUND_TRIP], sys.byteorder) / 1e6

    def _tcp_info(self) -> bytes:
        return self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ROUND_TRIP.stop)


@asynccontextmanager
async def dial(
    target: Target,
    *,
    source: str | None = None,
    plaintext: bool = False,
    options: Iterable[tuple[int, int, int]] = (),
) -> AsyncIterator[Line]:
    """Connect, from `source` if one is given; the connection is gone when the block is left."""
    with trio.socket.socket(target.family) as sock:
        for option in options:  # before connect: the window's scale is fixed in the handshake
            sock.setsockopt(*option)
        if source is not None:
            await sock.bind((source, 0))
        with trio.fail_after(CONNECT_SECONDS):
            await sock.connect((target.address, target.port))
            stream: trio.abc.Stream = trio.SocketStream(sock)
            if target.tls and not plaintext:
                # servers that close without close_notify are common, and it is the close that we are here for
                secure = trio.SSLStream(stream, client_context(), server_hostname=target.host, https_compatible=True)
                await secure.do_handshake()
                stream = secure
        yield Line(sock, stream)
