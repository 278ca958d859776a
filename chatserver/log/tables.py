"""The data besides messages, in any database: sanctions, sign-outs and the audit trail.

Owns: the interface through which they run the same statements in PostgreSQL and SQLite, which the log in memory uses
too. May not: know a table. The statements on messages and markers are each database's own, because there speed counts.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

#: Expired rows that one change removes at most: 5 ms, for which commits wait in SQLite. There may be a million.
EXPIRED_AT_ONCE = 200

T = TypeVar("T")


class Tables(Protocol):
    """The tables of a database, in a query or in one transaction."""

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement, with a ? for each value; returns the rows of its result."""

    def lock(self, table: str) -> None:
        """Until the end of the transaction, let no other change this table."""


class Database(Protocol):
    """A log in a database. Both methods raise LogUnavailable."""

    async def ask_tables(self, query: Callable[[Tables], T]) -> T:
        """Run a query in a reading thread."""

    async def change_tables(self, doing: str, work: Callable[[Tables], T], *, hint: str = "") -> T:
        """Run `work` as one transaction, in the thread for changes; then give other processes the hint."""


def remove_expired(table: str, now_ms: int, tables: Tables) -> None:
    """Remove rows of a table whose `until` is over, the earliest first; 0 has no end."""
    tables.run(
        f"DELETE FROM {table} WHERE id IN"  # noqa: S608  (a name in this package)
        f" (SELECT id FROM {table} WHERE until BETWEEN 1 AND ? ORDER BY until LIMIT ?)",
        now_ms, EXPIRED_AT_ONCE,
    )  # fmt: skip
