"""Clients that begin something and make the server wait for the rest: by HTTP, before the TLS handshake, by WebSocket.

Owns: the one way in which every deadline is measured. A client's clock starts with the last thing that a well-behaved
client would have done, and runs until an answer, a close frame, FIN or RST comes, or its patience ends. What comes
within the next second is recorded too: a 408 and then FIN is no silent close. An end because of size, or at once, is
not a deadline.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, cycle, islice
from typing import Final

import trio
from wsproto.frame_protocol import Frame, Opcode

from loadgen.fingerprint.found import Failed, Finding, Found, NoneSeen, NotApplicable, longest
from loadgen.fingerprint.site import (
    ANSWER_SECONDS,
    PROMPT_SECONDS,
    NotServedError,
    Site,
    TurnedAwayError,
    exchange,
    side_by_side,
    while_sending,
)
from loadgen.net.answers import TURNED_AWAY
from loadgen.net.line import EndedError, Ending, Exchange, GarbledError, Line
from loadgen.net.websocket import RejectedError, WebSocket, close_words, upgrade
from loadgen.net.wire import FIN, frame

#: Events this soon after the first sign belong to it: an answer and its FIN are often two segments.
MOMENT_SECONDS: Final = 1.0

OPEN: Final = "left open"

#: Answers to something too large, or with too many lines: not a deadline, however long it took.
_TOO_LARGE: Final = ("413", "414", "431", "close 1009")

#: 400 may mean that, or be the answer at a deadline; after less than this, nothing was too large.
_BAD_REQUEST: Final = "400"
_LEAST_BYTES: Final = 2048
_LEAST_FIELDS: Final = 50

#: The start of a TLS alert: the record type, and the first byte of the version.
_ALERT: Final = b"\x15\x03"

_TURNED_AWAY: Final = tuple(str(status) for status in TURNED_AWAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """The first event with which the server ends its wait."""

    at: float
    how: str

    @property
    def turned_away(self) -> bool:
        """Whether it is the answer of a server without capacity."""
        return self.how.startswith(_TURNED_AWAY)


class Client:
    """A connection on which a script runs; this class is for HTTP."""

    def __init__(self, line: Line) -> None:
        self.line = line

    async def listen(self) -> str:
        answer = await Exchange(self.line).begin()
        return " after ".join(map(str, (answer.status, *answer.hints)))

    @property
    def before(self) -> str:
        """Describe what had come before the first sign."""
        return ""


class TlsClient(Client):
    async def listen(self) -> str:
        return "a TLS alert" if (await self.line.receive()).startswith(_ALERT) else "bytes that are no TLS"


@asynccontextmanager
async def http(site: Site) -> AsyncIterator[Client]:
    async with site.dial() as line:
        yield Client(line)


@asynccontextmanager
async def kept(site: Site) -> AsyncIterator[Client]:
    async with http(site) as client:
        with trio.fail_after(ANSWER_SECONDS):
            await exchange(client.line, [site.plain_request()])
        yield client


@asynccontextmanager
async def tls(site: Site) -> AsyncIterator[TlsClient]:
    """Connect for a script that sends its own ClientHello."""
    async with site.dial(plaintext=True) as line:
        yield TlsClient(line)


async def first_sign(client: Client, until: float) -> Sign | None:
    """Listen until the first sign comes or patience ends, and then a moment longer."""
    how, at = "", 0.0
    with trio.move_on_at(until):
        try:
            how = await client.listen()
        except (EndedError, GarbledError) as error:
            how = str(error)
        at = trio.current_time()
    if not how:
        return None
    follows = "" if how in set(Ending) else f", {await ending_of(client.line, MOMENT_SECONDS)}"
    return Sign(at=at, how=how + follows + client.before)


async def ending_of(line: Line, seconds: float) -> str:
    """Discard data and return how the connection ends, or `OPEN` if it does not within this many seconds."""
    with trio.move_on_after(seconds):
        try:
            while True:
                await line.receive()
        except EndedError as error:
            return error.ending
    return OPEN


def elapsed(site: Site, line: Line, begun: float, sign: Sign | None) -> Found | NoneSeen:
    if sign is None:
        return NoneSeen(looked=max(site.until - begun, 0.0))
    return Found(value=sign.at - begun, uncertainty=site.doubt(line), how=sign.how)


#: The bytes to send first, and the pieces to send after it, one each pace.
Script = tuple[bytes, Iterable[bytes]]


def script(begin: Callable[[Site], bytes] | bytes, *pieces: bytes, most: int | None = None) -> Callable[[Site], Script]:
    """Send `begin`, then these pieces in turn, `most` at most, so that the request is never complete."""

    def write(site: Site) -> Script:
        return begin if isinstance(begin, bytes) else begin(site), islice(cycle(pieces), most)

    return write


@dataclass(frozen=True)
class Slow:
    """Concurrent clients, each of which makes the server wait in a different way."""

    connect: Callable[[Site], AbstractAsyncContextManager[Client]]
    ways: Mapping[str, Callable[[Site], Script]]
    fast: str = ""  # the way that is fast enough for a minimum rate
    at_once: str = "refused at once"  # the remark on an end that comes at once, which is no deadline; "" if it is one

    async def __call__(self, site: Site) -> Finding:
        """Find the longest that the server waits for any of the clients."""
        plays = {name: partial(self._go, site, *way(site)) for name, way in self.ways.items()}
        return longest(await side_by_side(plays), self.fast)

    async def _go(self, site: Site, opening: bytes, pieces: Iterable[bytes]) -> Finding:
        async with self.connect(site) as client:
            begun, sent = trio.current_time(), list[bytes]()
            listen = partial(first_sign, client, site.until)
            sign = await while_sending(client.line, _noted(chain([opening], pieces), sent), listen, site.options.pace)
            finding = elapsed(site, client.line, begun, sign)
        if sign is None:
            return finding
        waited = sign.at - begun
        at_once = waited < PROMPT_SECONDS
        if at_once and (sign.turned_away or (opening and sign.how in set(Ending))):
            return Failed(why=f"turned away at once: {sign.how}")
        if at_once and self.at_once:
            return NotApplicable(why=f"{self.at_once}: {sign.how}")
        if sign.how.startswith(_TOO_LARGE) or (sign.how.startswith(_BAD_REQUEST) and _is_much(sent)):
            return NoneSeen(looked=waited, how=f"refused as too large: {sign.how}")
        return finding


def _noted(pieces: Iterable[bytes], sent: list[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        sent.append(piece)
        yield piece


def _is_much(sent: Sequence[bytes]) -> bool:
    """Whether a server might limit a head or a body to this."""
    return sum(map(len, sent)) >= _LEAST_BYTES or sum(b":" in piece for piece in sent) >= _LEAST_FIELDS


#: Reserved by RFC 6455, so every server must fail the connection, and sends a close frame.
RESERVED_OPCODE: Final = 0x3

PONG: Final = "a pong"

#: Time between the pong that follows a message and the last check of how the server took that message.
AFTERTHOUGHT_SECONDS: Final = 0.05


class Member(Client):
    def __init__(self, socket: WebSocket, *, answering: bool = False) -> None:
        super().__init__(socket.line)
        self.socket = socket
        self.answering = answering
        self.opened = trio.current_time()
        self.pinged: list[float] = []  # when the server's pings came

    async def hear(self) -> Frame:
        frame = await self.socket.frame()
        if frame.opcode is Opcode.PING:
            self.pinged.append(trio.current_time())
        return frame

    async def listen(self) -> str:
        """Wait for a close frame; pings are answered only if `answering`."""
        while True:
            frame = await self.hear()
            if frame.opcode is Opcode.CLOSE:
                return close_words(frame)
            if self.answering and frame.opcode is Opcode.PING:
                await self.socket.pong(frame)

    @property
    def before(self) -> str:
        """Mention the first ping: leaving it unanswered may have ended the connection."""
        return f", after a ping at {self.pinged[0] - self.opened:.1f} s" if self.pinged else ""

    async def say(self, pieces: Iterable[bytes]) -> str:
        """Send a message; return `PONG` if a ping after it is answered, or else how the server ended the connection."""
        try:
            pinged = chain(pieces, [frame(FIN | Opcode.PING, b"1")])
            how = await while_sending(self.line, pinged, partial(self._pong_or_close, b"1"))
            if how == PONG:
                # some servers answer pings as they read them, and handle the message later in another task
                await trio.sleep(AFTERTHOUGHT_SECONDS)
                await self.line.send(frame(FIN | Opcode.PING, b"2"))
                how = await self._pong_or_close(b"2")
        except (EndedError, GarbledError) as error:
            how = str(error)
        return how

    async def _pong_or_close(self, token: bytes) -> str:
        while True:
            frame = await self.hear()
            if frame.opcode is Opcode.PONG and frame.payload == token:
                return PONG
            if frame.opcode is Opcode.CLOSE:
                return close_words(frame)


@asynccontextmanager
async def join(site: Site, *, answering: bool = False) -> AsyncIterator[Member]:
    async with site.dial() as line:
        try:
            with trio.fail_after(ANSWER_SECONDS):
                socket = await upgrade(line, site.options.ws_path, site.target.authority, *site.fields)
        except RejectedError as error:
            if error.status in TURNED_AWAY:
                raise TurnedAwayError(f"turned away: {error.status}") from None
            raise NotServedError(f"{site.options.ws_path} answers an upgrade with {error.status}") from None
        yield Member(socket, answering=answering)
