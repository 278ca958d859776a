"""The report of a fingerprint: the tables, the figures, the verdict.

Owns: the words. May not: wait, or touch a socket.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from loadgen import report
from loadgen.figures import Condition
from loadgen.fingerprint.findings import Failed, Finding, Found, NoneSeen, NotApplicable, describe, remark
from loadgen.fingerprint.practice import FIGURES, LIMITS, Mark, mark
from loadgen.fingerprint.probes import TWINS
from loadgen.fingerprint.site import Site
from loadgen.report import Outcome, Report, Table, Verdict

#: Our own schedule being later than this makes times of seconds doubtful.
LAG_LIMIT_SECONDS: Final = 1.0

#: A dripped deadline within this part of the stalled one is the same deadline.
_SAME: Final = 0.1


class Result(NamedTuple):
    """One row."""

    name: str
    figure: str
    finding: Finding

    @property
    def mark(self) -> Mark:
        """How it compares."""
        return mark(LIMITS[self.figure], self.finding)

    @property
    def words(self) -> str:
        """What was found."""
        return describe(self.finding, LIMITS[self.figure].unit)


def make_report(
    site: Site, results: Sequence[Result], *, conditions: Sequence[Condition], started: datetime, stopped: bool
) -> Report:
    """Everything in one."""
    seconds = (datetime.now(UTC) - started).total_seconds()
    return Report(
        command="fingerprint",
        arguments=site.options.arguments,
        target=site.target.url,
        seed=0,  # nothing is left to chance
        started=started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        seconds=round(seconds, 2),
        verdict=judge(results, conditions, lag=site.worst_lag, stopped=stopped),
        figures=figures(results),
        meanings=dict(FIGURES),
        tables=tables(site, results),
    )


def figures(results: Sequence[Result]) -> dict[str, float | None]:
    """The figures by name: what was found, and how many rows have which mark."""
    marks = Counter(result.mark for result in results)
    found = {each.figure: each.finding.value if isinstance(each.finding, Found) else None for each in results}
    return {
        **{figure: None if value is None else round(value, 3) for figure, value in found.items()},
        **{f"limits_{each}": marks[each] for each in Mark if each},
        "probes_failed": len(_failed(results)),
    }


def judge(results: Sequence[Result], conditions: Sequence[Condition], *, lag: float, stopped: bool) -> Verdict:
    """Decide how it ended: nothing may be missing, harsh or unknown, unless thresholds were given instead."""
    short = _broken(results, conditions) if conditions else _short(results)
    if stopped:
        return report.verdict(Outcome.INTERRUPTED, ["stopped before the end; what was decided is in the table"])
    if lag > LAG_LIMIT_SECONDS:
        late = f"the prober's own schedule was {lag:.1f} s late at worst: it lacked CPU"
        return report.verdict(Outcome.INVALID, [late, *short])
    return report.verdict(Outcome.FELL_SHORT if short else Outcome.HELD, short)


def _short(results: Sequence[Result]) -> list[str]:
    bad = [f"{each.mark}: {each.name} ({each.words})" for each in results if each.mark in {Mark.MISSING, Mark.HARSH}]
    return bad + [f"failed: {each.name} ({remark(each.finding)})" for each in _failed(results)]


def _failed(results: Sequence[Result]) -> list[Result]:
    return [each for each in results if isinstance(each.finding, Failed)]


def _broken(results: Sequence[Result], conditions: Sequence[Condition]) -> list[str]:
    """What is over its threshold. A limit that was looked for and not seen is beyond every number."""
    values = figures(results)
    for each in results:
        if isinstance(each.finding, NoneSeen):
            values[each.figure] = LIMITS[each.figure].nothing
    return [reason for condition in conditions if (reason := condition.judge(values)) is not None]


def tables(site: Site, results: Sequence[Result]) -> list[Table]:
    """What was found, one row a probe, and what there is to say of all that is not good."""
    return [_found(site, results), _advice(results)]


def _found(site: Site, results: Sequence[Result]) -> Table:
    natures = _natures({each.figure: each.finding for each in results})
    rows = [
        [
            each.name,
            each.words,
            each.mark.value,
            LIMITS[each.figure].bounds,
            ", ".join(filter(None, (remark(each.finding), natures.get(each.figure)))),
        ]
        for each in results
        if not isinstance(each.finding, NotApplicable)
    ]
    return Table(
        title="limits",
        columns=["probe", "found", "mark", "good practice", "how it ended"],
        rows=rows,
        notes=[*site.survey.notes, *_left_out(results), *_undecided(results)],
    )


def _advice(results: Sequence[Result]) -> Table:
    rows = [
        [each.name, each.mark.value, LIMITS[each.figure].meaning, LIMITS[each.figure].why]
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
    return [f"good practice goes further than we looked, ask with a longer --within: {'; '.join(names)}"] * bool(names)


def _natures(findings: Mapping[str, Finding]) -> dict[str, str]:
    """What a stalled and a dripped probe say together about the deadline."""
    return {
        second: words
        for first, second in TWINS
        if first in findings and (words := nature(findings[first], findings[second]))
    }


def nature(stalled: Finding, dripped: Finding) -> str:
    """Whether progress extends a deadline."""
    match stalled, dripped:
        case Found(), NoneSeen():
            return "each byte starts the clock anew"
        case Found(value=still, uncertainty=doubt), Found(value=moving):
            same = abs(moving - still) <= max(doubt, _SAME * still)
            return "a total deadline" if same else "progress extends it" if moving > still else ""
    return ""
