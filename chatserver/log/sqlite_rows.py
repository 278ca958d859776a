"""Rows: how a record stands in the file, and statements that take many rows at a time.

Owns: the columns of messages, and what is in `more`. May not: know what is stored why. A plain message has nothing in
the last three columns, so storing and reading it costs nothing for the others.

Each statement gives the interpreter lock away and waits for it again, up to 5 ms behind a busy loop; each further row
in it costs hardly anything. A statement has a power of two of rows, so 9 prepared statements serve every group. Rows
that are not needed are zeros, since the driver looks for an adapter for each None, 0.4 µs. `executemany` and
`json_each` cost more, and `json_each` cuts text at a NUL character, silently.
"""

import sqlite3
from collections.abc import Callable

import msgspec

from chatserver.log.interface import Kind, Reaction, Record, State

SCHEMA = (
    "ALTER TABLE messages ADD COLUMN kind INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE messages ADD COLUMN target INTEGER NOT NULL DEFAULT 0",  # an offset
    "ALTER TABLE messages ADD COLUMN more TEXT NOT NULL DEFAULT ''",
    # Who has reacted with what; how many they are stands in `more` of the message.
    """CREATE TABLE reactions (
        place INTEGER NOT NULL, emoji TEXT NOT NULL, user_id TEXT NOT NULL, PRIMARY KEY (place, emoji, user_id)
    ) STRICT, WITHOUT ROWID""",
)
#: Of a record in the table of messages, in the order that `record_of` takes them.
COLUMNS = "time, user_id, user_name, text, kind, target, more"


class RoomEnd(msgspec.Struct, gc=False):
    """Where the next record of a room goes. The collector does not visit it: there may be 50,000 of them."""

    base: int  # the place of its offset 0
    last: int
    time: int


class _More(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What few records have, as JSON."""

    mentions: tuple[str, ...] = ()
    state: State | None = None
    reaction: Reaction | None = None


_NOTHING = _More()
_KINDS = tuple(Kind)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_More).decode


def more_of(record: Record) -> str:
    """What of a record stands in `more`."""
    if not (record.mentions or record.state or record.reaction):
        return ""
    return _encode(_More(record.mentions, record.state, record.reaction)).decode()


def record_of(
    room: str, offset: int, time: int, user_id: str, user_name: str, text: str, kind: int, target: int, more: str
) -> Record:
    """The record in a row."""
    if not (kind or target or more):
        return Record(room, offset, time, user_id, user_name, text)
    rest = _decode(more) if more else _NOTHING
    return Record(
        room, offset, time, user_id, user_name, text, _KINDS[kind], target, rest.mentions, rest.state, rest.reaction
    )


def execute_rows(
    connection: sqlite3.Connection, statement: Callable[[int], str], values: list[object], width: int
) -> sqlite3.Cursor:  # fmt: skip
    """Run the statement for as many rows, with their values one after the other; more rows of zeros follow."""
    count = len(values) // width
    rows = 1 << (count - 1).bit_length()
    values.extend([0] * ((rows - count) * width))
    return connection.execute(statement(rows), values)


def value_rows(rows: int, width: int) -> str:
    """`VALUES (?, ?), (?, ?)` for that many rows."""
    row = f"({', '.join('?' * width)})"
    return f"VALUES {', '.join([row] * rows)}"
