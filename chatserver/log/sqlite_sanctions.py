"""Sanctions in the log's database.

Owns: their statements. May not: enforce one, or know who may make one.
"""

import sqlite3
from typing import TYPE_CHECKING

import msgspec

from chatserver.log import sanctions
from chatserver.log.audit import AuditEntry
from chatserver.log.interface import SANCTIONS_CHANGED
from chatserver.log.sanctions import Kind, Sanction, TooManySanctionsError
from chatserver.log.sqlite_audit import append

if TYPE_CHECKING:
    from chatserver.log.sqlite import SqliteLog

SCHEMA = (
    # AUTOINCREMENT: the id of a sanction that was lifted is never reused.
    """CREATE TABLE sanctions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, room TEXT NOT NULL, kind TEXT NOT NULL, user TEXT NOT NULL,
        network TEXT NOT NULL, until INTEGER NOT NULL, reason TEXT NOT NULL, by_id TEXT NOT NULL, by_name TEXT NOT NULL,
        time INTEGER NOT NULL, UNIQUE (room, kind, user, network)
    ) STRICT""",
    "CREATE INDEX sanctions_by_end ON sanctions (until)",
)
_COLUMNS = "room, kind, user, network, until, reason, by_id, by_name, time"
_INSERT = f"INSERT OR REPLACE INTO sanctions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


class SqliteSanctions:
    """`Sanctions`."""

    def __init__(self, log: "SqliteLog") -> None:
        self._log = log

    async def load(self, now_ms: int) -> list[Sanction]:
        """See `Sanctions`."""
        return await self._log.ask(lambda connection: _load(connection, now_ms))

    async def add(self, sanction: Sanction, entry: AuditEntry) -> Sanction:
        """See `Sanctions`."""
        kept = await self._log.change("keeping a sanction", lambda connection: _add(connection, sanction, entry))
        self._log.tell({SANCTIONS_CHANGED: kept.id})
        return kept

    async def lift(self, id_: int, entry: AuditEntry) -> bool:
        """See `Sanctions`."""
        was_there = await self._log.change("lifting a sanction", lambda connection: _lift(connection, id_, entry))
        self._log.tell({SANCTIONS_CHANGED: id_})
        return was_there


def _load(connection: sqlite3.Connection, now_ms: int) -> list[Sanction]:
    rows = connection.execute(
        f"SELECT {_COLUMNS}, id FROM sanctions WHERE until = 0 OR until > ? ORDER BY id", (now_ms,)  # noqa: S608
    ).fetchall()  # fmt: skip
    return [Sanction(room, Kind(kind), *rest) for room, kind, *rest in rows]


def _add(connection: sqlite3.Connection, sanction: Sanction, entry: AuditEntry) -> Sanction:
    connection.execute("DELETE FROM sanctions WHERE until BETWEEN 1 AND ?", (sanction.time,))
    made = connection.execute(
        _INSERT,
        (sanction.room, sanction.kind.value, sanction.user, sanction.network, sanction.until, sanction.reason,
         sanction.by_id, sanction.by_name, sanction.time),
    )  # fmt: skip
    (count,) = connection.execute("SELECT count(*) FROM sanctions").fetchone()
    if count > sanctions.MAX_SANCTIONS:
        raise TooManySanctionsError  # this rolls the change back
    append(connection, [entry])
    assert made.lastrowid is not None
    return msgspec.structs.replace(sanction, id=made.lastrowid)


def _lift(connection: sqlite3.Connection, id_: int, entry: AuditEntry) -> bool:
    found = connection.execute("DELETE FROM sanctions WHERE id = ?", (id_,)).rowcount > 0
    if found:
        append(connection, [entry])
    return found
