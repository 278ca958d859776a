"""The probe runner: the part of a worker that the victims live in.

Owns: the victims and newcomers of this process, their recorder and their clock. In a process of its own, so that
neither the crowd nor the live view is in their latencies.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Final, assert_never

import trio

from loadgen.endpoint import Endpoint
from loadgen.messages import (
    AnyOrder,
    BeginPhase,
    Close,
    FailPending,
    MakeClients,
    MakeVictims,
    Open,
    Reread,
    RereadMessages,
    Result,
    Role,
    SendResult,
    StartTraffic,
    Status,
    StopTraffic,
)
from loadgen.target import PER_SOURCE
from loadgen.timers import now
from loadgen.victims.chat import EchoVictim, WebSocketVictim
from loadgen.victims.clock import Clock
from loadgen.victims.kinds import newcomers_of
from loadgen.victims.newcomer import ADDRESSES, Newcomers
from loadgen.victims.recorder import Recorder
from loadgen.victims.reread import reread
from loadgen.victims.schedule import Schedule
from loadgen.victims.victim import UNANSWERED, Victim
from loadgen.victims.web import GetVictim, PollVictim, StreamVictim

#: Every kind of victim, by the name that reports use.
KINDS: Final[dict[str, type[Victim]]] = {
    victim.kind: victim for victim in (WebSocketVictim, PollVictim, StreamVictim, GetVictim, EchoVictim)
}

#: Victims take source addresses behind all that a crowd of 100,000 could use.
_FIRST_SOURCE_INDEX: Final = 100_000


class ProbeRunner:
    """See the module."""

    def __init__(self, role: Role) -> None:
        self.target = role.target
        self.clock = Clock()
        self.recorder = Recorder()
        self.stopped = False
        self.tag = f"v{Random(role.seed).getrandbits(32):08x}"  # noqa: S311  tells this run's rooms from another's
        self.endpoint = Endpoint()
        self.timeout_seconds = 0.0
        self._probes: list[Victim | Newcomers] = []
        self._reread: Reread | None = None
        self._stopped_at = float("inf")
        self._connected = 0
        self._failures = 0
        self._last_failure = ""
        self._made = trio.Event()

    # What a worker does

    async def run(self) -> None:
        """Play all victims until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.clock.run)
            await self._made.wait()
            for probe in self._probes:
                nursery.start_soon(probe.run)

    async def obey(self, order: AnyOrder) -> None:
        """Do what was ordered."""
        match order:
            case MakeVictims():
                self._make_victims(order)
            case BeginPhase():
                self.recorder.begin(order.phase)
                self.clock.lag.begin(order.phase)
            case StopTraffic():
                self._stop()
            case FailPending():
                for probe in self._probes:
                    probe.fail_pending(UNANSWERED)
            case RereadMessages():
                victims = [probe for probe in self._probes if isinstance(probe, Victim) and probe.acknowledged]
                self._reread = await reread(self, victims)
            case MakeClients() | Open() | StartTraffic() | Close() | SendResult():
                raise ValueError(f"{type(order).__name__} is no order for victims")
            case _:
                assert_never(order)

    def _make_victims(self, order: MakeVictims) -> None:
        self.endpoint = order.endpoint
        self.timeout_seconds = self.recorder.timeout_seconds = order.timeout_seconds
        kinds = [KINDS[kind] for kind, number in order.counts.items() for _ in range(number)]
        begun = now()
        for index, kind in enumerate(kinds):
            schedule = Schedule(begun + order.interval_seconds * index / len(kinds), order.interval_seconds)
            self._probes.append(kind(self, index, schedule))
        self._make_newcomers(order, begun)
        self._made.set()

    def _make_newcomers(self, order: MakeVictims, begun: float) -> None:
        if not order.newcomers_per_s:
            return
        kinds = newcomers_of(order.counts)
        victims = sum(order.counts.values())
        interval = len(kinds) / order.newcomers_per_s
        for number, kind in enumerate(kinds):
            schedule = Schedule(begun + interval * number / len(kinds), interval)
            first_index = victims + number * ADDRESSES
            self._probes.append(Newcomers(self, kind, schedule, first_index))

    def _stop(self) -> None:
        """Issue what is due until now, and nothing afterwards."""
        self._stopped_at = now()
        for probe in self._probes:
            probe.issue(self._stopped_at)
        self.stopped = True

    def _expected(self) -> Counter[tuple[str, str]]:
        """How many operations the schedules have in each phase, by phase and kind."""
        expected: Counter[tuple[str, str]] = Counter()
        ends = [begin for begin, _ in self.recorder.phases[1:]] + [min(self._stopped_at, now())]
        for (begin, phase), end in zip(self.recorder.phases, ends, strict=True):
            for probe in self._probes:
                expected[phase, probe.kind] += probe.schedule.count_between(begin, min(end, self._stopped_at))
        return expected

    def status(self, heard: int) -> Status:
        """How the victims stand."""
        return Status(
            heard=heard,
            groups=[],
            speakers=0,
            settled=True,
            outstanding=sum(len(probe.pending) for probe in self._probes),
            connected=self._connected,
            failures=self._failures,
            last_failure=self._last_failure,
            last_held=0.0,
            recent=self.recorder.interval.take(),
        )

    def result(self) -> Result:
        """Everything."""
        return Result(
            groups=[],
            lifetimes=[],
            traffic=None,
            phases=self.recorder.results(self._expected()),
            reread=self._reread,
            role="victims",
            lags=self.clock.lag.results(),
            oldest=None,
            own_faults={},
            listeners={},
        )

    # What victims use

    def source(self, index: int) -> str | None:
        """An address for each victim alone."""
        return self.target.source(_FIRST_SOURCE_INDEX + index * PER_SOURCE)

    def ended(self, reason: str) -> None:
        """Note that a victim's connection could not be made, or ended."""
        self._failures += 1
        self._last_failure = reason

    @contextmanager
    def counted(self, victim: Victim) -> Iterator[None]:
        """Count a victim as connected meanwhile."""
        victim.connected()
        self._connected += 1
        try:
            yield
        finally:
            self._connected -= 1
