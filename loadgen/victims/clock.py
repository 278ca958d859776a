"""Exact moments for trio tasks: the victims' operations.

Owns: the alarms of a process that has no engine, and how late that process was. `trio.sleep_until` waits in whole
milliseconds, rounded up: as long as a good server takes to answer.
"""

from typing import Final

import trio

from loadgen.latency import Lag
from loadgen.timers import Alarms, WakeUp, now

#: How often it looks whether it is on time. Not at its alarms: a task that waited for a slow server asks for a moment
#: that has passed, and that is the server's lateness. One that the whole process slept through counts each look missed,
#: so that percentiles are of time.
LOOK_SECONDS: Final = 0.005


class Clock:
    """Wakes tasks at moments of `timers.now`."""

    def __init__(self) -> None:
        self.lag = Lag()
        self._alarms = Alarms()
        self._wake = WakeUp()
        self._look = now()  # when the next one is due

    async def run(self) -> None:
        """Ring until cancelled."""
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
        """Sleep to the microsecond."""
        reached = trio.Event()
        self._alarms.add(when, reached.set)
        self._arm()
        await reached.wait()

    def _arm(self) -> None:
        self._wake.set(min(self._alarms.next_time, self._look))
