"""`loadgen run`: honest load, and what it costs the target.

Owns: the order of a run. A first few clients open and stay, so that what the target imports or caches once is not
charged to the crowd; the rest opens in two halves with memory read before, between and after; then the schedule speaks
for the steady window, over which CPU is measured. The second half is there because a process has holes in its heap
from its start, which the first clients fill without any growth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import trio

from loadgen.client import Client, Place
from loadgen.figures import RUN_BAR
from loadgen.latency import milliseconds
from loadgen.procfs import Usage
from loadgen.report import PhaseRow, Report, judge
from loadgen.scenario import Plan, Session, per
from loadgen.timers import now
from loadgen.traffic import Traffic

#: Clients of the warm-up: enough to touch every path, few enough to leave a crowd to measure.
WARM_UP_CLIENTS: Final = 100

#: How long answers to the last messages may take.
DRAIN_SECONDS: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """What `run` is told beside the plan."""

    counts: Mapping[type[Client], int]
    rooms: tuple[str, ...]
    rate: float
    seconds: float
    poll_wait_seconds: float
    drain_seconds: float = DRAIN_SECONDS


class _Reading(NamedTuple):
    """Memory, and what it was used for."""

    held: int
    server_bytes: int | None
    own_bytes: int

    def server_bytes_each(self, before: _Reading) -> float | None:
        """The server's growth since `before`, for each client that has come since."""
        if self.server_bytes is None or before.server_bytes is None:
            return None
        return per(self.server_bytes - before.server_bytes, self.held - before.held)


class Run:
    """One run."""

    def __init__(self, plan: Plan, load: Load) -> None:
        self._plan = plan
        self._load = load
        self._session = Session(plan)
        self._traffic = Traffic(self._session.random)
        self._opened = 0
        self._opening_seconds = 0.0
        self._held = 0
        self._server_bytes: float | None = None
        self._further_bytes: float | None = None
        self._own_growth: int | None = None
        self._cpu: float | None = None
        self._steady = 0.0
        self._deliveries = 0

    async def play(self) -> Report:
        """Play it and report."""
        await self._session.play(self._act)
        return self._report()

    async def _act(self, _: trio.Nursery) -> None:
        session, load = self._session, self._load
        place = Place(
            host=self._plan.target.authority,
            rooms=load.rooms,
            poll_wait_seconds=load.poll_wait_seconds,
            random=session.random,
            traffic=self._traffic,
        )
        clients = session.cast(load.counts, place)
        await self._open(clients)
        session.phase = "steady"
        self._held = session.held
        session.plan.progress.say(
            f"{self._held:,} of {len(clients):,} clients established; steady for {load.seconds:g} s"
        )
        await self._hold_steady()
        session.phase = "drain"
        await session.until(lambda: self._traffic.quiet, load.drain_seconds)

    async def _open(self, clients: list[Client]) -> None:
        """Open a few, then half of the rest, then the other half, and read memory at each of these three points."""
        session = self._session
        warm = min(WARM_UP_CLIENTS, len(clients) // 10)
        middle = (warm + len(clients)) // 2
        session.phase = "warm-up"
        await self._open_part(clients[:warm])
        first = self._reading()
        session.phase = "opening"
        self._plan.progress.say(f"opening {len(clients):,} clients to {self._plan.target.url}")
        self._opening_seconds += await self._open_part(clients[warm:middle])
        half = self._reading()
        self._opening_seconds += await self._open_part(clients[middle:])
        whole = self._reading()
        self._opened = whole.held - first.held
        self._server_bytes = whole.server_bytes_each(first)
        self._further_bytes = whole.server_bytes_each(half)
        self._own_growth = whole.own_bytes - first.own_bytes

    async def _open_part(self, clients: list[Client]) -> float:
        """Open some clients and wait until each is held or has failed; how long it took until the last was held."""
        begun = now()
        self._session.engine.open(clients)
        await self._settle()
        return max(self._session.engine.last_held - begun, 0.0)

    async def _settle(self) -> None:
        # the engine gives up on each client after its own deadline, so this ends without a limit of its own
        await self._session.until(lambda: self._session.engine.settled, float("inf"))
        await self._session.pause(self._plan.settle_seconds)

    async def _hold_steady(self) -> None:
        before, deliveries, begun = self._usage(), self._heard(), now()
        if self._load.rate:
            self._traffic.start(self._session.engine, self._load.rate)
        try:
            await self._session.pause(self._load.seconds)
        finally:
            self._traffic.stop()
            after = self._usage()
            self._steady = now() - begun
            self._deliveries = self._heard() - deliveries
            self._cpu = after.cpu_seconds - before.cpu_seconds if before and after else None

    def _reading(self) -> _Reading:
        server, own = self._usage(), self._session.own.usage()
        assert own is not None, "we are alive"
        return _Reading(self._session.held, server.pss_bytes if server else None, own.pss_bytes)

    def _usage(self) -> Usage | None:
        return self._plan.server.usage() if self._plan.server else None

    def _heard(self) -> int:
        return sum(cohort.deliveries for cohort in self._session.cohorts)

    def _figures(self) -> dict[str, float | None]:
        cohorts, traffic = self._session.cohorts, self._traffic
        cpu = None if self._cpu is None else self._cpu * 1e6
        return {
            "held": self._held,
            "refused": sum(cohort.refused.total() for cohort in cohorts),
            "failed": sum(cohort.failed.total() for cohort in cohorts),
            "ended": sum(cohort.ended.total() for cohort in cohorts),
            "ack_p50_ms": milliseconds(traffic.acks.at(50)),
            "ack_p99_ms": milliseconds(traffic.acks.at(99)),
            "ack_max_ms": milliseconds(traffic.acks.longest),
            "echo_p50_ms": milliseconds(traffic.echoes.at(50)),
            "echo_p99_ms": milliseconds(traffic.echoes.at(99)),
            "echo_max_ms": milliseconds(traffic.echoes.longest),
            "unacknowledged": traffic.unacknowledged + traffic.unsent,
            "unreturned": traffic.unreturned,
            "message_errors": traffic.errors.total(),
            "messages_per_s": per(traffic.acks.count, self._steady),
            "deliveries_per_s": per(self._deliveries, self._steady),
            "server_bytes_per_connection": self._server_bytes,
            "server_bytes_per_further_connection": self._further_bytes,
            "server_cpu_us_per_connection_s": per(cpu, self._held * self._steady),
            **self._session.own_figures(self._own_growth, self._opened),
            "connects_per_s": per(self._opened, self._opening_seconds),
        }

    def _report(self) -> Report:
        traffic, figures = self._traffic, self._figures()
        rows = [
            PhaseRow(
                name="steady",
                what=what,
                seconds=round(self._steady, 2),
                succeeded=latency.count,
                failed={reason: number for reason, number in missing.items() if number},
                spread=latency.spread(),
                server_cpu_percent=per(None if self._cpu is None else 100 * self._cpu, self._steady),
            )
            for what, latency, missing in (
                ("acknowledged", traffic.acks, {"unacknowledged": traffic.unacknowledged, **traffic.errors}),
                ("own message back", traffic.echoes, {"unreturned": traffic.unreturned}),
            )
        ]
        return Report(
            command="run",
            target=self._plan.target.url,
            seed=self._plan.seed,
            verdict=judge(
                figures,
                bar=RUN_BAR,
                asked=self._plan.conditions,
                faults=own_faults(self._session),
                interrupted=self._session.stopped,
            ),
            figures=figures,
            phases=rows if self._load.rate else [],
            cohorts=self._session.rows,
            timeline=self._session.timeline,
        )


def own_faults(session: Session) -> list[str]:
    """What this machine refused the generator, as reasons for an invalid run."""
    return [
        f"this machine refused {number:,} connections: {what}" for what, number in session.engine.own_faults.items()
    ]
