"""What the indexes in SQLite and PostgreSQL have in common: one search at a time, and upkeep in the background.

Owns: the order of searches, their deadline, when a round of upkeep begins. May not: know a database.
"""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import structlog
import trio

from chatserver.log.database import DatabaseLog
from chatserver.log.index import Found, Question
from chatserver.log.interface import ANSWER_DEADLINE, LogUnavailable
from chatserver.log.program import Faulted, log_fault

_log = structlog.get_logger("chatserver.log")

C = TypeVar("C")


class DatabaseIndex(ABC, Generic[C]):
    """An `Index` in a database, whose searches have a connection and thread of their own."""

    def __init__(self, log: DatabaseLog[C]) -> None:
        self._log = log
        self._turn = trio.Lock()  # one search at a time
        self._waiting = 0  # messages since the last round of upkeep
        self._some, self._many = trio.Event(), trio.Event()
        self._faulted: Faulted = log_fault
        self._is_failing = False  # upkeep, and the log says so already

    async def find(self, question: Question) -> Found:
        """See `Index.find`; `go_on` is the place below which to search."""
        with trio.move_on_after(ANSWER_DEADLINE):  # includes the wait for searches before this one
            async with self._turn:
                return await self._search(question)
        raise LogUnavailable(f"the search took longer than {ANSWER_DEADLINE:g} s")

    @abstractmethod
    async def _search(self, question: Question) -> Found:
        """Search; called for one question at a time."""

    def _note(self, messages: int, many: int) -> None:
        """Note new messages; with `many` of them a round begins at once."""
        self._waiting += messages
        self._some.set()
        if self._waiting >= many:
            self._many.set()

    async def _wait(self, interval: float) -> None:
        """Wait until there are messages, and there are many or they have waited for `interval` seconds."""
        await self._some.wait()
        with trio.move_on_after(interval):
            await self._many.wait()

    def _begin_round(self) -> None:
        """Count messages from zero again."""
        self._waiting = 0
        self._some, self._many = trio.Event(), trio.Event()

    def _note_failure(self, error: Exception) -> None:
        """Note that upkeep has failed: the log goes on, and it is tried again later. Called in the except clause."""
        if not isinstance(error, LogUnavailable):
            self._faulted(self)
        elif not self._is_failing:  # a disk may be full for a day
            self._is_failing = True
            _log.warning("indexing_failed", reason=str(error))
