"""Edits, deletions and reactions of one group, in SQLite: what they are about is read first, and written last.

Owns: the records that a group alters, and the table of reactions. May not: begin or end a transaction, or decide what
may happen; `changes` does.

A few statements serve a whole group. What one of its drafts alters, the next one finds so: they happen in offset order.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import TypeAlias

from chatserver.log import changes
from chatserver.log.interface import Draft, Kind, Record, Refused, Stored
from chatserver.log.sqlite_file import OFFSETS
from chatserver.log.sqlite_rows import COLUMNS, RoomEnd, execute_rows, more_of, record_of, value_rows

_Reaction: TypeAlias = tuple[int, str, str]  # the message's place, emoji, user


class Changes:
    """The drafts of a group that are about other records, as they are taken up one after the other."""

    def __init__(self, connection: sqlite3.Connection, rooms: Mapping[str, RoomEnd], drafts: Sequence[Draft]) -> None:
        self._connection = connection
        self._records: dict[int, Record] = {}  # what the group is about, and what it has made, by place
        self._rewritten: set[int] = set()  # places of records with another text
        self._restated: set[int] = set()  # of those with other reactions; the index of texts need not know
        self._reacted: dict[_Reaction, bool] = {}
        self._switched: set[_Reaction] = set()
        self._deleted: list[int] = []
        targets: dict[int, str] = {}
        reactions: list[object] = []
        for draft in drafts:
            room = rooms.get(draft.room)
            if room is not None and 0 < draft.target <= room.last:
                place = room.base + draft.target
                targets[place] = draft.room
                if draft.kind is Kind.REACTION:
                    reactions += (place, draft.emoji, draft.user_id)
        self._read(targets)
        self._read(
            {
                place - record.offset + edit: record.room
                for place, record in self._records.items()
                if record.state and (edit := changes.last_edit(record))
            }
        )
        if reactions:
            found = execute_rows(connection, _find_reactions, reactions, 3).fetchall()
            self._reacted = dict.fromkeys(found, True)

    def _read(self, rooms: Mapping[int, str]) -> None:
        """The records at these places, of these rooms."""
        if rooms:
            for place, *row in execute_rows(self._connection, _find_records, list(rooms), 1).fetchall():
                self._records[place] = record_of(rooms[place], place % OFFSETS, *row)

    def take(self, draft: Draft, room: RoomEnd | None, now: int) -> Record | Stored | Refused:
        """The record of the next draft, with the next offset of its room; or what it is answered with instead."""
        place = 0 if room is None else room.base + draft.target
        message = self._records.get(place)
        reaction = place, draft.emoji, draft.user_id
        reacted = self._reacted.get(reaction, False)
        if draft.target or draft.kind:
            refusal = changes.refusal(draft, message, now, reacted=reacted)
            if refusal is not None:
                return Refused(refusal)
        assert room is not None, "the first message makes it"
        if draft.kind is Kind.REACTION and draft.on == reacted:
            assert message is not None
            return Stored(changes.unchanged(draft, room.last, room.time, message), fresh=False)
        room.last = offset = room.last + 1
        room.time = time = max(now, room.time)
        if not draft.kind:
            record = changes.plain(draft, offset, time)
        else:
            assert message is not None
            record = changes.happened(draft, offset, time, message, self._last_edit(room, message))
            self._alter(draft, room, record.alters)
            if draft.kind is Kind.REACTION:
                self._reacted[reaction] = draft.on
                self._switched.add(reaction)
            elif draft.kind is Kind.DELETE:
                self._deleted.append(place)
        self._records[room.base + offset] = record
        return record

    def _last_edit(self, room: RoomEnd, message: Record) -> Record | None:
        edit = changes.last_edit(message)
        return self._records.get(room.base + edit) if edit else None

    def _alter(self, draft: Draft, room: RoomEnd, altered: Sequence[Record]) -> None:
        places = self._restated if draft.kind is Kind.REACTION else self._rewritten
        for record in altered:
            self._records[room.base + record.offset] = record
            places.add(room.base + record.offset)

    def write(self) -> None:
        """Bring what was altered up to date, behind the group's own records."""
        texts: list[object] = []
        for place in self._rewritten:
            texts += (place, more_of(self._records[place]), self._records[place].text)
        self._execute(_update_texts, texts, 3)
        states: list[object] = []
        for place in self._restated - self._rewritten:
            states += (place, more_of(self._records[place]))
        self._execute(_update_states, states, 2)
        for statement, on in ((_insert_reactions, True), (_delete_reactions, False)):
            switched = [reaction for reaction in self._switched if self._reacted[reaction] is on]
            self._execute(statement, list(chain.from_iterable(switched)), 3)
        self._execute(_delete_all_reactions, list(self._deleted), 1)

    def _execute(self, statement: Callable[[int], str], values: list[object], width: int) -> None:
        if values:
            execute_rows(self._connection, statement, values, width)


# Only ? marks and constants of this package are formatted into statements. CROSS JOIN fixes the order: each of the few
# asked ones is looked up among the many kept ones.


@cache
def _find_records(rows: int) -> str:
    return f"SELECT place, {COLUMNS} FROM ({value_rows(rows, 1)}) CROSS JOIN messages ON place = column1"  # noqa: S608


@cache
def _find_reactions(rows: int) -> str:
    return f"""
        SELECT place, emoji, user_id FROM ({value_rows(rows, 3)})
        CROSS JOIN reactions ON place = column1 AND emoji = column2 AND user_id = column3
    """  # noqa: S608


@cache
def _update_states(rows: int) -> str:
    # `UPDATE ... FROM` makes a table of the values first, and takes twice as long. No row is inserted: all are there.
    return f"""
        INSERT INTO messages (place, time, user_id, user_name, text, more)
        SELECT column1, 0, '', '', '', column2 FROM ({value_rows(rows, 2)}) WHERE column1 > 0
        ON CONFLICT (place) DO UPDATE SET more = excluded.more
    """  # noqa: S608


@cache
def _update_texts(rows: int) -> str:
    return f"""
        INSERT INTO messages (place, time, user_id, user_name, text, more)
        SELECT column1, 0, '', '', column3, column2 FROM ({value_rows(rows, 3)}) WHERE column1 > 0
        ON CONFLICT (place) DO UPDATE SET more = excluded.more, text = excluded.text
    """  # noqa: S608


@cache
def _insert_reactions(rows: int) -> str:
    return f"INSERT OR IGNORE INTO reactions SELECT * FROM ({value_rows(rows, 3)}) WHERE column1 > 0"  # noqa: S608


@cache
def _delete_reactions(rows: int) -> str:
    return f"DELETE FROM reactions WHERE (place, emoji, user_id) IN ({value_rows(rows, 3)})"  # noqa: S608


@cache
def _delete_all_reactions(rows: int) -> str:
    return f"DELETE FROM reactions WHERE place IN ({value_rows(rows, 1)})"  # noqa: S608
