"""What logs in a database have in common: reads go to the readers, and changes to the thread for changes.

Owns: this routing, and the queue of drafts. May not: know a database, or open or close one.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeVar

import structlog
import trio
from msgspec.structs import replace
from outcome import Outcome

from chatserver.log.audit import Audit
from chatserver.log.connections import Readers
from chatserver.log.groups import GroupWriter, Outcomes
from chatserver.log.interface import (
    ANSWER_DEADLINE,
    MAX_READ,
    OPENED,
    Draft,
    Head,
    Identity,
    Keeps,
    LogOpenError,
    LogUnavailable,
    Range,
    Record,
    bounded,
    within_bytes,
)
from chatserver.log.program import OnHints, ignore_hints
from chatserver.log.retention import RetentionQueries, step
from chatserver.log.rows import bounds_of
from chatserver.log.sanctions import Sanctions
from chatserver.log.signouts import SignOuts
from chatserver.log.tables import Tables
from chatserver.log.threads import ThreadPool

#: Records looked at in one query for messages alone: 1 ms of a reading thread. A room may have a million reactions.
SCAN_RECORDS = 20_000
#: Seconds between the beginnings of two groups for each draft of the first: no longer than a sync of a disk takes.
GROUP_INTERVAL = 0.001

_log = structlog.get_logger("chatserver.log")

T = TypeVar("T")
C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)
C_contra = TypeVar("C_contra", contravariant=True)


class ReadQueries(Protocol[C_contra]):
    """The queries of a database for messages, as a module."""

    def heads(self, rooms: Sequence[str], connection: C_contra, /) -> dict[str, Head]:
        """The first and the last offset of these rooms, without those never written."""

    def read(self, wanted: Range, connection: C_contra, /) -> list[Record]:
        """See `Log.read`."""


class Writer(Protocol[C_co]):
    """The writing side of an engine, in its thread. Both methods raise LogUnavailable."""

    def commit(self, drafts: Sequence[Draft]) -> Outcomes:
        """Store a group whole or not at all."""

    def change(self, doing: str, work: Callable[[C_co], T], hint: str = "") -> T:
        """Run `work` as one transaction, which may give the hint to the other processes itself."""


class Opened(NamedTuple, Generic[C]):
    """What exists while a log is open."""

    identity: Identity
    writer: Writer[C]  # for groups, and for all other changes
    readers: Readers[C]  # for messages, and for all other data
    searcher: Readers[C]  # a connection and a thread for long queries, so that none holds up a read


class DatabaseLog(Generic[C]):
    def __init__(
        self, queries: ReadQueries[C], *, tables: Callable[[C], Tables], retention: RetentionQueries[C],
        wall_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self.queries = queries
        self._retention = retention
        self.wall_ms = wall_ms
        self.tables = tables
        self._writer_thread = ThreadPool(1)
        self._change_thread = self._writer_thread  # an engine that can do both at a time has another one
        self._groups = groups = GroupWriter(self._begin_commit, interval=GROUP_INTERVAL)
        self.submit, self.statistics, self.give_way = groups.submit, groups.statistics, groups.give_way
        self._opened: Opened[C] | None = None
        self._replaced = trio.Event()
        self._token: trio.lowlevel.TrioToken  # set by `run`
        self._on_hints: OnHints = ignore_hints
        self.audit = Audit(self)
        self.sanctions = Sanctions(self)
        self.signouts = SignOuts(self)

    def _parts(self) -> Opened[C]:
        """Raises LogUnavailable when the log is closed."""
        if self._opened is None:
            raise LogUnavailable("the log is closed")
        return self._opened

    def _begin_commit(self, drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        commit = partial(self._parts().writer.commit, drafts)
        self._writer_thread.start(commit, done, self._groups.post_for(drafts), self._groups.defer)

    @property
    def identity(self) -> Identity:
        return self._parts().identity

    @property
    def reachable(self) -> bool:
        opened = self._opened
        return opened is not None and opened.readers.can_run and self._writer_thread.can_run

    async def head(self, room: str) -> Head:
        return (await self.heads([room])).get(room, Head(1, 0))

    async def heads(self, rooms: Sequence[str]) -> dict[str, Head]:
        return await self.ask(partial(self.queries.heads, rooms[:MAX_READ]))

    async def read(self, wanted: Range) -> list[Record]:
        if wanted.messages_only:
            with trio.move_on_after(ANSWER_DEADLINE):
                return await self._latest_messages(wanted)
            raise LogUnavailable(f"reading messages took longer than {ANSWER_DEADLINE:g} s")
        return await self.ask(partial(self.queries.read, wanted))

    async def newest(self, room: str, limit: int) -> tuple[Head, list[Record]]:
        def find(connection: C) -> tuple[Head, list[Record]]:
            head = self.queries.heads([room], connection).get(room)
            if head is None:  # most names have no messages yet
                return Head(1, 0), []
            return head, self.queries.read(Range(room, limit, last=True), connection)

        return await self.ask(find)

    async def _latest_messages(self, wanted: Range) -> list[Record]:
        """Look for messages SCAN_RECORDS records at a time, because other readers wait meanwhile."""
        head = await self.head(wanted.room)
        high, limit = min(bounds_of(wanted)[1], head.last), bounded(wanted.limit)
        newest_first: list[Record] = []
        while high >= head.first and len(newest_first) < limit:
            low = max(high - SCAN_RECORDS + 1, head.first)
            part = replace(wanted, limit=limit - len(newest_first), after=low - 1, before=high + 1)
            found = await self.ask(partial(self.queries.read, part))
            newest_first += reversed(found)
            fitting = within_bytes(newest_first, wanted.max_bytes)
            if len(fitting) < len(newest_first):
                return fitting[::-1]
            high = (found[0].offset if found else low) - 1  # the bound on bytes may have left out the next
        return newest_first[::-1]

    async def ask(self, query: Callable[[C], T]) -> T:
        """Run a query in a reading thread. Raises LogUnavailable."""
        return await self._parts().readers.ask(query)

    async def search(self, query: Callable[[C], T]) -> T:
        """Run a long query, in the searching thread. Raises LogUnavailable."""
        return await self._parts().searcher.ask(query)

    async def retain(self, keeps: Keeps) -> dict[str, int]:
        first: dict[str, int] = {}
        after: int | None = 0
        while after is not None:
            work = partial(step, self._retention, keeps, after, self.wall_ms())
            await self.give_way()
            # Without a deadline, because the caller has to know what a step that hung has removed.
            change = partial(self._parts().writer.change, "retention", work)
            try:
                lost, after = await self._change_thread.run(change)
            except LogUnavailable as error:
                self._groups.count_failure()
                if not first:
                    raise
                _log.warning("retention_failed", reason=str(error))
                break  # the caller has to know what the earlier steps have removed
            first |= lost
        return first

    async def change(self, doing: str, work: Callable[[C], T], *, hint: str = "") -> T:
        """Run `work` as one transaction, in the thread for changes. Raises LogUnavailable.

        It fails at ANSWER_DEADLINE. A change that failed may be stored all the same: it hung, or the database's answer
        was lost. `hint` goes to the other processes, so that they read again what was changed, and to this one then.
        """
        may_be_stored = partial(self._may_be_stored, hint)
        with trio.move_on_after(ANSWER_DEADLINE):
            change = partial(self._parts().writer.change, doing, work, hint)
            try:
                done = await self._change_thread.run(change, late=may_be_stored)
            except LogUnavailable:
                may_be_stored()
                raise
            self._tell_others(hint)
            return done
        raise LogUnavailable(f"{doing} took longer than {ANSWER_DEADLINE:g} s")

    async def ask_tables(self, query: Callable[[Tables], T]) -> T:
        return await self.ask(lambda connection: query(self.tables(connection)))

    async def change_tables(self, doing: str, work: Callable[[Tables], T], *, hint: str = "") -> T:
        return await self.change(doing, lambda connection: work(self.tables(connection)), hint=hint)

    def _note_replaced(self) -> None:
        """Called in any thread: this is no longer the log that was opened."""
        self._token.run_sync_soon(self._replaced.set)

    def _passing_on(self, check: Callable[[C], None], nursery: trio.Nursery) -> OnHints:
        """Pass hints on, and `check` the log in a thread after the one that another process has opened it."""

        def pass_on(hints: Mapping[str, int]) -> None:
            if OPENED in hints:
                nursery.start_soon(self._look_again, check)
            if hints:  # there are none in what this process itself has committed
                self._on_hints(hints)

        return pass_on

    async def _look_again(self, check: Callable[[C], None]) -> None:
        with suppress(LogUnavailable):  # a failure is harmless, since it is checked again before anything is written
            await self.ask(check)

    async def _end_when_replaced(self) -> None:
        """Raise LogOpenError when that was noted.

        The log has a new epoch then, and clients must not continue with the offsets that this server gave them.
        """
        await self._replaced.wait()
        raise LogOpenError(
            "the database has another history than when this server was started (a standby was promoted, a backup "
            "restored, or a room removed), so offsets may be given twice; restart the server, which tells its clients"
        )

    def _tell_others(self, hint: str) -> None:
        """Give the other processes a hint, if the transaction has not done so."""

    def _may_be_stored(self, hint: str) -> None:
        """Called when a change has failed, or has ended after its caller had stopped waiting."""
        self._tell_others(hint)
        if hint:
            self._on_hints({hint: 0})
