"""The cells of all drivers as plots: operations a second and CPU of each, by waiting requests."""

from collections.abc import Callable, Iterator, Sequence

from tests.bench.drivers.load import Cell
from tests.bench.drivers.table import Row
from tests.bench.figures import Plot
from tests.bench.plot import Line, Panel, svg


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
    def lines(figure: Callable[[Cell], float]) -> list[Line]:
        return [
            Line(driver, [(row.cell.waiting, figure(row.cell)) for row in rows if row.driver == driver])
            for driver in dict.fromkeys(row.driver for row in rows)
        ]

    across = "waiting requests"
    yield Panel(f"{operation}: operations a second", across, lines(lambda cell: cell.rate), steps=True)
    yield Panel(f"{operation}: µs of CPU for each", across, lines(lambda cell: cell.cpu_us), steps=True)
