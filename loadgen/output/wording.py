"""How the figures and the parts of a report are written, the same on the terminal, on the page and in junit.xml.

Owns: the list of every command's figures, the tone of a word, the names of parts. May not: print, or know HTML.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from loadgen.report import figures
from loadgen.report import format as fmt
from loadgen.report.figures import Better, Figure
from loadgen.report.schema import Outcome, Report, Tone

#: The tone of each word that is a verdict or a mark.
WORDS: Final[Mapping[str, Tone]] = {
    **{outcome.value: outcome.tone for outcome in Outcome},
    # the marks of a fingerprint, of a conformance run and of a diff
    **dict.fromkeys(("good", "ok", "better"), Tone.GOOD),
    **dict.fromkeys(("lenient", "undecided", "non-strict"), Tone.DOUBT),
    **dict.fromkeys(("harsh", "missing", "wrong", "worse"), Tone.BAD),
}


@cache
def _figures() -> Mapping[str, Figure]:
    from loadgen.conform import summary  # noqa: PLC0415  (quick --help of the other commands)
    from loadgen.fingerprint import probes  # noqa: PLC0415

    return {**figures.SCORECARD, **summary.FIGURES, **probes.FIGURES, **figures.CAPACITY, **figures.ALL}


def declared(name: str) -> Figure:
    """The figure of this name, of any command; one that another loadgen wrote may be unknown here."""
    return _figures().get(name) or Figure(name, "", "", better=Better.NEITHER)


def figure(name: str, value: float) -> fmt.Amount:
    unit = declared(name).unit
    if unit == "B":
        return fmt.size(value)
    return fmt.Amount(fmt.percent(value) if unit == "%" else fmt.number(value), unit)


def grouped(report: Report) -> dict[str, dict[str, float]]:
    """The measured figures by group; those of other commands than run and attack form one group."""
    in_groups = report.figures.keys() <= figures.ALL.keys()
    groups: dict[str, dict[str, float]] = {title: {} for title in (figures.GROUPS if in_groups else (report.command,))}
    for name, value in report.figures.items():
        if value is not None:
            groups[figures.ALL[name].group if in_groups else report.command][name] = value
    return {title: group for title, group in groups.items() if group}


def cell(report: Report, names: Sequence[str]) -> str:
    """Figures that share a cell, joined by arrows, without the unit of the heading; empty if none was measured."""
    values = [(name, report.figures.get(name)) for name in names]
    if all(value is None for _, value in values):
        return ""
    return " \N{RIGHTWARDS ARROW} ".join("?" if value is None else _bare(name, value) for name, value in values)


def _bare(name: str, value: float) -> str:
    """A figure without its unit, except for sizes, whose unit depends on the number."""
    shown = figure(name, value)
    return str(shown) if declared(name).unit == "B" else shown.value


def replay(report: Report) -> str:
    """The command line that repeats the run with the same random choices; without a seed nothing was random."""
    line = report.arguments or f"loadgen {report.command} {report.target}"
    return line if "--seed" in line or not report.seed else f"{line} --seed {report.seed}"


def judges_parts(report: Report) -> bool:
    """Whether its parts judge the report's own target; a comparison has several servers, and judges none."""
    return all(part.target == report.target for part in report.parts)


def part_names(parts: Sequence[Report]) -> list[str]:
    """Unique names for the parts of a report: by command, then also by target, then also by number."""
    names = [part.command for part in parts]
    often = Counter(names)
    names = [f"{name}, {part.target}" if often[name] > 1 else name for name, part in zip(names, parts, strict=True)]
    often, seen = Counter(names), Counter[str]()
    for at, name in enumerate(names):
        if often[name] > 1:
            seen[name] += 1
            names[at] = f"{name}, {seen[name]}"
    return names


def main_reasons(part: Report) -> list[str]:
    """The reasons of a part, without its name and its outcome, which stand beside them."""
    known = f"{Outcome.NOT_EXERCISED}: ", f"{part.command}: "
    return [reason.removeprefix(known[0]).removeprefix(known[1]) for reason in part.verdict.reasons]
