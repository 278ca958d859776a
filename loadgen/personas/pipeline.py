"""All questions at once, and no ear for the answers."""

from loadgen import wire
from loadgen.personas import persona
from loadgen.personas._flood import Flooder, fill


@persona
class Pipeline(Flooder):
    """Sends thousands of requests in one go and never reads an answer.

    Pipelining is legal (RFC 9112 section 9.3.2). A server that parses ahead queues requests, one that answers ahead
    queues answers, and both do it in memory: a block of 16 KiB asks for several megabytes.
    """

    __slots__ = ()

    name = "pipeline"

    def opening(self) -> bytes:
        """Begin with the first request."""
        return wire.request("GET", self.cohort.place.path, self.cohort.place.host)

    def on_connected(self) -> None:
        """Turn a deaf ear."""
        self.stop_reading()
        super().on_connected()

    def block(self) -> bytes:
        """Return as many requests as fit."""
        return fill(self.opening())
