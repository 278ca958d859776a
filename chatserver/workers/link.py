"""The messages between supervisor and worker: lines of JSON on a pair of Unix sockets.

Owns: the messages and their framing. May not: act on a message.

End of file is a message too: a worker without a supervisor drains, and a supervisor replaces a worker that is gone.
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
    """The first message to a worker: its settings, its inherited descriptors, and its place among its neighbours.

    After an upgrade a supervisor starts workers of the new version, so a field never gets another type or meaning.
    """

    settings: Settings
    listening: list[int]
    operators: int | None
    # Of the sockets over which workers send each other hints, quoted as in a URL, since its path need not be UTF-8.
    folder: str
    number: int  # of its own socket there, below `count`
    count: int


class Stop(msgspec.Struct, tag=True):
    """To a worker: drain; the second time, stop at once. `replaced`: another worker serves in its place."""

    replaced: bool = False


class Collect(msgspec.Struct, tag=True):
    """To a worker: send your numbers."""


class Text(msgspec.Struct, tag=True):
    """To a worker: the text of /metrics that it asked for."""

    text: str


class Alive(msgspec.Struct, tag=True):
    """From a worker, every second: a heartbeat of its loop."""


class Ready(msgspec.Struct, tag=True):
    """From a worker: it accepts peers."""


class Numbers(msgspec.Struct, tag=True):
    """From a worker: its metrics, when asked and at its end."""

    families: list[Family]


class Ask(msgspec.Struct, tag=True):
    """From a worker: a request for the text of /metrics."""


Message: TypeAlias = Setup | Stop | Collect | Text | Alive | Ready | Numbers | Ask

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class Link:
    """One end of the channel."""

    def __init__(self, end: socket.socket) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))
        self._sending = trio.Lock()
        self._unread = bytearray()

    async def send(self, message: Message) -> None:
        """Send one message. If the other end is closed it is dropped, since `receive` reports that."""
        async with self._sending:
            try:
                await self._stream.send_all(_encoder.encode(message) + b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def send_all(self, messages: trio.MemoryReceiveChannel[Message]) -> None:
        """Send a channel's messages in order, until cancelled; a line may be half sent then, and is the last."""
        async for message in messages:
            await self.send(message)

    async def receive(self) -> Message | None:
        """The next message, or None at the end. Cancelling this loses no bytes."""
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
        """Close this end, which the other end sees."""
        self._stream.socket.close()
