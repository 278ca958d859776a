"""The results as a table in Markdown for pages of docs/, and as JSON for programs; plots as files."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.bench.figures import Figure, Plot, Result, number, spread

_COLUMNS = ("figure", "measured", "bound", "aim", "", "how it came about")


def show(results: Sequence[Result]) -> None:
    print(markdown(_COLUMNS, map(_cells, results)))


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = (columns, ["---"] * len(columns), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def line(result: Result) -> str:
    """One result in one line, for the progress."""
    name, measured, bound, _, verdict, details = _cells(result)
    return f"  {name}: {measured}, bound {bound}: {verdict}. {details}"


def write_json(results: Sequence[Result], path: Path) -> None:
    path.write_text(json.dumps([_record(result) for result in results], indent=2) + "\n")


def write_plot(plot: Plot, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{plot.name}.svg").write_text(plot.svg, encoding="utf-8")


def _cells(result: Result) -> tuple[str, ...]:
    figure = result.figure
    measured = spread(result.samples) if len(result.samples) > 1 else number(result.value)
    return (
        figure.name, f"{measured}{figure.unit}", _limit(figure, figure.bound), _limit(figure, figure.aim),
        result.verdict.value, result.details,
    )  # fmt: skip


def _limit(figure: Figure, value: float) -> str:
    return f"{figure.better.value} {value:g}{figure.unit}"


def _record(result: Result) -> dict[str, object]:
    figure = result.figure
    return {
        "figure": figure.name, "unit": figure.unit.strip(), "value": result.value, "samples": list(result.samples),
        "bound": figure.bound, "aim": figure.aim, "better": figure.better.name.lower(),
        "verdict": result.verdict.value, "details": result.details,
    }  # fmt: skip
