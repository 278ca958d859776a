"""The rows that edits, deletions and reactions alter, in SQLite.

Owns: their statements. May not: begin or end a transaction, or decide what may happen; `changes` does.
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence

import msgspec

from chatserver.log.changes import Place, Reacted, RoomEnd
from chatserver.log.interface import Record
from chatserver.log.rows import OF_MESSAGES, more_of, record_of
from chatserver.log.sqlite_indexing import MERGE_PAGES, merge
from chatserver.log.sqlite_rows import execute_rows, execute_values

# Only constants of this package are formatted into statements. CROSS JOIN fixes the order: each of the few asked rows
# is looked up among the many kept ones. AS BLOB: else the driver would decode the text, and msgspec encode it again.
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
_decode_targets = msgspec.json.Decoder(list[tuple[int, int, int, str, str, str, int, int, str]]).decode


class SqliteChanges:
    """`Rows`; a place in the file combines a room's id and an offset."""

    def __init__(self, connection: sqlite3.Connection, rooms: Mapping[str, RoomEnd]) -> None:
        self._connection = connection
        self._rooms = rooms

    def targets(
        self, places: Collection[Place], reactions: Collection[Reacted]
    ) -> tuple[dict[Place, Record], set[Reacted]]:
        """The records at these places, and those of the reactions that exist; their messages are among the places."""
        found: dict[Place, Record] = {}
        reacted: set[Reacted] = set()
        if not places:
            return found, reacted
        alone = {*places}.difference([reaction[:2] for reaction in reactions])
        asked = [*reactions, *[(room, offset, "", "") for room, offset in alone]]
        rooms, values = self._rooms, list[object]()
        for number, (room, offset, emoji, user_id) in enumerate(asked):
            values += number, rooms[room].base + offset, emoji, user_id
        (rows,) = execute_values(self._connection, _FIND_TARGETS, values, 4).fetchone()
        for number, is_there, time, user_id, user_name, text, kind, target, more in _decode_targets(rows):
            room, offset, _, _ = reaction = asked[number]
            if is_there:
                reacted.add(reaction)
            at = room, offset
            if at not in found:
                found[at] = record_of(room, offset, time, user_id, user_name, text, kind, target, more)
        return found, reacted

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
