"""The cheapest flood that needs an address: hping's successors, and every port scanner."""

from loadgen.client import Attacker, Cohort, Threat
from loadgen.personas import persona


@persona
class ConnectFlood(Attacker):
    """Connects and closes, as fast as it can; every second one with RST.

    Port scanners, health checks gone wild and connect floods look like this. A server that accepts one connection a
    pass of its loop, or starts a thread before it has read a byte, does nothing else any more. Both ways of closing are
    played because accept() may fail with ECONNABORTED for one and never for the other.
    """

    __slots__ = ("_resets",)

    name = "connect-flood"
    silent = True
    threat = Threat.GREEDY

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._resets = cohort.made % 2 == 0

    def opening(self) -> bytes:
        """Say nothing."""
        return b""

    def on_connected(self) -> None:
        """Go, and come again."""
        super().on_connected()
        if self._resets:
            self.abort(return_in=0.0)
        else:
            self.leave(return_in=0.0)
