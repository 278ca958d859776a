"""Reading from SQLite beside the writer: a few connections, each used by one thread at a time.

Owns: the reading connections, and the queries of `ReadQueries`. May not: write. With a write-ahead log readers do not
wait for the writer, nor the writer for them. Each statement ends with its cursor, so no snapshot is held.
"""

import math
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import msgspec

from chatserver.log.connections import Readers
from chatserver.log.interface import MAX_READ, Head, Range, Record, RoomSummary, bounded, within_bytes
from chatserver.log.program import Post, never_post
from chatserver.log.rows import COLUMNS, IS_MESSAGE, bounds_of, record_of
from chatserver.log.sqlite_file import FILE_ERRORS, connect_reader, unavailable
from chatserver.log.sqlite_rows import decode_records
from chatserver.log.sqlite_schema import BASE, FIRST_KEPT, IN_ROOM, LAST_KEPT, OFFSETS

#: For a shared file, the list of the rooms last written is reused for this many times as long as it took to make.
NEWEST_REUSE_FACTOR = 20
#: Connections and threads. History is mostly in the page cache, so more threads would only wait for each other.
READERS = 2
#: Records read by one statement, 512 KB of text at the most: a join's page is one.
READ_STEP = 64

T = TypeVar("T")

# Only constants of this package are formatted into statements.
# The result of each is one row (see sqlite_rows.py): a page of 50 rows takes five times the CPU.
_HEADS = f"""
    SELECT json_group_array(json_array(name, {FIRST_KEPT}, {LAST_KEPT}))
    FROM json_each(?) AS asked CROSS JOIN rooms ON rooms.name = asked.value
"""  # noqa: S608
# Scans every room, 0.14 s for 100,000, so it runs once, or for a shared file now and then.
_NEWEST = f"""
    SELECT name, newest.time FROM rooms CROSS JOIN messages AS newest ON newest.place =
        (SELECT max(place) FROM messages WHERE {IN_ROOM})
    ORDER BY newest.time DESC LIMIT ?
"""  # noqa: S608


_decode_heads = msgspec.json.Decoder(list[tuple[str, int, int]]).decode


class SqliteReader:
    def __init__(self, path: Path) -> None:
        self._connection = connect_reader(path)
        self.close = self._connection.close

    def run(self, doing: str, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._connection)
        except FILE_ERRORS as error:
            raise unavailable(doing, error) from error


def open_readers(path: Path, count: int = READERS, post: Post = never_post) -> Readers[sqlite3.Connection]:
    """The reading connections. Blocks."""
    return Readers([SqliteReader(path) for _ in range(count)], post)


class RecentRooms:
    """The rooms in the order of their last write. `shared`: other processes write to the file as well."""

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        # Rooms written by this process since the log was opened, up to MAX_READ, with times; the newest at the end.
        self._written: OrderedDict[str, int] = OrderedDict()
        # The rooms last written, with times, as of when a list last needed them.
        self._earlier: dict[str, int] | None = None
        self._earlier_until = math.inf

    def note(self, rooms: Mapping[str, Record]) -> None:
        """Note that these rooms were written, each with its last record."""
        for room, record in rooms.items():
            self._written[room] = record.time
            self._written.move_to_end(room)
        while len(self._written) > MAX_READ:
            self._written.popitem(last=False)

    def query(self, limit: int) -> Callable[[sqlite3.Connection], list[RoomSummary]]:
        """The query for `Log.rooms`; it goes by the rooms noted until now."""
        return partial(self._list, self._written.copy(), bounded(limit))

    def _list(self, written: dict[str, int], limit: int, connection: sqlite3.Connection) -> list[RoomSummary]:
        names = iter(self._names(connection, written))
        found: list[RoomSummary] = []
        while len(found) < limit and (asked := list(islice(names, limit))):
            ends = heads(asked, connection)
            held = ((name, ends[name]) for name in asked if name in ends)
            found += [
                RoomSummary(name, head.last - head.first + 1, head.last)
                for name, head in held
                if head.last >= head.first
            ]
        return found[:limit]

    def _names(self, connection: sqlite3.Connection, written: dict[str, int]) -> list[str]:
        """Rooms by their last write, of this process and others; of one millisecond, our last ones come first."""
        times = dict(reversed(written.items()))
        for name, time in self._newest(connection).items():
            times[name] = max(time, times.get(name, 0))
        return sorted(times, key=times.__getitem__, reverse=True)

    def _newest(self, connection: sqlite3.Connection) -> dict[str, int]:
        began = perf_counter()
        if self._earlier is None or began > self._earlier_until:
            self._earlier = dict(connection.execute(_NEWEST, (MAX_READ,)).fetchall())
            if self._shared:
                ended = perf_counter()
                self._earlier_until = ended + NEWEST_REUSE_FACTOR * (ended - began)
        return self._earlier


def heads(rooms: Sequence[str], connection: sqlite3.Connection) -> dict[str, Head]:
    (found,) = connection.execute(_HEADS, (msgspec.json.encode(rooms).decode(),)).fetchone()
    return {name: Head(first, last) for name, first, last in _decode_heads(found) if last}


def read(wanted: Range, connection: sqlite3.Connection) -> list[Record]:
    found = within_bytes(_steps(wanted, connection), wanted.max_bytes)
    return found[::-1] if wanted.last else found


def _steps(wanted: Range, connection: sqlite3.Connection) -> Iterator[Record]:
    """Read READ_STEP records at a time, as they are asked for."""
    statement = _statement(wanted.last, wanted.messages_only)
    low, high = bounds_of(wanted)
    whole = left = bounded(wanted.limit)
    while left:
        step = min(left, READ_STEP)
        (found,) = connection.execute(statement, (low, high, wanted.room, step)).fetchone()
        rows = decode_records(found)
        if left < whole and rows and not wanted.last and rows[0][0] != low:
            return  # retention has removed records between two steps
        for row in rows:
            yield record_of(wanted.room, *row)
        if len(rows) < step:
            return
        left -= step
        if wanted.last:
            high = rows[-1][0] - 1
        else:
            low = rows[-1][0] + 1


def _statement(last: bool, messages_only: bool) -> str:
    kinds = f"AND {IS_MESSAGE}" if messages_only else ""
    order = "DESC" if last else "ASC"
    return f"""
        SELECT CAST(json_group_array(json_array(place % {OFFSETS}, {COLUMNS})) AS BLOB) FROM (
            SELECT place, {COLUMNS} FROM rooms CROSS JOIN messages ON place BETWEEN {BASE} + ? AND {BASE} + ?
            WHERE name = ? {kinds} ORDER BY place {order} LIMIT ?
        )
    """  # noqa: S608
