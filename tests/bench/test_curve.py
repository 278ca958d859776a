"""The bench of the curve runs; its treatment of a late client, its table and its plot."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import replace

import msgspec
import pytest

from tests.bench import curve, wire
from tests.bench.curve_table import Cell, markdown, plots
from tests.bench.figures import Plot, Result, Scale

CELL = Cell("server", 2_000, 1_999.5, 0.5, 2.25, 0.1, 41.5, 0.08)


@pytest.fixture(scope="module")
def ours() -> Iterator[dict[str, curve.Subject]]:
    """What is measured of our server: one process is enough, as no figure is looked at."""
    subjects = {each.name: each for each in curve.SUBJECTS if each.name in {curve.OURS, curve.CHAT}}
    with subjects[curve.OURS].start() as server:
        yield {name: replace(each, start=lambda: nullcontext(server)) for name, each in subjects.items()}


def test_the_curve_has_a_plot_and_a_row_for_each_server(
    ours: dict[str, curve.Subject], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = [ours.get(each.name, each) for each in curve.SUBJECTS if curve.UVLOOP not in each.name]
    monkeypatch.setattr(curve, "SUBJECTS", here)
    monkeypatch.setattr(curve, "ENOUGH", math.inf)  # on a busy machine the first rate would be the last
    *results, plot = curve.run(Scale.QUICK)
    assert isinstance(plot, Plot)
    assert all(isinstance(result, Result) and result.details for result in results)
    table = capsys.readouterr().out
    assert [table.count(f"| {each.name} |") for each in here] == [2] * 5


def test_a_refused_message_ends_the_curve_of_a_server(ours: dict[str, curve.Subject]) -> None:
    with ExitStack() as stack:
        side = curve.Side(replace(ours[curve.CHAT], message=wire.publish("no room", wire.TEXT)), stack)
        side.turn(200, 0.1)
        assert not list(side.cells(200))
    assert side.done


def test_latencies_are_withheld_where_the_client_was_late() -> None:
    def turn(late: float) -> curve.Turn:
        return 2_000, 3.0, 6.0, late, 40.0, 0.1

    cell = curve.cell_of("server", 2_000, [turn(1.4), turn(0.2), turn(1.4)])
    assert (cell.p50_ms, cell.p99_ms) == (3.0, 6.0)  # less than a quarter of the figure
    cell = curve.cell_of("server", 2_000, [turn(1.6), turn(1.4), turn(1.6)])
    assert (cell.p50_ms, cell.p99_ms, cell.cpu_us) == (None, None, 40.0)


def test_the_highest_good_rate_and_the_cost() -> None:
    def at(rate: int, p99: float | None) -> Cell:
        return msgspec.structs.replace(CELL, rate=rate, p99_ms=p99, cpu_us=1e6 / rate)

    ours = [at(1_000, 1.0), at(2_000, None), at(4_000, 9.0), at(8_000, 20.0), at(10_000, 8.0)]
    theirs = [at(1_000, 1.0), at(2_000, 30.0)]
    cells = [msgspec.structs.replace(cell, server=curve.OURS) for cell in ours] + theirs
    rate, cost = curve.results(cells)
    assert (rate.value, rate.details) == (4.0, "4,000/s against 1,000/s")
    assert cost.value == 1.0


def test_the_table_and_the_plot() -> None:
    withheld = msgspec.structs.replace(CELL, server="other", p50_ms=None, p99_ms=None)
    lines = markdown([withheld, CELL]).splitlines()
    assert lines[2:] == [
        "| 2,000 | other | withheld | withheld | 41.5 | 8% | 2,000 | 0.1 |",
        "| 2,000 | server | 0.5 | 2.25 | 41.5 | 8% | 2,000 | 0.1 |",
    ]
    [plot] = plots([withheld, CELL])
    assert plot.svg.count('class="mark s1"') == 1 + 2  # of the server that was withheld: the key, CPU and share
    assert plot.svg.count('class="mark s2"') == 1 + 4
