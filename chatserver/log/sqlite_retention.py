"""Retention in SQLite: `RetentionQueries`, as a few statements for many rooms.

Owns: these statements. May not: begin or end a transaction, or decide what goes; `retention` does. With two statements
a room, commits waited 10 ms for each step (see sqlite_rows.py).
"""

import sqlite3
from collections.abc import Iterable, Sequence

import msgspec

from chatserver.log.retention import Due, Room
from chatserver.log.rows import OFFSET_BITS
from chatserver.log.sqlite_indexing import MERGE_PAGES, merge
from chatserver.log.sqlite_rows import execute_rows
from chatserver.log.sqlite_schema import IN_ROOM, LAST_KEPT, OFFSETS
from chatserver.log.sqlite_writer import FORGET_REACTIONS

# Only ? marks and constants of this package are formatted into statements.
_ROOMS = f"""
    SELECT json_group_array(json_array(rooms.id, name, coalesce(place % {OFFSETS} - 1, forgotten), last, time)) FROM
        (SELECT id, name, forgotten, {LAST_KEPT} AS last FROM rooms WHERE id > ? ORDER BY id LIMIT ?) AS rooms
    LEFT JOIN messages ON place = (SELECT min(place) FROM messages WHERE {IN_ROOM})
"""  # noqa: S608
_RECORDS = f"""
    SELECT json_group_array(json_array(place >> {OFFSET_BITS}, place % {OFFSETS}, time, more)) FROM (ROWS)
    CROSS JOIN messages ON place BETWEEN column1 AND column2 AND (place < column3 OR time < column4)
"""  # noqa: S608
_EMPTY = "UPDATE messages SET text = '' WHERE place IN (ROWS)"
_FORGET = "DELETE FROM messages WHERE place IN (ROWS)"
_MOVE_FIRSTS = "UPDATE rooms SET forgotten = column2, forgotten_time = column3 FROM (ROWS) WHERE id = column1"

_decode_rooms = msgspec.json.Decoder(list[Room]).decode
_decode_records = msgspec.json.Decoder(list[tuple[int, int, int, str]]).decode


def rooms(after: int, most: int, connection: sqlite3.Connection) -> Sequence[Room]:
    return _decode_rooms(connection.execute(_ROOMS, (after, most)).fetchone()[0])


def records(due: Sequence[Due], share: int, connection: sqlite3.Connection) -> Iterable[tuple[int, int, int, str]]:
    rows = []
    for room, low, keep_from, oldest in due:
        base = room << OFFSET_BITS
        rows.append((base + low, base + low + share - 1, base + keep_from, oldest))
    return _decode_records(execute_rows(connection, _RECORDS, rows, 4).fetchone()[0])


def remove(
    records: Sequence[tuple[int, int, int]], edits: Sequence[tuple[int, int]], connection: sqlite3.Connection
) -> None:
    places = [(room << OFFSET_BITS) + offset for room, offset, _ in records]
    edited = [(room << OFFSET_BITS) + offset for room, offset in edits]
    for statement, asked in ((FORGET_REACTIONS, places), (_EMPTY, edited), (_FORGET, places)):
        execute_rows(connection, statement, zip(asked), 1)
    ends = {room: (room, offset, time) for room, offset, time in records}
    execute_rows(connection, _MOVE_FIRSTS, ends.values(), 3)
    merge(MERGE_PAGES, connection)
