"""Exact moments for trio tasks: the victims' beats.

Owns: the alarms of a process that has no engine, and how late they went off. `trio.sleep_until` waits in whole
milliseconds, rounded up: as long as a good server takes to answer.
"""

import trio

from loadgen.latency import Latency
from loadgen.timers import Alarms, WakeUp, now


class Metronome:
    """Wakes tasks at moments of `timers.now`."""

    def __init__(self) -> None:
        self.lag = Latency()
        self._alarms = Alarms()
        self._wake = WakeUp()

    async def run(self) -> None:
        """Ring until cancelled."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._wake.fd)
                moment = now()
                for when, ring in self._alarms.pop_due(moment):
                    self.lag.record(now() - when)
                    ring()
                self._wake.set(self._alarms.next_time)
        finally:
            trio.lowlevel.notify_closing(self._wake.fd)
            self._wake.close()

    async def sleep_until(self, when: float) -> None:
        """Sleep to the microsecond."""
        reached = trio.Event()
        self._alarms.add(when, reached.set)
        self._wake.set(self._alarms.next_time)
        await reached.wait()
