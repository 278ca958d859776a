"""How scarce places are, and what that asks of those who only wait.

Owns: the steps, and when one is taken. May not: end a connection; it brings a deadline forward, and the wheel does the
rest, so that a tightened end has the same answer, reason and count as any other.

A step up is taken at once. A step down waits until places have been ample, with a margin, for `CALM` looks in a row:
without that, each step would free what began it, and take itself back.

What tightens, and what does not:
- An idle connection costs its client one handshake to replace, so `KEEPALIVE` tightens first, and for everybody.
- A head that is not finished after five seconds may be a person's, typing. One from a network (an address, a /64) with
  more than `CROWD` such heads is not a person's. Only such crowds tighten: no step hurts an honest slow client that
  comes alone, not even the last one.
- Nothing shorter than what eviction leaves alone: at the cap places are found by eviction, one for each newcomer, worst
  first. Tightening is for the time before that, so that a newcomer seldom has to ask for somebody's place.
- The lag of our loop is no pressure. A peer that is closed sooner comes back sooner, and a newcomer costs ten times
  what a parked one does: tightening would feed the lag.

Parked connections feel a step as well. Once a second the whole table is looked through, in slices, and whoever has
waited longer than the step allows is due at the next tick. So the deadline that a phase sets is the same at every step,
entering a phase costs nothing more, and when the step is taken back, nothing has to be undone.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import structlog
import trio

from chatserver.net.admission import Admission, network_of
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.eviction import Eviction, Kind, Waits, kind_of
from chatserver.net.phases import PhaseLimits
from chatserver.net.wheel import ticks

#: Seconds between looks.
LOOK = 1.0
#: Looks in a row for which a step must not have been needed before it is taken back.
CALM = 5
#: By how much (of all places) they must be ampler than what began a step, for that.
MARGIN = 0.1
#: Unfinished heads of one network that are no crowd: a browser opens six connections, and a pair in advance.
CROWD = 8
#: Places looked at before other tasks run: about 1 ms if somebody waits on each.
SLICE = 1024

_log = structlog.get_logger("chatserver.net")


class Step(IntEnum):
    """How scarce places are."""

    AMPLE = 0
    BUSY = 1
    SCARCE = 2
    FULL = 3


@dataclass(frozen=True, slots=True)
class Rung:
    """One step: the share of places taken that begins it, and what it leaves to those who wait, in seconds."""

    begins: float
    keepalive: float | None  # None: what the phase has
    crowd_head: float | None


#: The shares are usual high-water marks. 15 s of idling still spare most handshakes of somebody who reads a page, 5 s
#: (hypercorn's default) those of one page and its parts, 3 s those of a burst. 5 s is cowboy's limit for any head.
LADDER: dict[Step, Rung] = {
    Step.AMPLE: Rung(0.0, None, None),
    Step.BUSY: Rung(0.8, 15.0, None),
    Step.SCARCE: Rung(0.9, 5.0, 5.0),
    Step.FULL: Rung(1.0, 3.0, 3.0),  # begun by a newcomer that was turned away, however many places are taken
}


def needed(share: float, *, turned_away: bool) -> Step:
    """The step that a share of places taken asks for."""
    if turned_away:
        return Step.FULL
    return max(step for step, rung in LADDER.items() if step is not Step.FULL and share >= rung.begins)


class Hysteresis:
    """The step in force, from one look to the next."""

    def __init__(self) -> None:
        self.step = Step.AMPLE
        self._calm = 0

    def look(self, share: float, *, turned_away: bool) -> Step:
        """Take a step if it is time: up to what is needed, or one down after a while of calm."""
        self.step = max(self.step, needed(share, turned_away=turned_away))
        if needed(share + MARGIN, turned_away=turned_away) >= self.step:
            self._calm = 0
            return self.step
        self._calm += 1
        if self._calm >= CALM:
            self._calm = 0
            self.step = Step(self.step - 1)
        return self.step


def overdue(
    connection: Connection, rung: Rung, waits: Waits, *, tick: int, crowds: Counter[str]
) -> bool:  # fmt: skip
    """Whether somebody has waited longer than a step allows. `crowds` counts unfinished heads by network."""
    kind = kind_of(connection)
    if kind is Kind.IDLE:
        most = rung.keepalive
    elif kind is Kind.ASKING and crowds[network_of(connection.address)] > CROWD:
        most = rung.crowd_head
    else:
        return False
    return most is not None and waits.waited(connection, kind, tick) > ticks(most)


class Pressure:
    """Looks once a second, takes a step if it is time, and makes those who are parked feel it."""

    def __init__(self, connections: Connections, limits: PhaseLimits, admission: Admission, eviction: Eviction) -> None:
        self._connections = connections
        self._waits = Waits(limits)
        self._admission = admission
        self._eviction = eviction
        self._hysteresis = Hysteresis()
        self._turned_away = 0  # at the last look
        self.tightened = 0  # steps up
        self.loosened = 0  # steps down

    @property
    def step(self) -> Step:
        """The one in force."""
        return self._hysteresis.step

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await trio.sleep(LOOK)
            try:
                self.look()
                if self.step is not Step.AMPLE:
                    await self._sweep(LADDER[self.step])
            except Exception:  # noqa: BLE001  a bug of ours costs this look, and no connection
                self._connections.fault()

    def look(self) -> None:
        """Take a step if it is time."""
        before, turned_away = self.step, self._eviction.turned_away
        admission = self._admission
        step = self._hysteresis.look(admission.held / admission.total, turned_away=turned_away > self._turned_away)
        self._turned_away = turned_away
        if step > before:
            self.tightened += 1
            _log.warning("places_scarcer", step=step.name.lower(), held=admission.held, places=admission.total)
        elif step < before:
            self.loosened += 1
            _log.info("places_ampler", step=step.name.lower(), held=admission.held, places=admission.total)
        if step is Step.AMPLE:
            self._eviction.forget()

    async def _sweep(self, rung: Rung) -> None:
        wheel = self._connections.wheel
        crowds: Counter[str] = Counter()
        if rung.crowd_head is not None:
            for part in self._parts():
                crowds.update(network_of(each.address) for each in part if kind_of(each) is Kind.ASKING)
                await trio.lowlevel.checkpoint()
        for part in self._parts():
            for connection in part:
                if overdue(connection, rung, self._waits, tick=wheel.current, crowds=crowds):
                    wheel.watch(connection, wheel.current + 1)
            await trio.lowlevel.checkpoint()

    def _parts(self) -> Iterator[list[Connection]]:
        """The table in slices, each as it is when its turn comes."""
        table = self._connections.table
        for start in range(0, len(table), SLICE):
            yield [each for each in table[start : start + SLICE] if each is not None]
