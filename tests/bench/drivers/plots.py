"""The cells of all drivers as plots: operations a second and CPU of each, by waiting requests."""

from collections.abc import Iterator, Sequence
from operator import attrgetter

from tests.bench.drivers.table import Row
from tests.bench.figures import Plot
from tests.bench.plot import Panel, lines_of, svg


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
