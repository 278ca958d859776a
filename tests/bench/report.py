"""The results as a table for people and as JSON for programs, and plots as files."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Figure, Plot, Result, Verdict, number, spread

_COLUMNS = ("figure", "measured", "bound", "aim", "", "how it came about")
_STYLES = {Verdict.AIM: "bold green", Verdict.BOUND: "green", Verdict.SHORT: "bold red"}


def show(results: Sequence[Result]) -> None:
    """A table on a terminal, else Markdown."""
    if sys.stdout.isatty():
        table = Table(*_COLUMNS, header_style="bold", row_styles=["", "dim"])
        for result in results:
            table.add_row(*_cells(result), style=None)
            table.columns[4].style = "bold"
        console = Console()
        console.print(table)
        for verdict in Verdict:
            count = sum(result.verdict is verdict for result in results)
            if count:
                console.print(f"{count} {verdict.value}", style=_STYLES[verdict])
        return
    print(f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}")
    for result in results:
        print(f"| {' | '.join(_cells(result))} |")


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
