"""The data besides messages, in any database: sanctions, sign-outs and the audit trail.

Owns: the interface through which they run the same statements in PostgreSQL and SQLite, which the log in memory uses
too. May not: know a table. The statements on messages and markers are each database's own, because there speed counts.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

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
