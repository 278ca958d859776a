"""How much of the tables a reader of PostgreSQL reads, whatever the planner knows of them."""

from collections.abc import Callable
from functools import partial

import psycopg
import pytest

from chatserver.log import postgres_markers, postgres_readers
from chatserver.log.interface import Range
from chatserver.log.postgres import PostgresLog
from chatserver.log.postgres_connection import Connection
from tests.log.support import running

# The last statement has the planner take the tables for large ones.
_FILL = """
    INSERT INTO rooms (name, last) VALUES ('lobby', 20000);
    INSERT INTO messages (room, place, time, user_id, user_name, text)
        SELECT id, place, 0, 'u', 'U', 'hi' FROM rooms, generate_series(1, 20000) AS place;
    INSERT INTO markers SELECT 'u_' || n, 1, 1, n FROM generate_series(1, 20000) AS n;
    UPDATE pg_class SET relpages = 100, reltuples = 1000000 WHERE oid IN ('messages'::regclass, 'markers'::regclass)
"""


@pytest.mark.parametrize(
    ("table", "query", "rows"),
    [
        ("messages", partial(postgres_readers.read, Range("lobby", 50, last=True)), 50),
        ("messages", partial(postgres_readers.read, Range("lobby", 50, after=99)), 50),
        ("markers", partial(postgres_markers.of_user, "u_7", 9), 1),
    ],
    ids=["the latest messages", "the first messages after an offset", "the markers of a user"],
)
async def test_without_statistics_as_after_an_upgrade_no_more_rows_are_read_than_are_answered(
    postgres_schema: str, table: str, query: Callable[[Connection], list[object] | dict[str, int]], rows: int
) -> None:
    """A join read and sorted all messages of its room: a third of a second for 100,000."""

    def count(connection: Connection) -> tuple[int, int]:
        connection.execute("BEGIN")
        found = query(connection)
        asked = f"SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = '{table}'"
        [(read,)] = connection.execute(asked).fetchall()
        return len(found), read

    async with running(PostgresLog(postgres_schema)) as log:
        with psycopg.connect(postgres_schema, autocommit=True, options="-c search_path=chatserver") as connection:
            connection.execute(_FILL)
        assert await log.ask(count) == (rows, rows)
