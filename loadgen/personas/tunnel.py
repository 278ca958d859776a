"""A train."""

from typing import Final

from loadgen.personas import persona
from loadgen.personas._neighbour import Neighbour

TUNNEL_SECONDS: Final = 25.0
FIRST_TUNNEL_AFTER_SECONDS: Final = (5.0, 15.0)

#: TCP's waits double, so after the tunnel it may not try for as long as the tunnel was. Whoever is back in the next one
#: by then is cut off by TCP, not by the server.
DAYLIGHT_SECONDS: Final = (30.0, 60.0)

#: Until TCP has tried, and the server has said all that there was meanwhile.
PATIENCE_SECONDS: Final = 60.0


@persona
class Tunnel(Neighbour):
    """A member on a train: vanished for 25 s, then back on the same connection with something to say.

    Nothing is acknowledged in a tunnel, neither a ping nor a byte, and TCP carries on as if nothing had been. A pong
    whose deadline is shorter than that closes a connection that was never broken.
    """

    __slots__ = ()

    name = "tunnel"
    cycle_seconds = FIRST_TUNNEL_AFTER_SECONDS[1] + TUNNEL_SECONDS

    def settle_in(self) -> None:
        """Ride."""
        self.plan(self.between(*FIRST_TUNNEL_AFTER_SECONDS), self._enter)

    def _enter(self) -> None:
        self.go_dark()
        self.plan(TUNNEL_SECONDS, self._leave)

    def _leave(self) -> None:
        self.come_back()
        self.plan(self.between(*DAYLIGHT_SECONDS), self._enter)
        self.say(PATIENCE_SECONDS)
