"""Writing to SQLite: a group of drafts in, a commit, an outcome for each draft out.

Owns: the writing connection and its turn, the next offset of each room, idempotency keys. May not: know
trio. It runs in a thread, one call at a time.

A group of plain messages without keys is one statement, and so needs no explicit transaction. `changes` decides what
happens to other records; they are changed in the same transaction.

Invariant: the offsets in memory are those on disk plus this group's. After any failure they are dropped and read again,
so a failed group leaves no hole; in a shared file, each group reads those of its rooms.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from functools import partial
from threading import Event, Thread
from typing import Any, TypeVar

import msgspec

from chatserver.log.changes import MAX_CACHED_ROOMS, Changes, Key, Place, Reacted, RoomEnd, targets_of, used_keys
from chatserver.log.file_lock import FileLock
from chatserver.log.groups import Outcomes
from chatserver.log.interface import EXPIRE_EVERY, KEY_LIFETIME_MS, Draft, LogUnavailable, Record
from chatserver.log.rows import COLUMNS, HIGHEST, OF_MESSAGES, OFFSET_BITS, more_of
from chatserver.log.sqlite_file import FILE_ERRORS, OpenFiles, unavailable
from chatserver.log.sqlite_indexing import MERGE_PAGES, merge
from chatserver.log.sqlite_rows import execute_rows, execute_values
from chatserver.log.sqlite_schema import IN_ROOM, MOST_ROOMS, OFFSETS

_decode_ends = msgspec.json.Decoder(list[tuple[int, int, int, int]]).decode
_decode_targets = msgspec.json.Decoder(list[tuple[int, int, int, str, str, str, int, int, str]]).decode

# The result is one row of JSON. The offsets of an empty room continue after those that retention removed.
_FIND_ENDS = f"""
    SELECT json_group_array(json_array(
        number, rooms.id, coalesce(place, forgotten), coalesce(messages.time, forgotten_time)
    ))
    FROM (SELECT column1 AS number, column2 AS asked FROM (ROWS) WHERE column1 > 0)
    CROSS JOIN rooms ON rooms.name = asked
    LEFT JOIN messages ON place = (SELECT max(place) FROM messages WHERE {IN_ROOM})
"""  # noqa: S608
# Another epoch: another program has removed a room, whose offsets would be given again.
_IN_EPOCH = "SELECT * FROM (ROWS) WHERE column1 > 0 AND (SELECT epoch FROM identity) = ?"
# `insert` in small letters: Python 3.11 compares this word by the rules of the locale, and in Turkish the small letter
# of I is not i. It would then count no rows.
_INSERT_MESSAGES = f"insert INTO messages (place, time, user_id, user_name, text) {_IN_EPOCH}"
# OR ROLLBACK: SQLite need not copy the pages to undo this statement alone.
_INSERT_RECORDS = f"insert OR ROLLBACK INTO messages (place, {COLUMNS}) {_IN_EPOCH}"
# Past the records of rooms that another program removed, which would be in the new room.
_MAKE_ROOM = f"""
    INSERT INTO rooms (id, name) SELECT free, ? FROM (SELECT 1 + max(
        coalesce((SELECT max(id) FROM rooms), 0), coalesce((SELECT max(place) FROM messages) >> {OFFSET_BITS}, 0)
    ) AS free) WHERE free <= {MOST_ROOMS} RETURNING id
"""  # noqa: S608
# OR REPLACE: a key may be used again after its lifetime, before its row is removed.
_INSERT_KEYS = """
    INSERT OR REPLACE INTO keys (room, user_id, key, place, time) SELECT * FROM (ROWS) WHERE column1 > 0
"""
# CROSS JOIN fixes the order: each of the few asked keys is looked up among the many kept ones.
_FIND_KEYS = f"""
    SELECT keys.room, keys.user_id, keys.key, keys.place, keys.time, {OF_MESSAGES} FROM (ROWS) AS asked
    CROSS JOIN keys ON keys.room = column1 AND keys.user_id = column2 AND keys.key = column3
    LEFT JOIN messages ON messages.place = keys.place
"""  # noqa: S608
# The last expired key is looked for first: `id IN (SELECT ...)` would look up each id once more.
_EXPIRE_KEYS = """
    DELETE FROM keys WHERE abs(? - time) >= ? AND id <=
        (SELECT max(id) FROM (SELECT id, time FROM keys ORDER BY id LIMIT ?) WHERE abs(? - time) >= ?)
"""
# AS BLOB: else the driver would decode the text, and msgspec encode it again.
_FIND_TARGETS = f"""
    SELECT CAST(json_group_array(json_array(column1, reactions.place IS NOT NULL, {OF_MESSAGES})) AS BLOB) FROM (ROWS)
    CROSS JOIN messages ON messages.place = column2
    LEFT JOIN reactions ON reactions.place = column2 AND emoji = column3 AND reactions.user_id = column4
"""  # noqa: S608
# The rows exist, so none is inserted. UPDATE ... FROM would first copy all values into a temporary table.
_RESTATE = """
    INSERT INTO messages (place, time, user_id, user_name, text, more)
    SELECT column1, 0, '', '', '', column2 FROM (ROWS) WHERE column1 > 0
    ON CONFLICT (place) DO UPDATE SET more = excluded.more
"""
_REWRITE = """
    INSERT INTO messages (place, time, user_id, user_name, text, more)
    SELECT column1, 0, '', '', column3, column2 FROM (ROWS) WHERE column1 > 0
    ON CONFLICT (place) DO UPDATE SET more = excluded.more, text = excluded.text
"""
_REACT = "INSERT OR IGNORE INTO reactions SELECT * FROM (ROWS) WHERE column1 > 0"
FORGET_REACTIONS = "DELETE FROM reactions WHERE place IN (ROWS)"

#: The errors of a full disk, and of a quota or a limit on the size of files. SQLite empties the write-ahead log after a
#: commit only, and only once it has 4 MB: where there is less room, the commits that fill it would be the last.
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)

T = TypeVar("T")


class SqliteWriter:
    """The connection that writes. With a `turn`, other processes may write to the same file."""

    def __init__(
        self, connection: sqlite3.Connection, wall_ms: Callable[[], int],
        note_replaced: Callable[[], object], turn: FileLock | None = None,
    ) -> None:  # fmt: skip
        self._connection = connection
        [self._epoch] = connection.execute("SELECT epoch FROM identity").fetchone()
        self._note_replaced = note_replaced
        self._files = OpenFiles(connection)
        self._wall_ms = wall_ms
        self._shared = turn is not None
        self._turn: AbstractContextManager[None] = turn or nullcontext()  # held while writing
        self._rooms: dict[str, RoomEnd] = {}
        self._keys_since_expiry = 0
        self._lacks_room = False  # the last change failed for that reason

    def close(self, *, is_copied_over: bool = False) -> None:
        """Write the write-ahead log back and close. Not into a database that was copied over this one."""
        if is_copied_over or self._files.belong_to_others:
            # Closing would write back an old state of their log, and delete it. The end of the process closes the file:
            # until then a thread keeps the connection, which Python would else close.
            Thread(target=lambda _: Event().wait(), args=(self._connection,), daemon=True).start()
        else:
            # Of processes that close at the same time each would leave the writing back to the other.
            with closing(self._connection), suppress(LogUnavailable), self._turn:
                self._connection.close()

    def commit(self, drafts: Sequence[Draft]) -> Outcomes:
        return self._run("storing a message", partial(self._commit, drafts))

    def change(self, doing: str, work: Callable[[sqlite3.Connection], T], hint: str = "") -> T:
        def begin_and_work() -> T:
            self._begin()
            return work(self._connection)

        return self._run(doing, begin_and_work)

    def in_turn(self, work: Callable[[], T]) -> T:
        """Run `work`, which writes to the files of the database, while no other process writes."""
        with self._turn:
            self._files.check("writing to the files")
            return work()

    def _run(self, doing: str, work: Callable[[], T]) -> T:
        """Commit what `work` does, or undo all of it."""
        with self._turn:
            try:
                self._files.check(doing)
                if self._connection.in_transaction:  # an earlier rollback failed
                    self._undo()
                if self._lacks_room:
                    self._lacks_room = False
                    with suppress(*FILE_ERRORS):
                        self._connection.execute("PRAGMA wal_checkpoint").fetchone()
                if self._shared:
                    self._begin()
                    self._rooms.clear()
                done = work()
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")
            except BaseException as error:
                with suppress(*FILE_ERRORS):  # nothing was begun, or it is tried again before the next change
                    self._undo()
                self._lacks_room = getattr(error, "sqlite_errorcode", 0) in _NO_ROOM
                if isinstance(error, FILE_ERRORS):
                    raise unavailable(doing, error) from error
                raise
            return done

    def _undo(self) -> None:
        self._rooms.clear()
        self._connection.execute("ROLLBACK")

    def _commit(self, drafts: Sequence[Draft]) -> Outcomes:
        now = self._wall_ms()
        rich = [draft for draft in drafts if draft.target or draft.mentions or draft.kind]
        keyed = [draft for draft in drafts if draft.key is not None]
        if rich or keyed:  # before the look-ups, since a read outside of the transaction takes a lock of its own
            self._begin()
        self._load_rooms(drafts)
        used = self._used_keys(keyed, now) if keyed else {}
        asked = targets_of(rich, self._rooms)
        changes = Changes(self, self._rooms, asked, self._find(asked) if asked else ())
        group = changes.apply(drafts, used, now)
        if group.fresh:
            self._insert(group.fresh, is_rich=bool(rich))
        if rich:
            changes.write()
        if group.keys:
            self._write_keys(group.keys, now)
        return group.outcomes

    def _find(self, asked: Sequence[Reacted]) -> Iterable[Sequence[Any]]:
        """See `Changes`."""
        rooms, values = self._rooms, list[object]()
        for number, (room, offset, emoji, user_id) in enumerate(asked):
            values += number, rooms[room].base + offset, emoji, user_id
        return _decode_targets(execute_values(self._connection, _FIND_TARGETS, values, 4).fetchone()[0])

    def _insert(self, records: Sequence[Record], *, is_rich: bool) -> None:
        """Insert records; those of a group without rich drafts have only the first columns."""
        rooms = self._rooms
        values: list[object] = []
        for record in records:
            place = rooms[record.room].base + record.offset
            values += place, record.time, record.user_id, record.user_name, record.text
            if is_rich:
                values += int(record.kind), record.target, more_of(record)
        statement, width = (_INSERT_RECORDS, 8) if is_rich else (_INSERT_MESSAGES, 5)
        if execute_values(self._connection, statement, values, width, self._epoch).rowcount < len(records):
            self._note_replaced()
            raise LogUnavailable("storing a message failed: another program removed a room or changed the epoch")

    def _write_keys(self, keys: Mapping[Key, Record], now: int) -> None:
        rooms = self._rooms
        rows = [
            (rooms[name].base >> OFFSET_BITS, user_id, key, rooms[name].base + record.offset, now)
            for (name, user_id, key), record in keys.items()
        ]
        execute_rows(self._connection, _INSERT_KEYS, rows, 5)
        self._keys_since_expiry += len(keys)
        self._expire_keys(now)

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    def _load_rooms(self, drafts: Sequence[Draft]) -> None:
        """Load the last offsets of the drafts' rooms, and create missing rooms that get a message."""
        missing = {draft.room for draft in drafts if draft.room not in self._rooms}
        if not missing:
            return
        if len(self._rooms) + len(missing) > MAX_CACHED_ROOMS:
            self._rooms.clear()
            missing = {draft.room for draft in drafts}
        written = {draft.room for draft in drafts if not (draft.kind or draft.target)}
        asked = sorted(missing)
        ends = execute_rows(self._connection, _FIND_ENDS, enumerate(asked, 1), 2)
        for number, room_id, place, time in _decode_ends(ends.fetchone()[0]):
            self._rooms[asked[number - 1]] = RoomEnd(room_id << OFFSET_BITS, place % OFFSETS, time)
        for name in asked:
            if name in written and name not in self._rooms:
                self._begin()
                made = self._connection.execute(_MAKE_ROOM, (name,)).fetchall()
                # Without an id left, the room is as one whose offsets are used: its drafts alone are refused.
                self._rooms[name] = RoomEnd(made[0][0] << OFFSET_BITS, 0, 0) if made else RoomEnd(0, HIGHEST, 0)

    def _used_keys(self, drafts: Sequence[Draft], now: int) -> dict[Key, Record]:
        rooms = self._rooms
        asked = {
            (rooms[draft.room].base >> OFFSET_BITS, draft.user_id, draft.key): draft
            for draft in drafts
            if draft.room in rooms
        }
        if not asked:
            return {}
        found = execute_rows(self._connection, _FIND_KEYS, asked, 3).fetchall()
        uses = ((asked[room, user, key], place % OFFSETS, time, row) for room, user, key, place, time, *row in found)
        return used_keys(uses, now)

    def _expire_keys(self, now: int) -> None:
        """Now and then remove the oldest expired keys, up to twice as many as came, so that the table stays small."""
        if self._keys_since_expiry < EXPIRE_EVERY:
            return
        expired = (now, KEY_LIFETIME_MS)
        self._connection.execute(_EXPIRE_KEYS, (*expired, 2 * self._keys_since_expiry, *expired))
        self._keys_since_expiry = 0

    # -- the rows that edits, deletions and reactions alter: see `Rows` ------------------------------------------------

    def rewrite(self, messages: Sequence[Record], emptied: Sequence[Place]) -> None:
        rooms = self._rooms
        rows = [(rooms[message.room].base + message.offset, more_of(message), message.text) for message in messages]
        rows.sort()  # FTS5 begins a segment at each lower place
        rows += [(rooms[room].base + offset, "", "") for room, offset in emptied]
        execute_rows(self._connection, _REWRITE, rows, 3)
        merge(MERGE_PAGES, self._connection)

    def restate(self, messages: Sequence[Record]) -> None:
        rooms, values = self._rooms, list[object]()
        for message in messages:
            values += rooms[message.room].base + message.offset, more_of(message)
        execute_values(self._connection, _RESTATE, values, 2)

    def react(self, reactions: Sequence[Reacted]) -> None:
        execute_values(self._connection, _REACT, self._values_of(reactions), 3)

    def unreact(self, reactions: Sequence[Reacted]) -> None:
        # One condition for each: of a list of rows only the places are looked up, and then all reactions that each has.
        asked = " OR ".join(["(place = ? AND emoji = ? AND user_id = ?)"] * len(reactions))
        values = self._values_of(reactions)
        self._connection.execute(f"DELETE FROM reactions WHERE {asked}", values)  # noqa: S608

    def forget_reactions(self, messages: Sequence[Place]) -> None:
        places = [self._rooms[room].base + offset for room, offset in messages]
        execute_values(self._connection, FORGET_REACTIONS, places, 1)

    def _values_of(self, reactions: Sequence[Reacted]) -> list[object]:
        rooms, values = self._rooms, list[object]()
        for room, offset, emoji, user_id in reactions:
            values += rooms[room].base + offset, emoji, user_id
        return values
