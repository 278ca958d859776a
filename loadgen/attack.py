"""`loadgen attack`: baseline, attack, recovery, and what healthy clients felt in each.

Owns: the order of an attack and the comparison of its phases. All three come from one run on one machine, so that
noise is in all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import trio

from loadgen.client import Client, Place
from loadgen.figures import ATTACK_BAR
from loadgen.latency import Latency, milliseconds
from loadgen.preflight import InvalidRunError
from loadgen.procfs import Usage
from loadgen.report import PhaseRow, Report, judge
from loadgen.run import own_faults
from loadgen.scenario import Plan, Session, per, ratio
from loadgen.timers import now
from loadgen.victims import BEAT_TIMEOUT_SECONDS, Ledger, Phase, Victims

#: Before the attack: how long, and how often each, the victims try to join.
CONNECT_LIMIT_SECONDS: Final = 15.0
CONNECT_ATTEMPTS: Final = 3

_WATCH_SECONDS: Final = 0.5

#: The bar for the victims' p99, see the figure `p99_over_bar_ms`.
_BAR_RATIO: Final = 1.5
_BAR_MS: Final = 15.0


class _Span(NamedTuple):
    """How long a phase was, and what the server had used before and after it."""

    seconds: float
    before: Usage | None
    after: Usage | None

    @property
    def cpu_share(self) -> float | None:
        """CPU seconds a second."""
        if self.before is None or self.after is None:
            return None
        return per(self.after.cpu_seconds - self.before.cpu_seconds, self.seconds)


_NO_SPAN: Final = _Span(0.0, None, None)


@dataclass(frozen=True, kw_only=True)
class Assault:
    """What `attack` is told beside the plan."""

    counts: Mapping[type[Client], int]
    victims: int
    baseline_seconds: float
    attack_seconds: float
    recovery_seconds: float
    beat_timeout_seconds: float = BEAT_TIMEOUT_SECONDS


class Attack:
    """One attack."""

    def __init__(self, plan: Plan, assault: Assault) -> None:
        self._plan = plan
        self._assault = assault
        self._session = Session(plan)
        self._ledger = Ledger()
        self._victims = Victims(
            target=plan.target,
            engine=self._session.engine,
            ledger=self._ledger,
            number=assault.victims,
            random=self._session.random,
            beat_timeout_seconds=assault.beat_timeout_seconds,
        )
        self._spans: dict[str, _Span] = {}
        self._peak_pss: int | None = None
        self._oldest: float | None = None
        self._attacker_seconds = 0.0
        self._opening_seconds = 0.0
        self._own_growth: int | None = None

    async def play(self) -> Report:
        """Play it and report."""
        await self._session.play(self._act)
        return self._report()

    async def _act(self, nursery: trio.Nursery) -> None:
        session, assault = self._session, self._assault
        self._ledger.begin("warm-up")
        nursery.start_soon(self._victims.run)
        await session.until(self._victims_decided, CONNECT_LIMIT_SECONDS)
        if self._victims.connected < assault.victims:
            raise InvalidRunError(
                f"only {self._victims.connected} of {assault.victims} victims could join over chat.v1"
                f" before the attack: {self._victims.last_failure or 'no answer'}"
            )
        await session.pause(self._plan.settle_seconds)
        await self._phase("baseline", assault.baseline_seconds)
        if not self._ledger.phases[-1].latency.count:
            raise InvalidRunError("no victim's message came back before the attack: there is nothing to compare with")
        await self._assail(nursery)
        await self._phase("recovery", assault.recovery_seconds)
        self._victims.stop()
        await session.until(lambda: not self._victims.outstanding, assault.beat_timeout_seconds)
        self._victims.give_up()

    def _victims_decided(self) -> bool:
        number = self._assault.victims
        return self._victims.connected == number or self._victims.failures >= CONNECT_ATTEMPTS * number

    async def _phase(self, name: str, seconds: float) -> None:
        self._session.phase = name
        self._plan.progress.say(f"{name}: {seconds:g} s")
        begun, before = now(), self._usage()
        self._ledger.begin(name)
        try:
            await self._session.pause(seconds)
        finally:
            self._spans[name] = _Span(now() - begun, before, self._usage())

    async def _assail(self, nursery: trio.Nursery) -> None:
        session = self._session
        place = Place(host=self._plan.target.authority, rooms=("lobby",), poll_wait_seconds=25.0, random=session.random)
        attackers = session.cast(self._assault.counts, place)
        watching = trio.CancelScope()
        nursery.start_soon(self._watch, watching)
        session.engine.open(attackers)
        try:
            await self._phase("attack", self._assault.attack_seconds)
        finally:
            watching.cancel()
            self._oldest = max((now() - client.born for client in attackers if client.fd >= 0), default=None)
            session.describe_cohorts()
        await session.engine.close_cohorts(session.cohorts)

    async def _watch(self, scope: trio.CancelScope) -> None:
        """Count attacker-seconds, and read memory whenever more attackers are held than ever before."""
        session, own_before = self._session, self._session.own.usage()
        peak, begun, last = 0, now(), now()
        with scope:
            while True:
                await trio.sleep(_WATCH_SECONDS)
                held, moment = session.held, now()
                self._attacker_seconds += held * (moment - last)
                last = moment
                if held <= peak:
                    continue
                peak = held
                self._opening_seconds = session.engine.last_held - begun
                self._peak_pss = _pss(self._usage())
                own = session.own.usage()
                self._own_growth = own.pss_bytes - own_before.pss_bytes if own and own_before else None

    def _usage(self) -> Usage | None:
        return self._plan.server.usage() if self._plan.server else None

    def _figures(self) -> dict[str, float | None]:
        base, during, after = (self._named(name) for name in ("baseline", "attack", "recovery"))
        cohorts = self._session.cohorts
        lives = Latency()
        for cohort in cohorts:
            lives.merge(cohort.lifetime)
        peak = sum(cohort.peak for cohort in cohorts)
        base_p99, attack_p99 = milliseconds(base.latency.at(99)), milliseconds(during.latency.at(99))
        return {
            "baseline_p99_ms": base_p99,
            "attack_p50_ms": milliseconds(during.latency.at(50)),
            "attack_p99_ms": attack_p99,
            "attack_max_ms": milliseconds(during.latency.longest),
            "recovery_p99_ms": milliseconds(after.latency.at(99)),
            "p50_ratio": ratio(during.latency.at(50), base.latency.at(50)),
            "p99_ratio": ratio(attack_p99, base_p99),
            "p99_over_bar_ms": _over_bar(attack_p99, base_p99),
            "success_percent": during.success_percent,
            "recovery_success_percent": after.success_percent,
            "attackers_peak": peak,
            "attackers_refused": sum(cohort.refused.total() for cohort in cohorts),
            "attackers_killed": sum(cohort.ended.total() for cohort in cohorts),
            "kill_p50_s": lives.at(50),
            "kill_max_s": lives.longest,
            "oldest_attacker_s": self._oldest,
            "server_bytes_per_attacker": per(self._grown(self._peak_pss), peak),
            "server_bytes_left": self._grown(_pss(self._span("recovery").after)),
            "server_cpu_us_per_attacker_s": self._cpu_per_attacker(),
            **self._session.own_figures(self._own_growth, peak),
            "connects_per_s": per(peak, self._opening_seconds),
        }

    def _named(self, name: str) -> Phase:
        """The phase of that name, empty if a stopped run never came to it."""
        return next((phase for phase in self._ledger.phases if phase.name == name), Phase(name, 0.0))

    def _span(self, name: str) -> _Span:
        return self._spans.get(name, _NO_SPAN)

    def _grown(self, pss_bytes: int | None) -> int | None:
        """Memory above the end of the baseline."""
        base = _pss(self._span("baseline").after)
        return None if pss_bytes is None or base is None else pss_bytes - base

    def _cpu_per_attacker(self) -> float | None:
        base, during = self._span("baseline").cpu_share, self._span("attack").cpu_share
        if base is None or during is None:
            return None
        return per((during - base) * self._span("attack").seconds * 1e6, self._attacker_seconds)

    def _phase_row(self, phase: Phase) -> PhaseRow:
        span = self._span(phase.name)
        return PhaseRow(
            name=phase.name,
            what="victims' round trip",
            seconds=round(span.seconds, 2),
            succeeded=phase.latency.count,
            failed=dict(phase.failed),
            spread=phase.latency.spread(),
            server_cpu_percent=None if span.cpu_share is None else round(100 * span.cpu_share, 1),
            server_pss_bytes=_pss(span.after),
        )

    def _report(self) -> Report:
        figures = self._figures()
        return Report(
            command="attack",
            target=self._plan.target.url,
            seed=self._plan.seed,
            verdict=judge(
                figures,
                bar=ATTACK_BAR,
                asked=self._plan.conditions,
                faults=own_faults(self._session),
                interrupted=self._session.stopped,
            ),
            figures=figures,
            phases=[self._phase_row(phase) for phase in self._ledger.phases if phase.name in self._spans],
            cohorts=self._session.rows,
            timeline=self._session.timeline,
        )


def _pss(usage: Usage | None) -> int | None:
    return usage.pss_bytes if usage else None


def _over_bar(value_ms: float | None, base_ms: float | None) -> float | None:
    if value_ms is None or base_ms is None:
        return None
    return round(value_ms - max(base_ms * _BAR_RATIO, base_ms + _BAR_MS), 3)
