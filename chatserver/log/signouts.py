"""Sign-outs everywhere, as the log keeps them: tokens and sessions made before one are no longer valid.

Owns: the value, the statements. May not: know a token.

Each person has at most one, kept until the last token or session that it ends would have expired anyway. Of guests only
the latest are kept; of other users none is dropped, and beyond a bound chat/signed_out.py accepts no more.
"""

from functools import partial

import msgspec

from chatserver.log.interface import SIGNOUTS_CHANGED
from chatserver.log.tables import Database, Tables, remove_expired

#: Sign-outs of guests that are kept; each is 100 bytes of memory.
MAX_GUESTS = 10_000
#: Sign-outs between two removals of those beyond MAX_GUESTS from a database, each of which looks at all that are kept.
TRIM_EVERY = 100
#: Rows of one query, 30 ms: there may be a million, and a query has a few seconds, also at the start of the server.
LOAD_STEP = 10_000


class SignOut(msgspec.Struct, frozen=True, gc=False):
    number: int  # 60 bits, see chat/principal.py
    guest: bool
    time: int  # ms since the Unix epoch
    until: int  # ms since the Unix epoch; anything made before `time` has expired by then


class SignOuts:
    """The sign-outs of an open log. Both methods raise LogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, now_ms: int, after: int = 0) -> tuple[list[SignOut], int]:
        """Those stored after the id `after` that still end tokens or sessions, the oldest first; and the last id."""
        found: list[SignOut] = []
        while True:
            step, last = await self._database.ask_tables(partial(_load, now_ms, after))
            if last == after:
                return found, last
            found += step
            after = last

    async def add(self, sign_out: SignOut) -> None:
        """Store a sign-out, in place of the same person's last one; of the two, the later time counts."""
        add = partial(_add, sign_out)
        await self._database.change_tables("keeping a sign-out", add, hint=SIGNOUTS_CHANGED)


def _load(now_ms: int, after: int, tables: Tables) -> tuple[list[SignOut], int]:
    rows = tables.run(
        "SELECT id, number, guest, time, until FROM signouts WHERE id > ? ORDER BY id LIMIT ?", after, LOAD_STEP
    )
    found = [SignOut(number, bool(guest), time, until) for _, number, guest, time, until in rows if until > now_ms]
    return found, rows[-1][0] if rows else after


def _add(sign_out: SignOut, tables: Tables) -> None:
    tables.lock("signouts")
    # The earlier one goes once the new one is there: SQLite would give its id again, if that is the highest.
    earlier = tables.run(
        "UPDATE signouts SET number = -1 - number WHERE number = ? RETURNING time, until", sign_out.number
    )
    time, until = max([(sign_out.time, sign_out.until), *earlier])
    ((id_,),) = tables.run(
        "INSERT INTO signouts (number, guest, time, until) VALUES (?, ?, ?, ?) RETURNING id",
        sign_out.number, sign_out.guest, time, until,
    )  # fmt: skip
    tables.run("DELETE FROM signouts WHERE number < 0")
    remove_expired("signouts", sign_out.time, tables)
    if id_ % TRIM_EVERY == 0:
        tables.run(
            """DELETE FROM signouts WHERE guest AND id <= (
                SELECT id FROM signouts WHERE guest ORDER BY id DESC LIMIT 1 OFFSET ?
            )""",
            MAX_GUESTS,
        )
