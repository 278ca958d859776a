"""Timers of the engine: a wheel for the crowd, alarms for the few that must be exact, one descriptor that wakes it.

Owns: every deadline of the process. The wheel is coarse and lazy: postponing a deadline is one attribute write. The
alarms of the schedule and the victims are a heap, and their lateness is recorded as ours.
"""

import ctypes
import heapq
import os
import struct
import time
from collections.abc import Callable
from itertools import count
from typing import Final, Generic, Protocol, TypeVar

NEVER: Final = float("inf")

#: Width of a bucket in seconds. No persona's timer is finer than tenths of a second.
TICK_SECONDS: Final = 0.005

_CLOCK_MONOTONIC: Final = 1
_TFD_TIMER_ABSTIME: Final = 1

now: Final = time.monotonic  # the clock of timerfd below; trio's has an offset of its own


class Timed(Protocol):
    """A member of the wheel, with two attributes that only the wheel writes."""

    due: float
    tick: int


T = TypeVar("T", bound=Timed)


class Wheel(Generic[T]):
    def __init__(self) -> None:
        self._buckets: dict[int, list[T]] = {}
        self._ticks: list[int] = []  # heap of the buckets' numbers

    def set(self, member: T, when: float) -> None:
        """Make `when` the member's only deadline; `NEVER` cancels it."""
        member.due = when
        if when == NEVER:
            return
        tick = int(when / TICK_SECONDS) + 1
        if 0 <= member.tick <= tick:
            return  # its present bucket comes due earlier, and then moves it on
        self._put(member, tick)

    def _put(self, member: T, tick: int) -> None:
        member.tick = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = [member]
            heapq.heappush(self._ticks, tick)
        else:
            bucket.append(member)

    @property
    def next_time(self) -> float:
        return self._ticks[0] * TICK_SECONDS if self._ticks else NEVER

    def pop_due(self, moment: float, most: int) -> list[T]:
        """The members whose deadline has passed, earliest bucket first; no further bucket once there are `most`."""
        due: list[T] = []
        while self.next_time <= moment and len(due) < most:
            tick = heapq.heappop(self._ticks)
            for member in self._buckets.pop(tick):
                if member.tick != tick:
                    continue  # the member has moved to an earlier bucket
                member.tick = -1
                if member.due <= moment:
                    member.due = NEVER
                    due.append(member)
                elif member.due != NEVER:
                    self._put(member, int(member.due / TICK_SECONDS) + 1)
        return due


class Alarms:
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()  # alarms for the same time go off in the order of `add`

    def add(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._order), action))

    @property
    def next_time(self) -> float:
        return self._heap[0][0] if self._heap else NEVER

    def pop_due(self, moment: float) -> list[tuple[float, Callable[[], None]]]:
        """The due alarms, earliest first; alarms that their actions add wait for the next call."""
        due = []
        while self.next_time <= moment:
            when, _, action = heapq.heappop(self._heap)
            due.append((when, action))
        return due


#: struct itimerspec (timerfd_settime(2)): seconds and nanoseconds of the interval, and of the moment.
_SETTING: Final = struct.Struct("4l")

_libc: Final = ctypes.CDLL(None, use_errno=True)


class WakeUp:
    """A timerfd: a descriptor that becomes readable at a given time, to the microsecond.

    epoll's own timeout is in whole milliseconds, rounded up: half a millisecond of error on average, as much as a good
    server takes to answer. Python has `os.timerfd_create` from 3.13 on.
    """

    def __init__(self) -> None:
        self.fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._armed = NEVER

    def set(self, when: float) -> None:
        """Wake at `when`, instead of any earlier setting; a time that has passed wakes at once."""
        if when == self._armed:
            return
        self._armed = when
        whole = 0 if when == NEVER else int(when)
        part = 0 if when == NEVER else max(int((when - whole) * 1e9), 1)  # all zeros would disarm it
        if _libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, _SETTING.pack(0, 0, whole, part), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        os.close(self.fd)
