"""The cheapest attack there is."""

from loadgen.client import Attacker
from loadgen.personas import persona


@persona
class IdleConnect(Attacker):
    """Connects and never sends a byte."""

    __slots__ = ()

    name = "idle-connect"

    def opening(self) -> bytes:
        """Say nothing."""
        return b""
