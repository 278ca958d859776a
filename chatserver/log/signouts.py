"""Sign-outs everywhere, as the log keeps them: tokens and sessions made before one are no longer valid.

Owns: the value, the statements. May not: know a token.

Each person has at most one, kept until the last token or session that it ends would have expired anyway. Of guests only
the latest are kept; of other users none is dropped, and beyond a bound no more are accepted.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice

import msgspec

from chatserver.log.interface import SIGNOUTS_CHANGED
from chatserver.log.tables import Database, Tables

#: Sign-outs of guests that are kept; each is 100 bytes of memory.
MAX_GUESTS = 10_000
#: Sign-outs of other users that are accepted, of 400 days; each is 230 bytes of memory in each process.
MAX_USERS = 1_000_000
#: Sign-outs between two removals of those beyond MAX_GUESTS from a database, each of which looks at all that are kept.
TRIM_EVERY = 100
#: Of the oldest sign-outs, how many are looked at for each new one: more than one, so that expired ones become fewer.
EXPIRED_AT_ONCE = 2


class SignOut(msgspec.Struct, frozen=True, gc=False):
    """The sign-out of one person."""

    number: int  # 60 bits, see chat/principal.py
    guest: bool
    time: int  # ms since the Unix epoch
    until: int  # ms since the Unix epoch; anything made before `time` has expired by then


class SignOutTable:
    """The last sign-out of each person, the oldest first, without the oldest of guests beyond MAX_GUESTS.

    Each that is put in removes at most EXPIRED_AT_ONCE expired ones: to look at all of them takes 2 ms.
    """

    def __init__(self, sign_outs: Iterable[SignOut] = ()) -> None:
        self._kept: dict[int, SignOut] = {}
        self._guests: dict[int, None] = {}  # the same, for guests
        for each in sign_outs:
            self.put(each)

    def get(self, number: int) -> SignOut | None:
        """The last sign-out of a person, if it is kept."""
        return self._kept.get(number)

    def put(self, sign_out: SignOut) -> None:
        """Add a sign-out, in place of an earlier one of the same person."""
        number = sign_out.number
        self._remove(number)
        self._kept[number] = sign_out
        if sign_out.guest:
            self._guests[number] = None
            if len(self._guests) > MAX_GUESTS:
                self._remove(next(iter(self._guests)))
        self._remove_expired(sign_out.time)

    def takes(self, number: int, now_ms: int) -> bool:
        """Whether a sign-out of this user, who is no guest, may be added."""
        self._remove_expired(now_ms)
        return number in self._kept or len(self._kept) - len(self._guests) < MAX_USERS

    def _remove_expired(self, now_ms: int) -> None:
        for each in list(islice(self._kept.values(), EXPIRED_AT_ONCE)):
            if each.until <= now_ms:
                self._remove(each.number)

    def _remove(self, number: int) -> None:
        self._kept.pop(number, None)
        self._guests.pop(number, None)

    def __iter__(self) -> Iterator[SignOut]:
        return iter(self._kept.values())


class SignOuts:
    """The sign-outs of an open log. Both methods raise LogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, now_ms: int) -> list[SignOut]:
        """All sign-outs that still end tokens or sessions, the oldest first."""
        return await self._database.ask_tables(partial(_load, now_ms))

    async def add(self, sign_out: SignOut) -> None:
        """Store a sign-out, in place of an earlier one of the same person."""
        add = partial(_add, sign_out)
        await self._database.change_tables("keeping a sign-out", add, hint=SIGNOUTS_CHANGED)


def _load(now_ms: int, tables: Tables) -> list[SignOut]:
    rows = tables.run("SELECT number, guest, time, until FROM signouts WHERE until > ? ORDER BY id", now_ms)
    return [SignOut(number, bool(guest), time, until) for number, guest, time, until in rows]


def _add(sign_out: SignOut, tables: Tables) -> None:
    tables.lock("signouts")
    tables.run("DELETE FROM signouts WHERE until <= ? OR number = ?", sign_out.time, sign_out.number)
    ((id_,),) = tables.run(
        "INSERT INTO signouts (number, guest, time, until) VALUES (?, ?, ?, ?) RETURNING id",
        sign_out.number, sign_out.guest, sign_out.time, sign_out.until,
    )  # fmt: skip
    if id_ % TRIM_EVERY == 0:
        tables.run(
            """DELETE FROM signouts WHERE guest AND id <= (
                SELECT id FROM signouts WHERE guest ORDER BY id DESC LIMIT 1 OFFSET ?
            )""",
            MAX_GUESTS,
        )
