"""Full-text search in SQLite: an FTS5 table over the texts of messages, filled outside the path of a publish.

Owns: which messages are in the index, when they are added and when it is merged, and the thread that searches. May not:
hold up a commit, or the reading threads.

A task adds messages to the index some time after they are durable, between commits and a few milliseconds at a time.
The index has the offsets of a room up to its `indexed`, which changes in one transaction with the index, so a process
that is killed loses nothing. A search (`sqlite_search`) reads the messages that are not in the index yet.

FTS5 only marks a removed text as gone and keeps its words until a merge reaches them. So before each scrub of the files
the whole index is merged step by step, which takes a second for a million messages. The option `secure-delete` would do
the same, but needs SQLite 3.42.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol, TypeVar

import structlog
import trio

from chatserver.log.file_lock import FileLock
from chatserver.log.index import TAIL, Found, Question, SearchFailed
from chatserver.log.interface import LogUnavailable
from chatserver.log.sqlite_indexing import INDEX_STEP, index_rooms
from chatserver.log.sqlite_readers import SqliteReaders
from chatserver.log.sqlite_schema import IN_ROOM, OFFSETS
from chatserver.log.sqlite_search import Search

#: Seconds that a message waits for indexing to begin, and the number of messages at which it begins earlier.
INDEX_INTERVAL, INDEX_SOON = 1.0, 500
#: Seconds of pause for each second of work, while there is a backlog: the writing thread is for publishers.
INDEX_PAUSE = 2.0
#: Rooms in one step of indexing, and in one step of the search for a backlog when the log is opened.
INDEX_ROOMS, BACKLOG_ROOMS = 64, 200
#: Rooms with unindexed messages that are remembered, 20 MB. Of more, as while the index cannot be written, the older
#: ones are looked for again in the database.
MAX_BEHIND = 100_000
#: Seconds until another attempt after the disk has failed.
INDEX_RETRY = 5.0
#: Pages that are merged in one step: about 5 ms.
CLEAN_PAGES = 16

_BACKLOG = f"""
    SELECT id, name, indexed < coalesce((SELECT max(place) % {OFFSETS} FROM messages WHERE {IN_ROOM}), 0)
    FROM rooms WHERE id > ? ORDER BY id LIMIT ?
"""  # noqa: S608

_log = structlog.get_logger("chatserver.log")

T = TypeVar("T")


class Change(Protocol):
    """`SqliteLog.change`."""

    def __call__(self, doing: str, work: Callable[[sqlite3.Connection], T]) -> Awaitable[T]:
        """Run `work` in the writing thread."""


class _Debris(NamedTuple):
    deletions: int
    removals: int


class SqliteIndex:
    """The index of a log. `open` is called in a thread, all else on the trio loop."""

    def __init__(self, change: Change, wall_ms: Callable[[], int]) -> None:
        self._change = change
        self._wall_ms = wall_ms
        self._readers: SqliteReaders | None = None
        self._turn = trio.Lock()  # one search at a time; its budget begins when it has the lock
        self._behind: dict[str, int] = {}  # rooms with unindexed messages, and the number of the news that brought them
        self._behind_since, self._news = 0.0, 0  # the first: no later than the arrival of the oldest unindexed message
        self._waiting = 0  # messages since the last round of indexing
        self._some, self._many = trio.Event(), trio.Event()
        self._backlog_after: int | None = 0  # the last room that was checked for a backlog; None: all were
        self._cleaning_turn: FileLock | None = None  # held while cleaning a file that is shared

    def open(self, path: Path, cleaning: FileLock | None = None, *, close_lock: "Lock | None" = None) -> None:
        """Make the connection and thread for searches."""
        self._readers = SqliteReaders(path, 1, close_lock=close_lock)
        self._cleaning_turn = cleaning

    def close(self) -> None:
        """Close it; later searches raise SearchFailed."""
        if self._readers is not None:
            self._readers.close()
            self._readers = None

    # -- searching --------------------------------------------------------------------------------------------------

    async def find(self, question: Question, *, go_on: int | None = None) -> Found:
        """See `Index.find`; `go_on` is the place below which to search."""
        try:
            async with self._turn:
                if self._readers is None:
                    raise LogUnavailable("the log is closed")
                await self._look_for_backlog()
                rooms = [question.room] if question.room is not None else list(islice(reversed(self._behind), TAIL))
                search = Search(question, rooms, go_on, self._wall_ms())
                try:
                    return await self._readers.ask(search.run)
                finally:
                    search.in_vain = True
        except LogUnavailable as error:
            raise SearchFailed(str(error)) from error

    # -- indexing ---------------------------------------------------------------------------------------------------

    def written(self, rooms: Iterable[str], messages: int) -> None:
        """Note that these rooms have so many new messages, in total."""
        self._news += 1
        if not self._behind:
            self._behind_since = trio.current_time()
        for room in rooms:
            self._behind.pop(room, None)
            self._behind[room] = self._news
        if len(self._behind) > MAX_BEHIND:
            for room in list(islice(self._behind, len(self._behind) - MAX_BEHIND // 2)):
                del self._behind[room]
            self._backlog_after = 0
        self._waiting += messages
        self._some.set()
        if self._waiting >= INDEX_SOON:
            self._many.set()

    @property
    def behind(self) -> int:
        """The number of rooms with unindexed messages."""
        return len(self._behind)

    @property
    def lag(self) -> float:
        """See `Index.lag`."""
        return trio.current_time() - self._behind_since if self._behind else 0.0

    async def run(self) -> None:
        """Index messages until cancelled."""
        while True:
            try:
                await self._catch_up()
            except LogUnavailable as error:
                _log.warning("indexing_failed", reason=str(error))
                await trio.sleep(INDEX_RETRY)
            except Exception:  # noqa: BLE001  the log goes on without its index
                _log.exception("indexing_failed")
                await trio.sleep(INDEX_RETRY)
            else:
                await self._wait()

    async def _wait(self) -> None:
        """Wait until there is something to index, and there is much of it or it has waited for some time."""
        await self._some.wait()
        with trio.move_on_after(INDEX_INTERVAL):
            await self._many.wait()

    async def _catch_up(self) -> None:
        self._some, self._many = trio.Event(), trio.Event()
        self._waiting = 0
        await self._look_for_backlog()
        until, whole, came = self._news, True, trio.current_time()
        while self._behind and (not whole or next(iter(self._behind.values())) <= until):
            began = trio.current_time()
            rooms = dict(islice(self._behind.items(), INDEX_ROOMS))
            done = await self._change("indexing", partial(index_rooms, list(rooms)))
            whole = len(done) == len(rooms)
            for room in done:
                if self._behind.get(room) == rooms[room]:
                    del self._behind[room]
            await trio.sleep(INDEX_PAUSE * (trio.current_time() - began))
            await self._look_for_backlog()
        self._behind_since = came  # all messages from before then are in the index

    async def _look_for_backlog(self) -> None:
        """Find the rooms with messages from before the log was opened, or that were not remembered, as many as fit."""
        while self._backlog_after is not None and len(self._behind) <= MAX_BEHIND - BACKLOG_ROOMS:
            if self._readers is None:
                raise LogUnavailable("the log is closed")
            after = self._backlog_after
            rooms = await self._readers.ask(partial(_rooms_behind, after))
            if self._backlog_after != after:
                continue  # the other caller has taken these, or rooms were dropped meanwhile
            for _, room, is_behind in rooms:
                if is_behind:
                    self._behind_since = self._behind_since if self._behind else trio.current_time()
                    self._behind.setdefault(room, 0)
            self._backlog_after = rooms[-1][0] if len(rooms) == BACKLOG_ROOMS else None

    # -- cleaning ---------------------------------------------------------------------------------------------------

    async def clean(self) -> bool:
        """Merge the index if it holds words of removed texts; for one task. False: another process is doing it."""
        turn = self._cleaning_turn
        if turn is not None and not turn.try_acquire():
            return False
        try:
            await self._clean()
        finally:
            if turn is not None:
                turn.release()
        return True

    async def _clean(self) -> None:
        if self._readers is None:
            raise LogUnavailable("the log is closed")
        debris = await self._readers.ask(_debris)
        if any(debris):
            pages = -CLEAN_PAGES  # negative: first combine all segments into one merge
            while await self._change("cleaning the index", partial(_merge, pages)):
                pages = CLEAN_PAGES
                await trio.sleep(INDEX_STEP)
            await self._change("cleaning the index", partial(_cleaned, debris))


# -- in the writing thread ---------------------------------------------------------------------------------------------


def _merge(pages: int, connection: sqlite3.Connection) -> bool:
    """Merge so many pages; returns whether there may be more. SQLite changes less than two rows when there are none."""
    before = connection.total_changes
    connection.execute("INSERT INTO search(search, rank) VALUES ('merge', ?)", (pages,))
    return pages < 0 or connection.total_changes - before >= 2


def _cleaned(debris: _Debris, connection: sqlite3.Connection) -> None:
    """Subtract the removals that were counted before the cleaning began."""
    connection.execute("UPDATE search_debris SET deletions = deletions - ?, removals = removals - ?", debris)


# -- in the searching thread -------------------------------------------------------------------------------------------


def _debris(connection: sqlite3.Connection) -> _Debris:
    return _Debris(*connection.execute("SELECT deletions, removals FROM search_debris").fetchone())


def _rooms_behind(after: int, connection: sqlite3.Connection) -> list[tuple[int, str, int]]:
    return connection.execute(_BACKLOG, (after, BACKLOG_ROOMS)).fetchall()
