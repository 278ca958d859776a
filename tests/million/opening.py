"""Opens idle connections up to a step, and stops when no more fit.

Owns: the number of the next connection. May not: measure, or know the reasons to stop; `needs` has them.
"""

import time
from collections.abc import Callable

from loadgen.net.target import Target
from tests.million import needs
from tests.million.holders import Holders

#: Seconds between two looks at what has been opened.
LOOK = 0.25


class Opening:
    """One process opens at a time: it keeps one processor busy, and the server has the others."""

    def __init__(
        self, holders: Holders, target: Target, *, room_size: int, margin: int, seconds: float,
        wait: Callable[[float], None],
    ) -> None:  # fmt: skip
        self._holders = holders
        self._target = target
        self._room_size = room_size
        self._margin = margin
        self._seconds = seconds
        self._wait = wait
        self._began = time.monotonic()
        self._next = 0

    def up_to(self, step: int, told: Callable[[int], None]) -> str:
        """Open connections up to a total; the reason if that is not possible. `told` gets the number now and then."""
        status = self._holders.status()
        changed, held = time.monotonic(), status.held
        while self._next < step or status.arriving or status.unopened:
            if self._next < step and not status.unopened:
                self._next = self._holders.open(self._target, self._next, step, self._room_size)
            self._wait(LOOK)
            status, now = self._holders.status(), time.monotonic()
            told(status.held)
            if status.held > held:
                changed, held = now, status.held
            reason = needs.reason_to_stop(
                available=needs.available(), margin=self._margin, lost=status.lost.total(), unchanged=now - changed,
                seconds=now - self._began, most=self._seconds,
            )  # fmt: skip
            if reason:
                self._stop(told)
                return reason
        return ""

    def _stop(self, told: Callable[[int], None]) -> None:
        self._holders.stop()
        end = time.monotonic() + needs.STUCK
        while self._holders.status().arriving and time.monotonic() < end:
            self._wait(LOOK)
        told(self._holders.status().held)
