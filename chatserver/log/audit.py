"""The audit trail: what moderators did, and what others tried to do; append-only and bounded.

Owns: the value, how much is kept, the statements. May not: decide what is worth an entry.

Fewer minor entries are kept: any client, or a moderator in a loop, can cause them, and they must not push others out.
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from operator import attrgetter

import msgspec

from chatserver.log.interface import bounded
from chatserver.log.tables import EXPIRED_AT_ONCE, Database, Tables

#: Entries kept (a year of 270 a day, 20 MB of disk), and minor entries kept.
MAX_ENTRIES, MAX_MINOR_ENTRIES = 100_000, 10_000
#: Entries between two removals of those beyond these bounds, each of which looks at all that are kept.
TRIM_EVERY = 100
#: Milliseconds for which an entry is kept: a year.
MAX_AGE_MS = 365 * 24 * 3600 * 1000


class AuditEntry(msgspec.Struct, frozen=True, gc=False):
    """An action or an attempt, and who made it."""

    time: int  # ms since the Unix epoch
    by_id: str
    by_name: str
    network: str  # of the person who did it
    action: str
    room: str  # "*" for all
    target: str = ""  # a user's id, a network or an offset
    detail: str = ""
    target_name: str = ""  # of a user, as far as it was known
    minor: bool = False  # see the module
    id: int = 0  # assigned by the log; ascending


_COLUMNS = "time, by_id, by_name, network, action, room, target, detail, target_name, minor"
_values = attrgetter(*_COLUMNS.split(", "))
_ROW = f"({', '.join('?' for _ in _COLUMNS.split(', '))})"


class Audit:
    """The trail of an open log. All methods raise LogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, entries: Sequence[AuditEntry], *, again: bool = False) -> None:
        """Append all entries or none, and remove old ones.

        `again`: an attempt to add just these has failed. They are not added if it has stored them after all.
        """
        await self._database.change_tables("adding to the audit trail", partial(_add, entries, again))

    async def read(self, *, after: int | None, limit: int) -> list[AuditEntry]:
        """The first entries after an id, or the latest; the oldest first."""
        return await self._database.ask_tables(partial(_read, after, bounded(limit)))


def _add(entries: Sequence[AuditEntry], again: bool, tables: Tables) -> None:
    tables.lock("audit")  # an earlier attempt may still be under way
    is_kept = f"SELECT id FROM audit WHERE ({_COLUMNS}) = {_ROW} LIMIT 1"  # noqa: S608
    if not (again and tables.run(is_kept, *_values(entries[0]))):
        append(entries, tables)


def append(entries: Sequence[AuditEntry], tables: Tables) -> None:
    """Append entries, and remove old ones; also in the transaction of the change that they record.

    Under a lock, so that ids become visible in order: a reader that continues after an id would else miss an entry with
    a lower id that was committed later.
    """
    tables.lock("audit")
    rows = ", ".join([_ROW] * len(entries))
    stored = tables.run(
        f"INSERT INTO audit ({_COLUMNS}) VALUES {rows} RETURNING id",  # noqa: S608
        *chain.from_iterable(map(_values, entries)),
    )
    # The scan starts at the oldest entry and stops at the first that is young enough, so it passes only expired ones.
    tables.run(
        """DELETE FROM audit WHERE id < (SELECT id FROM audit WHERE time >= ? ORDER BY id LIMIT 1)
            AND id < (SELECT min(id) FROM audit) + ?""",
        entries[-1].time - MAX_AGE_MS, EXPIRED_AT_ONCE,
    )  # fmt: skip
    if any(id_ % TRIM_EVERY == 0 for (id_,) in stored):
        for minor, most in ((False, MAX_ENTRIES), (True, MAX_MINOR_ENTRIES)):
            tables.run(
                """DELETE FROM audit WHERE minor = ? AND id <= (
                    SELECT id FROM audit WHERE minor = ? ORDER BY id DESC LIMIT 1 OFFSET ?
                )""",
                minor, minor, most,
            )  # fmt: skip


def _read(after: int | None, limit: int, tables: Tables) -> list[AuditEntry]:
    select = f"SELECT {_COLUMNS}, id FROM audit"  # noqa: S608
    if after is None:
        rows = tables.run(f"{select} ORDER BY id DESC LIMIT ?", limit)[::-1]
    else:
        rows = tables.run(f"{select} WHERE id > ? ORDER BY id LIMIT ?", after, limit)
    return [AuditEntry(*(*row[:-2], bool(row[-2]), row[-1])) for row in rows]
