"""Pages of the server's SQLite log, by its own reader threads and by aiosqlite.

How: a file of 50,000 messages in fifty rooms; sixteen tasks ask for one page of fifty messages after the other, at
random places that are the same for both (`drivers/log_readers.py`). In turns, in processes of their own; pages a
second, and CPU a page.
What would fool it: another number of connections; a result that is not made into records; a cold page cache, so a part
of each turn comes first and does not count.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from chatserver.log.sqlite_readers import READERS
from tests.bench.drivers import cells
from tests.bench.drivers.load import PAGE, Cell, Plan
from tests.bench.drivers.log_readers import SIDES, fill
from tests.bench.figures import TIMES, Result, Scale, at_least, at_most, compared

RATE = at_least("SQLite pages a second: reader threads, of aiosqlite's", TIMES, bound=1, aim=1.5)
COST = at_most("SQLite: CPU a page, of aiosqlite's", TIMES, bound=1, aim=0.67)
TASKS = 16


def run(scale: Scale) -> Iterator[Result]:
    sides: dict[str, list[Cell]] = {side: [] for side in SIDES}
    plan = Plan(scale.of(2.0, 0.2), (TASKS,))
    with tempfile.TemporaryDirectory(prefix="chatserver-bench-") as folder:
        path = Path(folder) / "log.db"
        fill(path)
        for _ in range(scale.of(7, 1)):
            for side, found in sides.items():
                found.extend(cells("log_readers", side, str(path), plan))
    ours, theirs = sides["threads"], sides["aiosqlite"]
    more = f"; {TASKS} tasks, {READERS} connections, pages of {PAGE}"
    yield compared(RATE, [cell.rate for cell in ours], [cell.rate for cell in theirs], unit=" pages/s", more=more)
    yield compared(COST, [cell.cpu_us for cell in ours], [cell.cpu_us for cell in theirs], unit=" µs a page", more=more)
