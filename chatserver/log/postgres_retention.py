"""Retention in PostgreSQL: `RetentionQueries`.

Owns: these statements. May not: begin or end a transaction, or decide what goes; `retention` does.
"""

from collections.abc import Iterable, Sequence

from chatserver.log.postgres_connection import Connection
from chatserver.log.postgres_index import LOCK_ROOMS
from chatserver.log.postgres_rows import plain_array, plain_arrays
from chatserver.log.postgres_writer import EMPTY, FORGET_REACTIONS
from chatserver.log.retention import Due, Room

_ROOMS = """
    SELECT rooms.id, name, coalesce(place - 1, forgotten), last, record.time FROM (
        SELECT id, name, forgotten, last FROM rooms WHERE id > %s ORDER BY id LIMIT %s
    ) AS rooms LEFT JOIN LATERAL (
        SELECT place, time FROM messages WHERE room = rooms.id AND place > forgotten ORDER BY place LIMIT 1
    ) AS record ON true ORDER BY rooms.id
"""
# A join with BETWEEN instead would read all messages, once the database has statistics of a few large rooms.
_RECORDS = """
    SELECT id, place, record.time, more
    FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) AS due (id, low, keep_from, oldest)
    CROSS JOIN LATERAL (
        SELECT place, time, more FROM messages WHERE room = id AND place >= low ORDER BY place LIMIT %s
    ) AS record
    WHERE place < keep_from OR record.time < oldest ORDER BY id, place
"""
_FORGET = """
    DELETE FROM messages USING unnest(%s::bigint[], %s::bigint[]) AS gone (room, place)
    WHERE messages.room = gone.room AND messages.place = gone.place
"""
_MOVE_FIRSTS = """
    UPDATE rooms SET forgotten = ends.place FROM unnest(%s::bigint[], %s::bigint[]) AS ends (id, place)
    WHERE rooms.id = ends.id
"""


def rooms(after: int, most: int, connection: Connection) -> Sequence[Room]:
    connection.execute("SET LOCAL synchronous_commit = off")  # if a crash undoes it, retention does it again
    return [Room(*row) for row in connection.execute(_ROOMS, (after, most))]


def records(due: Sequence[Due], share: int, connection: Connection) -> Iterable[tuple[int, int, int, str]]:
    ids, *bounds = plain_arrays(due)
    connection.execute(LOCK_ROOMS, (ids,))
    return connection.execute(_RECORDS, (ids, *bounds, share)).fetchall()


def remove(records: Sequence[tuple[int, int, int]], edits: Sequence[tuple[int, int]], connection: Connection) -> None:
    ids, offsets, _ = plain_arrays(records)
    lasts = {room: offset for room, offset, _ in records}
    with connection.pipeline():
        connection.execute(FORGET_REACTIONS, (ids, offsets))
        connection.execute(EMPTY, (plain_array(room for room, _ in edits), plain_array(offset for _, offset in edits)))
        connection.execute(_FORGET, (ids, offsets))
        connection.execute(_MOVE_FIRSTS, plain_arrays(lasts.items()))
