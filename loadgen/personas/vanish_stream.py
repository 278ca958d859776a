"""A battery at its end, while only listening."""

from loadgen import wire
from loadgen.client import Needs
from loadgen.personas import persona
from loadgen.personas._vanishing import Vanishing


@persona
class VanishStream(Vanishing):
    """Event stream that vanishes without FIN or RST.

    There is no pong in server-sent events: only what nobody acknowledges tells.
    """

    __slots__ = ()

    name = "vanish-stream"
    needs = Needs.CHAT

    def opening(self) -> bytes:
        """Ask for the stream."""
        place = self.cohort.place
        path = place.stream_path.format(room=self.room)
        return wire.request("GET", path, place.host, "Accept: text/event-stream")

    def on_connected(self) -> None:
        """Stay for a moment."""
        super().on_connected()
        self.vanish_soon()
