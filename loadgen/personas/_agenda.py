"""Several things to do at several times: what a client needs that behaves like a person. No persona itself.

The wheel has one deadline for each client, which is enough for a crowd. The honest slow are few, and have a line to
read from, a pong to send and a message to wait for, all at once: each keeps a heap of its own behind that one deadline.
"""

import heapq
from collections.abc import Callable

from loadgen.client import Client, Cohort, Stage
from loadgen.timers import now


class Planner(Client):
    """A client with an agenda, which a new connection begins empty."""

    __slots__ = ("_agenda", "_planned")

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._planned = 0  # things with the same time are done in the order in which they were planned

    def begin(self) -> None:
        """Be established, with nothing planned."""
        self._agenda.clear()
        self.hold()

    def plan(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after so many seconds, if the connection lasts."""
        self._planned += 1
        heapq.heappush(self._agenda, (now() + seconds, self._planned, action))
        self.wake_in(self._agenda[0][0] - now())

    def on_time(self, moment: float) -> None:
        """Do what is due."""
        while self._agenda and self._agenda[0][0] <= moment:
            heapq.heappop(self._agenda)[2]()
            if self.stage is not Stage.HELD:
                return
        if self._agenda:
            self.wake_in(self._agenda[0][0] - moment)

    def between(self, least: float, most: float) -> float:
        """Pick a number of seconds: people do not act in step."""
        return self.cohort.place.random.uniform(least, most)
