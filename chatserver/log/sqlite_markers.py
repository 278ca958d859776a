"""Read markers in SQLite: `MarkerQueries`, as a few statements of many rows.

Owns: the SQL of the table `markers`. May not: know a thread, or begin a transaction.

All markers of a group are one statement, and a result is one row of JSON, as sqlite_rows.py explains.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from time import thread_time

import msgspec

from chatserver.log.database_markers import Counts
from chatserver.log.markers import Marker, Span
from chatserver.log.rows import IS_MESSAGE
from chatserver.log.sqlite_rows import execute_rows
from chatserver.log.sqlite_schema import BASE, LAST_KEPT

clock = thread_time
#: Twice as many as a group has. They lie on as many pages, and messages wait for this thread meanwhile.
removed_at_once = 256

_UPSERT = f"""
    WITH moved (user_id, name, read) AS (ROWS)
    INSERT INTO markers (user_id, room, read, moved)
    SELECT moved.user_id, rooms.id, min(moved.read, {LAST_KEPT}), ? FROM moved JOIN rooms ON rooms.name = moved.name
    WHERE moved.user_id != 0
    ON CONFLICT (user_id, room) DO UPDATE SET read = excluded.read, moved = excluded.moved
    WHERE excluded.read > markers.read
"""  # noqa: S608
# `more` is JSON, which escapes a quotation mark within a user's id. The + keeps SQLite from making an index over the
# kinds of all messages, as it does for 256 rooms. A row of zeros finds none, since offsets begin at 1.
_COUNTS = f"""
    WITH ranges (name, low, high) AS (ROWS)
    SELECT json_group_array(json_array(name, messages, mentions)) FROM (
        SELECT ranges.name, count(*) AS messages, sum(
            CASE WHEN more = '' THEN 0
            ELSE EXISTS (SELECT 1 FROM json_each(more, '$.mentions') WHERE json_each.value = ?) END
        ) AS mentions
        FROM ranges CROSS JOIN rooms USING (name) CROSS JOIN messages ON place BETWEEN {BASE} + low AND {BASE} + high
        WHERE +{IS_MESSAGE} AND user_id != ? AND instr(more, '"deleted":true') = 0
        GROUP BY ranges.name
    )
"""  # noqa: S608
_OF_USER = """
    SELECT json_group_array(json_array(name, read)) FROM (
        SELECT rooms.name, markers.read FROM markers JOIN rooms ON rooms.id = markers.room
        WHERE user_id = ? ORDER BY moved DESC LIMIT ?
    )
"""
_decode_read = msgspec.json.Decoder(list[tuple[str, int]]).decode
_decode_counts = msgspec.json.Decoder(list[Counts]).decode


def move(markers: Sequence[Marker], now_ms: int, connection: sqlite3.Connection) -> None:
    rows = [(marker.user_id, marker.room, marker.offset) for marker in markers]
    execute_rows(connection, _UPSERT, rows, 3, now_ms)


def of_user(user_id: str, most: int, connection: sqlite3.Connection) -> dict[str, int]:
    (found,) = connection.execute(_OF_USER, (user_id, most)).fetchone()
    return dict(_decode_read(found))


def count(user_id: str, step: Sequence[Span], connection: sqlite3.Connection) -> Iterable[Counts]:
    ranges = [(span.room, span.low, span.high) for span in step]
    (counts,) = execute_rows(connection, _COUNTS, ranges, 3, user_id, user_id).fetchone()
    return _decode_counts(counts)
