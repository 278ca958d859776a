"""The operations of an attack's victims, by phase and kind.

Owns: pooling, percentiles and counts of the operations that the victims' process booked. May not: judge, or know what
an attack is.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadgen.clients.messages import PhaseResult
from loadgen.net.answers import NO_TURN, UNANSWERED
from loadgen.protocols import ESTABLISHED, NEWCOMERS, WHAT
from loadgen.report import bar
from loadgen.report.figures import Figures
from loadgen.report.format import number
from loadgen.report.latency import Latency, milliseconds, pooled
from loadgen.run.experiment import MEASURED

#: Reasons of failures that are only late.
_LATE: Final = frozenset((UNANSWERED, NO_TURN))

#: The failures of a client that asks more often than the target allows one: of a victim, ten times a second.
_LIMITED: Final = frozenset(("answered 429", "error rate_limited"))

#: Those of a client that may not do what a victim does, as a guest of a chat that only its users write in.
_FORBIDDEN: Final = frozenset(("answered 401", "answered 403", "error unauthenticated", "error forbidden"))

PHASES: Final = tuple(MEASURED.values())


@dataclass(frozen=True)
class Operations:
    phases: Sequence[PhaseResult]
    counts_as: Mapping[str, str]  # by a phase's name

    def in_order(self) -> list[PhaseResult]:
        """The results of the named phases, in the order of reports, without empty ones."""
        phases, kinds = list(self.counts_as), list(WHAT)
        found = [result for result in self.phases if result.phase in phases and result.latency.count]
        return sorted(found, key=lambda each: (phases.index(each.phase), kinds.index(each.kind)))

    def kinds(self, phase: str, kinds: Collection[str] = WHAT) -> list[PhaseResult]:
        """The results of the phases that count as this one, of these kinds."""
        return [each for each in self.in_order() if self.counts_as[each.phase] == phase and each.kind in kinds]

    def latency(self, phase: str, kinds: Collection[str] = ESTABLISHED) -> Latency:
        """The durations of operations; a failed one counts with the whole timeout."""
        return pooled(result.latency for result in self.kinds(phase, kinds))

    def failed(self, phase: str, kinds: Collection[str] = ESTABLISHED) -> int | None:
        """The number that failed; operations that waited for slow answers before them are late instead.

        `None` if none were booked.
        """
        found = self.kinds(phase, kinds)
        failed = (number for each in found for reason, number in each.failed.items() if reason != NO_TURN)
        return sum(failed) if found else None

    def only_late(self) -> tuple[str, ...]:
        """The figures of failures, those that count only operations without an answer in time.

        An outage is explained by no lateness.
        """
        counted = {f"{phase}_failed": self._is_only_late(phase, ESTABLISHED) for phase in PHASES}
        counted["newcomers_failed"] = all(self._is_only_late(phase, NEWCOMERS) for phase in PHASES)
        return tuple(name for name, is_only_late in counted.items() if is_only_late)

    def _is_only_late(self, phase: str, kinds: Collection[str]) -> bool:
        return all(each.failed.keys() <= _LATE and not each.outage for each in self.kinds(phase, kinds))

    def has_outage(self) -> bool:
        return any(each.outage for each in self.in_order())

    def success_percent(self, phase: str, kinds: Collection[str] = ESTABLISHED) -> float | None:
        """The percentage that succeeded, not rounded; `None` if none were booked."""
        booked = self.latency(phase, kinds).count
        return 100 * sum(result.succeeded for result in self.kinds(phase, kinds)) / booked if booked else None

    def pools(self, phase: str) -> dict[str, Latency]:
        """The pools whose percentiles are judged: all victims, all newcomers, and each kind with enough operations."""
        pools = {"victims": self.latency(phase), "newcomers": self.latency(phase, NEWCOMERS)}
        kinds = {kind: self.latency(phase, (kind,)) for kind in WHAT}
        enough = {WHAT[kind]: each for kind, each in kinds.items() if each.count >= bar.LEAST_FOR_P99}
        return {**pools, **enough}

    def p99s(self, phase: str) -> dict[str, float]:
        return _in_ms({name: latency.judged() for name, latency in self.pools(phase).items()})

    def answers_ms(self, phase: str) -> float:
        """The 99th percentile of the answers that came, to victims or to newcomers, whichever is longer.

        Failures are above all of them, as each counts with the whole timeout.
        """
        shares = [(kinds, self.success_percent(phase, kinds)) for kinds in (ESTABLISHED, NEWCOMERS)]
        found = (self.latency(phase, kinds).at(0.99 * share) for kinds, share in shares if share)
        return max((milliseconds(each) or 0.0 for each in found), default=0.0)

    def p50s(self, phase: str) -> dict[str, float]:
        return _in_ms({name: latency.at(50) for name, latency in self.pools(phase).items()})

    def late(self) -> list[str]:
        """The groups and phases whose 99th percentile was above the bar."""
        before = self.p99s("baseline")
        return [
            f"{group} in the {phase} {number(p99)} ms (bar {number(bar.limit_ms(base))})"
            for phase in PHASES[1:]
            for group, p99 in self.p99s(phase).items()
            if (base := before.get(group)) is not None and p99 > bar.limit_ms(base)
        ]

    def worst_victim_over_bar(self) -> float | None:
        """How far the highest median of a single victim is above the bar; one of two hundred shows in no percentile."""
        worst: dict[str, float] = {}
        for result in self.kinds("attack", ESTABLISHED):
            worst[result.kind] = max(worst.get(result.kind, 0.0), result.worst_median or 0.0)
        before = {kind: self.latency("baseline", (kind,)).at(99) for kind in worst}
        return bar.most_over(_in_ms(before), _in_ms(worst))

    def first_failure(self, begun: float) -> float | None:
        """Seconds from the begin of the attack until the first failed operation was due."""
        times = [result.first_failure for result in self.kinds("attack") if result.first_failure is not None]
        return round(max(min(times) - begun, 0.0), 2) if times else None

    def newcomers(self) -> Figures:
        came = self.latency("attack", NEWCOMERS)
        failed = sum(self.failed(phase, NEWCOMERS) or 0 for phase in PHASES)
        return {
            "newcomers_came": came.count,
            "newcomers_success_percent": self.success_percent("attack", NEWCOMERS),
            "newcomers_failed": failed if came.count else None,
            "newcomers_p99_ms": milliseconds(came.at(99)),
        }

    def faults(self) -> list[str]:
        """Reasons why this is no measurement: nothing to compare with, or operations that were due but not booked.

        Wrong answers before the attack are the target's doing; that nobody is answered may be anybody's.
        """
        before = self.kinds("baseline")
        faults = []
        if not any(each.succeeded or each.failed.keys() - _LATE for each in before):
            faults.append("no operation was answered in time before the attack: there is nothing to compare with")
        reasons = {reason for each in before for reason in each.failed}
        why = f"{' and '.join(sorted(reasons))} before the attack"
        if reasons and reasons <= _LIMITED:
            faults.append(f"the target allows a client less than a victim asks: {why}")
        of_some = any(each.succeeded and each.failed.keys() & _FORBIDDEN for each in before)
        if reasons & _FORBIDDEN and reasons <= _FORBIDDEN | _LATE and not of_some:
            faults.append(f"the target does not let a victim do its work: {why}; say who it is (--header)")
        return faults + [
            f"{result.expected:,} operations were due in the {result.phase} ({WHAT[result.kind]}) and"
            f" {result.latency.count:,} were booked"
            for result in self.phases
            if result.phase in self.counts_as and result.expected != result.latency.count
        ]

    def undue(self) -> list[str]:
        """Why the figures of a phase are missing, if it was so short that no operation of a victim was due in it."""
        due = {self.counts_as.get(each.phase) for each in self.phases if each.expected and each.kind in ESTABLISHED}
        longer = "longer phases or more victims would tell"
        return [f"no operation was due in the {phase}: {longer}" for phase in PHASES if phase not in due]

    def loud_baseline(self) -> list[str]:
        """Reasons why the bar is too loose: if the baseline itself had late answers, holding the bar proves nothing.

        But not if the recovery had them too: then the target has such a tail at all times.
        """
        p99s, p50s, after = self.p99s("baseline"), self.p50s("baseline"), self.p99s("recovery")
        steady = {group for group, p99 in p99s.items() if p99 <= bar.RATIO * after.get(group, 0.0)}
        quiet = {group: p99 if group in steady else bar.quiet_ms(p99, p50s[group]) for group, p99 in p99s.items()}
        during = self.p99s("attack")
        over, over_quiet = (bar.most_over(before, during) or 0.0 for before in (p99s, quiet))
        if over > 0 or over_quiet <= 0:
            return []
        loud = ", ".join(f"{group} {number(p99)} ms" for group, p99 in p99s.items() if p99 != quiet[group])
        return [
            f"the baseline is too late to judge by (99th percentile of {loud}): a quiet one would put the bar lower"
        ]


def _in_ms(seconds: Mapping[str, float | None]) -> dict[str, float]:
    """In milliseconds, without those of which nothing was recorded."""
    return {name: found for name, each in seconds.items() if (found := milliseconds(each)) is not None}
