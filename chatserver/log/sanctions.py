"""Mutes and bans, as the log keeps them.

Owns: the value, the bound, the statements. May not: enforce one; chat/moderation.py does.

A user or network in a room has at most one sanction of each kind: a new one replaces it.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any

import msgspec

from chatserver.log.audit import AuditEntry, append
from chatserver.log.interface import SANCTIONS_CHANGED
from chatserver.log.tables import Database, Tables, remove_expired

#: Sanctions in force at a time; each is 0.5 KB of memory, and all are read when the server starts.
MAX_SANCTIONS = 50_000
#: Those in single rooms that one moderator may have made: a moderator of one room must not prevent bans in others.
MAX_BY_ONE = 5_000
#: The name that stands for every room.
EVERYWHERE = "*"


class Penalty(StrEnum):
    """The kinds of sanction, by what they forbid."""

    MUTE = "mute"  # to write
    BAN = "ban"  # to be in the room


class Sanction(msgspec.Struct, frozen=True, gc=False):
    """A sanction of one user or network, in one room or in all."""

    room: str  # EVERYWHERE for all
    kind: Penalty
    user: str  # its id, or empty if `network` is sanctioned
    network: str
    until: int  # ms since the Unix epoch; 0: until it is lifted
    reason: str
    by_id: str
    by_name: str
    time: int  # when it was made, in ms since the Unix epoch
    user_name: str = ""  # then, as far as it was known
    id: int = 0  # assigned by the log, and never reused

    def expired(self, now_ms: int) -> bool:
        return 0 < self.until <= now_ms


class TooManySanctionsError(Exception):
    """MAX_SANCTIONS are in force, or MAX_BY_ONE; the message is for the moderator."""


_COLUMNS = 'room, kind, "user", network, until, reason, by_id, by_name, time, user_name'
_IN_FORCE = f"SELECT {_COLUMNS}, id FROM sanctions WHERE (until = 0 OR until > ?)"  # noqa: S608


class Sanctions:
    """The sanctions of an open log. All methods raise LogUnavailable; a change and its audit entry are one commit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, now_ms: int) -> list[Sanction]:
        """All sanctions in force, the oldest first."""
        return await self._database.ask_tables(partial(_load, now_ms))

    async def listing(self, now_ms: int, limit: int, **fields: str | int) -> list[Sanction]:
        """Up to `limit` of those in force that have these fields, the newest first."""
        return await self._database.ask_tables(partial(_listing, now_ms, limit, fields))

    async def add(self, sanction: Sanction, entry: AuditEntry) -> Sanction:
        """Store a sanction under a new id, in place of one with the same key. Raises TooManySanctionsError."""
        add = partial(_add, sanction, entry)
        return await self._database.change_tables("keeping a sanction", add, hint=SANCTIONS_CHANGED)

    async def lift(self, id_: int, entry: AuditEntry) -> bool:
        """Remove a sanction; returns whether it was there."""
        lift = partial(_lift, id_, entry)
        return await self._database.change_tables("lifting a sanction", lift, hint=SANCTIONS_CHANGED)


def _load(now_ms: int, tables: Tables) -> list[Sanction]:
    return _sanctions(tables.run(f"{_IN_FORCE} ORDER BY id", now_ms))


def _listing(now_ms: int, limit: int, fields: Mapping[str, str | int], tables: Tables) -> list[Sanction]:
    # With the index of rooms SQLite would sort all sanctions of one: 50,000 take 0.2 s, and this way 0.3 ms.
    where = "".join(f' AND ("{name}" = ?)' + " IS TRUE" * (name == "room") for name in fields)
    return _sanctions(tables.run(f"{_IN_FORCE}{where} ORDER BY id DESC LIMIT ?", now_ms, *fields.values(), limit))


def _sanctions(rows: Iterable[Sequence[Any]]) -> list[Sanction]:
    # `int`: another program may have made the column `numeric`.
    return [
        Sanction(room, Penalty(kind), user, network, until, reason, by_id, by_name, int(time), user_name, id_)
        for room, kind, user, network, until, reason, by_id, by_name, time, user_name, id_ in rows
    ]


def _add(sanction: Sanction, entry: AuditEntry, tables: Tables) -> Sanction:
    tables.lock("sanctions")
    place = (sanction.room, sanction.kind.value, sanction.user, sanction.network)
    tables.run('DELETE FROM sanctions WHERE room = ? AND kind = ? AND "user" = ? AND network = ?', *place)
    remove_expired("sanctions", sanction.time, tables)
    ((id_,),) = tables.run(
        f"INSERT INTO sanctions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",  # noqa: S608
        *place, sanction.until, sanction.reason, sanction.by_id, sanction.by_name, sanction.time,
        sanction.user_name,
    )  # fmt: skip
    ((count,),) = tables.run("SELECT count(*) FROM sanctions")
    if count > MAX_SANCTIONS:  # an exception rolls the change back
        raise TooManySanctionsError(f"{MAX_SANCTIONS:,} sanctions are in force")
    if count > MAX_BY_ONE and sanction.room != EVERYWHERE:  # of 50,000 this counts those of one moderator in 10 ms
        own = "SELECT count(*) FROM sanctions WHERE by_id = ? AND room != ?"
        if tables.run(own, sanction.by_id, EVERYWHERE)[0][0] > MAX_BY_ONE:
            raise TooManySanctionsError(f"{MAX_BY_ONE:,} sanctions in single rooms are yours")
    append([entry], tables)
    return msgspec.structs.replace(sanction, id=id_)


def _lift(id_: int, entry: AuditEntry, tables: Tables) -> bool:
    found = bool(tables.run("DELETE FROM sanctions WHERE id = ? RETURNING id", id_))
    if found:
        append([entry], tables)
    return found
