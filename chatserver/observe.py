"""What the loop and the collector did to everybody: stalls, lateness, collections.

Owns: the clocks around each pass of trio's loop and each run of the garbage collector, and when the collector runs.
May not: know what the work was.

The collector's own schedule counts allocations and would run in the middle of a burst. Here it is switched off after
start-up, what exists then is frozen (never looked at again), and it runs by the clock: the youngest generation at each
turn of the wheel, the middle one each second, everything twice a minute. It may not simply stay off: a task ended by
an exception leaves its traceback in a cycle, and h11 about 25 objects of a request that it refused.
"""

import gc
import time
from bisect import bisect_left

import trio

#: Upper bounds in seconds of the buckets that a scrape shows.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
#: Seconds between collections of the middle and of all generations.
MIDDLE_EVERY = 1.0
FULL_EVERY = 30.0


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


class Collector:
    """Runs the garbage collector by the clock, and measures it."""

    def __init__(self) -> None:
        self.runs = Durations()
        self._began = 0.0
        self._middle_at = 0.0
        self._full_at = 0.0

    def __enter__(self) -> "Collector":
        gc.collect()
        gc.freeze()
        gc.disable()
        gc.callbacks.append(self._observe)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._observe)
        gc.enable()
        gc.unfreeze()

    def _observe(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.runs.add(time.perf_counter() - self._began)

    def tick(self, now: float) -> None:
        """Collect what is due; called at each turn of the wheel."""
        if now >= self._full_at:
            self._full_at, self._middle_at = now + FULL_EVERY, now + MIDDLE_EVERY
            gc.collect(2)
        elif now >= self._middle_at:
            self._middle_at = now + MIDDLE_EVERY
            gc.collect(1)
        else:
            gc.collect(0)
