"""A connected WebSocket client that answers no ping."""

from loadgen import wire
from loadgen.personas import persona
from loadgen.personas._lingering import Lingerer


@persona
class NoPong(Lingerer):
    """WebSocket that takes everything and answers no ping.

    Its kernel acknowledges each byte, so TCP sees nothing amiss: only a deadline for the pong tells it from a healthy
    one. hypercorn has none.
    """

    __slots__ = ()

    name = "no-pong"

    def on_open(self, head: wire.Head) -> None:
        """Say nothing."""

    def on_ping(self, payload: bytes) -> None:
        """Say nothing."""
