"""The audit trail in PostgreSQL.

Owns: its statements. May not: know what an entry means. `append` is also called by changes that make an entry, inside
their transaction.

One server at a time adds entries, so that their ids become visible in order. Otherwise a reader that continues after an
id would miss an entry with a lower id that was committed later.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from chatserver.log import audit
from chatserver.log.audit import AuditEntry
from chatserver.log.interface import bounded
from chatserver.log.postgres_connection import Connection
from chatserver.log.postgres_rows import restored_row, stored_row

if TYPE_CHECKING:
    from chatserver.log.postgres import PostgresLog

SCHEMA = (
    """CREATE TABLE audit (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, time bigint NOT NULL, by_id text NOT NULL,
        by_name text NOT NULL, network text NOT NULL, action text NOT NULL, room text NOT NULL, target text NOT NULL,
        detail text NOT NULL, minor boolean NOT NULL
    )""",
    "CREATE INDEX audit_by_weight ON audit (minor, id)",
)
_COLUMNS = "time, by_id, by_name, network, action, room, target, detail, minor"
_INSERT = f"INSERT INTO audit ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"  # noqa: S608


class PostgresAudit:
    """An `Audit`."""

    def __init__(self, log: "PostgresLog") -> None:
        self._log = log

    async def add(self, entries: Sequence[AuditEntry]) -> None:
        """See `Audit`."""
        await self._log.change("adding to the audit trail", partial(append, entries))

    async def read(self, *, after: int | None, limit: int) -> list[AuditEntry]:
        """See `Audit`."""
        return await self._log.ask(partial(_read, after, bounded(limit)))


def append(entries: Sequence[AuditEntry], connection: Connection) -> None:
    """Append entries in the current transaction, and remove the oldest beyond the bounds."""
    connection.execute("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE")
    with connection.cursor() as cursor:
        cursor.executemany(
            _INSERT,
            [stored_row(getattr(each, column) for column in _COLUMNS.split(", ")) for each in entries],
        )
    for minor, most in ((False, audit.MAX_ENTRIES), (True, audit.MAX_MINOR_ENTRIES)):
        connection.execute(
            """DELETE FROM audit WHERE minor = %(minor)s AND id <= (
                SELECT id FROM audit WHERE minor = %(minor)s ORDER BY id DESC LIMIT 1 OFFSET %(most)s
            )""",
            {"minor": minor, "most": most},
        )
    oldest_ms = entries[-1].time - audit.MAX_AGE_MS
    # The scan starts at the oldest entry and stops at the first that is young enough, so it passes only expired ones.
    connection.execute(
        "DELETE FROM audit WHERE id < (SELECT id FROM audit WHERE time >= %s ORDER BY id LIMIT 1)", (oldest_ms,)
    )


def _read(after: int | None, limit: int, connection: Connection) -> list[AuditEntry]:
    if after is None:
        rows = connection.execute(
            f"SELECT {_COLUMNS}, id FROM audit ORDER BY id DESC LIMIT %s", (limit,)  # noqa: S608
        ).fetchall()[::-1]  # fmt: skip
    else:
        rows = connection.execute(
            f"SELECT {_COLUMNS}, id FROM audit WHERE id > %s ORDER BY id LIMIT %s", (after, limit)  # noqa: S608
        ).fetchall()  # fmt: skip
    return [AuditEntry(*restored_row(row)) for row in rows]
