"""Control frames that each demand an answer: HTTP/2's CVE-2019-9512, on a WebSocket."""

from typing import Final

from loadgen.frames import FIN, PING, frame
from loadgen.personas import persona
from loadgen.personas._flood import FrameFlooder, fill

# The smallest cost the sender least; the largest pass a limit on frames at a time, and come back at full size.
_BLOCKS: Final = (fill(frame(FIN | PING)), fill(frame(FIN | PING, bytes(125))))


@persona
class PingFlood(FrameFlooder):
    """WebSocket that sends pings at full speed, half of them empty and half as large as allowed.

    Each must be answered (RFC 6455 section 5.5.2), so a server that queues its answers grows without bound
    (CVE-2019-9512 is the same in HTTP/2), and one that counts only messages sees nothing at all.
    """

    __slots__ = ()

    name = "ping-flood"

    def block(self) -> bytes:
        """Pings."""
        return _BLOCKS[self.number % len(_BLOCKS)]
