"""The report of a conformance run: a row for each family and for each kind of failure, and the verdict.

Owns: the wording and the figures. May not: wait, or touch a socket.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

import msgspec

from loadgen.cases.case import FAMILIES, Case
from loadgen.conform.judge import Finding, Mark
from loadgen.net.target import Target
from loadgen.report.conditions import Condition
from loadgen.report.figures import Better, Figure, meanings, named
from loadgen.report.schema import Outcome, Report, Started, Table, Verdict, verdict

FIGURES: Final = named((
    Figure("cases", "", "cases that were played", better=Better.NEITHER),
    Figure("ok", "", "cases in which the server did what RFC 6455 requires", better=Better.MORE),
    Figure("non_strict", "", "cases in which other servers do better, and the RFC allows both"),
    Figure("wrong", "", "cases in which it did what the RFC forbids"),
    Figure("not_exercised", "", "cases that exceeded a limit of the server, or that it turned away"),
))  # fmt: skip

#: Cases that are named if many have the same result; report.json has all.
_NAMED: Final = 5


@dataclass(frozen=True, kw_only=True)
class Options:
    target: Target
    path: str
    fields: tuple[str, ...] = ()  # of every opening handshake
    timeout: float = 10.0
    conditions: tuple[Condition, ...] = ()
    no_bar: bool = False


class Result(NamedTuple):
    case: Case
    finding: Finding
    seconds: float


def make_report(
    options: Options, results: Sequence[Result], *, started: Started, stopped: bool, why_gone: str = ""
) -> Report:
    whole = Report(
        command="conform",
        target=options.target.url + options.path,
        started=started.at,
        seconds=started.seconds,
        verdict=_judge(options, results, stopped=stopped, why_gone=why_gone),
        figures=_figures(results),
        meanings=meanings(FIGURES),
    )
    whole.parts = list(_parts(whole, results))
    whole.tables = [_families(whole.parts), _not_ok(results)]
    return whole


def _parts(whole: Report, results: Sequence[Result]) -> Iterator[Report]:
    """A report for each family: junit.xml gets a test case for each, and report.json every case."""
    for number, group in groupby(results, key=lambda each: each.case.family):
        found = list(group)
        rows = [[case.id, judged.mark.value, case.title, case.section, judged.why] for case, judged, _ in found]
        yield msgspec.structs.replace(
            whole,
            command=f"{number} {FAMILIES[number]}",
            seconds=round(sum(each.seconds for each in found), 2),
            verdict=_verdict(found),
            figures=_figures(found),
            tables=[Table(title="cases", columns=["case", "mark", "what is sent", "section", "result"], rows=rows)],
        )


def counts(results: Sequence[Result]) -> str:
    marks = Counter(each.finding.mark for each in results)
    return ", ".join(f"{marks[mark]} {mark.value}" for mark in Mark if marks[mark])


def _figures(results: Sequence[Result]) -> dict[str, float | None]:
    marks = Counter(each.finding.mark for each in results)
    counted: dict[str, float | None] = {mark.name.lower(): float(marks[mark]) for mark in Mark}
    return {"cases": float(len(results)), **counted}


def _verdict(results: Sequence[Result]) -> Verdict:
    marks = {each.finding.mark for each in results}
    if Mark.WRONG in marks:
        return verdict(Outcome.FELL_SHORT, _reasons(results, Mark.WRONG))
    if marks <= {Mark.NOT_EXERCISED}:
        return verdict(Outcome.NOT_EXERCISED, _reasons(results, Mark.NOT_EXERCISED))
    return verdict(Outcome.HELD, [])


def _judge(options: Options, results: Sequence[Result], *, stopped: bool, why_gone: str) -> Verdict:
    notes, found = [counts(results)] if results else [], _verdict(results)
    if stopped:
        return verdict(Outcome.INTERRUPTED, ["stopped before the end; the tables cover what was played"], notes)
    if why_gone:
        wrong = found.reasons if found.outcome is Outcome.FELL_SHORT else []
        return verdict(Outcome.FELL_SHORT, [f"the server died: {why_gone}", *wrong], notes)
    if found.outcome is Outcome.NOT_EXERCISED:
        return verdict(Outcome.NOT_EXERCISED, found.reasons, notes)
    figures = _figures(results)
    broken = [why for condition in options.conditions if (why := condition.judge(figures))]
    short = ([] if options.no_bar else found.reasons) + broken
    return verdict(Outcome.FELL_SHORT if short else Outcome.HELD, short, notes)


def _reasons(results: Sequence[Result], mark: Mark) -> list[str]:
    found = [f"{each.case.id} {each.case.title}: {each.finding.why}" for each in results if each.finding.mark is mark]
    return found[:_NAMED] + [f"and {len(found) - _NAMED} more"] * (len(found) > _NAMED)


def _families(parts: Sequence[Report]) -> Table:
    columns = ["family", "verdict", *(name.replace("_", " ") for name in FIGURES)]
    rows = [[each.command, each.outcome, *(f"{each.figures[name]:.0f}" for name in FIGURES)] for each in parts]
    return Table(title="RFC 6455 by family", columns=columns, rows=rows)


def _not_ok(results: Sequence[Result]) -> Table:
    """The worst first, and the same result of many cases in one row: a server may be lax in one way a hundred times."""
    rows = []
    for mark in (Mark.WRONG, Mark.NON_STRICT, Mark.NOT_EXERCISED):
        alike: dict[str, list[Case]] = {}
        for case, finding, _ in results:
            if finding.mark is mark:
                alike.setdefault(finding.why, []).append(case)
        for why, cases in alike.items():
            named = [f"{case.title} ({case.id})" for case in cases[:_NAMED]]
            rows.append([mark.value, f"{len(cases)}", why, "; ".join(named) + ("; ..." if len(cases) > _NAMED else "")])
    return Table(title="what is not ok", columns=["mark", "cases", "result", "which"], rows=rows)
