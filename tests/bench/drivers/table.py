"""The cells of all drivers as Markdown, one table for each engine and operation."""

from collections.abc import Iterator, Sequence

import msgspec

from tests.bench import report
from tests.bench.drivers.load import Cell
from tests.bench.figures import number

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
