"""Statements that take many rows at a time, and `Tables`.

Owns: the form of such statements. May not: know what they store.

For each statement, and for each row of a result, SQLite releases the interpreter lock and waits for it again: half a
millisecond beside a busy loop. So a statement takes many rows, and a result is one row of JSON.

A statement has a power of two of rows, so 7 prepared statements serve every group; the rows that are not needed are
zeros. `executemany` and `json_each` cost more, and `json_each` silently cuts text at a NUL character.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec

#: Records as JSON: of each a number that says where it is, and its columns.
decode_records = msgspec.json.Decoder(list[tuple[int, int, str, str, str, int, int, str]]).decode


def execute_rows(
    connection: sqlite3.Connection, statement: str, rows: Iterable[Iterable[object]], width: int, *more: object
) -> sqlite3.Cursor:
    """Run a statement for rows of values, in which `ROWS` stands for all rows; `more` are the values after these.

    There may be no row: all are then zeros.
    """
    return execute_values(connection, statement, [*chain.from_iterable(rows)], width, *more)


def execute_values(
    connection: sqlite3.Connection, statement: str, values: Sequence[object], width: int, *more: object
) -> sqlite3.Cursor:
    """The same, with the values of all rows in one sequence: for hot paths, where a tuple for each row costs more."""
    count = len(values) // width
    power = 1 << (count - 1).bit_length()
    zeros = [0] * ((power - count) * width)
    return connection.execute(_for_rows(statement, power, width), [*values, *zeros, *more])


@lru_cache(maxsize=256)  # a dozen statements, each for a few powers of two of rows
def _for_rows(statement: str, rows: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return statement.replace("ROWS", f"VALUES {', '.join([row] * rows)}")


class SqliteTables:
    """`Tables` in SQLite, where one transaction at a time writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, values).fetchall()

    def lock(self, table: str) -> None:
        """See `Tables`."""
