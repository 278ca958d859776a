"""When the garbage collector runs, and when free memory goes back to the system.

Owns: the collector's schedule and its histogram, and the calls into the C library. May not: know what was kept.
"""

import ctypes
import gc
import time
from collections.abc import Callable
from contextlib import suppress

from chatserver.observe.loop import Durations

#: Seconds between collections of the middle and of all generations.
MIDDLE_INTERVAL = 1.0
FULL_INTERVAL = 30.0
#: The least number of connections that counts as a crowd, 40 KB, and of bytes of rooms: less is not worth a trim.
CROWD, CROWD_BYTES = 100, 4 * 1024 * 1024
#: The heap is trimmed when 1/SHARE of a crowd, or of its rooms' bytes, has come or gone. With 2, a heap that was
#: trimmed just before its tables grew kept 60 bytes for each of 9,000 connections.
SHARE = 4
#: The share of the loop's time that trims may take. Otherwise a network that opens and closes its connections would
#: cause one each second.
TRIM_SHARE = 0.001
#: `M_ARENA_MAX` of glibc's malloc.h.
_ARENA_MAX = -8


def share_heap() -> None:
    """Let all threads use one heap, called before there are threads; with another library than glibc, do nothing.

    In a heap of its own each thread of the log would keep what its longest answers took, 10 MB in all.
    """
    with suppress(AttributeError):
        ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(("mallopt", ctypes.CDLL(None)))(_ARENA_MAX, 1)


def find_trim() -> Callable[[int], object]:
    """`malloc_trim` of the C library; with another one than glibc, nothing is trimmed."""
    with suppress(AttributeError):
        return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_size_t)(("malloc_trim", ctypes.CDLL(None)))
    return lambda kept: None


class Heap:
    """Returns free memory to the system when a crowd has come or left: glibc returns only the end of the heap.

    A trim takes 0.4 ms, but 50 ms for 250 MB that are free in small pieces. It runs on the loop, because a thread would
    hold the heap's lock for as long.
    """

    def __init__(self, trim: Callable[[int], object]) -> None:
        self._trim = trim
        self._trimmed_at = (0, 0)  # the connections and the bytes of rooms at the last trim
        self._pause = 0  # seconds until the next trim is allowed

    def tick(self, held: int, kept: int) -> None:
        """Trim if the number of connections, or the bytes of rooms, has changed enough; called once a second."""
        connections, size = self._trimmed_at
        if self._pause:
            self._pause -= 1
        elif _changed(held, connections, CROWD) or _changed(kept, size, CROWD_BYTES):
            began = time.thread_time()
            self._trim(0)
            self._pause = int((time.thread_time() - began) / TRIM_SHARE)
            self._trimmed_at = held, kept


def _changed(now: int, before: int, least: int) -> bool:
    most = max(now, before)
    return most >= least and abs(now - before) * SHARE >= most


class Collector:
    """Runs the garbage collector by the clock, and measures it: its own schedule would run in the middle of a burst.

    What exists after the start is frozen, and never scanned again. Collections are needed: a task that ends with an
    exception leaves its traceback in a cycle, and h11 about 25 objects of a refused request.
    """

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
        """Collect the generations that are due; called at each turn of the wheel."""
        if now >= self._full_at:
            self._full_at, self._middle_at = now + FULL_INTERVAL, now + MIDDLE_INTERVAL
            gc.collect(2)
        elif now >= self._middle_at:
            self._middle_at = now + MIDDLE_INTERVAL
            gc.collect(1)
        else:
            gc.collect(0)
