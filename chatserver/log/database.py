"""What logs in a database have in common: reads go to the readers, and changes to the thread for changes.

Owns: this routing. May not: know a database, or when it is open.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

import trio

from chatserver.log.interface import (
    ANSWER_DEADLINE,
    MAX_READ,
    MAX_READ_BYTES,
    Head,
    Keeps,
    LogUnavailable,
    Record,
    bounds_of,
)
from chatserver.log.threads import ThreadPool

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

    def __init__(self, changes: ThreadPool, highest: int) -> None:
        self._changes = changes
        self._highest = highest

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
        readers = self._open_readers()
        return await readers.read(room, 1, high, limit, max_bytes, last=True, messages_only=messages_only)

    async def ask(self, query: Callable[[C], T]) -> T:
        """Run a query in a reading thread. Raises LogUnavailable."""
        return await self._open_readers().ask(query)

    async def retain(
        self, *, max_messages: int, max_age_ms: int, now_ms: int, by_room: Keeps | None = None
    ) -> dict[str, int]:
        """Remove the oldest records, a step at a time; see `Log.retain`."""
        bounds = bounds_of(by_room, max_messages, max_age_ms, now_ms)
        first: dict[str, int] = {}
        after_room: int | None = 0
        while after_room is not None:
            # Not in one of trio's threads: a wait for it could not be cancelled while the disk hangs.
            lost, after_room = await self._changes.run(partial(self._open_writer().forget, after_room, bounds))
            first |= lost
        return first

    async def change(self, doing: str, work: Callable[[C], T]) -> T:
        """Run `work` as one transaction, in the thread for changes. Raises LogUnavailable.

        For data kept beside the messages. It fails at ANSWER_DEADLINE, but a change that hung may still be stored.
        """
        with trio.move_on_after(ANSWER_DEADLINE):
            return await self._changes.run(partial(self._open_writer().change, doing, work))
        raise LogUnavailable(f"{doing} took longer than {ANSWER_DEADLINE:g} s")
