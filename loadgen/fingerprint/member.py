"""A WebSocket of ours, read by wsproto.

Owns: the opening handshake, the events, and frames that no library would send. May not: answer anything by itself;
not answering is what half of the probes are about.
"""

import base64
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import chain
from typing import Final

import trio
import wsproto
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong
from wsproto.frame_protocol import Opcode
from wsproto.utilities import generate_accept_token

from loadgen.fingerprint.exchange import Answer, Exchange, Field, GarbledError
from loadgen.fingerprint.line import EndedError, Line
from loadgen.fingerprint.site import ANSWER_SECONDS, Site
from loadgen.fingerprint.watch import Sign, until_moved_on

_MASK: Final = bytes(4)  # a legal mask that leaves the payload as it is

#: No opcode of RFC 6455: every server must fail the connection, so every server sends a close frame.
RESERVED_OPCODE: Final = 0x3

#: Between the pong behind a message and the last look at what the server made of it.
AFTERTHOUGHT_SECONDS: Final = 0.05


class NotServedError(Exception):
    """There is no WebSocket at this path."""


def upgrade_fields() -> tuple[Field, ...]:
    """The fields that ask for a WebSocket."""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    return (
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key),
    )


def frame_head(opcode: int, size: int, *, final: bool = True) -> bytes:
    """The head of a client's frame, mask included."""
    first = (0x80 if final else 0) | opcode
    if size < 126:
        return bytes((first, 0x80 | size)) + _MASK
    if size < 65536:
        return bytes((first, 0x80 | 126)) + size.to_bytes(2) + _MASK
    return bytes((first, 0x80 | 127)) + size.to_bytes(8) + _MASK


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A client's frame."""
    return frame_head(opcode, len(payload), final=final) + payload


class Member:
    """An open WebSocket."""

    def __init__(self, line: Line, rest: bytes) -> None:
        self.line = line
        self.opened = trio.current_time()
        self.pinged: list[float] = []  # when the server's pings came
        self._events: deque[Event] = deque()
        self._reader = Connection(ConnectionType.CLIENT)
        self._feed(rest)

    async def hear(self) -> Event:
        """Wait for what the server says next."""
        while not self._events:
            self._feed(await self.line.receive())
        event = self._events.popleft()
        if isinstance(event, Ping):
            self.pinged.append(trio.current_time())
        return event

    def _feed(self, data: bytes) -> None:
        try:
            self._reader.receive_data(data)
            self._events.extend(self._reader.events())
        except wsproto.utilities.RemoteProtocolError as error:
            raise GarbledError(f"what comes is no WebSocket: {error}") from None

    async def answer(self, ping: Ping) -> None:
        """Send the pong."""
        await self.line.send(frame(Opcode.PONG, bytes(ping.payload)))

    async def end(self, until: float, *, answering: bool) -> Sign | None:
        """Wait for a close frame or the end without one, answering pings meanwhile or not."""

        async def listen() -> Sign:
            try:
                how = await self._listen(answering=answering)
            except EndedError as error:
                how = error.ending
            except GarbledError as error:
                how = str(error)
            return Sign(at=trio.current_time(), how=how)

        return await until_moved_on(listen, self.line, until)

    async def _listen(self, *, answering: bool) -> str:
        while True:
            event = await self.hear()
            if isinstance(event, CloseConnection):
                return word_close(event)
            if answering and isinstance(event, Ping):
                await self.answer(event)

    async def say(self, pieces: Iterable[bytes]) -> str | None:
        """Send a message: `None` if the server still answers pings behind it, or how it ended the connection."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, chain(pieces, [frame(Opcode.PING, b"1")]))
            try:
                how = await self._pong_or_close(b"1")
                if how is None:
                    # some answer pings as they are read and look at the message afterwards, in another task
                    await trio.sleep(AFTERTHOUGHT_SECONDS)
                    await self.line.send(frame(Opcode.PING, b"2"))
                    how = await self._pong_or_close(b"2")
            except (EndedError, GarbledError) as error:
                how = str(error)
            nursery.cancel_scope.cancel()
        return how

    async def _send(self, pieces: Iterable[bytes]) -> None:
        with suppress(EndedError):  # whoever listens hears of it too, after what was said last
            for piece in pieces:
                await self.line.send(piece)

    async def _pong_or_close(self, token: bytes) -> str | None:
        while True:
            event = await self.hear()
            if isinstance(event, Pong) and bytes(event.payload) == token:
                return None
            if isinstance(event, CloseConnection):
                return word_close(event)


def word_close(event: CloseConnection) -> str:
    """A close frame in words."""
    return f"close {int(event.code)}" + (f" {event.reason!r}" if event.reason else "")


@asynccontextmanager
async def join(site: Site) -> AsyncIterator[Member]:
    """Open a WebSocket."""
    async with site.dial() as line:
        talk = site.exchange()
        with trio.fail_after(ANSWER_SECONDS):
            answer = await upgrade(line, talk, site.options.websocket_path)
        if answer.status != 101:
            raise NotServedError(f"{site.options.websocket_path} answers an upgrade with {answer.status}")
        yield Member(line, talk.rest)


async def upgrade(line: Line, talk: Exchange, path: str) -> Answer:
    """Ask for a WebSocket and check that it is one."""
    fields = upgrade_fields()
    await line.send(talk.request("GET", path, fields))
    answer = await talk.begin(line)
    wanted = generate_accept_token(dict(fields)["Sec-WebSocket-Key"].encode()).decode()
    if answer.status == 101 and answer.fields.get("sec-websocket-accept") != wanted:
        raise GarbledError("a 101 with the wrong Sec-WebSocket-Accept")
    return answer
