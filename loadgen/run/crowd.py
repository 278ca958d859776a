"""The crowd of one process: the part that most workers play.

Owns: the engine of this process, its groups of clients, and the schedule of its speakers. May not: decide when anything
happens; the main process does.
"""

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Final

import trio

from loadgen.clients.client import Stage
from loadgen.clients.cohort import Cohort, Place
from loadgen.clients.engine import Engine
from loadgen.clients.messages import Result, Role, Status
from loadgen.clients.traffic import TIMEOUT_SECONDS, Traffic
from loadgen.personas import load, registry
from loadgen.run.experiment import DRAIN, Group

#: What a periodic status leaves out.
_DISTRIBUTIONS: Final = ("starved", "lifetime", "connects", "handshakes")

#: Interval of the checks whether a group that leaves still waits for answers.
LOOK_SECONDS: Final = 0.02


class Crowd:
    def __init__(self, role: Role) -> None:
        for file in role.personas:
            load(file)
        self._random = Random(role.seed)  # noqa: S311  replayable on purpose
        self._engine = Engine(role.target, connect_rate=role.connect_rate)
        self._host, self._endpoint = role.target.authority, role.endpoint
        self._traffic = Traffic(self._random, at=self._engine.at, lag=self._engine.lag, mark=role.mark)
        self._mark = role.mark
        self._made: dict[str, list[Cohort]] = {}  # by group

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
        self._made[group.name] = cohorts

    def open(self, group: str, share: float) -> None:
        """Open clients of a group until this share of them is open, those of earlier calls included.

        Any stretch of those that are opened now has the proportions of all.
        """
        new = [client for cohort in self._made[group] for client in cohort.make(round(share * cohort.wanted))]
        new.sort(key=lambda client: (client.number + 0.5) / client.cohort.wanted)
        self._engine.open(new)

    def speak(self, rate: float, *, text_bytes: int, over_seconds: float) -> None:
        """Let the speakers send this many messages a second, open-loop, until `stop` or another rate."""
        self._traffic.start(rate, text_bytes=text_bytes, over_seconds=over_seconds)

    def stop(self) -> None:
        self._traffic.stop()

    async def close(self, group: str) -> None:
        """Close a group for good, once its last messages are answered."""
        cohorts = self._made[group]
        leaving = {client for cohort in cohorts for client in cohort.clients}
        self._traffic.dismiss(leaving)
        with trio.move_on_after(TIMEOUT_SECONDS):
            while self._traffic.awaits(leaving):  # noqa: ASYNC110  each message would need an event
                await trio.sleep(LOOK_SECONDS)
        for cohort in cohorts:
            cohort.end()
        await self._engine.close_cohorts(cohorts)

    def begin(self, phase: str) -> None:
        """Book in this phase. The drain counts with the phase whose messages it waits for.

        By itself it is so short that the latest of its few checks would be its 99th percentile.
        """
        if phase != DRAIN:
            self._engine.lag.begin(phase)

    @property
    def _cohorts(self) -> list[Cohort]:
        return [cohort for cohorts in self._made.values() for cohort in cohorts]

    def status(self, calls: int) -> Status:
        return Status(
            calls=calls,
            groups=[cohort.status(without=_DISTRIBUTIONS) for cohort in self._cohorts],
            speakers=sum(cohort.wanted for cohort in self._cohorts if cohort.kind.speaks and not cohort.over),
            has_opened=self._engine.has_opened,
            outstanding=self._traffic.outstanding,
            acknowledged=self._traffic.acknowledgements,
            last_came=self._engine.last_came,
            recent=self._traffic.recent.take(),
        )

    def result(self) -> Result:
        return Result(
            groups=[cohort.result() for cohort in self._cohorts],
            traffic=self._traffic.result(),
            lags=[("crowd", phase, late) for phase, late in self._engine.lag.phases.items()],
            own_faults=dict(self._engine.own_faults),
            listeners=[(*where, number) for where, number in self._listeners().items()],
        )

    def _listeners(self) -> Counter[tuple[str, int, int]]:
        clients = (client for cohort in self._cohorts for client in cohort.clients if client.stage is Stage.HELD)
        return Counter(
            (client.room, client.delivered, client.checksums) for client in clients if client.honest and not client.slow
        )
