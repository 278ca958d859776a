"""The cheapest attack there is."""

from loadgen.client import Attacker
from loadgen.personas import persona


@persona
class IdleConnect(Attacker):
    """Connects and never sends a byte.

    Whatever has no deadline for the first byte holds it for ever: uvicorn, and Go's net/http as it comes.
    """

    __slots__ = ()

    name = "idle-connect"
    silent = True

    def opening(self) -> bytes:
        """Say nothing."""
        return b""
