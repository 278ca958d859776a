"""The values of many rows as one parameter: arrays, which a statement takes apart with `unnest`. And `Tables`.

Owns: the form of arrays, and the escaping of a character that PostgreSQL does not store. May not: know a table.

The driver's own arrays cost 0.6 µs a value; here a column is joined and escaped as a whole. PostgreSQL's texts cannot
hold NUL, so an escape character and a second one stand for it, and for the escape character itself.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from chatserver.log.interface import Record
from chatserver.log.postgres_connection import Connection
from chatserver.log.rows import record_of

_ESCAPE = "\x1a"
_ESCAPED = {"\0": f"{_ESCAPE}-", _ESCAPE: f"{_ESCAPE}+"}
_TO_ESCAPE = re.compile(f"[\0{_ESCAPE}]")
_TO_RESTORE = re.compile(f"{_ESCAPE}[-+]")
_RESTORED = {escaped: character for character, escaped in _ESCAPED.items()}


def stored(text: str) -> str:
    """A text in the form of the tables; values to compare a column with need this form too."""
    return _TO_ESCAPE.sub(lambda found: _ESCAPED[found[0]], text)


def restored(text: str) -> str:
    """The original of a text in the form of the tables."""
    return _TO_RESTORE.sub(lambda found: _RESTORED[found[0]], text) if _ESCAPE in text else text


def text_array(values: Sequence[str]) -> str:
    """An array of texts; the parameter is `%s::text[]`."""
    if not values:
        return "{}"
    joined = "\0".join(values)
    if joined.count("\0") >= len(values) or _ESCAPE in joined:
        joined = "\0".join(map(stored, values))
    quoted = joined.replace("\\", "\\\\").replace('"', '\\"').replace("\0", '","')
    return f'{{"{quoted}"}}'


def plain_array(values: Iterable[object]) -> str:
    """An array of numbers, or of texts of letters and digits; the parameter is `%s::bigint[]` or `%s::uuid[]`."""
    return f"{{{','.join(map(str, values))}}}"


def read_record(
    room: str, offset: int, time: int, user_id: str, user_name: str, text: str, kind: int, target: int, more: str
) -> Record:
    """The record in a row; `room` is not from the row, so it is not restored."""
    return record_of(room, offset, time, restored(user_id), restored(user_name), restored(text), kind, target, more)


class PostgresTables:
    """`Tables` in PostgreSQL."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """See `Tables`."""
        done = self._connection.execute(
            statement.replace("?", "%s"), [stored(value) if isinstance(value, str) else value for value in values]
        )
        if done.description is None:
            return []
        return [tuple(restored(each) if isinstance(each, str) else each for each in row) for row in done.fetchall()]

    def lock(self, table: str) -> None:
        """See `Tables`."""
        self._connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
