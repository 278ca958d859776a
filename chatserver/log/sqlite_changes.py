"""The rows that edits, deletions and reactions alter, in SQLite.

Owns: their statements. May not: begin or end a transaction, or decide what may happen; `changes` does.
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from itertools import chain

import msgspec

from chatserver.log.changes import Place, Reacted, RoomEnd
from chatserver.log.interface import Record
from chatserver.log.rows import COLUMNS, more_of, record_of
from chatserver.log.sqlite_indexing import MERGE_PAGES, merge
from chatserver.log.sqlite_rows import decode_records, execute_rows

# Only constants of this package are formatted into statements. CROSS JOIN fixes the order: each of the few asked rows
# is looked up among the many kept ones. AS BLOB: else the driver would decode the text, and msgspec encode it again.
_FIND_RECORDS = f"""
    SELECT CAST(json_group_array(json_array(place, {COLUMNS})) AS BLOB) FROM (ROWS)
    CROSS JOIN messages ON place = column1
"""  # noqa: S608
_FIND_REACTIONS = """
    SELECT json_group_array(column1) FROM (ROWS)
    CROSS JOIN reactions ON place = column2 AND emoji = column3 AND user_id = column4
"""
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
_decode_numbers = msgspec.json.Decoder(list[int]).decode


class SqliteChanges:
    """`Rows`; a place in the file combines a room's id and an offset."""

    def __init__(self, connection: sqlite3.Connection, rooms: Mapping[str, RoomEnd]) -> None:
        self._connection = connection
        self._rooms = rooms

    def records(self, places: Collection[Place]) -> dict[Place, Record]:
        if not places:
            return {}
        rooms = self._rooms
        asked = {rooms[place[0]].base + place[1]: place for place in places}
        (rows,) = execute_rows(self._connection, _FIND_RECORDS, zip(asked), 1).fetchone()
        found: dict[Place, Record] = {}
        for place, time, user_id, user_name, text, kind, target, more in decode_records(rows):
            room, offset = at = asked[place]
            found[at] = record_of(room, offset, time, user_id, user_name, text, kind, target, more)
        return found

    def reactions(self, asked: Collection[Reacted]) -> set[Reacted]:
        if not asked:
            return set()
        listed = list(asked)
        rows = [(number, *row) for number, row in enumerate(self._rows_of(listed), 1)]
        (numbers,) = execute_rows(self._connection, _FIND_REACTIONS, rows, 4).fetchone()
        return {listed[number - 1] for number in _decode_numbers(numbers)}

    def rewrite(self, messages: Sequence[Record], emptied: Sequence[Place]) -> None:
        rooms = self._rooms
        rows = [(rooms[message.room].base + message.offset, more_of(message), message.text) for message in messages]
        rows.sort()  # FTS5 begins a segment at each lower place
        rows += [(rooms[room].base + offset, "", "") for room, offset in emptied]
        execute_rows(self._connection, _REWRITE, rows, 3)
        merge(MERGE_PAGES, self._connection)

    def restate(self, messages: Sequence[Record]) -> None:
        rooms = self._rooms
        rows = [(rooms[message.room].base + message.offset, more_of(message)) for message in messages]
        execute_rows(self._connection, _RESTATE, rows, 2)

    def react(self, reactions: Sequence[Reacted]) -> None:
        execute_rows(self._connection, _REACT, self._rows_of(reactions), 3)

    def unreact(self, reactions: Sequence[Reacted]) -> None:
        # One condition for each: of a list of rows only the places are looked up, and then all reactions that each has.
        asked = " OR ".join(["(place = ? AND emoji = ? AND user_id = ?)"] * len(reactions))
        values = [*chain.from_iterable(self._rows_of(reactions))]
        self._connection.execute(f"DELETE FROM reactions WHERE {asked}", values)  # noqa: S608

    def forget_reactions(self, messages: Sequence[Place]) -> None:
        places = [self._rooms[room].base + offset for room, offset in messages]
        execute_rows(self._connection, FORGET_REACTIONS, zip(places), 1)

    def _rows_of(self, reactions: Sequence[Reacted]) -> list[tuple[int, str, str]]:
        return [(self._rooms[room].base + offset, emoji, user_id) for room, offset, emoji, user_id in reactions]
