"""What the loop did to everybody: how long its passes were, how late its ticks came.

Owns: the clocks around each pass of trio's loop, and the histogram they are kept in. May not: know what the work was.
"""

import time
from bisect import bisect_left

import trio

#: Upper bounds in seconds of the buckets that a scrape shows.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Durations:
    """A histogram with the maximum, cheap enough for the loop: one bisection each."""

    __slots__ = ("buckets", "count", "longest", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.count = 0
        self.total = 0.0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)


class LoopMeter(trio.abc.Instrument):
    """How long each pass of the loop keeps every other connection waiting."""

    def __init__(self) -> None:
        self.passes = Durations()
        self.ticks_late = Durations()
        self._began = 0.0

    def after_io_wait(self, timeout: float) -> None:
        """A pass begins."""
        self._began = time.perf_counter()

    def before_io_wait(self, timeout: float) -> None:
        """It is over."""
        if self._began:
            self.passes.add(time.perf_counter() - self._began)
