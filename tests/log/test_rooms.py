"""How databases list rooms: by an order that is read from the file once; by an index of periods of ten seconds."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest

from chatserver.log import connections as connections_module
from chatserver.log import postgres_readers
from chatserver.log import sqlite_readers as readers_module
from chatserver.log.interface import Log, LogUnavailable, RoomSummary
from chatserver.log.postgres import PostgresLog
from chatserver.log.postgres_connection import SCHEMA_NAME
from chatserver.log.sqlite import SqliteLog
from chatserver.log.sqlite_writer import SqliteWriter
from tests.log.support import START_MS, Clock, draft, fill, running
from tests.support.serving import eventually


async def listed(log: Log, limit: int = 99) -> str:
    return "".join(summary.room for summary in await log.rooms(limit))


async def test_the_order_of_a_bounded_number_outlives_restarts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_module, "MAX_READ", 4)
    clock = Clock()
    for rooms, expected in (("abcdefga", "agfe"), ("", "agfe"), ("ha", "ahgf"), ("fh", "hfag"), ("h", "hfag")):
        async with running(SqliteLog(str(path), wall_ms=clock)) as log:
            for room in rooms:
                clock.ms += 1
                await fill(log, 1, room)
                assert await listed(log, 1) == room
            assert await listed(log) == expected
            assert await listed(log, 2) == expected[:2]
            assert len(log._recent_rooms._written) <= 4


SLOW = """
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 300000)
    SELECT name, 0 FROM rooms WHERE id < (SELECT max(n) FROM numbers) ORDER BY id DESC LIMIT ?
"""


async def test_the_order_is_read_once_even_if_it_takes_longer_than_a_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ten million rooms the query takes longer than ANSWER_DEADLINE."""
    async with running(SqliteLog(str(path))) as log:
        for room in "abc":
            await fill(log, 1, room)
    async with running(SqliteLog(str(path))) as log:
        monkeypatch.setattr(readers_module, "NEWEST_REUSE_FACTOR", 0)
        monkeypatch.setattr(readers_module, "_NEWEST", SLOW)
        with monkeypatch.context() as patch:
            patch.setattr(connections_module, "ANSWER_DEADLINE", 0.01)
            with pytest.raises(LogUnavailable, match="took longer than"):
                await log.rooms(9)
        recent = log._recent_rooms
        await eventually(lambda: recent._earlier is not None)
        monkeypatch.setattr(readers_module, "_NEWEST", "not asked again")
        assert await listed(log) == "cba"


def test_a_list_is_a_few_queries_however_many_rooms_it_has(connection: sqlite3.Connection) -> None:
    """After each query the thread waits for the interpreter lock."""
    SqliteWriter(connection, lambda: 1, lambda: None).commit([draft(room=f"room-{number}") for number in range(20)])
    connection.execute("DELETE FROM messages WHERE place IN (SELECT place FROM messages LIMIT 8)")
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    found = readers_module.RecentRooms(shared=False)._list({"room-0": 2}, 10, connection)
    assert len(found) == 10, "the first requested room keeps nothing"
    assert len(statements) == 3


# -- PostgreSQL


def index_scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    below = [each for child in plan.get("Plans", ()) for each in index_scans(child)]
    return [plan, *below] if plan.get("Index Name") == "rooms_by_recent" else below


async def test_a_list_reads_only_the_periods_that_it_needs(postgres_schema: str) -> None:
    async with running(PostgresLog(postgres_schema)) as log:
        with psycopg.connect(postgres_schema, autocommit=True) as connection:
            connection.execute(f"SET search_path = {SCHEMA_NAME}")
            connection.execute(
                "INSERT INTO rooms (name, last, forgotten, time) SELECT 'room-' || n, 2, mod(n, 3), %s + 1000 * n"
                " FROM generate_series(1, %s) AS n",
                (START_MS // 10_000 * 10_000, 5_000),
            )
            connection.execute("ANALYZE rooms")
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {postgres_readers._ROOMS}"
            explained = connection.execute(explain, (15, 15)).fetchone()
        assert explained is not None
        [scan] = index_scans(explained[0][0]["Plan"])
        read = scan["Actual Rows"] + scan["Rows Removed by Filter"]
        assert read < 15 * 3 / 2 + 2 * 10, json.dumps(explained[0], indent=1)
        kept = [number for number in range(5_000, 0, -1) if number % 3 < 2][:15]
        expected = [RoomSummary(f"room-{number}", 2 - number % 3, 2) for number in kept]
        assert await log.rooms(15) == expected
