"""A WebSocket client, parsed by wsproto.

Owns: the opening handshake, the events, and frames that no library would send. May not: answer anything by itself,
because half of the probes depend on not answering.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain
from typing import Final

import trio
import wsproto
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong
from wsproto.frame_protocol import Opcode

from loadgen.answers import Exchange, GarbledError
from loadgen.client import TURNED_AWAY
from loadgen.fingerprint.exchange import NotServedError, TurnedAwayError, while_sending
from loadgen.fingerprint.site import ANSWER_SECONDS, Site
from loadgen.fingerprint.slow import Client
from loadgen.line import EndedError, Line
from loadgen.wire import FIN, UPGRADE_FIELDS, WireError, check_upgrade, frame

#: Reserved by RFC 6455, so every server must fail the connection, and sends a close frame.
RESERVED_OPCODE: Final = 0x3

PONG: Final = "a pong"

#: Time between the pong that follows a message and the last check of how the server took that message.
AFTERTHOUGHT_SECONDS: Final = 0.05


class Member(Client):
    def __init__(self, line: Line, rest: bytes, *, answering: bool = False) -> None:
        super().__init__(line)
        self.answering = answering
        self.opened = trio.current_time()
        self.pinged: list[float] = []  # when the server's pings came
        self._events: deque[Event] = deque()
        self._reader = Connection(ConnectionType.CLIENT)
        self._feed(rest)

    async def hear(self) -> Event:
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
        await self.line.send(frame(FIN | Opcode.PONG, bytes(ping.payload)))

    async def listen(self) -> str:
        """Wait for a close frame; pings are answered only if `answering`."""
        while True:
            event = await self.hear()
            if isinstance(event, CloseConnection):
                return word_close(event)
            if self.answering and isinstance(event, Ping):
                await self.answer(event)

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
            event = await self.hear()
            if isinstance(event, Pong) and bytes(event.payload) == token:
                return PONG
            if isinstance(event, CloseConnection):
                return word_close(event)


def word_close(event: CloseConnection) -> str:
    return f"close {int(event.code)}" + (f" {event.reason!r}" if event.reason else "")


@asynccontextmanager
async def join(site: Site, *, answering: bool = False) -> AsyncIterator[Member]:
    async with site.dial() as line:
        talk = Exchange(line)
        with trio.fail_after(ANSWER_SECONDS):
            await line.send(site.get(site.options.ws_path, *UPGRADE_FIELDS))
            answer = await talk.begin()
        if answer.status in TURNED_AWAY:
            raise TurnedAwayError(f"turned away: {answer.status}")
        if answer.status != 101:
            raise NotServedError(f"{site.options.ws_path} answers an upgrade with {answer.status}")
        try:
            check_upgrade(answer.fields)
        except WireError as error:
            raise GarbledError(str(error)) from None
        yield Member(line, talk.rest, answering=answering)
