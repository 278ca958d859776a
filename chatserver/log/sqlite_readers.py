"""Reading from SQLite beside the writer: a few connections, each used by one thread at a time.

Owns: the reading connections and the queries. May not: write. With a write-ahead log readers do not wait for the
writer, nor the writer for them. A query is one statement, and its cursor is closed at its end, so no snapshot is held.

A read that hangs is given up at its deadline, but its thread keeps the connection until the disk answers. So the thread
takes a connection and gives it back, not the task that waits for it.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TypeVar

import trio

from chatserver.log.interface import (
    ANSWER_DEADLINE,
    MAX_READ,
    Head,
    Kind,
    LogUnavailable,
    Record,
    RoomSummary,
    bounded,
    within_bytes,
)
from chatserver.log.rows import COLUMNS, record_of
from chatserver.log.sqlite_file import OFFSET_BITS, OFFSETS, connect_reader, unavailable
from chatserver.log.threads import ThreadPool

#: Connections and threads. History is mostly in the page cache, where more threads only wait for each other.
READERS = 2

T = TypeVar("T")

# Only constants of this package are formatted into statements.
_IN_ROOM = f"place BETWEEN (rooms.id << {OFFSET_BITS}) + 1 AND ((rooms.id + 1) << {OFFSET_BITS}) - 1"
_LOWEST = f"(SELECT min(place) FROM messages WHERE {_IN_ROOM})"  # noqa: S608
_HIGHEST = f"(SELECT max(place) FROM messages WHERE {_IN_ROOM})"  # noqa: S608

_ENDS = f"SELECT forgotten, {_LOWEST}, {_HIGHEST} FROM rooms WHERE name = ?"  # noqa: S608
_RECORDS = f"""
    SELECT name, place % {OFFSETS}, {COLUMNS}
    FROM rooms CROSS JOIN messages
        ON place BETWEEN (rooms.id << {OFFSET_BITS}) + ? AND (rooms.id << {OFFSET_BITS}) + ?
    WHERE name = ?
"""  # noqa: S608
# Looks at each room there is: 0.14 s for 100,000 of them, so it is asked once.
_NEWEST = f"""
    SELECT name FROM rooms CROSS JOIN messages AS newest ON newest.place = {_HIGHEST}
    ORDER BY newest.time DESC LIMIT ?
"""  # noqa: S608


class SqliteReaders:
    """The reading connections. Made in a thread; used and closed on the trio loop."""

    def __init__(self, path: Path, readers: int = READERS) -> None:
        self._idle: list[sqlite3.Connection] | None = [connect_reader(path) for _ in range(readers)]  # None: closed
        # SQLite's side files stay if the last two connections close at once, so the lock is held for that too.
        self._lock = threading.Lock()
        self._earlier: list[str] | None = None  # rooms by their last write, as they were when a list first needed them
        self._threads = ThreadPool(readers)

    async def head(self, room: str) -> Head:
        """The first and the last offset of a room."""
        return await self._run(_head, room)

    async def read(
        self, room: str, low: int, high: int, limit: int, max_bytes: int, *, last: bool, messages_only: bool = False
    ) -> list[Record]:  # fmt: skip
        """The first or the last records with `low <= offset <= high`, oldest first."""
        return await self._run(_read, room, low, high, limit, max_bytes, last, messages_only)

    async def rooms(self, written: Sequence[str], limit: int) -> list[RoomSummary]:
        """Rooms that hold something: these, which were written since the log was opened, and then the others."""
        return await self._run(self._rooms, written, limit)

    async def ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """What a query of another module finds; it closes its cursors."""
        return await self._run(query)

    def close(self) -> None:
        """Close the connections that are idle, and the others when they are given back."""
        with self._lock:
            for connection in self._idle or ():
                connection.close()
            self._idle = None

    async def _run(self, query: Callable[..., T], *arguments: object) -> T:
        def work() -> T:
            with self._lock:
                if self._idle is None:
                    raise LogUnavailable("the log is closed")
                connection = self._idle.pop()  # there are as many as threads
            try:
                return query(connection, *arguments)
            except sqlite3.Error as error:
                raise unavailable("reading messages", error) from error
            finally:
                self._give_back(connection)

        with trio.move_on_after(ANSWER_DEADLINE):
            return await self._threads.run(work)
        raise LogUnavailable(f"reading messages took longer than {ANSWER_DEADLINE:g} s")

    def _rooms(self, connection: sqlite3.Connection, written: Sequence[str], limit: int) -> list[RoomSummary]:
        names = self._names(connection, written)
        heads = ((name, _head(connection, name)) for name in names)
        held = (
            RoomSummary(name, head.last - head.first + 1, head.last) for name, head in heads if head.last >= head.first
        )
        return list(islice(held, bounded(limit)))

    def _names(self, connection: sqlite3.Connection, written: Sequence[str]) -> Iterator[str]:
        """Rooms by their last write: those written since the log was opened, then the earlier ones."""
        yield from written
        if self._earlier is None:
            self._earlier = [name for (name,) in connection.execute(_NEWEST, (MAX_READ,)).fetchall()]
        seen = set(written)
        yield from (name for name in self._earlier if name not in seen)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if self._idle is None:
                connection.close()
            else:
                self._idle.append(connection)


def _head(connection: sqlite3.Connection, room: str) -> Head:
    row = connection.execute(_ENDS, (room,)).fetchone()
    if row is None:
        return Head(1, 0)
    forgotten, lowest, highest = row
    if lowest is None:
        return Head(forgotten + 1, forgotten)
    return Head(lowest % OFFSETS, highest % OFFSETS)


def _read(
    connection: sqlite3.Connection, room: str, low: int, high: int, limit: int, max_bytes: int, last: bool,
    messages_only: bool,
) -> list[Record]:  # fmt: skip
    # Within the places of one room, and so within SQLite's integers.
    parameters = (min(max(low, 1), OFFSETS), max(min(high, OFFSETS - 1), 0), room, bounded(limit))
    kinds = f"AND kind = {Kind.MESSAGE.value}" if messages_only else ""
    statement = f"{_RECORDS} {kinds} ORDER BY place {'DESC' if last else 'ASC'} LIMIT ?"
    # A cursor that is left before its end keeps its snapshot, and the write-ahead log from being reused, until closed.
    with closing(connection.execute(statement, parameters)) as rows:
        found = within_bytes((record_of(*row) for row in rows), max_bytes)
    return found[::-1] if last else found
