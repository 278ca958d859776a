"""The report of a fingerprint: the tables, the figures, the verdict.

Owns: the words. May not: wait, or touch a socket.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from loadgen import report
from loadgen.figures import Condition
from loadgen.fingerprint.findings import Failed, Finding, Found, NoneSeen, NotApplicable, describe, remark
from loadgen.fingerprint.practice import Limit, Mark, mark
from loadgen.fingerprint.probes import FIGURES
from loadgen.fingerprint.site import Site
from loadgen.report import Outcome, Report, Started, Table, Verdict

#: Our own schedule being later than this makes times of seconds doubtful.
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


def make_report(
    site: Site,
    results: Sequence[Result],
    *,
    conditions: Sequence[Condition],
    no_bar: bool,
    started: Started,
    died: str,
    stopped: bool,
) -> Report:
    return Report(
        command="fingerprint",
        arguments=site.options.arguments,
        target=site.target.url,
        seed=0,  # nothing is left to chance
        started=started.at,
        seconds=started.seconds,
        verdict=judge(results, conditions, no_bar=no_bar, lag=site.worst_lag, died=died, stopped=stopped),
        figures=figures(results),
        meanings=dict(FIGURES),
        tables=tables(site, results),
    )


def figures(results: Sequence[Result]) -> dict[str, float | None]:
    """The figures by name: what was found, and how many rows have which mark."""
    marks = Counter(result.mark for result in results)
    found = {each.limit.figure: each.finding.value if isinstance(each.finding, Found) else None for each in results}
    return {
        **{figure: None if value is None else round(value, 3) for figure, value in found.items()},
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
    """Decide how it ended. A probe that failed says nothing of the target, so a run with one cannot have held."""
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
    """What is over its threshold with any sample. A limit that was not seen is beyond every number."""
    least, most = figures(results), figures(results)
    for limit, finding in results:
        if isinstance(finding, NoneSeen):
            least[limit.figure] = most[limit.figure] = limit.nothing
        elif isinstance(finding, Found):
            least[limit.figure], most[limit.figure] = finding.least, finding.most
    reasons = (each.judge(most) or each.judge(least) for each in conditions)
    return [reason for reason in reasons if reason is not None]


def tables(site: Site, results: Sequence[Result]) -> list[Table]:
    """What was found, one row a probe, and what there is to say of all that is not good."""
    return [_found(site, results), _advice(results)]


def _found(site: Site, results: Sequence[Result]) -> Table:
    rows = [
        [each.name, each.words, each.mark.value, each.limit.bounds, remark(each.finding)]
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
