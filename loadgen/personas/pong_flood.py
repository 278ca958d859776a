"""Unsolicited pongs."""

from typing import Final

from loadgen.frames import FIN, PONG, frame
from loadgen.personas import persona
from loadgen.personas._flood import FrameFlooder, fill

_BLOCKS: Final = (fill(frame(FIN | PONG)), fill(frame(FIN | PONG, bytes(125))))


@persona
class PongFlood(FrameFlooder):
    """WebSocket that sends unasked pongs at full speed, half of them empty and half as large as allowed.

    Legal as a heartbeat (RFC 6455 section 5.5.3) and ignored by nearly every library, after it has parsed each one.
    """

    __slots__ = ()

    name = "pong-flood"

    def block(self) -> bytes:
        """Pongs."""
        return _BLOCKS[self.number % len(_BLOCKS)]
