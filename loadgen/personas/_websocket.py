"""What WebSocket personas share: the handshake, frames, and the messages of chat.v1."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import ClassVar

import msgspec

from loadgen.clients.client import Attacker, Client, Needs, Stage, state
from loadgen.net import wire
from loadgen.net.answers import CLOSED_FOR_NOW, PLANNED
from loadgen.net.wire import LAST_WORD_BYTES, close_code
from loadgen.personas._requests import upgrade
from loadgen.personas._shapes import Flooder


class Message(msgspec.Struct, kw_only=True):
    """A message, the receipt for one, which has no text, or a record of what happened to one."""

    type: str = "message"
    text: str = ""
    offset: int = 0
    room: str = ""
    target: int = 0  # the offset of the message that a record is about


class Envelope(Message, kw_only=True):
    """The fields of chat.v1 that a virtual client reads; all others are skipped."""

    type: str
    id: int | str | None = None
    code: str = ""
    cursor: str = ""


class Page(msgspec.Struct):
    """Messages after a cursor: the answer to a poll, or to a join that goes on from one."""

    cursor: str
    messages: tuple[Message, ...]
    recovered: bool = True


_decoder = msgspec.json.Decoder(Envelope)
pages = msgspec.json.Decoder(Page)

#: The members of a room have one object for its cursor: 60 bytes for each of 18,000 would be a third of their memory.
shared = lru_cache(maxsize=4096)(str)

#: The id of a member's join; the ids of its publishes count from 0.
JOIN_ID = -1


class WebSocketClient(Client):
    """A client that opens a WebSocket correctly and answers control frames. After a planned end it comes back."""

    opening = upgrade

    def on_open(self) -> None:
        """React to the open WebSocket."""

    def on_text(self, frame: wire.Frame) -> None:
        """React to a message."""

    def on_upgraded(self, head: wire.Head) -> None:
        self.on_open()

    def on_data(self, data: bytes) -> None:
        if self.stage is not Stage.OPENING:
            self.hear(data)
            return
        self.unread += data
        head = wire.read_head(self.unread)
        if head is None:
            return
        if head.status != 101:
            self.reject(head.status)
            return
        wire.check_upgrade(head.fields)
        rest, self.unread = self.unread[head.size :], b""
        self.stage = Stage.UPGRADED
        self.on_upgraded(head)
        if rest and self.fd >= 0:
            self.hear(rest)

    def hear(self, data: bytes) -> None:
        frames, self.unread = wire.read_frames(self.unread + data if self.unread else data)
        for frame in frames:
            if self.fd < 0:
                return  # an earlier frame ended this client
            if frame.opcode == wire.PING:
                self.on_ping(frame.payload)
            elif frame.opcode == wire.CLOSE:
                self.on_close(frame)
            elif frame.opcode != wire.PONG:
                self.on_text(frame)

    def on_ping(self, payload: bytes) -> None:
        self.send(wire.frame(wire.FIN | wire.PONG, payload))

    def on_close(self, frame: wire.Frame) -> None:
        self.send(wire.frame(wire.FIN | wire.CLOSE, frame.payload[:2]))
        self.closed(frame.close_code)

    def closed(self, code: int) -> None:
        if code not in PLANNED or not self.return_as_planned():
            self.fail(f"close {code}", turned_away=code in CLOSED_FOR_NOW)


class Lingerer(WebSocketClient, Attacker):
    """An attacker by WebSocket that reads, answers pings, and stays until the server ends it.

    It counts as held from the 101 on, and is booked under the code of the close frame that ends it.
    """

    needs = Needs.WEBSOCKET

    def on_connected(self) -> None:
        """Wait for the answer: the WebSocket is not open yet."""

    def on_upgraded(self, head: wire.Head) -> None:
        self.hold()
        self.on_open()

    def on_close(self, frame: wire.Frame) -> None:
        self.closed(frame.close_code)

    def closed(self, code: int) -> None:
        self.cohort.answers[f"close {code}"] += 1
        super().closed(code)


class LastWord(Lingerer):
    """An attacker by WebSocket that parses no frame but the close frame at the end.

    A flood may be answered by millions of frames, and parsing them would load the generator.
    """

    def hear(self, data: bytes) -> None:
        if len(data) < LAST_WORD_BYTES:
            data = self.unread + data
        self.unread = data[-LAST_WORD_BYTES:]

    def on_hangup(self, how: str) -> None:
        """Book the end under the close code, which says more than how the socket ended."""
        code = close_code(self.unread) if self.stage is Stage.HELD else None
        if code is None:
            self.fail(how)
        else:
            self.closed(code)


class FrameFlooder(LastWord, Flooder):
    """Sends blocks of frames as soon as the WebSocket is open."""

    starts: ClassVar[Sequence[bytes]] = ()  # sent before the blocks; assigned to the clients in turn

    def on_open(self) -> None:
        if self.starts:
            self.send(self.starts[self.number % len(self.starts)])
        self.flood()


class Member(WebSocketClient):
    """A WebSocket client joined to a room, again from its last message on. It is held once it has joined."""

    _cursor = state("")  # of its last message

    def on_open(self) -> None:
        self.send(join(JOIN_ID, self.room, self._cursor))

    def on_text(self, frame: wire.Frame) -> None:
        """Wait for the answer to the join; afterwards only count messages."""
        message = decode(frame)
        if message.type == "message":
            self.take(message)
        elif message.type == "joined" and self.stage is not Stage.HELD:
            if self._cursor:
                self.catch_up(page_of(frame.payload).messages)
            self._cursor = shared(message.cursor)
            self.hold()
            self.on_joined(message)
        elif message.type == "error" and self.stage is not Stage.HELD:
            self.fail(f"error {message.code}")

    def take(self, message: Envelope) -> None:
        self._cursor = shared(message.cursor)
        self.deliver((message,))

    def catch_up(self, missed: Iterable[Message]) -> None:
        """Take the messages that came while it was away."""
        self.deliver(missed)

    def on_joined(self, message: Envelope) -> None:
        """React to the completed join."""


def decode(frame: wire.Frame) -> Envelope:
    if frame.opcode != wire.TEXT or not frame.final:
        raise wire.WireError("chat.v1 in something else than one text frame")
    try:
        return _decoder.decode(frame.payload)
    except wire.UNREADABLE:
        raise wire.WireError("a text frame that is not chat.v1") from None


def page_of(body: bytes | bytearray) -> Page:
    try:
        return pages.decode(body)
    except wire.UNREADABLE:
        raise wire.WireError("an answer without cursor and messages") from None


def encoded(**message: object) -> bytes:
    return wire.frame(wire.FIN | wire.TEXT, msgspec.json.encode(message))


@lru_cache
def join(number: int, room: str, after: str = "") -> bytes:
    """Encode a join as a frame; with `after`, to catch up from a cursor."""
    return encoded(type="join", id=number, room=room, **({"after": after} if after else {}))


def publish(room: str, number: int, text: str) -> bytes:
    return encoded(type="publish", id=number, room=room, text=text)
