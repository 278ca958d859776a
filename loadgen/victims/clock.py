"""When operations are due, and tasks that sleep until then.

Owns: a victim's fixed schedule, which neither its connection nor its last operation changes; the alarms of a process
without an engine, and how late that process was. `trio.sleep_until` is too coarse: it waits in whole milliseconds,
rounded up, which is as long as a good server takes to answer.
"""

import math
from typing import Final, NamedTuple

import trio

from loadgen.latency import Lag
from loadgen.timers import Alarms, WakeUp, now

#: How often the process checks its own lateness. Late alarms would not show it: a task that waited for a slow server
#: asks for a time that has passed. Each check missed in a stall counts, so that the percentiles are over time.
LOOK_SECONDS: Final = 0.005


class Schedule(NamedTuple):
    first: float  # when the first operation is due
    interval: float  # seconds between two

    def due(self, number: int) -> float:
        return self.first + number * self.interval

    def count_between(self, begin: float, end: float) -> int:
        """Count the operations due from `begin` on and before `end`, by arithmetic alone, to check what was booked."""
        return max(self._count_before(end) - self._count_before(begin), 0)

    def _count_before(self, moment: float) -> int:
        number = max(math.ceil((moment - self.first) / self.interval), 0)
        # rounding may be one off when an operation is due at exactly that moment
        while number > 0 and self.due(number - 1) >= moment:
            number -= 1
        while self.due(number) < moment:
            number += 1
        return number


class Clock:
    """Wakes tasks at times of `timers.now`."""

    def __init__(self) -> None:
        self.lag = Lag()
        self._alarms = Alarms()
        self._wake = WakeUp()
        self._look = now()  # when the next check of lateness is due

    async def run(self) -> None:
        try:
            self._look = now()
            self._arm()
            while True:
                await trio.lowlevel.wait_readable(self._wake.fd)
                moment = now()
                for _, ring in self._alarms.pop_due(moment):
                    ring()
                while self._look <= moment:
                    self.lag.record(moment - self._look)
                    self._look += LOOK_SECONDS
                self._arm()
        finally:
            trio.lowlevel.notify_closing(self._wake.fd)
            self._wake.close()

    async def sleep_until(self, when: float) -> None:
        reached = trio.Event()
        self._alarms.add(when, reached.set)
        self._arm()
        await reached.wait()

    def _arm(self) -> None:
        self._wake.set(min(self._alarms.next_time, self._look))
