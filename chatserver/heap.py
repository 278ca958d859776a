"""Free memory goes back to the system when a crowd has gone.

Owns: when that is, and the one call into the C library. May not: know who was in the crowd.

glibc gives back what is free at the end of its heap only, and what a crowd leaves lies between what stays: the newest
messages of rooms. HAProxy and Dask trim for the same reason. It takes a millisecond for a heap of 50 MB, on the loop:
from a thread it would hold the heap's lock against the loop for as long.
"""

import ctypes
from collections.abc import Callable

import structlog

#: Connections that are a crowd: 40 KB of them, and less is not worth looking for.
CROWD = 100
#: The share of a crowd, one in so many, that may be left when it has gone.
LEFT = 2

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
        self._most = 0  # connections at a time, since it was trimmed

    def tick(self, held: int) -> None:
        """Look at how many connections there are; called once a second."""
        self._most = max(self._most, held)
        if self._most >= CROWD and held * LEFT <= self._most:
            if self._trim is not None:
                self._trim(0)
            _log.debug("heap_trimmed", connections=held, most=self._most)
            self._most = held
