"""Sign-outs in PostgreSQL.

Owns: their statements. May not: know a token. One server at a time changes them and sends the others a hint to read
them again.
"""

from functools import partial
from typing import TYPE_CHECKING

from chatserver.log import signouts
from chatserver.log.interface import SIGNOUTS_CHANGED
from chatserver.log.postgres_connection import Connection
from chatserver.log.signouts import SignOut

if TYPE_CHECKING:
    from chatserver.log.postgres import PostgresLog

SCHEMA = (
    # id: ascends in the order of the sign-outs.
    """CREATE TABLE signouts (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number bigint NOT NULL UNIQUE, guest boolean NOT NULL,
        time bigint NOT NULL, until bigint NOT NULL
    )""",
    "CREATE INDEX signouts_by_end ON signouts (until)",
)


class PostgresSignOuts:
    """`SignOuts`."""

    def __init__(self, log: "PostgresLog") -> None:
        self._log = log

    async def load(self, now_ms: int) -> list[SignOut]:
        """See `SignOuts`."""
        return await self._log.ask(partial(_load, now_ms))

    async def add(self, sign_out: SignOut) -> None:
        """See `SignOuts`."""
        await self._log.change("keeping a sign-out", partial(_add, sign_out), hint=SIGNOUTS_CHANGED)


def _load(now_ms: int, connection: Connection) -> list[SignOut]:
    rows = connection.execute("SELECT number, guest, time, until FROM signouts WHERE until > %s ORDER BY id", (now_ms,))
    return [SignOut(*row) for row in rows.fetchall()]


def _add(sign_out: SignOut, connection: Connection) -> None:
    connection.execute("LOCK TABLE signouts IN SHARE ROW EXCLUSIVE MODE")
    connection.execute("DELETE FROM signouts WHERE until <= %s OR number = %s", (sign_out.time, sign_out.number))
    made = connection.execute(
        "INSERT INTO signouts (number, guest, time, until) VALUES (%s, %s, %s, %s) RETURNING id",
        (sign_out.number, sign_out.guest, sign_out.time, sign_out.until),
    ).fetchone()
    assert made is not None
    if made[0] % signouts.TRIM_EVERY == 0:
        connection.execute(
            """DELETE FROM signouts WHERE id IN (
                SELECT id FROM signouts WHERE guest ORDER BY id DESC OFFSET %s
            )""",
            (signouts.MAX_GUESTS,),
        )
