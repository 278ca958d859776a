"""A tab behind forty others."""

from typing import Final

from loadgen.personas import persona
from loadgen.personas._neighbour import Neighbour

#: What Chrome and Firefox leave a background tab: one timer a minute.
WAKES_EVERY_SECONDS: Final = 60.0

#: It learns of a missing acknowledgement when it next wakes.
PATIENCE_SECONDS: Final = 60.0


@persona
class SleepyTab(Neighbour):
    """A member in a background tab: its timers fire once a minute, its browser answers pings.

    What a page does to be kept (a heartbeat of its own every 20 s, say) does not happen while nobody looks. A server
    that waits for one instead of pinging throws out everybody who has another tab in front.
    """

    __slots__ = ()

    name = "sleepy-tab"
    cycle_seconds = WAKES_EVERY_SECONDS

    def settle_in(self) -> None:
        """Fall asleep; the first wake is within a minute."""
        self.plan(self.between(0.0, WAKES_EVERY_SECONDS), self._wake)

    def _wake(self) -> None:
        self.plan(WAKES_EVERY_SECONDS, self._wake)
        self.say(PATIENCE_SECONDS)
