"""Read markers in PostgreSQL: `MarkerQueries`, as a few statements of many rows.

Owns: the SQL of the table `markers`. May not: know a thread, or begin a transaction.

One server at a time moves markers, for a millisecond: two that moved those of the same users could deadlock. A crash
may lose the markers of the last second, so the commit does not wait for a disk.
"""

from collections.abc import Iterable, Sequence
from time import perf_counter

import msgspec

from chatserver.log.database_markers import Counts
from chatserver.log.markers import Marker, Span
from chatserver.log.postgres_connection import Connection
from chatserver.log.postgres_rows import plain_array, text_array
from chatserver.log.rows import IS_MESSAGE

#: The advisory lock for moving markers: "mark".
_LOCK = 0x6D61726B
clock = perf_counter
#: Finding any number of them reads all markers, 0.4 s for two million; for 10,000 they would be read twice. With an
#: index of `moved` each move would take twice as long, and write twice as much.
removed_at_once = 2_000

# Only constants of this package are formatted into statements.
_UPSERT = """
    INSERT INTO markers (user_id, room, read, moved)
    SELECT user_id, rooms.id, max(least(read, last)), %s
    FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS moved (user_id, name, read) JOIN rooms USING (name)
    WHERE last > 0 GROUP BY user_id, rooms.id
    ON CONFLICT (user_id, room) DO UPDATE SET read = excluded.read, moved = excluded.moved
    WHERE excluded.read > markers.read
"""
_OF_USER = """
    SELECT rooms.name, markers.read FROM markers JOIN rooms ON rooms.id = markers.room
    WHERE user_id = %s ORDER BY moved DESC LIMIT %s
"""
# JSON escapes quotation marks, so only a deleted message has `"deleted":true` in `more`. The type `json` keeps each
# element as it was written, and the same encoder writes the user's id that it is compared with.
_COUNTS = f"""
    SELECT name, messages, mentions
    FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS ranges (name, low, high) JOIN rooms USING (name)
    CROSS JOIN LATERAL (
        SELECT count(*) AS messages, count(*) FILTER (WHERE CASE WHEN more = '' THEN false ELSE EXISTS (
            SELECT 1 FROM json_array_elements(more::json -> 'mentions') AS mention WHERE mention::text = %s
        ) END) AS mentions
        FROM messages
        WHERE messages.room = rooms.id AND place BETWEEN low AND high AND {IS_MESSAGE} AND user_id <> %s
            AND position('"deleted":true' IN more) = 0
    ) AS counted
"""  # noqa: S608


def move(markers: Sequence[Marker], now_ms: int, connection: Connection) -> None:
    connection.execute("SET LOCAL synchronous_commit = off")
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    users = text_array([marker.user_id for marker in markers])
    rooms = text_array([marker.room for marker in markers])
    connection.execute(_UPSERT, (now_ms, users, rooms, plain_array(marker.offset for marker in markers)))


def of_user(user_id: str, most: int, connection: Connection) -> dict[str, int]:
    return dict(connection.execute(_OF_USER, (user_id, most)).fetchall())


def count(user_id: str, step: Sequence[Span], connection: Connection) -> Iterable[Counts]:
    rooms = text_array([span.room for span in step])
    ranges = rooms, plain_array(span.low for span in step), plain_array(span.high for span in step)
    written = msgspec.json.encode(user_id).decode()
    return connection.execute(_COUNTS, (*ranges, written, user_id)).fetchall()
