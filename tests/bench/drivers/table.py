"""The cells of all drivers as Markdown, one table for each engine and operation, and as plots by waiting requests."""

from collections.abc import Iterator, Sequence
from operator import attrgetter

import msgspec

from tests.bench import report
from tests.bench.drivers.load import Cell
from tests.bench.figures import Plot, number
from tests.bench.plot import Panel, lines_of, svg

_COLUMNS = ("waiting", "delay", "driver", "operations/s", "p50 ms", "p99 ms", "CPU µs each")


class Row(msgspec.Struct, frozen=True):
    engine: str
    driver: str
    delay_ms: float
    cell: Cell


def markdown(rows: Sequence[Row]) -> str:
    return "\n\n".join(_tables(rows))


def _tables(rows: Sequence[Row]) -> Iterator[str]:
    for engine, operation in dict.fromkeys((row.engine, row.cell.operation) for row in rows):
        mine = [row for row in rows if (row.engine, row.cell.operation) == (engine, operation)]
        mine.sort(key=lambda row: (row.delay_ms, row.cell.waiting))  # of each place the drivers stay in their order
        yield f"**{engine}: {operation}**\n\n{report.markdown(_COLUMNS, map(_cells, mine))}"


def _cells(row: Row) -> tuple[str, ...]:
    cell = row.cell
    delay = f"{row.delay_ms:g} ms" if row.delay_ms else "none"
    figures = (cell.rate, cell.p50_ms, cell.p99_ms, cell.cpu_us)
    return f"{cell.waiting:,}", delay, row.driver, *map(number, figures)


def line(row: Row) -> str:
    """One cell in one line, for the progress."""
    cell = row.cell
    delay = f", {row.delay_ms:g} ms of delay" if row.delay_ms else ""
    return (
        f"  {row.engine}, {row.driver}{delay}: {cell.operation}, {cell.waiting:,} waiting: {number(cell.rate)}/s, "
        f"p50 {number(cell.p50_ms)} ms, p99 {number(cell.p99_ms)} ms, {number(cell.cpu_us)} µs of CPU each"
    )


def plots(rows: Sequence[Row]) -> Iterator[Plot]:
    for engine, delay in dict.fromkeys((row.engine, row.delay_ms) for row in rows):
        mine = [row for row in rows if (row.engine, row.delay_ms) == (engine, delay)]
        panels = [
            panel
            for operation in dict.fromkeys(row.cell.operation for row in mine)
            for panel in _panels(operation, [row for row in mine if row.cell.operation == operation])
        ]
        title = f"{engine}, answers held back by {delay:g} ms" if delay else f"{engine} on the loopback"
        name = f"drivers-{engine.lower()}{f'-{delay:g}-ms' if delay else ''}"
        yield Plot(name, svg(title, panels))


def _panels(operation: str, rows: Sequence[Row]) -> Iterator[Panel]:
    for caption, point in (
        ("operations a second", attrgetter("cell.waiting", "cell.rate")),
        ("µs of CPU for each", attrgetter("cell.waiting", "cell.cpu_us")),
    ):
        lines = lines_of(rows, attrgetter("driver"), point)
        yield Panel(f"{operation}: {caption}", "waiting requests", lines, steps=True)
