"""How PostgreSQL lists rooms: by an index of periods of ten seconds, as far as the list needs it."""

import json
from typing import Any

import psycopg

from chatserver.log.interface import RoomSummary
from chatserver.log.postgres import PostgresLog
from chatserver.log.postgres_connection import SCHEMA_NAME
from chatserver.log.postgres_readers import _ROOMS
from tests.log.support import START_MS, running

ROOMS = 5_000


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
                (START_MS // 10_000 * 10_000, ROOMS),
            )
            connection.execute("ANALYZE rooms")
            explained = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {_ROOMS}", (15, 15)).fetchone()
        assert explained is not None
        [scan] = index_scans(explained[0][0]["Plan"])
        read = scan["Actual Rows"] + scan["Rows Removed by Filter"]
        assert read < 15 * 3 / 2 + 2 * 10, json.dumps(explained[0], indent=1)
        kept = [number for number in range(ROOMS, 0, -1) if number % 3 < 2][:15]
        expected = [RoomSummary(f"room-{number}", 2 - number % 3, 2) for number in kept]
        assert await log.rooms(15) == expected
