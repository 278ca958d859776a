"""A battery at its end."""

from typing import Final

from loadgen import wire
from loadgen.frames import FIN, PONG, frame
from loadgen.personas import persona
from loadgen.personas._lingering import Lingerer
from loadgen.personas._vanishing import Vanishing
from loadgen.personas._websocket import join

_JOIN_ID: Final = 0


@persona
class Vanish(Lingerer, Vanishing):
    """WebSocket that joins a room and then vanishes without FIN or RST.

    A server that leaves it to TCP keeps it for some 15 minutes after its next write, and one that never writes for
    ever. A ping with a deadline finds it.
    """

    __slots__ = ()

    name = "vanish"
    knock = frame(FIN | PONG)

    def on_open(self, head: wire.Head) -> None:
        """Join (a server of another kind sees a text message), and stay for a moment."""
        self.vanish_soon()
        self.send(join(_JOIN_ID, self.room))
