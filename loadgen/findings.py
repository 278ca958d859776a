"""What an attack showed: figures, rows and the verdict.

Owns: the arithmetic. `attack.py` notes what happened here as it happens; nothing here waits or touches a socket.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from loadgen import cpu_steal
from loadgen.client import Client, Threat
from loadgen.figures import ATTACK, ATTACK_BAR, Figures
from loadgen.latency import Latency, milliseconds
from loadgen.memory import Growth, Size
from loadgen.messages import Group, PhaseResult
from loadgen.procfs import Usage
from loadgen.report import PhaseRow, Report, Sample, Verdict, judge
from loadgen.scenario import Plan, Session, cohort_rows, per, ratio
from loadgen.scrape import Counters, growth
from loadgen.victims.kinds import WHAT
from loadgen.workers import SPEAKER

#: Groups of the crowd.
ATTACKERS: Final = "attackers"
NEIGHBOURS: Final = "neighbours"

#: The bar for the victims' p99, see the figure `p99_over_bar_ms`.
_BAR_RATIO: Final = 1.5
_BAR_MS: Final = 15.0

#: The bar with a floor beside: as many times its p99, by what the attackers are. Of those who take all that they get,
#: a server that looks at what it takes gets more than one that does not. The malformed have no floor.
FLOOR_RATIOS: Final[Mapping[Threat, float]] = MappingProxyType({Threat.SLOW: 1.5, Threat.GREEDY: 3.0})

_PHASES: Final = ("baseline", "attack", "recovery")


class Span(NamedTuple):
    """How long a phase was, what the server had used before and after it, and what the host had taken by then."""

    begun: float
    seconds: float
    before: Usage | None
    after: Usage | None
    crowd_cpu_seconds: float  # what the attackers' own processes used
    ticks_before: cpu_steal.Ticks | None
    ticks_after: cpu_steal.Ticks | None

    @property
    def cpu_share(self) -> float | None:
        """CPU seconds a second."""
        if self.before is None or self.after is None:
            return None
        return per(self.after.cpu_seconds - self.before.cpu_seconds, self.seconds)

    @property
    def steal_percent(self) -> float | None:
        """What the host took from this machine's processors meanwhile."""
        return cpu_steal.percent(self.ticks_before, self.ticks_after)


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What the same victims felt beside the same attack at the floor, see floor.py."""

    baseline_p99_ms: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    fault: str = ""  # why there are no figures
    interrupted: bool = False


_NO_FLOOR: Final = Floor()
_NO_SPAN: Final = Span(0.0, 0.0, None, None, 0.0, None, None)


class Findings:
    """Everything that one attack showed."""

    def __init__(
        self, plan: Plan, session: Session, personas: Mapping[type[Client], int], floor: Floor | None = None
    ) -> None:
        self.spans: dict[str, Span] = {}
        self.memory: dict[str, list[Size]] = {}  # of the server, by phase
        self.own_growth: int | None = None
        self.attacker_seconds = 0.0
        self.opening_seconds = 0.0
        self.counters_before: Counters | None = None
        self.counters_after: Counters | None = None
        self._plan = plan
        self._session = session
        self._personas = personas
        self._floor = floor or _NO_FLOOR

    def report(self) -> Report:
        """All of it."""
        session, figures = self._session, self._figures()
        honest = {persona.name: (persona.honest, persona.slow) for persona in self._personas}
        return Report(
            command="attack",
            arguments=self._plan.arguments,
            target=self._plan.target.url,
            seed=self._plan.seed,
            started=session.started,
            seconds=session.seconds,
            verdict=self._verdict(figures),
            figures=figures,
            meanings=dict(ATTACK),
            phases=[self._phase_row(felt) for name in _PHASES for felt in self._phase_results(name)],
            cohorts=cohort_rows(session.totals, honest),
            timeline=session.timeline,
            metrics=growth(self.counters_before, self.counters_after),
        )

    def _verdict(self, figures: Figures) -> Verdict:
        found = judge(
            figures,
            bar=ATTACK_BAR,
            asked=self._plan.conditions,
            faults=self._faults(),
            interrupted=self._session.stopped,
        )
        if not self._floor.fault:
            return found
        # the target is judged without it, as it is where nobody asked for a floor
        noted = f"nothing to compare with at the floor: {self._floor.fault}"
        return msgspec.structs.replace(found, reasons=[*found.reasons, noted])

    def _faults(self) -> list[str]:
        faults = self._session.faults()
        if not self._session.stopped and not self._latency("baseline").count:
            faults.append("no victim's message came back before the attack: there is nothing to compare with")
        return faults

    # What was felt

    def _phase_results(self, phase: str) -> list[PhaseResult]:
        order = list(WHAT)
        felt = [felt for felt in self._session.totals.phases if felt.phase == phase]
        return sorted(felt, key=lambda each: order.index(each.kind))

    def _latency(self, phase: str, kind: str | None = None) -> Latency:
        latency = Latency()
        for felt in self._phase_results(phase):
            if kind in {None, felt.kind}:
                latency.add(felt.latency)
        return latency

    def _success_percent(self, phase: str) -> float | None:
        succeeded = sum(felt.latency.count for felt in self._phase_results(phase))
        failed = sum(sum(felt.failed.values()) for felt in self._phase_results(phase))
        return per(100 * succeeded, succeeded + failed) if failed else (100.0 if succeeded else None)

    def _first_failure(self) -> float | None:
        begun = self._span("attack").begun
        times = [felt.first_failure for felt in self._phase_results("attack") if felt.first_failure is not None]
        return round(max(min(times) - begun, 0.0), 2) if times else None

    def _recover(self, bar_ms: float | None) -> float | None:
        """Seconds of the recovery until the last bad one was over; `None` if it ended badly."""
        samples = [sample for sample in self._session.timeline if sample.phase == "recovery"]
        if not samples or bar_ms is None or not _good(samples[-1], bar_ms):
            return None
        bad = [number for number, sample in enumerate(samples) if not _good(sample, bar_ms)]
        return float(bad[-1] + 1) if bad else 0.0

    # Figures

    def _figures(self) -> dict[str, float | None]:
        base, during, after = (self._latency(name) for name in _PHASES)
        base_p99, attack_p99 = milliseconds(base.at(99)), milliseconds(during.at(99))
        own_bar_ms = None if base_p99 is None else max(base_p99 * _BAR_RATIO, base_p99 + _BAR_MS)
        bar_ms = None if own_bar_ms is None else max(own_bar_ms, self._floor_bar_ms())
        return {
            "success_percent": self._success_percent("attack"),
            "baseline_p50_ms": milliseconds(base.at(50)),
            "baseline_p99_ms": base_p99,
            "attack_p50_ms": milliseconds(during.at(50)),
            "attack_p99_ms": attack_p99,
            "attack_p999_ms": milliseconds(during.at(99.9)),
            "attack_max_ms": milliseconds(during.longest),
            **{f"attack_{kind}_p99_ms": self._p99(kind) for kind in ("ws", "poll", "sse", "get")},
            "recovery_p50_ms": milliseconds(after.at(50)),
            "recovery_p99_ms": milliseconds(after.at(99)),
            "recovery_success_percent": self._success_percent("recovery"),
            "p50_ratio": ratio(during.at(50), base.at(50)),
            "p99_ratio": ratio(attack_p99, base_p99),
            **self._at_the_floor(attack_p99),
            "p99_over_bar_ms": None if attack_p99 is None or bar_ms is None else round(attack_p99 - bar_ms, 3),
            "first_failure_s": self._first_failure(),
            "recover_s": self._recover(own_bar_ms),
            **self._neighbours(),
            **self._attackers(),
        }

    def _at_the_floor(self, attack_p99: float | None) -> dict[str, float | None]:
        floor = self._floor
        return {
            "floor_baseline_p99_ms": floor.baseline_p99_ms,
            "floor_p50_ms": floor.p50_ms,
            "floor_p99_ms": floor.p99_ms,
            "floor_p99_ratio": ratio(attack_p99, floor.p99_ms),
        }

    def _floor_bar_ms(self) -> float:
        """What the floor allows: nothing where there was none."""
        allowed = [FLOOR_RATIOS.get(persona.threat, 0.0) for persona in self._personas if not persona.honest]
        return max(allowed) * self._floor.p99_ms if self._floor.p99_ms is not None else 0.0

    def _p99(self, kind: str) -> float | None:
        return milliseconds(self._latency("attack", kind).at(99))

    def _groups(self, name: str) -> list[Group]:
        return [group for group in self._session.totals.groups if group.group == name]

    def _neighbours(self) -> dict[str, float | None]:
        groups = self._groups(NEIGHBOURS)
        hurt = sum(sum(each.values()) for group in groups for each in (group.refused, group.failed, group.ended))
        return {
            "neighbours": sum(group.wanted for group in groups if group.persona != SPEAKER),
            "collateral": hurt if groups else None,
        }

    def _attackers(self) -> dict[str, float | None]:
        totals, groups = self._session.totals, self._groups(ATTACKERS)
        lives = Latency()
        for (group, _), ages in totals.lifetimes.items():
            if group == ATTACKERS:
                lives.merge(ages)
        peak = sum(group.peak for group in groups)
        received, sent = sum(group.received_bytes for group in groups), sum(group.sent_bytes for group in groups)
        came = sum(min(group.opened, group.wanted) for group in groups)
        return {
            "attackers_came": came,
            "attackers_peak": peak,
            "attackers_held": sum(group.held for group in groups),
            "attackers_refused": sum(sum(group.refused.values()) for group in groups),
            "attackers_killed": sum(sum(group.ended.values()) for group in groups),
            "kill_p50_s": lives.at(50),
            "kill_max_s": lives.longest,
            "oldest_attacker_s": totals.oldest,
            "bytes_cost_ratio": per(received, sent),
            "server_cpu_cost_ratio": self._cpu_cost_ratio(),
            "server_cpu_us_per_attacker_s": per(self._cpu_above(1e6), self.attacker_seconds),
            **self._memory_figures(came),
            "server_descriptors_left": self._descriptors_left(),
            **self._session.own_figures(self.own_growth, peak),
            "baseline_steal_percent": self._span("baseline").steal_percent,
            "steal_percent": self._span("attack").steal_percent,
            "connects_per_s": per(peak, self.opening_seconds),
        }

    def _span(self, name: str) -> Span:
        return self.spans.get(name, _NO_SPAN)

    def _memory_figures(self, came: int) -> Figures:
        grown = Growth(self.memory.get("baseline", []))
        most = grown.most([*self.memory.get("attack", []), *self._size_after("attack")])
        return {
            "server_bytes_grown": most,
            # By all who came, not by those who were there at one moment: the sooner a server throws them out, the fewer
            # these are, and 100 KB that it needs for its first work would be a kilobyte for each of a hundred.
            "server_bytes_per_attacker": per(most, came),
            "server_bytes_left": grown.most(self._size_after("recovery")),
            "server_growth_bytes_s": grown.rate if self.memory else None,
        }

    def _size_after(self, phase: str) -> list[Size]:
        """What the server used when a phase was over: it is always read then, however busy the machine was."""
        span = self._span(phase)
        return [] if span.after is None else [Size(span.begun + span.seconds, span.after.pss_bytes)]

    def _cpu_above(self, unit: float) -> float | None:
        """The server's CPU during the attack above the baseline's."""
        base, during = self._span("baseline").cpu_share, self._span("attack").cpu_share
        if base is None or during is None:
            return None
        return (during - base) * self._span("attack").seconds * unit

    def _cpu_cost_ratio(self) -> float | None:
        base, during = self._span("baseline"), self._span("attack")
        if not base.seconds:
            return None
        spent = during.crowd_cpu_seconds - base.crowd_cpu_seconds / base.seconds * during.seconds
        return per(self._cpu_above(1.0), spent)

    def _descriptors_left(self) -> int | None:
        def last(phase: str) -> int | None:
            return next(
                (
                    sample.server_descriptors
                    for sample in reversed(self._session.timeline)
                    if sample.phase == phase and sample.server_descriptors is not None
                ),
                None,
            )

        before, after = last("baseline"), last("recovery")
        return None if before is None or after is None else after - before

    def _phase_row(self, felt: PhaseResult) -> PhaseRow:
        span, latency = self._span(felt.phase), Latency()
        latency.add(felt.latency)
        return PhaseRow(
            name=felt.phase,
            what=WHAT[felt.kind],
            seconds=round(span.seconds, 2),
            succeeded=latency.count,
            failed=felt.failed,
            spread=latency.spread(),
            server_cpu_percent=None if span.cpu_share is None else round(100 * span.cpu_share, 1),
            server_pss_bytes=span.after.pss_bytes if span.after else None,
        )


def _good(sample: Sample, bar_ms: float) -> bool:
    return sample.succeeded > 0 and not sample.failed and (sample.p99_ms or 0.0) <= bar_ms
