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
from chatserver.log.rows import COLUMNS, more_of, record_of
from chatserver.log.sqlite_file import OFFSETS
from chatserver.log.sqlite_rows import RoomEnd, execute_rows, value_rows

_Reaction: TypeAlias = tuple[int, str, str]  # the message's place, emoji, user


class Changes:
    """The drafts of a group that are about other records, as they are taken up one after the other."""

    def __init__(self, connection: sqlite3.Connection, rooms: Mapping[str, RoomEnd], drafts: Sequence[Draft]) -> None:
        self._connection = connection
        targets = {
            rooms[draft.room].base + draft.target: draft.room
            for draft in drafts
            if draft.room in rooms and 0 < draft.target <= rooms[draft.room].last
        }
        self._records: dict[int, Record] = {}  # what the group is about, and what it has made, by place
        self._read(targets)
        edits = {
            place - record.offset + edit: record.room
            for place, record in self._records.items()
            if (edit := changes.last_edit(record))
        }
        self._read(edits)
        self._rewritten: set[int] = set()  # places of records with another text
        self._restated: set[int] = set()  # of those with other reactions; the index of texts need not know
        self._reacted: dict[_Reaction, bool] = {}
        self._switched: set[_Reaction] = set()
        self._deleted: list[int] = []
        self._read_reactions(
            [
                (rooms[draft.room].base + draft.target, draft.emoji, draft.user_id)
                for draft in drafts
                if draft.kind is Kind.REACTION and draft.room in rooms and 0 < draft.target <= rooms[draft.room].last
            ]
        )

    def _read(self, rooms: Mapping[int, str]) -> None:
        """The records at these places, of these rooms."""
        if rooms:
            for place, *row in execute_rows(self._connection, _find_records, list(rooms), 1).fetchall():
                self._records[place] = record_of(rooms[place], place % OFFSETS, *row)

    def _read_reactions(self, asked: list[_Reaction]) -> None:
        if asked:
            values: list[object] = list(chain.from_iterable(asked))
            found = execute_rows(self._connection, _find_reactions, values, 3).fetchall()
            self._reacted = dict.fromkeys(found, True)

    def instead(self, draft: Draft, room: RoomEnd | None, now: int) -> Stored | Refused | None:
        """What a draft is answered with that is not stored; None: it is."""
        if not (draft.target or draft.kind):
            return None
        message = None if room is None else self._records.get(room.base + draft.target)
        reacted = room is not None and self._has_reacted(room, draft)
        refusal = changes.refusal(draft, message, now, reacted=reacted)
        if refusal is not None:
            return Refused(refusal)
        if draft.kind is Kind.REACTION and draft.on == reacted:
            assert room is not None
            assert message is not None
            return Stored(changes.unchanged(draft, room.last, room.time, message), fresh=False)
        return None

    def _has_reacted(self, room: RoomEnd, draft: Draft) -> bool:
        return self._reacted.get((room.base + draft.target, draft.emoji, draft.user_id), False)

    def make(self, draft: Draft, room: RoomEnd, offset: int, time: int) -> Record:
        """The record of a draft that may happen."""
        if not draft.kind:
            record = changes.plain(draft, offset, time)
        else:
            message = self._records[room.base + draft.target]
            edit = self._records.get(room.base + changes.last_edit(message))
            record = changes.happened(draft, offset, time, message, edit)
            places = self._restated if draft.kind is Kind.REACTION else self._rewritten
            for altered in record.alters:
                self._records[room.base + altered.offset] = altered
                places.add(room.base + altered.offset)
            if draft.kind is Kind.REACTION:
                self._reacted[room.base + draft.target, draft.emoji, draft.user_id] = draft.on
                self._switched.add((room.base + draft.target, draft.emoji, draft.user_id))
            elif draft.kind is Kind.DELETE:
                self._deleted.append(room.base + draft.target)
        self._records[room.base + offset] = record
        return record

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
    return f"UPDATE messages SET more = column2 FROM ({value_rows(rows, 2)}) WHERE place = column1"  # noqa: S608


@cache
def _update_texts(rows: int) -> str:
    return f"""
        UPDATE messages SET more = column2, text = column3 FROM ({value_rows(rows, 3)}) WHERE place = column1
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
