"""A message without end."""

from loadgen import wire
from loadgen.frames import FIN, MORE, PING, TEXT, frame
from loadgen.personas import persona
from loadgen.personas._drip import Dripper
from loadgen.personas._lingering import Lingerer

_NEXT = frame(MORE, b"x") + frame(FIN | PING, b"still here")


@persona
class SlowFragment(Lingerer, Dripper):
    """WebSocket whose message never ends: a one-byte fragment a second, and a ping behind each.

    Control frames are allowed between fragments (RFC 6455 section 5.4), and a live peer that pings and pongs passes
    every keep-alive. Only a clock for the message itself ends it; most libraries have none.
    """

    __slots__ = ()

    name = "slow-fragment"

    def on_open(self, head: wire.Head) -> None:
        """Begin the message."""
        self.drip()
        self.send(frame(TEXT, b"x"))

    def drop(self, number: int) -> bytes:
        """Return a fragment and a ping."""
        return _NEXT
