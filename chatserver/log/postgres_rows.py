"""Values of many rows as one parameter: arrays, which a statement takes apart with `unnest`.

Owns: the form of arrays, and of texts with a character that PostgreSQL does not store. May not: know a table.

The driver's own arrays look at each value several times, 0.6 µs for each; here a column is joined and replaced as a
whole. A text may not have the character NUL in PostgreSQL, so two characters stand for it, and for the first of them.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from chatserver.log.interface import Record
from chatserver.log.rows import record_of

_ESCAPE = "\x1a"
_ESCAPED = {"\0": f"{_ESCAPE}-", _ESCAPE: f"{_ESCAPE}+"}
_TO_ESCAPE = re.compile(f"[\0{_ESCAPE}]")
_TO_RESTORE = re.compile(f"{_ESCAPE}[-+]")
_RESTORED = {escaped: character for character, escaped in _ESCAPED.items()}


def stored(text: str) -> str:
    """A text as it stands in a table; what a column is compared with has this form as well."""
    return _TO_ESCAPE.sub(lambda found: _ESCAPED[found[0]], text)


def restored(text: str) -> str:
    """The text that stands so in a table."""
    return _TO_RESTORE.sub(lambda found: _RESTORED[found[0]], text) if _ESCAPE in text else text


def stored_row(values: Iterable[object]) -> list[object]:
    """Values of one row, with their texts as they stand in a table."""
    return [stored(value) if isinstance(value, str) else value for value in values]


def restored_row(row: Iterable[Any]) -> list[Any]:
    """Values of one row, with their texts as they were."""
    return [restored(value) if isinstance(value, str) else value for value in row]


def text_array(values: Sequence[str]) -> str:
    """Of texts; the parameter is `%s::text[]`."""
    if not values:
        return "{}"
    joined = "\0".join(values)
    if joined.count("\0") >= len(values) or _ESCAPE in joined:
        joined = "\0".join(map(stored, values))
    quoted = joined.replace("\\", "\\\\").replace('"', '\\"').replace("\0", '","')
    return f'{{"{quoted}"}}'


def plain_array(values: Iterable[object]) -> str:
    """Of numbers, or of what has letters and digits only; the parameter is `%s::bigint[]` or `%s::uuid[]`."""
    return f"{{{','.join(map(str, values))}}}"


def read_record(
    room: str, offset: int, time: int, user_id: str, user_name: str, text: str, kind: int, target: int, more: str
) -> Record:
    """The record in a row, whose room is as it was asked for."""
    return record_of(room, offset, time, restored(user_id), restored(user_name), restored(text), kind, target, more)
