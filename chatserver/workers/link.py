"""What a supervisor and a worker tell each other: lines of JSON on a pair of Unix sockets.

Owns: the messages, and how they are cut into lines. May not: decide what follows from one.

The end of the line is a message too: a worker whose supervisor is gone drains, a supervisor whose worker is gone starts
another.
"""

import socket
from typing import TypeAlias

import msgspec
import trio

from chatserver.observe.numbers import Family
from chatserver.settings.fields import Settings

#: Bytes read at a time, and the longest line: the numbers of a worker are 20 KB.
READ_BYTES, MAX_LINE = 65_536, 4 << 20


class Setup(msgspec.Struct, tag=True):
    """The first message to a worker: its settings, the descriptors of its sockets, and where its neighbours are."""

    settings: Settings
    listening: list[int]
    operators: int | None
    folder: str  # of the sockets by which workers hear of each other's messages
    number: int  # of its own socket there, below `count`
    count: int


class Stop(msgspec.Struct, tag=True):
    """To a worker: drain; the second time, stop at once. When it is `replaced`, others serve meanwhile."""

    replaced: bool = False


class Collect(msgspec.Struct, tag=True):
    """To a worker: send your numbers."""


class Text(msgspec.Struct, tag=True):
    """To a worker: the text of /metrics that it asked for."""

    text: str


class Alive(msgspec.Struct, tag=True):
    """From a worker, every second: its loop turns."""


class Ready(msgspec.Struct, tag=True):
    """From a worker: it accepts peers."""


class Numbers(msgspec.Struct, tag=True):
    """From a worker: its numbers, when asked and at its end."""

    families: list[Family]


class Ask(msgspec.Struct, tag=True):
    """From a worker: it needs the text of /metrics."""


Message: TypeAlias = Setup | Stop | Collect | Text | Alive | Ready | Numbers | Ask

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class Link:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))
        self._sending = trio.Lock()
        self._unread = bytearray()

    async def send(self, message: Message) -> None:
        """Send one message. At the line's end it is dropped: the reader of this end is told of that."""
        async with self._sending:
            try:
                await self._stream.send_all(_encoder.encode(message) + b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def receive(self) -> Message | None:
        """The next message; None at the end. What was read is kept when this is cancelled."""
        while (end := self._unread.find(b"\n")) < 0:
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            if not data or len(self._unread) > MAX_LINE:
                return None
            self._unread += data
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        return _decoder.decode(line)

    def close(self) -> None:
        """The other end is told."""
        self._stream.socket.close()
