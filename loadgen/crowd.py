"""The crowd of one process: the part that most workers play.

Owns: the engine of this process, the groups of clients that were made, and the schedule of its chatters. May not:
decide when anything happens; the conductor does.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any, Final, assert_never

from loadgen.client import Client, Cohort, Place, Stage
from loadgen.messages import (
    COUNTS,
    REASONS,
    AnyOrder,
    BeginPhase,
    Close,
    FailPending,
    GroupStatus,
    Lifetimes,
    MakeClients,
    MakeVictims,
    Open,
    Recent,
    RereadMessages,
    Result,
    Role,
    SendResult,
    StartTraffic,
    Status,
    StopTraffic,
    TrafficResult,
)
from loadgen.personas import load, registry
from loadgen.secure import engine_for
from loadgen.timers import now
from loadgen.traffic import Traffic

#: A client that has been on its way in for so long is not let in.
STARVED_SECONDS: Final = 5.0


class _MadeGroup:
    """One group: its cohorts, its clients in the order in which they open, and how far that has come."""

    def __init__(self, cohorts: list[Cohort], clients: list[Client]) -> None:
        self.cohorts = cohorts
        self.clients = clients
        self.opened = 0
        self.closed: list[GroupStatus] | None = None  # how they stood when we closed them
        self.oldest: float | None = None


class Crowd:
    """See the module."""

    def __init__(self, role: Role) -> None:
        for file in role.personas:
            load(file)
        self._random = Random(role.seed)  # noqa: S311  replayable on purpose
        self._engine = engine_for(role.target, connect_rate=role.connect_rate)
        self._target = role.target
        self._traffic = Traffic(self._random, at=self._engine.at, lag=self._engine.lag)
        self._made: dict[str, _MadeGroup] = {}

    async def run(self) -> None:
        """Run the engine."""
        await self._engine.run()

    async def obey(self, order: AnyOrder) -> None:
        """Do what was ordered."""
        match order:
            case MakeClients():
                self._make(order)
            case Open():
                made = self._made[order.group]
                upto = round(order.share * len(made.clients))
                self._engine.open(made.clients[made.opened : upto])
                made.opened = upto
            case StartTraffic():
                self._traffic.start(order.rate, text_bytes=order.text_bytes, over_seconds=order.over_seconds)
            case StopTraffic():
                self._traffic.stop()
            case Close():
                await self._close(order.group)
            case BeginPhase():
                self._engine.lag.begin(order.phase)
            case MakeVictims() | FailPending() | RereadMessages() | SendResult():
                raise ValueError(f"{type(order).__name__} is no order for a crowd")
            case _:
                assert_never(order)

    def _make(self, order: MakeClients) -> None:
        place = Place(
            host=self._target.authority,
            rooms=tuple(order.rooms),
            poll_wait_seconds=order.poll_wait_seconds,
            endpoint=order.endpoint,
            random=self._random,
            traffic=self._traffic,
        )
        known = registry()
        counts = {known[name]: number for name, number in order.counts.items()}
        cohorts = {
            persona: Cohort(persona=persona, engine=self._engine, place=place, wanted=wanted)
            for persona, wanted in counts.items()
        }
        clients = [
            cohorts[persona].member(index) for index, persona in enumerate(mixed(counts), start=order.first_index)
        ]
        self._made[order.group] = _MadeGroup(list(cohorts.values()), clients)

    async def _close(self, group: str) -> None:
        made = self._made[group]
        made.closed = [_group(cohort, group) for cohort in made.cohorts]
        made.oldest = _oldest(made.clients)
        await self._engine.close_cohorts(made.cohorts)
        made.clients.clear()

    def status(self, heard: int) -> Status:
        """How the crowd stands."""
        return Status(
            heard=heard,
            groups=[_group(cohort, name) for name, made in self._made.items() for cohort in made.cohorts],
            speakers=sum(
                cohort.wanted for made in self._made.values() for cohort in made.cohorts if cohort.persona.speaks
            ),
            has_opened=self._engine.has_opened,
            outstanding=self._traffic.unacknowledged + self._traffic.unreturned,
            last_held=self._engine.last_held,
            recent=self._traffic.interval.take() if self._traffic.intended else Recent(latency=None, failed=0),
        )

    def result(self) -> Result:
        """Everything."""
        traffic = self._traffic
        acks, echoes = traffic.latencies()
        messages = TrafficResult(
            acks=acks.recording(),
            echoes=echoes.recording(),
            acknowledged_in=dict(traffic.acknowledged_in),
            errors=dict(traffic.errors),
            unacknowledged=traffic.unacknowledged,
            unreturned=traffic.unreturned,
            unsent=traffic.unsent,
        )
        lifetimes = [
            Lifetimes(
                persona=cohort.persona.name,
                group=group,
                ages=cohort.lifetime.recording(),
                connects=cohort.connects.recording(),
                handshakes=cohort.handshakes.recording(),
            )
            for group, made in self._made.items()
            for cohort in made.cohorts
        ]
        ages = [age for made in self._made.values() if (age := made.oldest or _oldest(made.clients)) is not None]
        return Result(
            groups=self._groups(),
            lifetimes=lifetimes,
            traffic=messages if traffic.intended else None,
            role="crowd",
            lags=self._engine.lag.results(),
            oldest=max(ages, default=None),
            own_faults=dict(self._engine.own_faults),
            listeners=self._listeners(),
        )

    def _listeners(self) -> dict[str, dict[str, int]]:
        """Who is in which room, by persona."""
        found: dict[str, Counter[str]] = {}
        for made in self._made.values():
            for client in made.clients:
                if client.stage is Stage.HELD and client.honest and not client.slow:
                    found.setdefault(client.name, Counter())[client.room] += 1
        return {name: dict(rooms) for name, rooms in found.items()}

    def _groups(self) -> list[GroupStatus]:
        """How all stand, or stood when we closed them: that was our doing and tells nothing of the target."""
        return [
            group
            for name, made in self._made.items()
            for group in made.closed or (_group(cohort, name, _starved(cohort, made)) for cohort in made.cohorts)
        ]


def _starved(cohort: Cohort, made: _MadeGroup) -> int:
    waiting = (Stage.CONNECTING, Stage.OPENING)
    return sum(
        client.cohort is cohort and client.stage in waiting and now() - client.born > STARVED_SECONDS
        for client in made.clients
    )


def _oldest(clients: Iterable[Client]) -> float | None:
    return max((now() - client.born for client in clients if client.fd >= 0 and not client.honest), default=None)


def _group(cohort: Cohort, group: str, starved: int = 0) -> GroupStatus:
    told: dict[str, Any] = {name: getattr(cohort, name) for name in COUNTS}
    told |= {name: dict(getattr(cohort, name)) for name in REASONS}
    return GroupStatus(persona=cohort.persona.name, group=group, starved=starved, **told)


def mixed(counts: Mapping[type[Client], int]) -> list[type[Client]]:
    """Interleave, so that each stretch of the sequence has the proportions of the whole."""
    places = [
        ((number + 0.5) / wanted, persona.name, persona)
        for persona, wanted in counts.items()
        for number in range(wanted)
    ]
    return [persona for _, _, persona in sorted(places, key=lambda place: place[:2])]
