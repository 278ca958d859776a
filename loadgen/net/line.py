"""One connection to the server: how it ended, and the answer to a request on it, parsed by h11 as it comes.

Owns: the socket, TLS around it, the two ways a server ends it (FIN and RST), and the words for what can go wrong.
Requests come in as bytes, because the probes send them in unusual ways. May not: decide when to give up; the caller
puts a timeout on every wait.
"""

import math
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import h11
import trio

from loadgen.net import sockets
from loadgen.net.answers import CLOSED, UNANSWERED
from loadgen.net.target import Target, client_context, describe_tls
from loadgen.net.wire import join_field

#: A server that has not accepted by then counts as dead.
CONNECT_SECONDS: Final = 5.0

READ_BYTES: Final = 64 * 1024


class Ending(StrEnum):
    FIN = "FIN"
    RST = "RST"


class EndedError(Exception):
    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.value)
        self.ending = ending


#: Every way in which a connection can fail.
FAILURES: Final = (OSError, trio.TooSlowError, trio.BrokenResourceError, EndedError)


class Line:
    def __init__(self, sock: trio.socket.SocketType, stream: trio.abc.Stream, watch: Callable[[int], None]) -> None:
        self._sock = sock
        self._stream = stream
        self._watch = watch
        self._sending = trio.Lock()  # the dripping task and the pongs share the connection

    async def send(self, data: bytes) -> None:
        async with self._sending:
            try:
                await self._stream.send_all(data)
            except trio.BrokenResourceError as broken:
                raise EndedError(Ending.RST) from broken.__cause__

    async def receive(self) -> bytes:
        """Wait for bytes; the result is never empty."""
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except trio.BrokenResourceError as broken:
            raise EndedError(Ending.RST) from broken.__cause__
        if not data:
            raise EndedError(self._end_of_stream())
        self._watch(self.fileno)
        return bytes(data)

    async def receive_raw(self, most: int) -> bytes:
        """Read up to `most` bytes from the socket itself, which under TLS are encrypted."""
        try:
            data = await self._sock.recv(most)
        except OSError as error:
            raise EndedError(Ending.RST) from error
        if not data:
            raise EndedError(self._end_of_stream())
        return data

    def _end_of_stream(self) -> Ending:
        # the kernel reports a reset once: if a send met it, the next read sees an end of stream
        return self.ending or Ending.FIN

    @property
    def ending(self) -> Ending | None:
        """How the server ended the connection, without reading; a FIN shows once all data before it has arrived."""
        return {sockets.CLOSE: Ending.RST, sockets.CLOSE_WAIT: Ending.FIN}.get(sockets.tcp_state(self.fileno))

    @property
    def fileno(self) -> int:
        return self._sock.fileno()


@asynccontextmanager
async def dial(
    target: Target,
    *,
    source: str | None = None,
    plaintext: bool = False,
    options: Iterable[tuple[int, int, int]] = (),
    seconds: float = CONNECT_SECONDS,
    watch: Callable[[int], None] = lambda fd: None,
) -> AsyncIterator[Line]:
    """Connect, from `source` if one is given; leaving the block closes the connection.

    `watch` is called with the descriptor after each read.
    """
    with trio.socket.socket(target.family) as sock:
        for option in options:  # before connect: the handshake fixes the window scale
            sock.setsockopt(*option)
        if source is not None:
            await sock.bind((source, 0))
        with trio.fail_after(seconds):
            await sock.connect((target.address, target.port))
            stream: trio.abc.Stream = trio.SocketStream(sock)
            if target.tls and not plaintext:
                # many servers close without close_notify, and the probes must see that close
                secure = trio.SSLStream(stream, client_context(), server_hostname=target.host, https_compatible=True)
                await secure.do_handshake()
                stream = secure
        yield Line(sock, stream, watch)


def describe(error: BaseException) -> str:
    match error:
        case trio.TooSlowError():
            return UNANSWERED
        case EndedError(ending=Ending.FIN):
            return CLOSED
        case EndedError():
            return "reset"
        case trio.BrokenResourceError(__cause__=ssl.SSLError() as cause):
            return f"TLS failed: {describe_tls(cause)}"
        case OSError(errno=int()):
            return sockets.describe(error)
    return str(error) or type(error).__name__


#: More 1xx responses before an answer count as garbage: h11 takes 80 us for each, and a read of 64 KiB has thousands.
MAX_HINTS: Final = 100

#: A larger response head counts as garbage, as it does in browsers.
_MAX_HEAD_BYTES: Final = 256 * 1024


class GarbledError(Exception):
    """The server sent something that is not HTTP, or not WebSocket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    fields: Mapping[str, str]  # by lower-case name
    size: int  # bytes of body and head
    closes: bool  # the server takes no further request on this connection
    hints: tuple[int, ...] = ()  # the 1xx responses before it


class Exchange:
    """Reads the answer to one request, whichever way that is sent."""

    def __init__(self, line: Line, method: str = "GET", *, most_bytes: float = math.inf) -> None:
        self._line = line
        self._most_bytes = most_bytes
        self._hints: list[int] = []
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        # h11 accepts 1xx and 101 only after a request that allows them
        upgrade = [("Host", "x"), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
        self._h11.send(h11.Request(method=method, target="/", headers=upgrade))
        self._h11.send(h11.EndOfMessage())
        self._size = 0
        self.ended_by_close = False  # only the end of the connection said that the body is complete

    async def begin(self) -> Answer:
        while True:
            event = await self._next()
            if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                self._hints.append(event.status_code)
                if len(self._hints) > MAX_HINTS:
                    raise GarbledError(f"the answer is no HTTP: more than {MAX_HINTS} responses 1xx before it")
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                fields: dict[str, str] = {}
                for name, value in event.headers:
                    join_field(fields, name.decode("ascii"), value.decode("latin-1"))
                return Answer(
                    status=event.status_code,
                    fields=fields,
                    size=self._size,
                    closes=self.closes,
                    hints=tuple(self._hints),
                )

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Yield the body of the answer that has begun; one to an upgrade has none."""
        while self._h11.their_state is h11.SEND_BODY:
            if isinstance(event := await self._next(), h11.Data):
                yield bytes(event.data)

    async def whole(self, enough: float = math.inf) -> Answer:
        """Read the answer to its end, or until `enough` bytes have come."""
        answer = await self.begin()
        async with aclosing(self.body()) as body:
            async for _ in body:
                if self._size >= enough:
                    break
        return replace(answer, size=self._size, closes=self.closes)

    @property
    def rest(self) -> bytes:
        """The bytes after an answer that ends HTTP on this connection."""
        return self._h11.trailing_data[0]

    @property
    def closes(self) -> bool:
        return self._h11.their_state in {h11.MUST_CLOSE, h11.CLOSED}

    async def _next(self) -> h11.Event:
        while True:
            try:
                event = self._h11.next_event()
                if isinstance(event, h11.Event):
                    return event
                data = await self._receive()
                self._size += len(data)
                if self._size > self._most_bytes:
                    raise GarbledError(f"an answer of more than {self._most_bytes:,} bytes")
                self._h11.receive_data(data)
            except h11.RemoteProtocolError as error:
                raise GarbledError(f"the answer is no HTTP: {error}") from None

    async def _receive(self) -> bytes:
        try:
            return await self._line.receive()
        except EndedError:
            if self._h11.their_state is h11.SEND_BODY:
                self.ended_by_close = True
                return b""  # closing the connection may end the body; h11 decides
            if self._h11.trailing_data[0]:
                raise GarbledError("the answer is no HTTP: it ends within its head") from None
            raise
