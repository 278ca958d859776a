"""Durable publishes in PostgreSQL: how many a second, and the CPU of ours for each beside that of SQLite.

How: 200 publishers over WebSocket, each with one publish under way in one room; on a PostgreSQL that syncs each
commit, and in turns on SQLite with `synchronous=FULL`. CPU is that of our process, the log's threads included.
What would fool it: a PostgreSQL that does not sync; a database on another machine, because here it shares the cores.
"""

from collections.abc import Iterator
from statistics import median

from tests.bench.clients import HELLO, Crowd
from tests.bench.figures import TIMES, Result, Scale, at_least, at_most, compared
from tests.bench.processes import Process, chatserver
from tests.bench.publishers import Publisher, measure
from tests.bench.wire import TEXT, publish
from tests.support.postgres import private_server

RATE = at_least("durable publishes a second in PostgreSQL", " publishes/s", bound=8_000, aim=10_000)
CPU = at_most("durable publish in PostgreSQL: CPU of ours, of SQLite's", TIMES, bound=1.5, aim=1.1)
ROUNDS = 3
PUBLISHERS = 200
SYNCED = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on", "shared_buffers": "128MB"}


def run(scale: Scale) -> Iterator[Result]:
    seconds = scale.of(3.0, 0.3)
    with private_server() as database:
        database.start(**SYNCED)
        with chatserver(log=database.url()) as ours, chatserver() as other:
            sides = [_side(ours, seconds), _side(other, seconds)]
            for side in sides:
                next(side)  # warms it up
            samples = [[next(side) for side in sides] for _ in range(scale.of(ROUNDS, 1))]
    rates = [postgres[1] for postgres, _ in samples]
    yield Result(figure=RATE, samples=rates, details=f"SQLite {median([each[1] for _, each in samples]):,.0f}")
    yield compared(CPU, *([sample[side][0] for sample in samples] for side in (0, 1)), unit=" µs")


def _side(server: Process, seconds: float) -> Iterator[tuple[float, float]]:
    with Crowd(server.address) as crowd:
        publisher = Publisher(publish("bench", TEXT))
        clients = crowd.open(PUBLISHERS, [HELLO], publisher)
        yield measure(server, crowd, publisher, clients, 0.3)
        while True:
            yield measure(server, crowd, publisher, clients, seconds)
