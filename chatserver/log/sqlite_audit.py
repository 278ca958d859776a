"""The audit trail in the log's database.

Owns: its statements. May not: know what an entry means. `append` is also called by changes that make an entry, inside
their transaction.
"""

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chatserver.log import audit
from chatserver.log.audit import AuditEntry
from chatserver.log.interface import bounded

if TYPE_CHECKING:
    from chatserver.log.sqlite import SqliteLog

SCHEMA = (
    """CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, by_id TEXT NOT NULL, by_name TEXT NOT NULL,
        network TEXT NOT NULL, action TEXT NOT NULL, room TEXT NOT NULL, target TEXT NOT NULL, detail TEXT NOT NULL,
        minor INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX audit_by_weight ON audit (minor, id)",
)
_COLUMNS = "time, by_id, by_name, network, action, room, target, detail, minor"


class SqliteAudit:
    """An `Audit`."""

    def __init__(self, log: "SqliteLog") -> None:
        self._log = log

    async def add(self, entries: Sequence[AuditEntry]) -> None:
        """See `Audit`."""
        await self._log.change("adding to the audit trail", lambda connection: append(connection, entries))

    async def read(self, *, after: int | None, limit: int) -> list[AuditEntry]:
        """See `Audit`."""
        return await self._log.ask(lambda connection: _read(connection, after, bounded(limit)))


def append(connection: sqlite3.Connection, entries: Sequence[AuditEntry]) -> None:
    """Append entries in the current transaction, and remove the oldest beyond the bounds."""
    connection.executemany(
        f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        [
            (each.time, each.by_id, each.by_name, each.network, each.action, each.room, each.target, each.detail,
             int(each.minor))
            for each in entries
        ],
    )  # fmt: skip
    for minor, most in enumerate((audit.MAX_ENTRIES, audit.MAX_MINOR_ENTRIES)):
        connection.execute(
            """DELETE FROM audit WHERE minor = ?1 AND id <= (
                SELECT id FROM audit WHERE minor = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2
            )""",
            (minor, most),
        )
    oldest_ms = entries[-1].time - audit.MAX_AGE_MS
    # The scan starts at the oldest entry and stops at the first that is young enough, so it passes only expired ones.
    connection.execute(
        "DELETE FROM audit WHERE id < (SELECT id FROM audit WHERE time >= ? ORDER BY id LIMIT 1)", (oldest_ms,)
    )


def _read(connection: sqlite3.Connection, after: int | None, limit: int) -> list[AuditEntry]:
    if after is None:
        rows = connection.execute(
            f"SELECT {_COLUMNS}, id FROM audit ORDER BY id DESC LIMIT ?", (limit,)  # noqa: S608
        ).fetchall()[::-1]  # fmt: skip
    else:
        rows = connection.execute(
            f"SELECT {_COLUMNS}, id FROM audit WHERE id > ? ORDER BY id LIMIT ?", (after, limit)  # noqa: S608
        ).fetchall()  # fmt: skip
    return [AuditEntry(*(*row[:8], bool(row[8]), row[9])) for row in rows]
