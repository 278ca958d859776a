"""Event streams whose client sends behind its request."""

from typing import Final

from loadgen import wire
from loadgen.client import Needs
from loadgen.personas import persona
from loadgen.personas._flood import BLOCK_BYTES, Flooder

_BLOCK: Final = b"x" * BLOCK_BYTES


@persona
class SseFlood(Flooder):
    """Opens an event stream and sends bytes behind the request, as fast as they are taken.

    A client of an event stream has nothing to send after its request. A server that reads on either gathers these bytes
    as the next request or wakes for every block of them; a server that stops reading does not see the client's FIN.
    """

    __slots__ = ()

    name = "sse-flood"
    needs = Needs.CHAT
    usual_clients = 2500  # each fills up to some hundred KB of kernel memory, of which a machine has a few GB

    def opening(self) -> bytes:
        """Ask for the stream."""
        place = self.cohort.place
        path = place.stream_path.format(room=self.room)
        return wire.request("GET", path, place.host, "Accept: text/event-stream")

    def on_data(self, data: bytes) -> None:
        """Note an answer; go on unless it is a refusal."""
        super().on_data(data)
        if self.answered < 400:
            self.answered = 0

    def block(self) -> bytes:
        """Return bytes that are no request."""
        return _BLOCK
