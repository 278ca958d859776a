"""The cells of a curve as a table in Markdown and as plots."""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

import msgspec

from tests.bench import report
from tests.bench.figures import Plot, number
from tests.bench.plot import Panel, Point, lines_of, svg

_COLUMNS = (
    "messages/s", "server", "p50 ms", "p99 ms", "CPU µs each", "of a core", "answered/s", "client late, p99 ms",
)  # fmt: skip


class Cell(msgspec.Struct, frozen=True):
    """One server at one rate. Latencies are None where the client was too late itself."""

    server: str
    rate: int  # messages a second that the schedule has
    done: float  # answers a second until the last one
    p50_ms: float | None
    p99_ms: float | None
    late_ms: float  # the client, at the 99th percentile
    cpu_us: float  # of the server, for each message
    share: float  # of a core, by the server


def markdown(cells: Sequence[Cell]) -> str:
    """At each rate in the order of the servers."""
    return report.markdown(_COLUMNS, map(row, sorted(cells, key=attrgetter("rate"))))


def row(cell: Cell) -> list[str]:
    latencies = ["withheld" if each is None else number(each) for each in (cell.p50_ms, cell.p99_ms)]
    figures = [number(cell.cpu_us), f"{cell.share:.0%}", number(cell.done), number(cell.late_ms)]
    return [f"{cell.rate:,}", cell.server, *latencies, *figures]


def plots(cells: Sequence[Cell]) -> Iterator[Plot]:
    def panel(caption: str, figure: Callable[[Cell], float | None], *, powers: bool = False) -> Panel:
        def point(cell: Cell) -> Point | None:
            value = figure(cell)
            return None if value is None else (cell.rate, value)

        return Panel(caption, "messages a second", lines_of(cells, attrgetter("server"), point), powers=powers)

    panels = [
        panel("p50, ms, by powers of ten", attrgetter("p50_ms"), powers=True),
        panel("p99, ms, by powers of ten", attrgetter("p99_ms"), powers=True),
        panel("µs of the server's CPU for each message", attrgetter("cpu_us")),
        panel("the server's share of a core, %", lambda cell: cell.share * 100),
    ]
    yield Plot("curve", svg("Latency and CPU against load", panels))
