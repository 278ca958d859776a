"""SQLite by a thread pool with the blocking driver, as the server does it, beside aiosqlite, on the same queries.

How: a file of 50,000 messages in fifty rooms; sixteen tasks ask one page of fifty messages after the other, of rooms
and places by the same sequence of chances. Ours: the log's two reading connections under trio. The other: two
connections of aiosqlite under asyncio, its `execute_fetchall`, the same statement, the same records made of its result.
In turns, in processes of their own; pages a second, and CPU a page.
What would fool it: another number of connections, a result that is not made into records, a page cache that one of them
finds cold (each has a turn that does not count).
"""

import asyncio
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter, process_time

import trio

from chatserver.log.interface import Record
from chatserver.log.rows import record_of
from chatserver.log.sqlite_file import connect_writer, create_private
from chatserver.log.sqlite_readers import READERS, SqliteReaders, _decode_records, _statement
from chatserver.log.sqlite_schema import OFFSET_BITS
from chatserver.server import THREAD_SWITCH
from tests.bench.figures import TIMES, Better, Figure, Result, Scale, spread
from tests.bench.processes import ROOT

RATE = Figure(
    name="SQLite pages a second: reader threads, of aiosqlite's", unit=TIMES, bound=1, aim=1.5, better=Better.HIGHER
)
COST = Figure(name="SQLite: CPU a page, of aiosqlite's", unit=TIMES, bound=1, aim=0.67, better=Better.LOWER)
ROOMS, MESSAGES, PAGE, TASKS = 50, 1_000, 50, 16
#: Seconds after which a side that does not end is given up.
PATIENCE = 60.0

Ask = Callable[[str, int], Awaitable[list[Record]]]


def run(scale: Scale) -> Iterator[Result]:
    """In turns."""
    if importlib.util.find_spec("aiosqlite") is None:
        raise SystemExit("drivers-sqlite needs aiosqlite: pip install '.[bench]'")
    sides: dict[str, list[tuple[float, float]]] = {"threads": [], "aiosqlite": []}
    with tempfile.TemporaryDirectory(prefix="chatserver-bench-") as folder:
        path = Path(folder) / "log.db"
        _fill(path)
        for _ in range(scale.of(7, 1)):
            for side, samples in sides.items():
                samples.append(_turn(side, path, scale.of(2.0, 0.2)))
    ours, theirs = sides["threads"], sides["aiosqlite"]
    for figure, index, unit in ((RATE, 0, "pages/s"), (COST, 1, "µs a page")):
        ratios = [mine[index] / other[index] for mine, other in zip(ours, theirs, strict=True)]
        told = [spread([sample[index] for sample in samples]) for samples in (ours, theirs)]
        details = f"{told[0]} {unit} against {told[1]}; {TASKS} tasks, {READERS} connections, pages of {PAGE}"
        yield Result(figure=figure, samples=ratios, details=details)


def _fill(path: Path) -> None:
    create_private(path)
    connection, _ = connect_writer(path)
    connection.execute("BEGIN")
    rooms = range(1, ROOMS + 1)
    connection.executemany("INSERT INTO rooms (id, name) VALUES (?, ?)", ((room, f"room-{room}") for room in rooms))
    connection.executemany(
        "INSERT INTO messages (place, time, user_id, user_name, text) VALUES (?, ?, 'u_ann', 'Ann', ?)",
        (
            ((room << OFFSET_BITS) + offset, offset, f"message {offset}: the quick brown fox jumps over the dog")
            for room in rooms
            for offset in range(1, MESSAGES + 1)
        ),
    )
    connection.execute("COMMIT")
    connection.close()


def _turn(side: str, path: Path, seconds: float) -> tuple[float, float]:
    """Pages a second and µs of CPU a page, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.drivers_sqlite", side, str(path), str(seconds)]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
    rate, cost = json.loads(told)
    return rate, cost


# -- in the process of one side ---------------------------------------------------------------------------------------


class Turn:
    """So long, and what is counted."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begin()

    def _begin(self) -> None:
        self.pages = 0
        self._cpu, self._start = process_time(), perf_counter()

    async def ask(self, ask: Ask, number: int, *, warm_up: bool = False) -> None:
        """One task's pages."""
        chance = random.Random(number)
        ends = perf_counter() + self._seconds * (0.2 if warm_up else 1.0)
        while perf_counter() < ends:
            after = chance.randrange(MESSAGES - PAGE)
            records = await ask(f"room-{chance.randint(1, ROOMS)}", after)
            if len(records) != PAGE or records[0].offset != after + 1:
                raise RuntimeError(f"another page than was asked for: {records[:1]}")
            self.pages += 1

    def begin(self) -> None:
        """From here on it counts."""
        self._begin()

    def told(self) -> str:
        """Pages a second, µs a page."""
        rate = self.pages / (perf_counter() - self._start)
        return json.dumps([rate, (process_time() - self._cpu) / self.pages * 1e6])


async def _by_threads(path: Path, turn: Turn) -> None:
    readers = SqliteReaders(path)

    async def ask(room: str, after: int) -> list[Record]:
        return await readers.read(room, after + 1, after + PAGE, PAGE, 1 << 20, last=False)

    for warm_up in (True, False):
        turn.begin()
        async with trio.open_nursery() as nursery:
            for number in range(TASKS):
                nursery.start_soon(partial(turn.ask, ask, number, warm_up=warm_up))
    readers.close()


async def _by_aiosqlite(path: Path, turn: Turn) -> None:
    import aiosqlite

    statement = _statement(False, False)
    connections = [await aiosqlite.connect(path, isolation_level=None) for _ in range(READERS)]
    idle: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
    for connection in connections:
        idle.put_nowait(connection)

    async def ask(room: str, after: int) -> list[Record]:
        connection = await idle.get()
        try:
            ((rows,),) = await connection.execute_fetchall(statement, (after + 1, after + PAGE, room, PAGE))
        finally:
            idle.put_nowait(connection)
        return [record_of(room, *row) for row in _decode_records(rows)]

    try:
        for warm_up in (True, False):
            turn.begin()
            await asyncio.gather(*(turn.ask(ask, number, warm_up=warm_up) for number in range(TASKS)))
    finally:  # its threads would keep the process
        for connection in connections:
            await connection.close()


def main() -> None:
    """One side's turn."""
    side, path, seconds = sys.argv[1:]
    sys.setswitchinterval(THREAD_SWITCH)  # as in the server, for both
    turn = Turn(float(seconds))
    if side == "threads":
        trio.run(_by_threads, Path(path), turn)
    else:
        asyncio.run(_by_aiosqlite(Path(path), turn))
    print(turn.told())


if __name__ == "__main__":
    main()
