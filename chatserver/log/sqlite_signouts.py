"""Sign-outs in the log's database.

Owns: their statements. May not: know a token.
"""

import sqlite3
from typing import TYPE_CHECKING

from chatserver.log import signouts
from chatserver.log.interface import SIGNOUTS_CHANGED
from chatserver.log.signouts import SignOut

if TYPE_CHECKING:
    from chatserver.log.sqlite import SqliteLog

SCHEMA = (
    # id: ascends in the order of the sign-outs.
    """CREATE TABLE signouts (
        id INTEGER PRIMARY KEY, number INTEGER NOT NULL UNIQUE, guest INTEGER NOT NULL, time INTEGER NOT NULL,
        until INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX signouts_by_end ON signouts (until)",
)


class SqliteSignOuts:
    """`SignOuts`."""

    def __init__(self, log: "SqliteLog") -> None:
        self._log = log

    async def load(self, now_ms: int) -> list[SignOut]:
        """See `SignOuts`."""
        return await self._log.ask(lambda connection: _load(connection, now_ms))

    async def add(self, sign_out: SignOut) -> None:
        """See `SignOuts`."""
        await self._log.change("keeping a sign-out", lambda connection: _add(connection, sign_out))
        self._log.tell({SIGNOUTS_CHANGED: sign_out.time})


def _load(connection: sqlite3.Connection, now_ms: int) -> list[SignOut]:
    rows = connection.execute("SELECT number, guest, time, until FROM signouts WHERE until > ? ORDER BY id", (now_ms,))
    return [SignOut(number, bool(guest), time, until) for number, guest, time, until in rows.fetchall()]


def _add(connection: sqlite3.Connection, sign_out: SignOut) -> None:
    connection.execute("DELETE FROM signouts WHERE until <= ?", (sign_out.time,))
    made = connection.execute(
        "INSERT OR REPLACE INTO signouts (number, guest, time, until) VALUES (?, ?, ?, ?)",
        (sign_out.number, sign_out.guest, sign_out.time, sign_out.until),
    )
    assert made.lastrowid is not None
    if made.lastrowid % signouts.TRIM_EVERY == 0:
        connection.execute(
            """DELETE FROM signouts WHERE id IN (
                SELECT id FROM signouts WHERE guest = 1 ORDER BY id DESC LIMIT -1 OFFSET ?
            )""",
            (signouts.MAX_GUESTS,),
        )
