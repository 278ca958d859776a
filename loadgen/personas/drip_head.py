"""Slowloris at its finest grain."""

from loadgen import wire
from loadgen.personas import persona
from loadgen.personas._drip import Dripper


@persona
class DripHead(Dripper):
    """Sends a request head a byte a second; its last field never ends.

    A parser that starts again from the first byte with each that comes pays with the square of the head's size, and
    each byte costs the server a wake-up.
    """

    __slots__ = ()

    name = "drip-head"

    def head(self) -> bytes:
        """Return the part that is sent as it stands."""
        return wire.request("GET", self.cohort.place.path, self.cohort.place.host)

    def opening(self) -> bytes:
        """Send the first byte."""
        return self.head()[:1]

    def drop(self, number: int) -> bytes:
        """Return one byte: of the head, then of a field that would be its last."""
        endless = self.head()[:-2] + b"X-Padding: "
        return endless[number + 1 : number + 2] or b"a"
