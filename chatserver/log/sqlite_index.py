"""Full-text search in SQLite: an FTS5 table over the texts of messages, filled outside the path of a publish.

Owns: which messages are in the index, when they are added and when it is merged, and the thread that searches. May not:
hold up a commit, or the reading threads.

A task adds messages to the index between commits, a few milliseconds at a time. The index has the offsets of a room up
to its `indexed`, which changes in the same transaction; a search (`sqlite_search`) also reads the messages after it.

FTS5 keeps the words of a removed text until a merge reaches them. So before each scrub of the files the whole index is
merged step by step: for ten million messages 6 s of work in a minute, and 0.8 GB of writes (the option `secure-delete`
needs SQLite 3.42).
"""

import sqlite3
from collections.abc import Iterable
from functools import partial
from itertools import chain, islice

import trio

from chatserver.log.database import DatabaseLog
from chatserver.log.database_index import DatabaseIndex
from chatserver.log.file_lock import FileLock
from chatserver.log.index import TAIL, Found, Question
from chatserver.log.program import Faulted
from chatserver.log.sqlite_indexing import MERGE_PAGES, begin_cleaning, end_cleaning, index_rooms, merge
from chatserver.log.sqlite_schema import IN_ROOM, OFFSETS
from chatserver.log.sqlite_search import Search

#: Seconds that a message waits for indexing to begin, and the number of messages at which it begins earlier.
INDEX_INTERVAL, INDEX_SOON = 1.0, 500
#: Seconds of pause for each second of work, while there is a backlog: the writing thread is for publishers. A quarter
#: of those who publish meanwhile wait for a step; without the pause all do, of as many steps.
INDEX_PAUSE = 2.0
#: Seconds between two merges of a cleaning, 2 ms each.
CLEANING_PAUSE = 0.01
#: Rooms in one step of indexing, and in one step of the search for a backlog when the log is opened.
INDEX_ROOMS, BACKLOG_ROOMS = 64, 200
#: Rooms with unindexed messages that are remembered as written by this process, and as found in the database; 10 MB
#: each. Of more, as while the index cannot be written, the older ones are looked for again in the database.
MAX_BEHIND = 50_000
#: Seconds until another attempt after the disk has failed.
INDEX_RETRY = 5.0

_BACKLOG = f"""
    SELECT id, name, indexed < coalesce((SELECT max(place) % {OFFSETS} FROM messages WHERE {IN_ROOM}), 0)
    FROM rooms WHERE id > ? ORDER BY id LIMIT ?
"""  # noqa: S608


class SqliteIndex(DatabaseIndex[sqlite3.Connection]):
    """The index of a log. All is called on the trio loop."""

    def __init__(self, log: DatabaseLog[sqlite3.Connection]) -> None:
        super().__init__(log)
        # Rooms with unindexed messages: written by this process since the last round began, and all others. The newest
        # are at the end.
        self._behind: dict[str, None] = {}
        self._backlog: dict[str, None] = {}
        self._backlog_after: int | None = 0  # the last room that was checked for a backlog; None: all were
        self._behind_since = 0.0  # no later than the arrival of the oldest unindexed message
        self.cleaning_turn: FileLock | None = None  # held while cleaning a file that is shared

    async def _search(self, question: Question) -> Found:
        if question.room is not None:
            behind = [question.room]
        else:
            await self._look_for_backlog()
            others = (room for room in reversed(self._backlog) if room not in self._behind)
            behind = list(islice(chain(reversed(self._behind), others), TAIL))
        search = Search(question, behind, self._log.wall_ms())
        try:
            return await self._log.search(search.run)
        finally:
            search.in_vain = True

    # -- indexing ---------------------------------------------------------------------------------------------------

    def written(self, rooms: Iterable[str], messages: int) -> None:
        """Note that these rooms have this many new messages, in total."""
        self._behind_since = self._behind_since if self.behind else trio.current_time()
        for room in rooms:
            self._behind.pop(room, None)
            self._behind[room] = None
        if len(self._behind) > MAX_BEHIND:
            for room in list(islice(self._behind, len(self._behind) // 2)):
                del self._behind[room]
            self._backlog_after = 0
        self._note(messages, INDEX_SOON)

    @property
    def behind(self) -> int:
        """The number of rooms with unindexed messages."""
        return len(self._behind) + len(self._backlog)

    @property
    def lag(self) -> float:
        return trio.current_time() - self._behind_since if self.behind else 0.0

    async def run(self, faulted: Faulted) -> None:
        """Index messages until cancelled."""
        self._faulted = faulted
        while True:
            try:
                await self._catch_up()
            except Exception as error:  # noqa: BLE001
                self._note_failure(error)
            else:
                self._is_failing = False
                await self._wait(INDEX_INTERVAL)
                continue
            await trio.sleep(INDEX_RETRY)

    async def _catch_up(self) -> None:
        """Index the backlog, and what has been written until now."""
        await self._index_backlog()
        self._begin_round()
        self._backlog, self._behind, came = self._behind, {}, trio.current_time()
        await self._index_backlog()
        self._behind_since = came  # all messages from before then are in the index

    async def _index_backlog(self) -> None:
        await self._look_for_backlog()
        while self._backlog:
            await self._log.give_way()
            began = trio.current_time()
            rooms = list(islice(self._backlog, INDEX_ROOMS))
            for room in await self._log.change("indexing", partial(index_rooms, rooms)):
                del self._backlog[room]
            await trio.sleep(INDEX_PAUSE * (trio.current_time() - began))
            await self._look_for_backlog()

    async def _look_for_backlog(self) -> None:
        """Find the rooms with messages from before the log was opened, or that were not remembered, as many as fit."""
        while self._backlog_after is not None and len(self._backlog) < MAX_BEHIND:
            after = self._backlog_after
            rooms = await self._log.search(partial(_rooms_behind, after))
            if self._backlog_after != after:
                continue  # the other caller has taken these, or rooms were dropped meanwhile
            found = [room for _, room, is_behind in rooms if is_behind]
            if found:
                self._behind_since = self._behind_since if self.behind else trio.current_time()
                self._backlog.update(dict.fromkeys(found))
            self._backlog_after = rooms[-1][0] if len(rooms) == BACKLOG_ROOMS else None

    # -- cleaning ---------------------------------------------------------------------------------------------------

    async def clean(self) -> bool:
        """Merge the index if it holds words of removed texts; for one task. False: another process is doing it."""
        turn = self.cleaning_turn
        if turn is not None and not turn.try_acquire():
            return False
        try:
            await self._clean()
        finally:
            if turn is not None:
                turn.release()
        return True

    async def _clean(self) -> None:
        debris = await self._log.search(_debris)
        if any(debris):
            await self._log.give_way()
            await self._log.change("cleaning the index", begin_cleaning)
            has_more = True
            while has_more:
                await trio.sleep(CLEANING_PAUSE)
                await self._log.give_way()
                has_more = await self._log.change("cleaning the index", partial(merge, MERGE_PAGES))
            await self._log.change("cleaning the index", partial(_cleaned, debris))


# -- in the writing thread ---------------------------------------------------------------------------------------------


def _cleaned(debris: tuple[int, int], connection: sqlite3.Connection) -> None:
    """End the cleaning, and subtract the removals that were counted before it began."""
    end_cleaning(connection)
    connection.execute("UPDATE search_debris SET deletions = deletions - ?, removals = removals - ?", debris)


# -- in the searching thread -------------------------------------------------------------------------------------------


def _debris(connection: sqlite3.Connection) -> tuple[int, int]:
    """The removals by edits and deletions, and by retention, since the index was last merged."""
    found: tuple[int, int] = connection.execute("SELECT deletions, removals FROM search_debris").fetchone()
    return found


def _rooms_behind(after: int, connection: sqlite3.Connection) -> list[tuple[int, str, int]]:
    return connection.execute(_BACKLOG, (after, BACKLOG_ROOMS)).fetchall()
