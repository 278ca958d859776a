"""`loadgen diff A.json B.json`: which figures moved between two reports by more than chance.

Owns: which figures moved, and the table. Chance is the range of the rounds if both reports have enough of them, and
otherwise the tolerance that each figure declares, as it does which direction is better.
"""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from loadgen.common import Reported, finish
from loadgen.compare.results import LEAST_ROUNDS
from loadgen.net.target import UsageError
from loadgen.output import wording
from loadgen.report.figures import Better, Figure
from loadgen.report.schema import SCHEMA, Outcome, Report, Started, Table, verdict

_NO_MEASUREMENT: Final = frozenset({Outcome.INVALID, Outcome.NOT_EXERCISED, Outcome.INTERRUPTED})


def diff(
    a: Annotated[str, Parameter(help="A report.json, or the directory that --report made.")],
    b: Annotated[str, Parameter(help="The later one, of the same command.")],
    /,
    *,
    json: Annotated[bool, Parameter(help="Print the differences as JSON on standard output.")] = False,
) -> int:
    """Put two reports side by side: which figures moved beyond their spread, and which of them got worse.

    If both reports are comparisons with three rounds or more, the spread is the range of the rounds: a figure moved if
    the two ranges are further apart than either is wide. A single figure moved if it changed by more than the bar
    allows: a time or a cost by 1.5 times, and by 25 ms, 1 s, 100 us of CPU, 1 KiB a client or 512 KiB; messages a
    second by 1.1 times; a count by anything. Figures that say nothing about the server, or depend on the single worst
    operation, are shown but never called worse. Invalid and interrupted runs are left out. Exit codes: 0 nothing got
    worse, 1 something did, 2 bad input, 3 nothing could be compared.
    """
    return finish(compare(_read(a), _read(b), f"{a} to {b}"), Reported(json=json))


def _read(name: str) -> Report:
    path = Path(name)
    path = path / "report.json" if path.is_dir() else path
    try:
        return _report_of(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {str(error.strerror).lower()}") from None
    except (RecursionError, ValueError) as error:
        raise UsageError(f"{path}: it is no report of loadgen: {error}") from None


def _report_of(data: bytes) -> Report:
    schema = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("schema", msgspec.Raw())
    if bytes(schema) != str(SCHEMA).encode():
        raise ValueError(f"its schema is not {SCHEMA}, which this loadgen reads")
    return msgspec.json.decode(data, type=Report)


def compare(a: Report, b: Report, what: str) -> Report:
    if a.command != b.command:
        raise UsageError(f"{what}: the first is of `loadgen {a.command}`, the second of `loadgen {b.command}`")
    before, after = _samples(a), _samples(b)
    both = [name for name in before if before[name] and after.get(name)]
    rows = [row for name in both for row in _rows(name, before[name], after[name])]
    left_out = [name or a.command for name in {**before, **after} if name not in both]
    compared = sum(1 for name in both for _ in _in_both(before[name], after[name]))
    worse = [" ".join(filter(None, row[:2])) for row in rows if row[-1] == "worse"]
    outcome = Outcome.FELL_SHORT if worse else Outcome.HELD if both else Outcome.NOT_EXERCISED
    held = f"nothing got worse; {len(rows)} of {compared} figures moved" if both else "nothing could be compared"
    reasons = [f"{each} got worse" for each in worse] or [held]
    notes = [f"not in both, or not validly measured in one: {', '.join(left_out)}"] if left_out else []
    if a.arguments != b.arguments:
        notes.append(f"the first is of `{a.arguments}`, the second of `{b.arguments}`")
    return Report(
        command="diff",
        target=what,
        started=Started().at,
        seconds=0.0,
        verdict=verdict(outcome, reasons, notes),
        tables=[Table(title="what moved", columns=["part", "figure", "before", "after", "mark"], rows=rows)],
    )


def _samples(report: Report) -> dict[str, list[Report]]:
    """The valid measurements by part: one for each attack, or one for each round of a comparison."""
    one_target = wording.judges_parts(report)
    found: dict[str, list[Report]] = {}
    for part in report.parts or [report]:
        name = "" if part is report else part.command if one_target else f"{part.command}, {part.target}"
        found.setdefault(name, []).extend([part] * (part.outcome not in _NO_MEASUREMENT))
    return found


def _rows(name: str, before: Sequence[Report], after: Sequence[Report]) -> Iterator[list[str]]:
    held = [all(each.outcome is Outcome.HELD for each in reports) for reports in (before, after)]
    if held[0] != held[1]:
        words = [Outcome.HELD if each else Outcome.FELL_SHORT for each in held]
        yield [name, "verdict", *words, "better" if held[1] else "worse"]
    for figure, a, b in _in_both(before, after):
        if mark := _mark(wording.declared(figure), a, b):
            lower = before if mark == "better" else after
            if figure == "capacity" and not _values(lower, "fell_short_at"):  # no more was tried, or could be
                mark = "moved"
            yield [name, figure, *(str(wording.figure(figure, statistics.median(each))) for each in (a, b)), mark]


def _in_both(before: Sequence[Report], after: Sequence[Report]) -> Iterator[tuple[str, list[float], list[float]]]:
    """The figures that were measured in both, with their values."""
    for figure in before[0].figures:
        a, b = _values(before, figure), _values(after, figure)
        if a and b:
            yield figure, a, b


def _values(reports: Sequence[Report], figure: str) -> list[float]:
    return [value for each in reports if (value := each.figures.get(figure)) is not None]


def _mark(figure: Figure, a: Sequence[float], b: Sequence[float]) -> str:
    """Return "better", "worse" or, for a figure with no worse direction, "moved"; empty if it did not move."""
    if min(len(a), len(b)) >= LEAST_ROUNDS:
        # Ranges of three that only do not overlap are chance in one of ten figures, and a comparison has some hundred.
        width = max(max(a) - min(a), max(b) - min(b))
        grew, shrank = min(b) - max(a) > width, min(a) - max(b) > width
    else:
        one, other = statistics.median(a), statistics.median(b)
        grew, shrank = other > figure.tolerance.above(one), one > figure.tolerance.above(other)
    if not grew and not shrank:
        return ""
    if figure.better is Better.NEITHER:
        return "moved"
    return "better" if grew is (figure.better is Better.MORE) else "worse"
