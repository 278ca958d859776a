"""What happened since somebody last looked: for the timeline and the live view.

Owns: the operations of the last moment, in a histogram that is emptied by looking.
"""

from loadgen.latency import Latency
from loadgen.messages import Recent


class Interval:
    """Operations that ended lately."""

    __slots__ = ("_failed", "_latency")

    def __init__(self) -> None:
        self._latency = Latency()
        self._failed = 0

    def succeeded(self, seconds: float) -> None:
        """Book a success and how long it took."""
        self._latency.record(seconds)

    def failed(self) -> None:
        """Book a failure."""
        self._failed += 1

    def take(self) -> Recent:
        """Everything since the last call."""
        if not self._latency.count:
            recent = Recent(latency=None, failed=self._failed)
        else:
            recent = Recent(latency=self._latency.recording(), failed=self._failed)
            self._latency = Latency()
        self._failed = 0
        return recent
