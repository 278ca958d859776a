"""The results of a fingerprint: tables, figures and verdict.

Owns: their wording. May not: wait, or touch a socket.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from loadgen import report
from loadgen.figures import Condition
from loadgen.fingerprint.findings import Failed, Finding, Found, NoneSeen, NotApplicable, describe, remark
from loadgen.fingerprint.practice import Limit, Mark, mark
from loadgen.report import Outcome, Table, Verdict

#: If our own schedule runs later than this, measured seconds are doubtful.
LAG_LIMIT_SECONDS: Final = 1.0


class Result(NamedTuple):
    limit: Limit
    finding: Finding

    @property
    def name(self) -> str:
        return self.limit.name

    @property
    def mark(self) -> Mark:
        return mark(self.limit, self.finding)

    @property
    def words(self) -> str:
        return describe(self.finding, self.limit.unit)


def figures(results: Sequence[Result]) -> dict[str, float | None]:
    """The figures by name: each value found, and the number of rows with each mark."""
    marks = Counter(result.mark for result in results)
    return {
        **{limit.figure: round(found.value, 3) if isinstance(found, Found) else None for limit, found in results},
        **{f"limits_{each}": marks[each] for each in Mark if each},
        "probes_failed": len(_failed(results)),
    }


def judge(
    results: Sequence[Result],
    conditions: Sequence[Condition],
    *,
    no_bar: bool = False,
    lag: float = 0.0,
    died: str = "",
    stopped: bool = False,
) -> Verdict:
    """Decide the outcome. A failed probe says nothing about the target, so a run that has one cannot be `HELD`."""
    short = [died] * bool(died) + ([] if no_bar else _short(results)) + _broken(results, conditions)
    failed = [f"failed: {each.name} ({remark(each.finding)})" for each in _failed(results) if not died and not no_bar]
    if stopped:
        return report.verdict(Outcome.INTERRUPTED, ["stopped before the end; what was decided is in the table"])
    if lag > LAG_LIMIT_SECONDS:
        late = f"the prober's own schedule was {lag:.1f} s late at worst: it lacked CPU"
        return report.verdict(Outcome.INVALID, [late, *short])
    if short:
        return report.verdict(Outcome.FELL_SHORT, [*short, *failed])
    return report.verdict(Outcome.INVALID if failed else Outcome.HELD, failed)


def _short(results: Sequence[Result]) -> list[str]:
    return [f"{each.mark}: {each.name} ({each.words})" for each in results if each.mark in {Mark.MISSING, Mark.HARSH}]


def _failed(results: Sequence[Result]) -> list[Result]:
    return [each for each in results if isinstance(each.finding, Failed)]


def _broken(results: Sequence[Result], conditions: Sequence[Condition]) -> list[str]:
    """Conditions that any sample breaks; a limit that was not seen counts as `nothing`, usually infinity."""
    least, most = figures(results), figures(results)
    for limit, finding in results:
        if isinstance(finding, NoneSeen):
            least[limit.figure] = most[limit.figure] = limit.nothing
        elif isinstance(finding, Found):
            least[limit.figure], most[limit.figure] = finding.least, finding.most
    reasons = (each.judge(most) or each.judge(least) for each in conditions)
    return [reason for reason in reasons if reason is not None]


def found_of(results: Sequence[Result], notes: Sequence[str]) -> Table:
    """The table of findings, one row a probe."""
    rows = [
        [each.name, each.words, each.mark.value, each.limit.bounds, remark(each.finding)]
        for each in results
        if not isinstance(each.finding, NotApplicable)
    ]
    return Table(
        title="limits",
        columns=["probe", "found", "mark", "good practice", "how it ended"],
        rows=rows,
        notes=[*notes, *_left_out(results), *_undecided(results)],
    )


def advice_on(results: Sequence[Result]) -> Table:
    """The table of advice, one row for each finding that is not good."""
    rows = [
        [each.name, each.mark.value, each.limit.meaning, each.limit.why]
        for order in (Mark.HARSH, Mark.MISSING, Mark.LENIENT)
        for each in results
        if each.mark is order
    ]
    return Table(title="advice", columns=["probe", "mark", "what it is", "what others do, and why"], rows=rows)


def _left_out(results: Sequence[Result]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for each in results:
        if isinstance(each.finding, NotApplicable):
            reasons.setdefault(each.finding.why, []).append(each.name)
    return [f"not applicable, {why}: {'; '.join(names)}" for why, names in reasons.items()]


def _undecided(results: Sequence[Result]) -> list[str]:
    names = [each.name for each in results if each.mark is Mark.UNDECIDED]
    return [
        f"good practice goes further than we looked, a longer --within or more CPU may show it: {'; '.join(names)}"
    ] * bool(names)
