"""R.U.D.Y. for WebSockets."""

from typing import Final

from loadgen import wire
from loadgen.frames import FIN, TEXT, frame
from loadgen.personas import persona
from loadgen.personas._drip import Dripper
from loadgen.personas._lingering import Lingerer

#: Within what every server takes for a message (websockets 1 MiB, ws 100 MiB, chatserver 16 KiB).
FRAME_BYTES: Final = 16 * 1024


@persona
class SlowFrame(Lingerer, Dripper):
    """WebSocket that announces a frame of 16 KiB and sends it a byte a second.

    No pong can be sent within a frame, so servers that wait for one are rid of it after 20 to 40 s. hypercorn keeps it
    for ever, and so does aiohttp, whose heartbeat any byte puts off.
    """

    __slots__ = ()

    name = "slow-frame"

    def on_open(self, head: wire.Head) -> None:
        """Send the frame's head."""
        self.drip()
        self.send(frame(FIN | TEXT, announced=FRAME_BYTES))

    def drop(self, number: int) -> bytes:
        """Return a byte of it; after 4 hours, nothing."""
        return b"x" if number < FRAME_BYTES else b""

    def on_ping(self, payload: bytes) -> None:
        """Say nothing: it is in the middle of a frame."""
