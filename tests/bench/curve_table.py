"""The cells of a curve as a table in Markdown and as plots."""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from tests.bench.figures import Plot, number
from tests.bench.plot import Line, Panel, svg

_HEAD = "messages/s | server | p50 ms | p99 ms | CPU µs each | of a core | answered/s | client late, p99 ms"


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
    lines = [f"| {_HEAD} |", f"|{'---:|---|' + '---:|' * 6}"]
    lines += [row(cell) for cell in sorted(cells, key=lambda cell: cell.rate)]  # at a rate in the order of the servers
    return "\n".join(lines)


def row(cell: Cell) -> str:
    latencies = ["withheld" if each is None else number(each) for each in (cell.p50_ms, cell.p99_ms)]
    figures = [number(cell.cpu_us), f"{cell.share:.0%}", number(cell.done), number(cell.late_ms)]
    return f"| {cell.rate:,} | {cell.server} | {' | '.join([*latencies, *figures])} |"


def plots(cells: Sequence[Cell]) -> Iterator[Plot]:
    def lines(figure: Callable[[Cell], float | None]) -> list[Line]:
        return [
            Line(
                server,
                [(cell.rate, value) for cell in cells if cell.server == server and (value := figure(cell)) is not None],
            )
            for server in dict.fromkeys(cell.server for cell in cells)
        ]

    across = "messages a second"
    panels = [
        Panel("p50, ms, by powers of ten", across, lines(lambda cell: cell.p50_ms), powers=True),
        Panel("p99, ms, by powers of ten", across, lines(lambda cell: cell.p99_ms), powers=True),
        Panel("µs of the server's CPU for each message", across, lines(lambda cell: cell.cpu_us)),
        Panel("the server's share of a core, %", across, lines(lambda cell: cell.share * 100)),
    ]
    yield Plot("curve", svg("Latency and CPU against load", panels))
