"""`loadgen capacity`: the most of something at which the bar still holds, and which condition failed beyond it.

Owns: its flags, the search (doubling, then bisection) and the experiment at each size. Two invalid trials of
one size end the search, and so do two that fell short at the edge.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Literal

import trio

from loadgen import flags
from loadgen.common import COMMON, WATCHING, Common, ConnectRate, Url, Watching, finish, make_plan
from loadgen.flags import Clients, Seconds
from loadgen.net.target import UsageError
from loadgen.personas import registry
from loadgen.protocols import ADAPTERS
from loadgen.report.bar import NOTICED_MS
from loadgen.report.conditions import Condition
from loadgen.report.figures import CAPACITY, Figures, meanings
from loadgen.report.schema import Outcome, Report, Started, Table, verdict
from loadgen.run import experiment
from loadgen.run.experiment import EACH_PER_S, Counts, Experiment, Phase, Probes
from loadgen.run.player import Player
from loadgen.run.preflight import InvalidRunError
from loadgen.run.session import Plan, Session, cause_of_death

#: Victims beside newcomers, and of idle connections those that speak, half at most: enough to notice a stall.
WATCHERS: Final = 5
WATCHERS_RATE: Final = 10.0

#: A newcomer makes at most as many round trips to the target as two GETs: connect, upgrade, join, message.
GETS: Final = 2


class Of(StrEnum):
    IDLE = "idle"  # connections that do nothing
    NEWCOMERS = "newcomers"  # a second: connect, one operation, leave
    MESSAGES = "messages"  # a second; over HTTP requests


#: No more is tried unless --most says so. Each newcomer may take a descriptor for a whole timeout, and all of them are
#: in one process, which manages some hundreds a second.
MOST: Final = {Of.IDLE: 10_000, Of.NEWCOMERS: 1_000, Of.MESSAGES: 10_000}

#: The size that is tried first, and the share of the result by which it may be off.
FIRST: Final = 100
PRECISION: Final = 0.1

_UNITS: Final = {Of.IDLE: "idle connections", Of.NEWCOMERS: "newcomers a second", Of.MESSAGES: "messages a second"}


@dataclass
class Search:
    first: int
    most: int
    precision: float
    held: int = 0  # the most that held
    falls: list[int] = field(default_factory=list)  # sizes at which it fell short, as often as it did
    trials: list[tuple[int, Report]] = field(default_factory=list)

    @property
    def fell_short(self) -> int | None:
        """The least that did not hold."""
        return min(self.falls, default=None)

    async def run(self, trial: Callable[[int], Awaitable[Report | None]]) -> Report | None:
        """Search until there is no trial. If one says nothing about the target, that is the end; return its report."""
        size: int | None = min(self.first, self.most)
        while size is not None and (report := await trial(size)):
            if report.outcome is Outcome.INVALID:  # once may be a disturbance of this machine
                report = await trial(size) or report
            self.trials.append((size, report))
            if report.outcome is Outcome.HELD:
                self.held, self.falls = size, [fall for fall in self.falls if fall > size]
            elif report.outcome is Outcome.FELL_SHORT:
                self.falls.append(size)
            else:
                return None if size in self.falls and report.outcome is Outcome.INVALID else report
            size = self._next()
        return None

    def _next(self) -> int | None:
        if self.fell_short is None:
            return min(2 * self.held, self.most) if self.held < self.most else None
        if self.fell_short - self.held <= max(self.precision * self.held, 1):
            # Once more, because any smaller size holds if this fall was false, and then the search goes on upwards.
            return self.fell_short if self.falls.count(self.fell_short) == 1 else None
        return (self.held + self.fell_short) // 2


def trial_of(of: Of, protocol: str, size: int, seconds: float) -> Experiment:
    adapter = next(each for each in ADAPTERS if each.name == protocol)
    known = registry()
    if of is Of.NEWCOMERS:
        probes = Probes(victims={adapter.victims[0].name: WATCHERS}, newcomers_per_s=size)
        phases = (
            Phase(name="baseline", counts_as=Counts.BASELINE, seconds=min(seconds, 2.0)),
            Phase(name="newcomers", counts_as=Counts.LOAD, seconds=seconds),
            Phase(name="recovery", counts_as=Counts.RECOVERY, seconds=1.0),
        )
        return Experiment(command="capacity", groups=(), phases=phases, probes=probes, compares=False)
    speaker, rate = known[adapter.speaker], WATCHERS_RATE
    if of is Of.MESSAGES:
        rate = float(size)
        counts = {speaker: max(WATCHERS, math.ceil(size / EACH_PER_S))}
    else:
        watchers = min(WATCHERS, math.ceil(size / 2))
        counts = {known[adapter.idle]: size - watchers}
        counts[speaker] = counts.get(speaker, 0) + watchers
    rooms = flags.rooms(None, None, sum(counts.values()))
    load = experiment.honest_load(counts, rooms=rooms, rate=rate, seconds=seconds)
    return replace(load, command="capacity")


@dataclass
class Capacity:
    plan: Plan
    of: Of
    protocol: str
    search: Search
    seconds: float = field(kw_only=True)
    started: Started = field(default_factory=Started, init=False)
    round_trip_ms: float = field(default=0.0, init=False)  # of a GET on the network alone, connect included
    _is_mute: bool = field(default=False, init=False)  # it answered nobody at all
    _afterwards: str = field(default="", init=False)  # what the smallest size that fell short left behind

    async def play(self) -> Report:
        if self.of is Of.NEWCOMERS:
            self.round_trip_ms = 1000 * min(page.way_seconds for page in await Session(self.plan).look())
        ended = await self.search.run(self._try)
        search = self.search
        figures: Figures = {"capacity": search.held or None, "fell_short_at": search.fell_short}
        return Report(
            command="capacity",
            target=self.plan.target.url,
            seed=self.plan.seed,
            started=self.started.at,
            seconds=self.started.seconds,
            verdict=verdict(*self._outcome(figures, ended)),
            figures=dict(figures),
            meanings=meanings(CAPACITY),
            tables=[self._table()],
        )

    async def _try(self, size: int) -> Report | None:
        # a server that died of a size, or is mute, says nothing of smaller ones
        if self.search.fell_short and (self._is_mute or await cause_of_death(self.plan)):
            return None
        self.plan.progress.say(f"{size:,} {_UNITS[self.of]}")
        tried = trial_of(self.of, self.protocol, size, self.seconds)
        conditions: tuple[Condition, ...] = ()
        if self.of is Of.NEWCOMERS:
            conditions = (Condition("newcomers_p99_ms", ">", round(NOTICED_MS + GETS * self.round_trip_ms, 1)),)
        elif self.of is Of.IDLE:  # a web server may end idle connections, and so is not blamed for that elsewhere
            conditions = (Condition("held", "<", tried.clients),)
        player = Player(replace(self.plan, conditions=conditions), tried)
        try:
            report = await player.play()
        except InvalidRunError as error:
            if self.search.fell_short and not player.answered:  # nor does this say anything of smaller sizes
                self._afterwards = "; after that it answered nobody any more"
                return None
            # once another size was measured, no client at all getting in is a result as well
            outcome = Outcome.FELL_SHORT if self.search.held or self.search.fell_short else Outcome.INVALID
            return player.report_without(str(error), outcome)
        self._is_mute = not player.answered and not any(map(report.figures.get, ("messages_per_s", "success_percent")))
        return report

    def _outcome(self, figures: Figures, ended: Report | None) -> tuple[Outcome, list[str]]:
        search, unit = self.search, _UNITS[self.of]
        if ended is not None and (ended.outcome is Outcome.INTERRUPTED or not (search.held or search.fell_short)):
            return ended.outcome, ended.verdict.reasons
        limits = []
        if ended is not None:
            size, cause = search.trials[-1][0], ended.verdict.reasons[0]
            limits = [f"at {size:,} the target was not measured: {cause}"]
        if not search.held:
            return Outcome.FELL_SHORT, [f"not even {search.fell_short:,} {unit}: {self._gave_way()}", *limits]
        if ended is None and search.fell_short is None:
            limits = ["no more were tried (--most)"]
        elif ended is None:
            limits = [f"at {search.fell_short:,}: {self._gave_way()}"]
        broken = [why for condition in self.plan.conditions if (why := condition.judge(figures))]
        blamed = Outcome.FELL_SHORT if ended is None else Outcome.INVALID
        return blamed if broken else Outcome.HELD, [*broken, f"{search.held:,} {unit} held", *limits]

    def _gave_way(self) -> str:
        fell = [report for size, report in self.search.trials if size == self.search.fell_short]
        report = next(report for report in fell if report.outcome is Outcome.FELL_SHORT)
        return "; ".join(report.verdict.reasons) + self._afterwards

    def _table(self) -> Table:
        rows = [
            [f"{size:,}", report.outcome, "; ".join(report.verdict.reasons)]
            for size, report in sorted(self.search.trials, key=lambda trial: trial[0])
        ]
        return Table(title="what was tried", columns=[_UNITS[self.of], "verdict", "why"], rows=rows)


def capacity(
    url: Url,
    /,
    *,
    of: Of = Of.IDLE,
    protocol: Literal["chat", "http", "ws-echo"] = "chat",
    most: Clients | None = None,
    duration: Seconds = 5.0,
    connect_rate: ConnectRate = 0.0,
    loading: Watching = WATCHING,
    common: Common = COMMON,
) -> int:
    """Find the most connections, newcomers or messages a second at which the bar still holds.

    Sizes are doubled until the target falls short, then bisected; the report says which condition failed. --fail-if
    'capacity<5000' makes a test of it.

    Args:
        of: What to look for: idle connections, newcomers or messages a second.
        protocol: What the target speaks; http and ws-echo need no chat.
        most: No more is tried; by default 10,000, of newcomers 1,000.
        duration: Seconds of each trial.
    """
    if common.no_bar:
        raise UsageError("--no-bar: the bar is what a size must hold; without one all of them would")
    most = MOST[of] if most is None else most
    largest = trial_of(of, protocol, most, duration)
    plan = make_plan(url, common, loading, largest, connect_rate=connect_rate, known=CAPACITY, rounds=8, fewer="--most")
    found = Capacity(plan, of, protocol, Search(FIRST, most, PRECISION), seconds=duration)
    return finish(trio.run(found.play), common)
