"""The crowd of one process: the part that most workers play.

Owns: the engine of this process, its groups of clients, and the schedule of its speakers. May not: decide when anything
happens; the main process does.
"""

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Final

import trio

from loadgen.clients.client import Client, Stage
from loadgen.clients.cohort import Cohort, Place
from loadgen.clients.engine import Engine
from loadgen.clients.messages import GroupStatus, Result, Role, Status
from loadgen.clients.traffic import TIMEOUT_SECONDS, Traffic
from loadgen.net.timers import now
from loadgen.personas import load, registry
from loadgen.run.experiment import Group

#: A client that has been connecting for longer than this counts as not let in.
STARVED_SECONDS: Final = 5.0

#: What a periodic status leaves out.
_DISTRIBUTIONS: Final = ("starved", "lifetime", "connects", "handshakes")

#: Interval of the checks whether a group that leaves still waits for answers.
LOOK_SECONDS: Final = 0.02


class _MadeGroup:
    """One group: its cohorts, and those of its clients that have been made."""

    def __init__(self, cohorts: list[Cohort]) -> None:
        self.cohorts = cohorts
        self.clients: list[Client] = []
        self._closed: list[GroupStatus] | None = None

    def grow(self, share: float) -> list[Client]:
        """Make clients up to this share, ordered so that any stretch of the new ones has the proportions of all."""
        new = [client for cohort in self.cohorts for client in cohort.make(round(share * cohort.wanted))]
        new.sort(key=lambda client: (client.number + 0.5) / client.cohort.wanted)
        self.clients += new
        return new

    def stands(self) -> list[GroupStatus]:
        return [cohort.status(without=_DISTRIBUTIONS) for cohort in self.cohorts]

    def result(self) -> list[GroupStatus]:
        """Their status now, or from before we closed them, since our closing says nothing about the target."""
        for cohort in self.cohorts:
            cohort.starved = self._starved(cohort)
        return self._closed or [cohort.status() for cohort in self.cohorts]

    def close(self) -> None:
        """Record their status before they are closed."""
        self._closed = self.result()
        self.clients.clear()

    def _starved(self, cohort: Cohort) -> int:
        waiting = (Stage.CONNECTING, Stage.OPENING, Stage.UPGRADED)
        return sum(
            client.cohort is cohort and client.stage in waiting and now() - client.born > STARVED_SECONDS
            for client in self.clients
        )


class Crowd:
    def __init__(self, role: Role) -> None:
        for file in role.personas:
            load(file)
        self._random = Random(role.seed)  # noqa: S311  replayable on purpose
        self._engine = Engine(role.target, connect_rate=role.connect_rate)
        self._host, self._endpoint = role.target.authority, role.endpoint
        self._traffic = Traffic(self._random, at=self._engine.at, lag=self._engine.lag, mark=role.mark)
        self._mark = role.mark.encode()
        self._made: dict[str, _MadeGroup] = {}

    async def run(self) -> None:
        await self._engine.run()

    # What the main process calls

    def make(self, group: Group, counts: Mapping[str, int], first_index: int) -> None:
        """Prepare our share of a group: numbers of clients by persona, with addresses counted from `first_index`."""
        place = Place(
            host=self._host,
            rooms=group.rooms,
            poll_wait_seconds=group.poll_wait_seconds,
            endpoint=self._endpoint,
            random=self._random,
            traffic=self._traffic,
            mark=self._mark,
            first_index=first_index,
            per_address=group.per_address,
        )
        known = registry()
        cohorts = []
        for name, wanted in counts.items():
            cohort = Cohort(
                persona=name,
                group=group.name,
                kind=known[name],
                engine=self._engine,
                place=place,
                wanted=wanted,
                first_index=first_index,
            )
            cohorts.append(cohort)
            first_index += wanted
        self._made[group.name] = _MadeGroup(cohorts)

    def open(self, group: str, share: float) -> None:
        """Open clients of a group until this share of them is open, those of earlier calls included."""
        self._engine.open(self._made[group].grow(share))

    def speak(self, rate: float, *, text_bytes: int, over_seconds: float) -> None:
        """Let the speakers send this many messages a second, open-loop, until `stop` or another rate."""
        self._traffic.start(rate, text_bytes=text_bytes, over_seconds=over_seconds)

    def stop(self) -> None:
        self._traffic.stop()

    async def close(self, group: str) -> None:
        """Close a group for good, once its last messages are answered."""
        made = self._made[group]
        leaving = set(made.clients)
        self._traffic.dismiss(leaving)
        with trio.move_on_after(TIMEOUT_SECONDS):
            while self._traffic.awaits(leaving):  # noqa: ASYNC110  each message would need an event
                await trio.sleep(LOOK_SECONDS)
        made.close()
        await self._engine.close_cohorts(made.cohorts)

    def begin(self, phase: str) -> None:
        self._engine.lag.begin(phase)

    def status(self, calls: int) -> Status:
        made = self._made.values()
        return Status(
            calls=calls,
            groups=[status for each in made for status in each.stands()],
            speakers=sum(
                cohort.wanted for each in made for cohort in each.cohorts if cohort.kind.speaks and not cohort.over
            ),
            has_opened=self._engine.has_opened,
            outstanding=self._traffic.outstanding,
            last_held=self._engine.last_held,
            recent=self._traffic.recent.take(),
        )

    def result(self) -> Result:
        made = self._made.values()
        return Result(
            groups=[status for each in made for status in each.result()],
            traffic=self._traffic.result(),
            lags=[("crowd", phase, late) for phase, late in self._engine.lag.phases.items()],
            own_faults=dict(self._engine.own_faults),
            listeners=[(*where, number) for where, number in self._listeners().items()],
        )

    def _listeners(self) -> Counter[tuple[str, int, int]]:
        clients = (client for made in self._made.values() for client in made.clients if client.stage is Stage.HELD)
        return Counter(
            (client.room, client.delivered, client.checksums) for client in clients if client.honest and not client.slow
        )
