"""A message that does not fit."""

from typing import Final

from loadgen import wire
from loadgen.frames import FIN, MORE, TEXT, frame
from loadgen.personas import persona
from loadgen.personas._flood import BLOCK_BYTES, FrameFlooder

#: Past every default: ws 100 MiB, uvicorn 16 MiB, aiohttp 4 MiB, websockets 1 MiB, chatserver 16 KiB.
FRAME_BYTES: Final = 1 << 30
#: The largest length that a frame may have (RFC 6455 section 5.2).
LARGEST_FRAME_BYTES: Final = (1 << 63) - 1

#: Who takes this much is shown to take it.
SENT_BYTES: Final = 8 * 1024 * 1024

_PLAIN: Final = b"x" * BLOCK_BYTES
#: How the message begins, and how it goes on.
_MESSAGES: Final = (
    (frame(FIN | TEXT, announced=FRAME_BYTES), _PLAIN),
    (frame(FIN | TEXT, announced=LARGEST_FRAME_BYTES), _PLAIN),
    (frame(TEXT), frame(MORE, _PLAIN)),
)


@persona
class BigFrame(FrameFlooder):
    """WebSocket that sends a message of a gigabyte, or of 2^63 bytes, or without end in fragments of 16 KiB.

    A frame should be refused (1009) by its header, before any of it is gathered; fragments when the limit is passed.
    It stops after 8 MiB and waits.
    """

    __slots__ = ()

    name = "big-frame"
    most_bytes = SENT_BYTES

    def on_open(self, head: wire.Head) -> None:
        """Begin the message."""
        self.send(_MESSAGES[self.number % len(_MESSAGES)][0])
        super().on_open(head)

    def block(self) -> bytes:
        """Return more of the message."""
        return _MESSAGES[self.number % len(_MESSAGES)][1]
