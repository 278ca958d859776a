"""Sanctions in PostgreSQL.

Owns: their statements. May not: enforce one, or know who may make one. One server at a time changes them and sends the
others a hint to read them again.
"""

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from chatserver.log import sanctions
from chatserver.log.audit import AuditEntry
from chatserver.log.interface import SANCTIONS_CHANGED
from chatserver.log.postgres_audit import append
from chatserver.log.postgres_connection import Connection
from chatserver.log.postgres_rows import restored_row, stored_row
from chatserver.log.sanctions import Kind, Sanction, TooManySanctionsError

if TYPE_CHECKING:
    from chatserver.log.postgres import PostgresLog

SCHEMA = (
    # An identity column never reuses the id of a sanction that was lifted.
    """CREATE TABLE sanctions (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, room text NOT NULL, kind text NOT NULL,
        "user" text NOT NULL, network text NOT NULL, until bigint NOT NULL, reason text NOT NULL, by_id text NOT NULL,
        by_name text NOT NULL, time bigint NOT NULL, UNIQUE (room, kind, "user", network)
    )""",
    "CREATE INDEX sanctions_by_end ON sanctions (until)",
)
_COLUMNS = 'room, kind, "user", network, until, reason, by_id, by_name, time'
_INSERT = f"INSERT INTO sanctions ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id"  # noqa: S608
_LOCK = "LOCK TABLE sanctions IN SHARE ROW EXCLUSIVE MODE"


class PostgresSanctions:
    """`Sanctions`."""

    def __init__(self, log: "PostgresLog") -> None:
        self._log = log

    async def load(self, now_ms: int) -> list[Sanction]:
        """See `Sanctions`."""
        return await self._log.ask(partial(_load, now_ms))

    async def add(self, sanction: Sanction, entry: AuditEntry) -> Sanction:
        """See `Sanctions`."""
        return await self._log.change("keeping a sanction", partial(_add, sanction, entry), hint=SANCTIONS_CHANGED)

    async def lift(self, id_: int, entry: AuditEntry) -> bool:
        """See `Sanctions`."""
        return await self._log.change("lifting a sanction", partial(_lift, id_, entry), hint=SANCTIONS_CHANGED)


def _load(now_ms: int, connection: Connection) -> list[Sanction]:
    rows = connection.execute(
        f"SELECT {_COLUMNS}, id FROM sanctions WHERE until = 0 OR until > %s ORDER BY id", (now_ms,)  # noqa: S608
    ).fetchall()  # fmt: skip
    return [Sanction(room, Kind(kind), *rest) for room, kind, *rest in map(restored_row, rows)]


def _place(sanction: Sanction) -> tuple[str, str, str, str]:
    """`Sanction.place` as values of columns."""
    room, kind, user, network = sanction.place
    return room, kind.value, user, network


def _add(sanction: Sanction, entry: AuditEntry, connection: Connection) -> Sanction:
    connection.execute(_LOCK)
    connection.execute(
        """DELETE FROM sanctions
        WHERE until BETWEEN 1 AND %s OR (room = %s AND kind = %s AND "user" = %s AND network = %s)""",
        stored_row((sanction.time, *_place(sanction))),
    )
    made = connection.execute(
        _INSERT,
        stored_row(
            (*_place(sanction), sanction.until, sanction.reason, sanction.by_id, sanction.by_name, sanction.time)
        ),
    ).fetchone()
    count = connection.execute("SELECT count(*) FROM sanctions").fetchone()
    assert made is not None
    assert count is not None
    if count[0] > sanctions.MAX_SANCTIONS:
        raise TooManySanctionsError  # this rolls the change back
    append([entry], connection)
    return msgspec.structs.replace(sanction, id=made[0])


def _lift(id_: int, entry: AuditEntry, connection: Connection) -> bool:
    found = connection.execute("DELETE FROM sanctions WHERE id = %s", (id_,)).rowcount > 0
    if found:
        append([entry], connection)
    return found
