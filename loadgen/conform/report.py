"""The report of a conformance run: a row a family, a row for each case that is not as it should be, the verdict.

Owns: the words and the figures. May not: wait, or touch a socket.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from types import MappingProxyType
from typing import Final, NamedTuple

from loadgen.conform.case import Case
from loadgen.conform.catalogue import FAMILIES
from loadgen.conform.judge import Finding, Mark
from loadgen.figures import Condition
from loadgen.report import Outcome, Report, Table, Verdict, verdict
from loadgen.target import Target

FIGURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cases": "cases that were played",
        "ok": "cases in which the server did what RFC 6455 wants",
        "non_strict": "cases in which it did what the RFC leaves to it, and others do better",
        "wrong": "cases in which it did what the RFC forbids",
        "not_exercised": "cases that a limit of the server's own kept from being played",
    }
)

#: The verdict names so many cases; the table has all.
_NAMED: Final = 5


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a conformance run is told."""

    target: Target
    path: str
    timeout: float = 10.0
    arguments: str = ""
    conditions: tuple[Condition, ...] = ()
    no_bar: bool = False


class Result(NamedTuple):
    """A case that was played."""

    case: Case
    finding: Finding
    seconds: float


def make_report(options: Options, results: Sequence[Result], *, started: datetime, stopped: bool) -> Report:
    """Everything in one."""
    parts = list(_parts(options, results, started))
    return _report(
        "conform",
        options,
        started,
        round((datetime.now(UTC) - started).total_seconds(), 2),
        _judge(options, results, stopped=stopped),
        results,
        tables=[_families(parts), *_told("cases that are not ok", [each for each in results if each.finding.why])],
        parts=parts,
    )


def _parts(options: Options, results: Sequence[Result], started: datetime) -> Iterator[Report]:
    """A report for each family, so that junit.xml has a test case for it and report.json every case."""
    for number, group in groupby(results, key=lambda each: each.case.family):
        found = list(group)
        seconds = round(sum(each.seconds for each in found), 2)
        outcome = _outcome(found)
        short = outcome is Outcome.FELL_SHORT
        reasons = _reasons(found, Mark.WRONG if short else Mark.NOT_EXERCISED) if outcome is not Outcome.HELD else []
        tables = _told("cases", found)
        name = f"{number} {FAMILIES[number]}"
        yield _report(name, options, started, seconds, verdict(outcome, reasons), found, tables=tables)


def _report(
    command: str,
    options: Options,
    started: datetime,
    seconds: float,
    decided: Verdict,
    results: Sequence[Result],
    *,
    tables: list[Table],
    parts: Sequence[Report] = (),
) -> Report:
    return Report(
        command=command,
        arguments=options.arguments,
        target=options.target.url + options.path,
        seed=0,  # nothing is left to chance
        started=started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        seconds=seconds,
        verdict=decided,
        figures=_figures(results),
        meanings=dict(FIGURES),
        tables=tables,
        parts=list(parts),
    )


def counts(results: Sequence[Result]) -> str:
    """How many have which mark, in words."""
    marks = Counter(each.finding.mark for each in results)
    return ", ".join(f"{marks[mark]} {mark.value}" for mark in Mark if marks[mark])


def _figures(results: Sequence[Result]) -> dict[str, float | None]:
    marks = Counter(each.finding.mark for each in results)
    counts = {name: float(marks[Mark(name.replace("_", "-"))]) for name in ("ok", "non_strict", "wrong")}
    return {"cases": float(len(results)), **counts, "not_exercised": float(marks[Mark.NOT_EXERCISED])}


def _outcome(results: Sequence[Result]) -> Outcome:
    marks = {each.finding.mark for each in results}
    if Mark.WRONG in marks:
        return Outcome.FELL_SHORT
    return Outcome.HELD if marks - {Mark.NOT_EXERCISED} else Outcome.NOT_EXERCISED


def _judge(options: Options, results: Sequence[Result], *, stopped: bool) -> Verdict:
    figures = _figures(results)
    notes = [counts(results)]
    broken = [why for condition in options.conditions if (why := condition.judge(figures))]
    wrong = [] if options.no_bar else _reasons(results, Mark.WRONG)
    outcome = _outcome(results)
    if stopped:
        return verdict(Outcome.INTERRUPTED, ["stopped before the end; the tables cover what was played"], notes)
    if outcome is Outcome.NOT_EXERCISED:
        return verdict(outcome, _reasons(results, Mark.NOT_EXERCISED), notes)
    return verdict(Outcome.FELL_SHORT if wrong or broken else Outcome.HELD, [*wrong, *broken], notes)


def _reasons(results: Sequence[Result], mark: Mark) -> list[str]:
    found = [f"{each.case.id} {each.case.title}: {each.finding.why}" for each in results if each.finding.mark is mark]
    return found[:_NAMED] + [f"and {len(found) - _NAMED} more"] * (len(found) > _NAMED)


def _families(parts: Sequence[Report]) -> Table:
    rows = [
        [part.command, part.verdict.outcome, *(f"{part.figures[name] or 0:.0f}" for name in FIGURES)] for part in parts
    ]
    return Table(
        title="RFC 6455 by family", columns=["family", "verdict", *(n.replace("_", " ") for n in FIGURES)], rows=rows
    )


def _told(title: str, results: Sequence[Result]) -> list[Table]:
    rows = [
        [each.case.id, each.finding.mark.value, each.case.title, each.case.section, each.finding.why]
        for each in results
    ]
    return [Table(title=title, columns=["case", "mark", "what is sent", "section", "what came of it"], rows=rows)]
