"""Writing to PostgreSQL: a group of drafts in, a commit, an outcome for each draft out.

Owns: the transaction of a group, idempotency keys. May not: know trio. It runs in a thread, one call at a
time.

A group is two round trips. The first locks its rooms, in the order of their ids so that no two servers deadlock, and
looks up its keys and the messages that it alters. The second inserts the records, updates the last offsets, notifies
the other servers and commits.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar

from chatserver.log.changes import (
    MAX_CACHED_ROOMS,
    Changes,
    Key,
    Place,
    Reacted,
    RoomEnd,
    hints_of,
    targets_of,
    used_keys,
)
from chatserver.log.groups import Outcomes
from chatserver.log.interface import EXPIRE_EVERY, KEY_LIFETIME_MS, Draft, LogUnavailable, Record
from chatserver.log.postgres_connection import NOW_MS, Connection, Session
from chatserver.log.postgres_index import vectors
from chatserver.log.postgres_news import notify
from chatserver.log.postgres_rows import plain_array, plain_arrays, text_array
from chatserver.log.rows import COLUMNS, OF_MESSAGES, more_of

T = TypeVar("T")

# Only constants of this package are formatted into statements.
_FIND_ROOMS = "SELECT name, id FROM rooms WHERE name = ANY(%s::text[])"
_MAKE_ROOMS = """
    INSERT INTO rooms (name) SELECT name FROM unnest(%s::text[]) AS name ORDER BY name ON CONFLICT (name) DO NOTHING
"""
_LOCK = f"""
    SELECT name, id, last, time, {NOW_MS} FROM rooms WHERE id = ANY(%s::bigint[]) ORDER BY id FOR NO KEY UPDATE
"""  # noqa: S608
_FIND_KEYS = f"""
    SELECT number, keys.place, keys.time, {OF_MESSAGES}
    FROM unnest(%s::bigint[], %s::uuid[]) WITH ORDINALITY AS asked (room, used, number)
    JOIN keys USING (room, used)
    LEFT JOIN messages ON messages.room = keys.room AND messages.place = keys.place
"""  # noqa: S608
_INSERT_RECORDS = f"""
    INSERT INTO messages (room, place, words, {COLUMNS})
    SELECT room, place, nullif(words, '')::tsvector, {COLUMNS} FROM unnest(
        %s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::text[], %s::text[],
        %s::smallint[], %s::bigint[], %s::text[]
    ) AS fresh (room, place, words, {COLUMNS})
"""  # noqa: S608
# ON CONFLICT: a key may be used again after its lifetime, before its row is removed.
_INSERT_KEYS = """
    INSERT INTO keys (room, used, place, time)
    SELECT * FROM unnest(%s::bigint[], %s::uuid[], %s::bigint[], %s::bigint[])
    ON CONFLICT (room, used) DO UPDATE SET place = excluded.place, time = excluded.time
"""
_EXPIRE_KEYS = """
    DELETE FROM keys WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM keys WHERE time <= %s ORDER BY time LIMIT %s FOR UPDATE SKIP LOCKED
    ))
"""
_MOVE_ENDS = """
    UPDATE rooms SET last = moved.last, time = moved.time
    FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS moved (id, last, time) WHERE rooms.id = moved.id
"""
_ASKED = "unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[])"
_REACTED = f"{_ASKED} AS asked (room, place, emoji, user_id)"
_FIND_TARGETS = f"""
    SELECT number - 1, reactions.place IS NOT NULL, {OF_MESSAGES}
    FROM {_ASKED} WITH ORDINALITY AS asked (room, place, emoji, by_id, number)
    JOIN messages ON messages.room = asked.room AND messages.place = asked.place
    LEFT JOIN reactions ON (reactions.room, reactions.place, reactions.emoji, reactions.user_id)
        = (asked.room, asked.place, asked.emoji, by_id)
"""  # noqa: S608
_RESTATE = """
    UPDATE messages SET more = altered.more
    FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) AS altered (room, place, more)
    WHERE messages.room = altered.room AND messages.place = altered.place
"""
_REWRITE = """
    UPDATE messages SET more = altered.more, text = altered.text, words = nullif(altered.words, '')::tsvector
    FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[])
        AS altered (room, place, more, text, words)
    WHERE messages.room = altered.room AND messages.place = altered.place
"""
EMPTY = """
    UPDATE messages SET text = '' FROM unnest(%s::bigint[], %s::bigint[]) AS asked (room, place)
    WHERE messages.room = asked.room AND messages.place = asked.place
"""
_REACT = f"INSERT INTO reactions (room, place, emoji, user_id) SELECT * FROM {_REACTED} ON CONFLICT DO NOTHING"  # noqa: S608
_UNREACT = f"""
    DELETE FROM reactions USING {_REACTED}
    WHERE (reactions.room, reactions.place, reactions.emoji, reactions.user_id)
        = (asked.room, asked.place, asked.emoji, asked.user_id)
"""  # noqa: S608
FORGET_REACTIONS = """
    DELETE FROM reactions USING unnest(%s::bigint[], %s::bigint[]) AS asked (room, place)
    WHERE reactions.room = asked.room AND reactions.place = asked.place
"""


class PostgresWriter:
    """Commits groups on one session, and other changes on another. `wall_ms`: None means the clock of the database.

    `begin_epoch` is called when the database lacks records that were committed or read here.
    """

    def __init__(
        self, session: Session, change_session: Session, node: str, wall_ms: Callable[[], int] | None,
        begin_epoch: Callable[[Connection], None],
    ) -> None:  # fmt: skip
        self._session = session
        self._change_session = change_session
        self._node = node
        self._wall_ms = wall_ms
        self._begin_epoch = begin_epoch
        self._ids: dict[str, int] = {}  # ids of rooms, which never change
        self._committed: dict[str, int] = {}  # the last offset that was committed here, of some of these rooms
        self._keys_since_expiry = 0

    def close(self) -> None:
        self._session.close()

    def commit(self, drafts: Sequence[Draft]) -> Outcomes:
        return self._session.run("storing a message", partial(self._commit, drafts))

    def _commit(self, drafts: Sequence[Draft], connection: Connection) -> Outcomes:
        ids = self._find_rooms(connection, drafts)
        keyed = {
            (draft.room, draft.user_id, draft.key): draft
            for draft in drafts
            if draft.key is not None and draft.room in ids
        }
        uses = {key: _digest(key) for key in keyed}
        asked = targets_of(drafts, ids)
        rows = _Rows(connection, ids)
        with connection.pipeline():
            connection.execute("BEGIN")
            locked = connection.execute(_LOCK, (plain_array(sorted(ids.values())),))
            if uses:
                found = connection.execute(_FIND_KEYS, plain_arrays((ids[key[0]], use) for key, use in uses.items()))
            targets = rows.find(asked) if asked else ()
        ends = locked.fetchall()
        rooms = {name: RoomEnd(id_, last, time) for name, id_, last, time, _ in ends}
        self._check_history(connection, drafts, ids, rooms)
        now = max((row[4] for row in ends), default=0) if self._wall_ms is None else self._wall_ms()
        used: dict[Key, Record] = {}
        if uses:
            repeated = list(keyed.values())
            used = used_keys(((repeated[number - 1], offset, time, row) for number, offset, time, *row in found), now)
        changes = Changes(rows, rooms, asked, targets)
        outcomes, fresh, new_keys = changes.apply(drafts, used, now)
        if not fresh:
            # The locks make even this commit wait for a synchronous standby, which may lack the first attempt's.
            connection.execute("COMMIT")
            return outcomes
        written = {record.room: rooms[record.room] for record in fresh}
        with connection.pipeline():
            _insert(connection, fresh, rooms)
            changes.write()
            if new_keys:
                keys = [(rooms[key[0]].base, uses[key], record.offset, now) for key, record in new_keys.items()]
                self._write_keys(connection, keys, now)
            connection.execute(_MOVE_ENDS, plain_arrays((room.base, room.last, room.time) for room in written.values()))
            notify(connection, self._node, hints_of(fresh))
            connection.execute("COMMIT")
        self._committed.update((name, room.last) for name, room in written.items())
        return outcomes

    def _check_history(
        self, connection: Connection, drafts: Sequence[Draft], ids: Mapping[str, int], rooms: Mapping[str, RoomEnd]
    ) -> None:
        """Raise LogUnavailable if the rooms of a group are not as this server knows them: a backup was restored."""
        known = [(draft.room, max(draft.known, self._committed.get(draft.room, 0))) for draft in drafts]
        if any((rooms[name].last if name in rooms else 0) < last for name, last in known):
            self._begin_epoch(connection)
            raise LogUnavailable("storing a message failed: the database lacks messages that were stored in it")
        if rooms.keys() != ids.keys():  # after the restore of a dump, an id may be that of another room
            self._forget_rooms()
            raise LogUnavailable("storing a message failed: rows of rooms were removed or changed by another program")

    def _find_rooms(self, connection: Connection, drafts: Sequence[Draft]) -> dict[str, int]:
        """The ids of the drafts' rooms. Rooms that get a message are created, in a transaction of their own.

        In the group's transaction that could deadlock: one server would wait for a locked room, the other for a room
        being created.
        """
        names = {draft.room for draft in drafts}
        missing = {name for name in names if name not in self._ids}  # `names - keys()` visits all keys
        if missing:
            if len(self._ids) + len(missing) > MAX_CACHED_ROOMS:
                self._forget_rooms()
                missing = names
            self._look_up(connection, missing)
            written = {draft.room for draft in drafts if not (draft.kind or draft.target)}
            to_make = sorted(name for name in written if name not in self._ids)
            if to_make:
                connection.execute(_MAKE_ROOMS, (text_array(to_make),))
                self._look_up(connection, to_make)
        return {name: self._ids[name] for name in names if name in self._ids}

    def _forget_rooms(self) -> None:
        self._ids.clear()
        self._committed.clear()

    def _look_up(self, connection: Connection, names: Iterable[str]) -> None:
        self._ids.update(connection.execute(_FIND_ROOMS, (text_array(list(names)),)).fetchall())

    def _write_keys(self, connection: Connection, keys: Sequence[tuple[int, str, int, int]], now: int) -> None:
        connection.execute(_INSERT_KEYS, plain_arrays(keys))
        self._keys_since_expiry += len(keys)
        if self._keys_since_expiry >= EXPIRE_EVERY:  # remove up to twice as many as came, so the table stays small
            connection.execute(_EXPIRE_KEYS, (now - KEY_LIFETIME_MS, 2 * self._keys_since_expiry))
            self._keys_since_expiry = 0

    def change(self, doing: str, work: Callable[[Connection], T], hint: str = "") -> T:
        """See `Writer`; beside the groups."""

        def whole(connection: Connection) -> T:
            connection.execute("BEGIN")
            done = work(connection)
            if hint:
                notify(connection, self._node, {hint: 0})
            connection.execute("COMMIT")
            return done

        return self._change_session.run(doing, whole)


class _Rows:
    """`Rows` of the group's rooms, which are locked. `ids` are those of the rooms."""

    def __init__(self, connection: Connection, ids: Mapping[str, int]) -> None:
        self._connection = connection
        self._ids = ids

    def find(self, asked: Sequence[Reacted]) -> Iterable[Sequence[Any]]:
        """See `changes.Changes`; to be read after the pipeline."""
        return self._connection.execute(_FIND_TARGETS, self._reacted(asked))

    def rewrite(self, messages: Sequence[Record], emptied: Sequence[Place]) -> None:
        texts = text_array([message.text for message in messages])
        self._connection.execute(_REWRITE, (*self._states(messages), texts, vectors(messages)))
        if emptied:
            self._connection.execute(EMPTY, self._arrays(emptied))

    def restate(self, messages: Sequence[Record]) -> None:
        self._connection.execute(_RESTATE, self._states(messages))

    def react(self, reactions: Sequence[Reacted]) -> None:
        self._connection.execute(_REACT, self._reacted(reactions))

    def unreact(self, reactions: Sequence[Reacted]) -> None:
        self._connection.execute(_UNREACT, self._reacted(reactions))

    def forget_reactions(self, messages: Sequence[Place]) -> None:
        self._connection.execute(FORGET_REACTIONS, self._arrays(messages))

    def _arrays(self, places: Sequence[Place]) -> tuple[str, str]:
        return plain_array(self._ids[room] for room, _ in places), plain_array(offset for _, offset in places)

    def _states(self, records: Sequence[Record]) -> tuple[str, ...]:
        places = self._arrays([(record.room, record.offset) for record in records])
        return *places, text_array([more_of(record) for record in records])

    def _reacted(self, reactions: Sequence[Reacted]) -> tuple[str, ...]:
        places = self._arrays([(room, offset) for room, offset, _, _ in reactions])
        emoji = [each for _, _, each, _ in reactions]
        return *places, text_array(emoji), text_array([user_id for *_, user_id in reactions])


def _insert(connection: Connection, records: Sequence[Record], rooms: dict[str, RoomEnd]) -> None:
    values = (
        plain_array(rooms[record.room].base for record in records),
        plain_array(record.offset for record in records),
        vectors(records),
        plain_array(record.time for record in records),
        text_array([record.user_id for record in records]),
        text_array([record.user_name for record in records]),
        text_array([record.text for record in records]),
        plain_array(record.kind.value for record in records),
        plain_array(record.target for record in records),
        text_array([more_of(record) for record in records]),
    )
    connection.execute(_INSERT_RECORDS, values)


def _digest(key: Key) -> str:
    """A digest of user and key; the room has its own column."""
    _, user_id, name = key
    return blake2b(f"{len(user_id)} {user_id}{name}".encode(), digest_size=16).hexdigest()
