"""Reading from PostgreSQL beside the writer: a few connections, each used by one thread at a time.

Owns: the reading sessions, and the queries of `ReadQueries`. May not: write.
"""

from collections.abc import Sequence
from functools import partial

from chatserver.log.connections import Readers
from chatserver.log.interface import Head, Range, Record, RoomSummary, bounded
from chatserver.log.postgres_connection import Connection, Server, Session
from chatserver.log.postgres_rows import text_array
from chatserver.log.program import Post, never_post
from chatserver.log.rows import COLUMNS, IS_MESSAGE, bounds_of, record_of

#: Connections and threads: more than SQLite's, because a thread mostly waits for the network.
READERS = 3
#: Settings of a reading session. Every query looks rows up, in an index and mostly in its order; a planner without
#: statistics, as after pg_upgrade, would read and sort a whole room for its last 50 messages.
_SETTINGS = ("enable_seqscan = off", "enable_bitmapscan = off", "max_parallel_workers_per_gather = 0")

_HEADS = "SELECT name, forgotten + 1, last FROM rooms WHERE name = ANY(%s::text[]) AND last > 0"
# The index orders rooms by the ten-second step of their last record, so every room of the oldest step needed is read.
_ROOMS = """
    SELECT name, kept, last FROM (
        SELECT name, last - forgotten AS kept, last, time FROM rooms WHERE last > forgotten
        ORDER BY recent DESC FETCH FIRST %s ROWS WITH TIES
    ) AS found ORDER BY time DESC LIMIT %s
"""


def _statement(*, last: bool, messages_only: bool) -> str:
    # The length of a text is known without reading it, so no more texts are read than fit.
    order = "DESC" if last else "ASC"
    kinds = f"AND {IS_MESSAGE}" if messages_only else ""
    return f"""
        SELECT place, {COLUMNS} FROM (
            SELECT *, sum(octet_length(text)) OVER so_far AS bytes, row_number() OVER so_far AS number
            FROM (
                SELECT place, {COLUMNS} FROM messages
                WHERE room = (SELECT id FROM rooms WHERE name = %s) AND place BETWEEN %s AND %s {kinds}
                ORDER BY place {order} LIMIT %s
            ) AS found WINDOW so_far AS (ORDER BY place {order})
        ) AS counted
        WHERE bytes <= %s OR number = 1 ORDER BY place
    """  # noqa: S608


def open_readers(
    server: Server, count: int = READERS, settings: Sequence[str] = _SETTINGS, post: Post = never_post
) -> Readers[Connection]:
    """The reading sessions; each connects when it is first used."""
    prepare = partial(_prepare, settings)
    return Readers([Session(server, prepare) for _ in range(count)], post)


def _prepare(settings: Sequence[str], connection: Connection) -> None:
    statements = (f"SET {setting}" for setting in ("default_transaction_read_only = on", *settings))
    connection.execute("; ".join(statements))


def heads(rooms: Sequence[str], connection: Connection) -> dict[str, Head]:
    return {name: Head(first, last) for name, first, last in connection.execute(_HEADS, (text_array(rooms),))}


def read(wanted: Range, connection: Connection) -> list[Record]:
    statement = _statement(last=wanted.last, messages_only=wanted.messages_only)
    bounds = *bounds_of(wanted), bounded(wanted.limit), max(wanted.max_bytes, 0)
    return [record_of(wanted.room, *row) for row in connection.execute(statement, (wanted.room, *bounds))]


def rooms(limit: int, connection: Connection) -> list[RoomSummary]:
    """The rooms that hold something, most recently written first."""
    limit = bounded(limit)
    return [RoomSummary(*row) for row in connection.execute(_ROOMS, (limit, limit))]
