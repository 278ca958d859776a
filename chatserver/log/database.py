"""What logs in a database have in common: reads go to the readers, and changes to the thread for changes.

Owns: this routing. May not: know a database, or when it is open.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

import trio

from chatserver.log.audit import Audit, DatabaseAudit
from chatserver.log.interface import (
    ANSWER_DEADLINE,
    MAX_READ,
    MAX_READ_BYTES,
    Head,
    Keeps,
    LogUnavailable,
    Record,
    bounded,
    within_bytes,
)
from chatserver.log.sanctions import DatabaseSanctions, Sanctions
from chatserver.log.signouts import DatabaseSignOuts, SignOuts
from chatserver.log.tables import Tables
from chatserver.log.threads import ThreadPool

#: Records looked at in one query for messages alone: 1 ms of a reading thread. A room may have a million reactions.
SCAN_RECORDS = 20_000

T = TypeVar("T")
C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)


class Readers(Protocol[C_co]):
    """The reading side of an engine. All methods raise LogUnavailable."""

    async def heads(self, rooms: Sequence[str]) -> dict[str, Head]:
        """The first and the last offset of these rooms, without those never written."""

    async def read(
        self, room: str, low: int, high: int, limit: int, max_bytes: int, *, last: bool, messages_only: bool = False
    ) -> list[Record]:  # fmt: skip
        """The first or the last records with `low <= offset <= high`, oldest first."""

    async def newest(self, room: str, limit: int, max_bytes: int) -> tuple[Head | None, list[Record]]:
        """The first and the last offset of a room (None: never written) and its last records, in one job."""

    async def ask(self, query: Callable[[C_co], T]) -> T:
        """The result of a query."""


class Writer(Protocol[C_co]):
    """The writing side of an engine, in its thread. All methods raise LogUnavailable."""

    def forget(self, after_room: int, bounds: Keeps) -> tuple[dict[str, int], int | None]:
        """One step of retention: the new first offsets, and the room to go on after (None: done)."""

    def change(self, doing: str, work: Callable[[C_co], T]) -> T:
        """Run `work` as one transaction."""


class DatabaseLog(ABC, Generic[C]):
    """See the module. `changes` is the thread for changes other than commits; no offset is above `highest`."""

    def __init__(self, changes: ThreadPool, highest: int, tables: Callable[[C], Tables]) -> None:
        self._changes = changes
        self._highest = highest
        self._tables = tables
        self.audit: Audit = DatabaseAudit(self)
        self.sanctions: Sanctions = DatabaseSanctions(self)
        self.signouts: SignOuts = DatabaseSignOuts(self)

    @abstractmethod
    def _open_readers(self) -> Readers[C]:
        """Raises LogUnavailable when the log is closed."""

    @abstractmethod
    def _open_writer(self) -> Writer[C]:
        """Raises LogUnavailable when the log is closed."""

    async def head(self, room: str) -> Head:
        """The first and the last offset of a room."""
        return (await self.heads([room])).get(room, Head(1, 0))

    async def heads(self, rooms: Sequence[str]) -> dict[str, Head]:
        """The first and the last offset of these rooms; see `Log.heads`."""
        return await self._open_readers().heads(rooms[:MAX_READ])

    async def read(self, room: str, *, after: int, limit: int, max_bytes: int = MAX_READ_BYTES) -> list[Record]:
        """The first records after offset `after`; see `Log.read`."""
        return await self._open_readers().read(room, after + 1, self._highest, limit, max_bytes, last=False)

    async def latest(
        self,
        room: str,
        limit: int,
        *,
        before: int | None = None,
        max_bytes: int = MAX_READ_BYTES,
        messages_only: bool = False,
    ) -> list[Record]:
        """The last records; see `Log.latest`."""
        high = self._highest if before is None else before - 1
        if messages_only:
            return await self._latest_messages(room, high, bounded(limit), max_bytes)
        return await self._open_readers().read(room, 1, high, limit, max_bytes, last=True)

    async def newest(self, room: str, limit: int) -> tuple[Head, list[Record]]:
        """The first and the last offset of a room with its last records; see `Log.newest`."""
        head, records = await self._open_readers().newest(room, limit, MAX_READ_BYTES)
        return head or Head(1, 0), records

    async def _latest_messages(self, room: str, high: int, limit: int, max_bytes: int) -> list[Record]:
        """Look for messages SCAN_RECORDS records at a time, because other readers wait meanwhile."""
        head = await self.head(room)
        high = min(high, head.last)
        newest_first: list[Record] = []
        while high >= head.first and len(newest_first) < limit:
            low, left = max(high - SCAN_RECORDS + 1, head.first), limit - len(newest_first)
            found = await self._open_readers().read(
                room, low, high, left, max_bytes, last=True, messages_only=True
            )  # fmt: skip
            newest_first += reversed(found)
            fitting = within_bytes(newest_first, max_bytes)
            if len(fitting) < len(newest_first):
                return fitting[::-1]
            high = (found[0].offset if found else low) - 1  # the bound on bytes may have left out the next
        return newest_first[::-1]

    async def ask(self, query: Callable[[C], T]) -> T:
        """Run a query in a reading thread. Raises LogUnavailable."""
        return await self._open_readers().ask(query)

    async def retain(self, *, max_messages: int, max_age_ms: int, by_room: Keeps | None = None) -> dict[str, int]:
        """Remove the oldest records, a step at a time; see `Log.retain`."""
        bounds = by_room or (lambda room: (max_messages, max_age_ms))
        first: dict[str, int] = {}
        after_room: int | None = 0
        while after_room is not None:
            # Not in one of trio's threads: a wait for it could not be cancelled while the disk hangs.
            lost, after_room = await self._changes.run(partial(self._open_writer().forget, after_room, bounds))
            first |= lost
        return first

    @abstractmethod
    async def change(self, doing: str, work: Callable[[C], T], *, hint: str = "") -> T:
        """Run `work` as one transaction, in the thread for changes. Raises LogUnavailable.

        For data kept beside the messages. `hint` goes to the other processes, so that they read it again, and to this
        one if nobody waits for the change any more when it is stored.
        """

    async def ask_tables(self, query: Callable[[Tables], T]) -> T:
        """See `Database`."""
        return await self.ask(lambda connection: query(self._tables(connection)))

    async def change_tables(self, doing: str, work: Callable[[Tables], T], *, hint: str = "") -> T:
        """See `Database`."""
        return await self.change(doing, lambda connection: work(self._tables(connection)), hint=hint)

    async def _change(self, doing: str, work: Callable[[C], T], *, late: Callable[[], object]) -> T:
        """`change` without a hint. It fails at ANSWER_DEADLINE; `late` is called if it is stored nevertheless."""
        with trio.move_on_after(ANSWER_DEADLINE):
            return await self._changes.run(partial(self._open_writer().change, doing, work), late=late)
        raise LogUnavailable(f"{doing} took longer than {ANSWER_DEADLINE:g} s")
