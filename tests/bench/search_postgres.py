"""The bench `search` on a PostgreSQL.

How: the same messages and questions. The table is vacuumed and analyzed before the questions, as autovacuum does after
a while; by default it would begin at a random time among them.
What would fool it: a list of new words that is not merged yet, which the vacuum does; a table without statistics.
"""

from collections.abc import Iterator
from functools import partial

import trio

from chatserver.log.postgres import PostgresLog
from tests.bench.figures import Result, Scale, at_most
from tests.bench.publish_postgres import SYNCED
from tests.bench.search import measure
from tests.support.postgres import private_server

USUAL = at_most("search over 1,000,000 messages in PostgreSQL: p50", " ms", bound=30.0, aim=10.0)
SLOWEST = at_most("search over 1,000,000 messages in PostgreSQL: p99", " ms", bound=150.0, aim=100.0)


def run(scale: Scale) -> Iterator[Result]:
    with private_server() as database:
        database.start(**(SYNCED | {"autovacuum": "off"}))
        vacuum = partial(database.execute, "VACUUM (ANALYZE) chatserver.messages")
        yield from trio.run(measure, PostgresLog(database.url()), USUAL, SLOWEST, scale, vacuum)
