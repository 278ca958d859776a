"""Writing to SQLite: a group of drafts in, a commit, an outcome for each draft out.

Owns: the writing connection, the next offset of each room, idempotency keys, retention. May not: know trio. It runs in
a thread, one call at a time.

A group without keys is one statement and so one transaction of its own. Each statement gives the interpreter lock away
and waits for it again, up to 5 ms behind a busy loop; each further message in it costs hardly anything. The statement
has a power of two of rows, so 9 prepared statements serve every group. Rows that are not needed are zeros, since the
driver looks for an adapter for each None, 0.4 µs. `executemany` and `json_each` cost more, and `json_each` cuts text at
a NUL character, silently.

Invariant: the offsets in memory are those on disk plus this group's. After any failure they are dropped and read again,
so a failed group leaves no hole.
"""

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import chain
from typing import TypeVar

import msgspec

from chatserver.log.interface import KEY_LIFETIME, Draft, LogError, LogUnavailable, Record, Stored
from chatserver.log.sqlite_file import OFFSET_BITS, OFFSETS, unavailable

#: Rooms whose next offset is kept in memory: about 10 MB.
MAX_CACHED_ROOMS = 50_000
#: Keys written between two removals of expired ones, so that most groups need no statement for it.
EXPIRE_EVERY = 512
#: Records that one step of retention may remove: about 1 ms, and one sync of the disk.
FORGET_STEP = 500
#: Rooms that one step of retention may look at.
ROOMS_STEP = 200

T = TypeVar("T")
_Key = tuple[str, str, str]  # room, user, key


class _Room(msgspec.Struct, gc=False):
    """Where the next message of a room goes. The collector does not visit it: there may be MAX_CACHED_ROOMS."""

    base: int  # the place of its offset 0
    last: int
    time: int


class SqliteWriter:
    """The connection that writes."""

    def __init__(self, connection: sqlite3.Connection, wall_ms: Callable[[], int]) -> None:
        self._connection = connection
        self._wall_ms = wall_ms
        self._rooms: dict[str, _Room] = {}
        self._keys_since_sweep = 0

    def close(self) -> None:
        """Write the write-ahead log back and close."""
        self._connection.close()

    def commit(self, drafts: Sequence[Draft]) -> Sequence[Stored | LogError]:
        """Store a group whole or not at all."""
        try:
            return self._whole("storing a message", self._commit, drafts)
        except LogUnavailable as error:
            return [error] * len(drafts)

    def forget(self, after_room: int, max_messages: int, oldest_ms: int) -> tuple[dict[str, int], int | None]:
        """One step of retention, over rooms with higher ids than this.

        Returns the new first offset of each room that lost something, and the id to go on with (None: done).
        """
        return self._whole("retention", self._forget, after_room, max_messages, oldest_ms)

    def change(self, doing: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do this in a transaction."""
        return self._whole(doing, partial(self._change, work))

    def _change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._begin()
        return work(self._connection)

    def _whole(self, doing: str, work: Callable[..., T], *arguments: object) -> T:
        """Do this and commit it, or undo all of it."""
        try:
            if self._connection.in_transaction:  # since a rollback has failed
                self._undo()
            done = work(*arguments)
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            raise unavailable(doing, error) from error
        except BaseException:
            self._undo()
            raise
        return done

    def _undo(self) -> None:
        self._rooms.clear()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _commit(self, drafts: Sequence[Draft]) -> list[Stored | LogError]:
        now = self._wall_ms()
        self._load_rooms({draft.room for draft in drafts})
        used = self._used_keys([draft for draft in drafts if draft.key is not None], now)
        rooms = self._rooms
        outcomes: list[Stored | LogError] = []
        rows: list[object] = []
        keys: list[object] = []
        for draft in drafts:
            name, user_id, key = draft.room, draft.user_id, draft.key
            if key is not None:
                first = used.get((name, user_id, key))
                if first is not None:
                    outcomes.append(Stored(first, False))
                    continue
            room = rooms[name]
            room.last = offset = room.last + 1
            room.time = time = max(now, room.time)
            rows += (room.base + offset, time, user_id, draft.user_name, draft.text)
            record = Record(name, offset, time, user_id, draft.user_name, draft.text)
            outcomes.append(Stored(record, True))
            if key is not None:
                used[name, user_id, key] = record
                keys += (room.base >> OFFSET_BITS, user_id, key, room.base + offset, time)
        if keys:
            self._begin()
        if rows:
            self._execute_padded(_insert_messages, rows, 5)
        if keys:
            self._keys_since_sweep += len(keys) // 5
            self._execute_padded(_insert_keys, keys, 5)
            self._expire_keys(now)
        return outcomes

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    def _execute_padded(self, statement: Callable[[int], str], values: list[object], width: int) -> sqlite3.Cursor:
        count = len(values) // width
        rows = 1 << (count - 1).bit_length()
        values.extend([0] * ((rows - count) * width))
        return self._connection.execute(statement(rows), values)

    def _load_rooms(self, names: set[str]) -> None:
        missing = names - self._rooms.keys()
        if len(self._rooms) + len(missing) > MAX_CACHED_ROOMS:
            self._rooms.clear()
            missing = names
        for name in sorted(missing):
            self._rooms[name] = self._load_room(name)

    def _load_room(self, name: str) -> _Room:
        row = self._connection.execute(
            "SELECT id, forgotten, forgotten_time FROM rooms WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            self._begin()
            made = self._connection.execute("INSERT INTO rooms (name) VALUES (?)", (name,))
            assert made.lastrowid is not None
            return _Room(made.lastrowid << OFFSET_BITS, 0, 0)
        room_id, *forgotten = row
        newest = self._connection.execute(
            "SELECT place, time FROM messages WHERE place BETWEEN ? AND ? ORDER BY place DESC LIMIT 1",
            _places(room_id),
        ).fetchone()
        place, time = newest or forgotten
        return _Room(room_id << OFFSET_BITS, place % OFFSETS, time)

    def _used_keys(self, drafts: Sequence[Draft], now: int) -> dict[_Key, Record]:
        """The keys of these that were used within their lifetime, with the messages they were used for.

        If retention has removed the message, its text is the draft's, which is the same message again.
        """
        if not drafts:
            return {}
        asked = {(self._rooms[draft.room].base >> OFFSET_BITS, draft.user_id, draft.key): draft for draft in drafts}
        found = self._execute_padded(_find_keys, list(chain.from_iterable(asked)), 3)
        used: dict[_Key, Record] = {}
        for room_id, user_id, key, place, time, user_name, text in found.fetchall():
            if time <= now - KEY_LIFETIME * 1000:
                continue
            draft = asked[room_id, user_id, key]
            if text is None:
                user_name, text = draft.user_name, draft.text  # noqa: PLW2901 -- the row has none
            used[draft.room, user_id, key] = Record(draft.room, place % OFFSETS, time, user_id, user_name, text)
        return used

    def _expire_keys(self, now: int) -> None:
        """Now and then remove the oldest expired keys, twice as many as came, so that the table stays small."""
        if self._keys_since_sweep < EXPIRE_EVERY:
            return
        self._connection.execute(
            "DELETE FROM keys WHERE id IN (SELECT id FROM keys ORDER BY id LIMIT ?) AND time <= ?",
            (2 * self._keys_since_sweep, now - int(KEY_LIFETIME * 1000)),
        )
        self._keys_since_sweep = 0

    def _forget(self, after_room: int, max_messages: int, oldest_ms: int) -> tuple[dict[str, int], int | None]:
        first: dict[str, int] = {}
        budget = FORGET_STEP
        rooms = self._connection.execute(
            "SELECT id, name FROM rooms WHERE id > ? ORDER BY id LIMIT ?", (after_room, ROOMS_STEP)
        ).fetchall()
        go_on_after = rooms[-1][0] if len(rooms) == ROOMS_STEP else None
        for room_id, name in rooms:
            removed_to, removed = self._forget_in_room(room_id, max_messages, oldest_ms, budget)
            if removed:
                first[name] = removed_to + 1
                budget -= removed
            if budget == 0:
                go_on_after = room_id - 1
                break
        return first, go_on_after

    def _forget_in_room(self, room_id: int, max_messages: int, oldest_ms: int, budget: int) -> tuple[int, int]:
        """Remove up to `budget` of the oldest records; returns the last removed offset and how many they were."""
        select = "SELECT place, time FROM messages WHERE place BETWEEN ? AND ? ORDER BY place"
        oldest = self._connection.execute(f"{select} LIMIT 1", _places(room_id)).fetchone()
        if oldest is None:
            return 0, 0
        newest = self._connection.execute(f"{select} DESC LIMIT 1", _places(room_id)).fetchone()
        low = oldest[0]
        keep_from = newest[0] - max_messages + 1 if max_messages else low
        if low >= keep_from and oldest[1] >= oldest_ms:
            return 0, 0
        self._begin()
        # Time never decreases within a room, so what is too old is at its beginning.
        removed = self._connection.execute(
            "DELETE FROM messages WHERE place BETWEEN ? AND ? AND (place < ? OR time < ?) RETURNING place, time",
            (low, min(low + budget - 1, newest[0]), keep_from, oldest_ms),
        ).fetchall()
        place, time = max(removed)
        self._connection.execute(
            "UPDATE rooms SET forgotten = ?, forgotten_time = ? WHERE id = ?", (place % OFFSETS, time, room_id)
        )
        return place % OFFSETS, len(removed)


def _places(room_id: int) -> tuple[int, int]:
    """The lowest and the highest place that a message of a room can have."""
    return (room_id << OFFSET_BITS) + 1, (room_id << OFFSET_BITS) + OFFSETS - 1


@cache
def _insert_messages(rows: int) -> str:
    return f"INSERT INTO messages SELECT * FROM ({_values(rows, 5)}) WHERE column1 > 0"  # noqa: S608 -- only ? marks


@cache
def _insert_keys(rows: int) -> str:
    # OR REPLACE: a key may be used again after its lifetime, before its row was removed.
    return f"""
        INSERT OR REPLACE INTO keys (room, user_id, key, place, time)
        SELECT * FROM ({_values(rows, 5)}) WHERE column1 > 0
    """  # noqa: S608


@cache
def _find_keys(rows: int) -> str:
    # CROSS JOIN fixes the order: each of the few asked keys is looked up among the many kept ones.
    return f"""
        SELECT keys.room, keys.user_id, keys.key, keys.place, keys.time, messages.user_name, messages.text
        FROM ({_values(rows, 3)}) AS asked
        CROSS JOIN keys ON keys.room = column1 AND keys.user_id = column2 AND keys.key = column3
        LEFT JOIN messages ON messages.place = keys.place
    """  # noqa: S608


def _values(rows: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return f"VALUES {', '.join([row] * rows)}"
