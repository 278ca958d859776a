"""When the garbage collector runs, and when free memory goes back to the system.

Owns: the collector's clock and its histogram, and the one call into the C library. May not: know what was kept.

The collector's own schedule counts allocations and would run in the middle of a burst. Here that is off, what exists
after start-up is frozen (never looked at again), and it runs by the clock: the youngest generation at each turn of the
wheel, the middle one each second, everything twice a minute. It may not stay off altogether: a task ended by an
exception leaves its traceback in a cycle, and h11 about 25 objects of a request that it refused.

glibc gives back what is free at the end of its heap only, and what a crowd leaves lies between the newest messages of
rooms: its own memory when it goes, and when it comes the tables that were too small for it. HAProxy and Dask trim for
the same reason. It takes a millisecond for a heap of 50 MB, on the loop: from a thread
it would hold the heap's lock against the loop for as long.
"""

import ctypes
import gc
import time
from collections.abc import Callable

import structlog

from chatserver.observe.loop import Durations

#: Seconds between collections of the middle and of all generations.
MIDDLE_EVERY = 1.0
FULL_EVERY = 30.0
#: Connections that are a crowd: 40 KB of them, and less is not worth looking for.
CROWD = 100
#: The share of a crowd, one in so many, that has to come or go: with two, a heap that had just been trimmed when the
#: tables grew kept 60 bytes for each of 9,000.
SHARE = 4

_log = structlog.get_logger("chatserver")


def find_trim() -> Callable[[int], int] | None:
    """`malloc_trim` of this C library; only glibc has one."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    found: Callable[[int], int] = trim
    return found


class Heap:
    """See the module."""

    def __init__(self, trim: Callable[[int], int] | None) -> None:
        self._trim = trim
        self._trimmed_at = 0  # connections when it was trimmed

    def tick(self, held: int) -> None:
        """Look at how many connections there are; called once a second."""
        crowd = max(held, self._trimmed_at)
        if crowd >= CROWD and abs(held - self._trimmed_at) * SHARE >= crowd:
            if self._trim is not None:
                self._trim(0)
            _log.debug("heap_trimmed", connections=held, before=self._trimmed_at)
            self._trimmed_at = held


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
