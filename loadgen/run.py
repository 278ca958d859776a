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

from loadgen import cpu_steal
from loadgen.client import Client
from loadgen.figure import When
from loadgen.figures import RUN, Condition, bar_of, meanings
from loadgen.latency import milliseconds
from loadgen.messages import StopTraffic
from loadgen.noise import busy, suspects
from loadgen.procfs import Usage
from loadgen.report import PhaseRow, Report
from loadgen.scenario import Plan, Session, cohort_rows, per
from loadgen.timers import now
from loadgen.verdict import Facts, decide
from loadgen.workers import Workers

#: Clients of the warm-up: enough to touch every path, few enough to leave a crowd to measure.
WARM_UP_CLIENTS: Final = 100

#: Nothing is on its way any more when nothing has come for so long.
QUIET_SECONDS: Final = 0.5

#: How long answers to the last messages may take.
DRAIN_SECONDS: Final = 5.0

_CROWD: Final = "crowd"
_STEADY: Final = ("steady", "drain")


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
        self._clients = sum(load.counts.values())
        self._opened = 0
        self._opening_seconds = 0.0
        self._held = 0
        self._server_bytes: float | None = None
        self._further_bytes: float | None = None
        self._own_growth: int | None = None
        self._cpu: float | None = None
        self._steal_percent: float | None = None
        self._steady = 0.0
        self._round_trip = 0.0
        self._deliveries = 0

    async def play(self) -> Report:
        """Play it and report."""
        self._plan.progress.plan([("steady", self._load.seconds)])
        self._round_trip = min(page.seconds for page in await self._session.look())
        await self._session.play(self._act)
        return self._report()

    async def _act(self) -> None:
        session, load = self._session, self._load
        crowd = await session.spawn_crowd()
        await crowd.make(
            _CROWD,
            {persona.name: count for persona, count in load.counts.items()},
            rooms=load.rooms,
            poll_wait_seconds=load.poll_wait_seconds,
            path=self._plan.path,
            websocket_path=self._plan.websocket_path,
        )
        await self._open(crowd)
        await session.enter("steady")
        self._held = crowd.held(_CROWD)
        session.plan.progress.say(
            f"{self._held:,} of {self._clients:,} clients established; steady for {load.seconds:g} s"
        )
        await self._hold_steady(crowd)
        await session.enter("drain")
        await session.until(lambda: crowd.quiet, load.drain_seconds)
        await self._hear_out(load.drain_seconds)

    async def _open(self, crowd: Workers) -> None:
        """Open a few, then half of the rest, then the other half, and read memory at each of these three points."""
        session = self._session
        warm = min(WARM_UP_CLIENTS, self._clients // 10) / self._clients
        session.begin("warm-up")
        await self._open_part(crowd, warm)
        first = self._reading(crowd)
        session.begin("opening")
        session.plan.progress.say(f"opening {self._clients:,} clients to {self._plan.target.url}")
        self._opening_seconds += await self._open_part(crowd, (warm + 1) / 2)
        half = self._reading(crowd)
        self._opening_seconds += await self._open_part(crowd, 1.0)
        whole = self._reading(crowd)
        self._opened = whole.held - first.held
        self._server_bytes = whole.server_bytes_each(first)
        self._further_bytes = whole.server_bytes_each(half)
        self._own_growth = whole.own_bytes - first.own_bytes

    async def _open_part(self, crowd: Workers, share: float) -> float:
        """Open some clients and wait until each is held or has failed; how long it took until the last was held."""
        begun = now()
        await crowd.open(_CROWD, share)
        # the engine gives up on each client after its own deadline, so this ends without a limit of its own
        await self._session.until(lambda: crowd.settled, float("inf"))
        await self._session.pause(self._plan.settle_seconds)
        return max(crowd.last_held - begun, 0.0)

    async def _hold_steady(self, crowd: Workers) -> None:
        before, deliveries, begun, ticks = self._usage(), self._heard(), now(), cpu_steal.read()
        if self._load.rate:
            await crowd.speak(self._load.rate)
        try:
            await self._session.pause(self._load.seconds)
        finally:
            await crowd.order(StopTraffic())
            after, ticks_after = self._usage(), cpu_steal.read()
            self._steady = now() - begun
            self._deliveries = self._heard() - deliveries
            self._cpu = after.cpu_seconds - before.cpu_seconds if before and after else None
            self._steal_percent = cpu_steal.percent(ticks, ticks_after)

    async def _hear_out(self, limit: float) -> None:
        """Wait until nothing is delivered any more: what is on its way is not lost."""
        before, deadline = -1, now() + limit
        while self._load.rate and self._heard() != before and now() < deadline:
            before = self._heard()
            await self._session.pause(QUIET_SECONDS)

    def _reading(self, crowd: Workers) -> _Reading:
        server = self._usage()
        return _Reading(crowd.held(_CROWD), server.pss_bytes if server else None, self._session.own_bytes())

    def _usage(self) -> Usage | None:
        return self._plan.server.usage() if self._plan.server else None

    def _heard(self) -> int:
        return sum(group.deliveries for group in self._session.groups())

    def _figures(self) -> dict[str, float | None]:
        totals = self._session.totals
        cpu = None if self._cpu is None else self._cpu * 1e6
        return {
            "round_trip_ms": milliseconds(self._round_trip),
            "held": self._held,
            "refused": sum(sum(group.refused.values()) for group in totals.groups),
            "failed": sum(sum(group.failed.values()) for group in totals.groups),
            "ended": sum(sum(group.ended.values()) for group in totals.groups),
            "ack_p50_ms": milliseconds(totals.acks.at(50)),
            "ack_p99_ms": milliseconds(totals.acks.at(99)),
            "ack_max_ms": milliseconds(totals.acks.longest),
            "echo_p50_ms": milliseconds(totals.echoes.at(50)),
            "echo_p99_ms": milliseconds(totals.echoes.at(99)),
            "echo_max_ms": milliseconds(totals.echoes.longest),
            "unacknowledged": totals.unacknowledged + totals.unsent,
            "unreturned": totals.unreturned,
            "missed": totals.missed(),
            "message_errors": totals.errors.total(),
            "messages_per_s": per(totals.acknowledged_in.total(), self._steady),
            "deliveries_per_s": per(self._deliveries, self._steady),
            "server_bytes_per_connection": self._server_bytes,
            "server_bytes_per_further_connection": self._further_bytes,
            "server_cpu_us_per_connection_s": per(cpu, self._held * self._steady),
            **self._session.own_figures(self._own_growth, self._opened, measuring="crowd", phases=_STEADY),
            "steal_percent": self._steal_percent,
            "connects_per_s": per(self._opened, self._opening_seconds),
        }

    def _phases(self) -> list[PhaseRow]:
        totals = self._session.totals
        return [
            PhaseRow(
                name="steady",
                what=what,
                seconds=round(self._steady, 2),
                succeeded=latency.count - sum(missing.values()),
                failed={reason: number for reason, number in missing.items() if number},
                spread=latency.spread(),
                histogram=latency.recording().histogram,
                server_cpu_percent=per(None if self._cpu is None else 100 * self._cpu, self._steady),
            )
            for what, latency, missing in (
                ("acknowledged", totals.acks, {"unacknowledged": totals.unacknowledged, **totals.errors}),
                ("own message back", totals.echoes, {"unreturned": totals.unreturned}),
            )
        ]

    def _bar(self) -> tuple[Condition, ...]:
        if self._plan.no_bar:
            return ()
        given = (When.SPEAKERS, When.ECHOES) if self._load.rate else ()
        return bar_of(RUN, given, round_trip_ms=1000 * self._round_trip)

    def _report(self) -> Report:
        session, figures = self._session, self._figures()
        honest = {persona.name: (persona.honest, persona.slow) for persona in self._load.counts}
        return Report(
            command="run",
            arguments=self._plan.arguments,
            target=self._plan.target.url,
            seed=self._plan.seed,
            started=session.started,
            seconds=session.seconds,
            verdict=decide(
                Facts(
                    figures=figures,
                    bar=(*self._bar(), *self._plan.conditions),
                    faults=tuple(session.faults()),
                    busy=busy(figures),
                    noise=suspects(figures),
                    interrupted=session.stopped,
                )
            ),
            figures=figures,
            meanings=meanings(RUN),
            phases=self._phases() if self._load.rate else [],
            cohorts=cohort_rows(session.totals, honest),
            timeline=session.timeline,
        )
