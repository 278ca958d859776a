"""Stalls of the event loop: the duration of its passes, and the lateness of its ticks.

Owns: the timing of each pass of trio's loop, and the histogram for it. May not: know what the work was.
"""

import time
from bisect import bisect_left

import trio

#: Upper bounds in seconds of the buckets that a scrape shows; a search may take two seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)


class Durations:
    """A histogram with the maximum, cheap enough for the loop: one bisection a value."""

    __slots__ = ("buckets", "longest", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.total = 0.0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)


class LoopMeter(trio.abc.Instrument):
    """Measures each pass of the loop, for which all other connections wait."""

    def __init__(self) -> None:
        self.passes = Durations()
        self.ticks_late = Durations()
        self._began = 0.0

    def after_io_wait(self, timeout: float) -> None:
        """A pass begins."""
        self._began = time.perf_counter()

    def before_io_wait(self, timeout: float) -> None:
        """The pass is over."""
        if self._began:
            self.passes.add(time.perf_counter() - self._began)
