"""Opens idle connections up to a step, and stops when no more fit.

Owns: the number of the next connection, and the reasons to stop. May not: measure.
"""

import time
from collections.abc import Callable
from typing import Protocol

from loadgen.target import Target
from tests.million import needs
from tests.million.holder import Status

#: Seconds between two looks at what has been opened.
LOOK = 0.25
#: Seconds without any arrival after which it stops, and seconds in which the last ones must arrive.
STUCK = 60.0


class Opener(Protocol):
    """Processes of clients, as far as they are needed here; `Holders` are."""

    def open(self, target: Target, first: int, end: int, room_size: int) -> int:
        """Have one begin with these; returns the number with which the next one goes on."""

    def stop(self) -> None:
        """Open no more."""

    def status(self) -> Status:
        """The present counts of all holders."""


class Opening:
    """One process opens at a time: it keeps one processor busy, and the server has the others."""

    def __init__(
        self, holders: Opener, target: Target, *, room_size: int, margin: int, seconds: float,
        wait: Callable[[float], None] = time.sleep, available: Callable[[], int] = needs.available,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._holders = holders
        self._target = target
        self._room_size = room_size
        self._margin = margin
        self._seconds = seconds
        self._wait = wait
        self._available = available
        self._clock = clock
        self._end = clock() + seconds
        self._next = 0

    def up_to(self, step: int, told: Callable[[int], None]) -> str | None:
        """Open connections up to a total; the reason if that is not possible. `told` gets the number now and then."""
        status = self._holders.status()
        changed, held = self._clock(), status.held
        while self._next < step or status.arriving or status.unopened:
            if self._next < step and not status.unopened:
                self._next = self._holders.open(self._target, self._next, step, self._room_size)
            self._wait(LOOK)
            status = self._holders.status()
            told(status.held)
            if status.held > held:
                changed, held = self._clock(), status.held
            if reason := self._must_stop(status.lost.total(), self._clock() - changed):
                self._stop(told)
                return reason
        return None

    def _stop(self, told: Callable[[int], None]) -> None:
        self._holders.stop()
        end = self._clock() + STUCK
        while self._holders.status().arriving and self._clock() < end:
            self._wait(LOOK)
        told(self._holders.status().held)

    def _must_stop(self, lost: int, unchanged: float) -> str | None:
        if reason := needs.must_stop(self._available(), self._margin):
            return reason
        if lost:
            return f"{lost} connections were lost or refused"
        if unchanged > STUCK:
            return f"none came for {STUCK:g} s"
        if self._clock() > self._end:
            return f"{self._seconds / 60:g} minutes are over"
        return None
