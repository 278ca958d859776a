"""What an attack showed: figures, rows and the facts for the verdict.

Owns: the arithmetic. `attack.py` notes what happened here as it happens; nothing here waits or touches a socket.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from loadgen import bar, expected, noise
from loadgen import format as fmt
from loadgen.client import Client, Threat
from loadgen.exercise import not_exercised
from loadgen.figure import When
from loadgen.figures import ATTACK, Condition, Figures, bar_of, meanings
from loadgen.latency import Latency, milliseconds
from loadgen.memory import Growth, Size
from loadgen.messages import Group, PhaseResult
from loadgen.operations import PHASES, Operations
from loadgen.report import PhaseRow, Report, Sample, Verdict
from loadgen.scenario import Plan, Session, cohort_rows, per, ratio
from loadgen.scrape import Counters, growth
from loadgen.span import Span
from loadgen.verdict import Facts, decide
from loadgen.victims.kinds import NEWCOMERS, WHAT
from loadgen.workers import SPEAKER

#: Groups of the crowd.
ATTACKERS: Final = "attackers"
BESIDE: Final = "neighbours"

#: A process of the generator's own that stood still for this part of a victim's timeout made the failures itself.
_STOOD_STILL: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What the same victims met beside the same attack at the floor, see floor.py."""

    baseline_p99_ms: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    failed: int = 0  # operations of its victims
    attempts_per_s: float | None = None  # of its attackers
    bytes_per_s: float | None = None  # that these sent
    fault: str = ""  # why there are no figures
    interrupted: bool = False


_NO_FLOOR: Final = Floor()
_NO_SPAN: Final = Span(0.0, 0.0, None, None, 0.0, None, None, None, None)


class Findings:
    """Everything that one attack showed."""

    def __init__(
        self,
        plan: Plan,
        session: Session,
        *,
        attackers: Mapping[type[Client], int],
        neighbours: Mapping[type[Client], int],
        timeout_seconds: float,
        floor: Floor | None = None,
    ) -> None:
        self.spans: dict[str, Span] = {}
        self.memory: dict[str, list[Size]] = {}  # of the server, by phase
        self.descriptors_before: int | None = None
        self.descriptors_after: int | None = None
        self.round_trip_seconds = 0.0
        self.died = ""  # what shows that the server is gone
        self.left_out: list[str] = []  # what was not played, and why
        self.own_growth: int | None = None
        self.attacker_seconds = 0.0
        self.opening_seconds = 0.0
        self.counters_before: Counters | None = None
        self.counters_after: Counters | None = None
        self._plan = plan
        self._session = session
        self._attackers_played = attackers
        self._personas = {**attackers, **neighbours}
        self._timeout_seconds = timeout_seconds
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
            meanings=meanings(ATTACK),
            phases=[self._phase_row(result) for name in PHASES for result in self._operations.results(name)],
            cohorts=cohort_rows(session.totals, honest),
            timeline=session.timeline,
            metrics=growth(self.counters_before, self.counters_after),
        )

    @property
    def _operations(self) -> Operations:
        return Operations(self._session.totals.phases)

    # The facts

    def _verdict(self, figures: Figures) -> Verdict:
        return decide(
            Facts(
                figures=figures,
                bar=(*self._bar(figures), *self._plan.conditions),
                died=self.died,
                faults=tuple(self._faults(figures)),
                busy=(*noise.busy(figures), *self._operations.loud_baseline()),
                noise=noise.suspects(figures),
                not_exercised=tuple(self._not_exercised()),
                notes=self._notes(figures),
                interrupted=self._session.stopped,
            )
        )

    def _bar(self, figures: Figures) -> tuple[Condition, ...]:
        if self._plan.no_bar:
            return ()
        has = {
            When.NEWCOMERS: bool(self._operations.kinds("attack", NEWCOMERS)),
            When.NEIGHBOURS: bool(self._groups(BESIDE)),
            When.KEPT: figures["acknowledged"] is not None,
            When.MALFORMED: figures["malformed_accepted"] is not None,
            When.WATCHED: self._plan.server is not None,
        }
        far = max(figures["baseline_p50_ms"] or 0.0, figures["round_trip_ms"] or 0.0)
        return bar_of(ATTACK, (when for when, is_so in has.items() if is_so), round_trip_ms=far)

    def _faults(self, figures: Figures) -> list[str]:
        if self._session.stopped:
            return []
        faults = [*self._session.faults(), *self._operations.faults()]
        lag = figures["lag_max_ms"]
        if lag is not None and lag > 1000 * _STOOD_STILL * self._timeout_seconds:
            faults.append(f"the generator itself stood still for {lag / 1000:.1f} s")
        return faults

    def _not_exercised(self) -> list[str]:
        """Why the attack proves nothing, unless it all was stopped before it began."""
        if "attack" not in self.spans:
            return ["not exercised: the attack was not played"]
        personas = {persona.name: persona for persona in self._attackers_played}
        return not_exercised(self._groups(ATTACKERS), personas)

    def _notes(self, figures: Figures) -> tuple[str, ...]:
        notes = [self._intensity(figures), *self.left_out]
        if not figures["newcomers_came"]:
            notes.append("not exercised: newcomers, none came")
        if not figures["neighbours"]:
            notes.append("not exercised: collateral, no honest slow client was beside the attack")
        found = self._session.totals.reread
        if taken := self._accepted():
            notes.append(expected.words(taken))
        if found is not None and found.unreadable:
            notes.append(f"not exercised: acknowledged messages could not all be read again ({found.unreadable})")
        if self._floor.fault:  # the target is judged without it, as it is where nobody asked for a floor
            notes.append(f"nothing to compare with at the floor: {self._floor.fault}")
        return tuple(notes)

    def _intensity(self, figures: Figures) -> str:
        """How hard the attack was: a server that is slow to accept meets a weaker one than was asked for."""
        asked = f" (asked {self._plan.connect_rate:,.0f}/s)" if self._plan.connect_rate else ""
        told = (
            f"{figures['attackers_came']:,.0f} of {figures['attackers_asked']:,.0f} attackers came,"
            f" {figures['attempts_per_s'] or 0:,.4g} connections/s{asked},"
            f" {fmt.size(figures['attacker_bytes_per_s'] or 0)}/s sent"
        )
        floor = self._floor
        if floor.attempts_per_s is None or floor.bytes_per_s is None:
            return told
        return f"{told}; at the floor {floor.attempts_per_s:,.4g}/s and {fmt.size(floor.bytes_per_s)}/s"

    def _recover(self, bar_ms: float | None) -> float | None:
        """Seconds of the recovery until the last bad one was over; `None` if it ended badly."""
        samples = [sample for sample in self._session.timeline if sample.phase == "recovery"]
        if not samples or bar_ms is None or not _good(samples[-1], bar_ms):
            return None
        bad = [number for number, sample in enumerate(samples) if not _good(sample, bar_ms)]
        return float(bad[-1] + 1) if bad else 0.0

    # Figures

    def _figures(self) -> dict[str, float | None]:
        operations = self._operations
        base, during, after = (operations.latency(name) for name in PHASES)
        base_p99, attack_p99 = milliseconds(base.at(99)), milliseconds(during.at(99))
        p99s = {phase: operations.p99s(phase) for phase in PHASES}
        return {
            "round_trip_ms": milliseconds(self.round_trip_seconds),
            "success_percent": operations.success_percent("attack"),
            **{f"{phase}_failed": operations.failed_of_some(phase) for phase in PHASES},
            "baseline_p50_ms": milliseconds(base.at(50)),
            "baseline_p99_ms": base_p99,
            "attack_p50_ms": milliseconds(during.at(50)),
            "attack_p99_ms": attack_p99,
            "attack_p999_ms": milliseconds(during.at(99.9)),
            "attack_max_ms": milliseconds(during.longest),
            **{f"attack_{kind}_p99_ms": self._p99(kind) for kind in ("ws", "poll", "sse", "get")},
            "recovery_p50_ms": milliseconds(after.at(50)),
            "recovery_p99_ms": milliseconds(after.at(99)),
            "recovery_success_percent": operations.success_percent("recovery"),
            **operations.newcomers(),
            "p50_ratio": ratio(during.at(50), base.at(50)),
            "p99_ratio": ratio(attack_p99, base_p99),
            **self._at_the_floor(attack_p99),
            "p99_over_bar_ms": bar.most_over(p99s["baseline"], p99s["attack"]),
            "recovery_p99_over_bar_ms": bar.most_over(p99s["baseline"], p99s["recovery"]),
            "worst_victim_over_bar_ms": operations.worst_victim_over_bar(),
            "first_failure_s": operations.first_failure(self._span("attack").begun),
            "recover_s": self._recover(None if base_p99 is None else bar.limit_ms(base_p99)),
            **self._messages(),
            "malformed_accepted": self._malformed_accepted(),
            **self._neighbours(),
            **self._attackers(),
        }

    def _messages(self) -> Figures:
        found = self._session.totals.reread
        if found is None or not found.asked:
            return {"acknowledged": None, "acknowledged_lost": None}
        return {"acknowledged": found.asked, "acknowledged_lost": found.lost}

    def _accepted(self) -> dict[str, int]:
        """Malformed requests that were taken, by case."""
        answers: Counter[str] = Counter()
        for group in self._groups(ATTACKERS):
            answers.update(group.answers)
        return expected.accepted(answers)

    def _malformed_accepted(self) -> int | None:
        played = any(persona.threat is Threat.MALFORMED for persona in self._attackers_played)
        return sum(self._accepted().values()) if played else None

    def _at_the_floor(self, attack_p99: float | None) -> dict[str, float | None]:
        floor = self._floor
        over = None
        if not floor.failed and floor.p99_ms is not None and floor.baseline_p99_ms is not None:
            over = round(floor.p99_ms - floor.baseline_p99_ms, 3)
        return {
            "floor_baseline_p99_ms": floor.baseline_p99_ms,
            "floor_p50_ms": floor.p50_ms,
            "floor_p99_ms": floor.p99_ms,
            "floor_p99_ratio": ratio(attack_p99, floor.p99_ms),
            "floor_over_ms": over,
        }

    def _p99(self, kind: str) -> float | None:
        return milliseconds(self._operations.latency("attack", (kind,)).at(99))

    def _groups(self, name: str) -> list[Group]:
        return [group for group in self._session.totals.groups if group.group == name]

    def _neighbours(self) -> dict[str, float | None]:
        groups = self._groups(BESIDE)
        hurt = sum(sum(each.values()) for group in groups for each in (group.refused, group.failed, group.ended))
        hurt += sum(group.starved for group in groups)
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
        came = sum(group.came for group in groups)
        attempts = sum(group.opened + sum(group.failed.values()) + sum(group.refused.values()) for group in groups)
        seconds = self._span("attack").seconds
        return {
            "attackers_asked": sum(self._attackers_played.values()),
            "attackers_came": came,
            "attempts_per_s": per(attempts, seconds),
            "attacker_bytes_per_s": per(sent, seconds),
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
            "server_cpu_percent": self._span("attack").cpu_percent,
            **self._memory_figures(came),
            "server_descriptors_left": _over(self.descriptors_after, self.descriptors_before or 0),
            **self._session.own_figures(self.own_growth, peak, measuring="victims", phases=PHASES),
            "crowd_lag_p99_ms": milliseconds(totals.lag("crowd", 99, ("attack",))),
            "baseline_pressure_percent": self._span("baseline").pressure_percent,
            "recovery_pressure_percent": self._span("recovery").pressure_percent,
            "baseline_steal_percent": self._span("baseline").steal_percent,
            "steal_percent": self._span("attack").steal_percent,
            "connects_per_s": per(peak, self.opening_seconds),
        }

    def _span(self, name: str) -> Span:
        return self.spans.get(name, _NO_SPAN)

    def _memory_figures(self, came: int) -> Figures:
        grown = Growth(self.memory.get("baseline", []))
        most = grown.most([*self.memory.get("attack", []), *self._size_after("attack")])
        left = grown.most(self._size_after("recovery"))
        return {
            "server_bytes_grown": most,
            # By all who came, not by those who were there at one moment: the sooner a server throws them out, the fewer
            # these are, and 100 KB that it needs for its first work would be a kilobyte for each of a hundred.
            "server_bytes_per_attacker": per(most, came),
            "server_bytes_over_bar": _over(most, came * bar.BYTES_EACH + bar.BYTES_ONCE),
            "server_bytes_left": left,
            "server_bytes_left_over_bar": _over(left, came * bar.BYTES_EACH_LEFT + bar.BYTES_ONCE),
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

    def _phase_row(self, result: PhaseResult) -> PhaseRow:
        span, latency = self._span(result.phase), Latency()
        latency.add(result.latency)
        return PhaseRow(
            name=result.phase,
            what=WHAT[result.kind],
            seconds=round(span.seconds, 2),
            succeeded=latency.count - sum(result.failed.values()),
            failed=result.failed,
            spread=latency.spread(),
            histogram=result.latency.histogram,
            server_cpu_percent=span.cpu_percent,
            server_pss_bytes=span.after.pss_bytes if span.after else None,
        )


def _over(amount: int | None, allowed: int) -> int | None:
    return None if amount is None else amount - allowed


def _good(sample: Sample, bar_ms: float) -> bool:
    return sample.succeeded > 0 and not sample.failed and (sample.p99_ms or 0.0) <= bar_ms
