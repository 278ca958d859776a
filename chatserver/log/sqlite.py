"""The log in one SQLite file: the default.

Owns: which thread does what, and the order of opening and closing. May not: contain SQL; that is in `sqlite_writer`,
`sqlite_readers` and `sqlite_file`, and for data beside the messages in the functions given to `change` and `ask`. The
driver blocks, so it runs in four threads: one writes, two read, one searches and lists rooms.
"""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial

import structlog
import trio

from chatserver.log import sqlite_markers, sqlite_readers, sqlite_retention
from chatserver.log.changes import hints_of, take_text
from chatserver.log.connections import BUSY_PATIENCE, close_lock
from chatserver.log.database import DatabaseLog, Opened
from chatserver.log.database_markers import DatabaseMarkers
from chatserver.log.file_lock import FileLock
from chatserver.log.interface import DRAIN_DEADLINE, OPENED, Keeps, LogUnavailable, News, Record, RoomSummary, system_ms
from chatserver.log.neighbours import Neighbours
from chatserver.log.program import PLAIN_PROGRAM, Post, Program
from chatserver.log.sqlite_file import checked_path, connect_writer, create_private, lock_file, opening
from chatserver.log.sqlite_index import SqliteIndex
from chatserver.log.sqlite_readers import RecentRooms
from chatserver.log.sqlite_rows import SqliteTables
from chatserver.log.sqlite_scrub import Scrubber, ScrubSchedule
from chatserver.log.sqlite_wal import check_wal
from chatserver.log.sqlite_writer import SqliteWriter
from chatserver.log.threads import run_to_open

#: Seconds between two steps of a scrub, in which commits run: a gigabyte takes three seconds.
SCRUB_PAUSE = 0.01

_log = structlog.get_logger("chatserver.log")


class SqliteLog(DatabaseLog[sqlite3.Connection]):
    """A `Log` in the file at `path`, for this process alone or with its `neighbours`.

    With neighbours, the process that starts them holds the lock on the file for all of them; see `lock_file`.
    """

    def __init__(
        self, path: str, *, neighbours: Neighbours | None = None,
        wall_ms: Callable[[], int] = system_ms,
    ) -> None:  # fmt: skip
        super().__init__(sqlite_readers, tables=SqliteTables, retention=sqlite_retention, wall_ms=wall_ms)
        self._path = path
        self._neighbours = neighbours
        self.shared = neighbours is not None
        self._scrubs = ScrubSchedule(self._scrub)
        self.index = SqliteIndex(self)
        self.markers = DatabaseMarkers(self, sqlite_markers)
        self._recent_rooms = RecentRooms(shared=self.shared)
        self._retention_turn: FileLock | None = None  # of a shared file: one process takes it, and keeps it
        # Set by `run`.
        self._locks: ExitStack  # and the scrubber; closing it lets another server open the file
        self._writer: SqliteWriter
        self._scrubber: Scrubber

    async def run(
        self, news: News, program: Program = PLAIN_PROGRAM, *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:  # fmt: skip
        self._on_hints = program.on_hints
        self._token = trio.lowlevel.current_trio_token()
        self._opened = opened = await run_to_open(self._open, program.post)
        try:
            async with trio.open_nursery() as nursery:
                if self._neighbours is not None:
                    nursery.start_soon(self._neighbours.run, self._passing_on(self._check, nursery))
                    self._neighbours.tell({OPENED: 0})
                nursery.start_soon(self._end_when_replaced)
                nursery.start_soon(self.index.run, program.faulted)
                nursery.start_soon(self._scrubs.run)
                await self._groups.run(partial(self._note, news), program, task_status=task_status)
        finally:
            await self._scrubs.finish()
            self._opened = self._retention_turn = None
            await self._close(opened)

    def _check(self, connection: sqlite3.Connection) -> None:
        """Note if this is no longer the log that was opened; each group of messages checks it too."""
        if connection.execute("SELECT epoch FROM identity").fetchone() != (self.identity.epoch,):
            self._note_replaced()

    async def rooms(self, limit: int) -> list[RoomSummary]:
        return await self.search(self._recent_rooms.query(limit))  # it may take seconds, and reads have two threads

    async def retain(self, keeps: Keeps) -> dict[str, int]:
        turn = self._retention_turn
        if turn is not None and not turn.try_acquire():
            return {}  # another process does it
        lost = await super().retain(keeps)
        self._scrubs.retained(lost)
        if self._scrubber.is_wal_long:
            self._scrubs.altered()
        return lost

    def _tell_others(self, hint: str) -> None:
        if hint and self._neighbours is not None:
            self._neighbours.tell({hint: 0})

    async def _scrub(self) -> bool:
        """Scrub the files once, a step at a time between commits; see `ScrubSchedule`."""
        # While another program reads, nothing leaves the write-ahead log, and each cleaning may write the whole index.
        await self._scrub_from(1)
        if not await self.index.clean():
            return False
        page = 1
        while page:
            page = await self._scrub_from(page)
            await trio.sleep(SCRUB_PAUSE)
        return True

    async def _scrub_from(self, page: int) -> int:
        """One step; returns the next page, or 0 at the end. Raises LogUnavailable."""
        await self.give_way()
        in_turn = partial(self._writer.in_turn, partial(self._scrubber.step, page))
        found = await self._writer_thread.run(in_turn)
        if found is None:
            raise LogUnavailable(f"{self._path} is being read by another program")
        return found

    def _open(self, post: Post) -> Opened[sqlite3.Connection]:
        path = checked_path(self._path)
        with opening(path), ExitStack() as undo, ExitStack() as unless_opened:
            writing = None
            if self._neighbours is None:
                undo.enter_context(closing(lock_file(path)))
                check_wal(path)
            else:
                self._neighbours.open()
                undo.callback(self._neighbours.close)
                writing = undo.enter_context(closing(self._neighbours.lock("writing")))
                self.index.cleaning_turn = undo.enter_context(closing(self._neighbours.lock("cleaning")))
                self._retention_turn = undo.enter_context(closing(self._neighbours.lock("retention")))
            create_private(path)
            connection, identity = connect_writer(path, writing)
            unless_opened.callback(connection.close)
            self._writer = SqliteWriter(connection, self.wall_ms, self._note_replaced, writing)
            self._scrubber = undo.enter_context(closing(Scrubber(connection, path)))
            readers, searcher = sqlite_readers.open_readers(path, post=post), sqlite_readers.open_readers(path, 1)
            unless_opened.pop_all()  # SqliteWriter closes it
            self._locks = undo.pop_all()
            return Opened(identity, self._writer, readers, searcher)

    async def _close(self, opened: Opened[sqlite3.Connection]) -> None:
        """Close, unless a commit still hangs in the thread; then the end of the process closes the file.

        Closing a connection during a statement is undefined, and no other server may get the lock before that ends.
        """

        def close_writer() -> None:
            with close_lock:  # a reader whose query has just ended may be closing too
                self._writer.close(is_copied_over=self._scrubber.is_copied_over)

        await opened.searcher.close()
        await opened.readers.close()
        # A thread that is busy now has had DRAIN_DEADLINE already.
        patience = BUSY_PATIENCE if self._writer_thread.busy else DRAIN_DEADLINE
        with trio.move_on_after(patience, shield=True) as limit:
            await self._writer_thread.close(close_writer)
            self._locks.close()
        if limit.cancelled_caught:
            _log.error("last_commit_hangs", path=self._path)

    def _note(self, news: News, records: Sequence[Record]) -> None:
        """Pass the news on, after noting what the scrub, the list of rooms and the index need."""
        rooms = {record.room: record for record in records}
        self._recent_rooms.note(rooms)
        if self._neighbours is not None:
            self._neighbours.tell(hints_of(records))
        if take_text(records):
            self._scrubs.altered()
        self.index.written(rooms, len(records))
        news(records)
