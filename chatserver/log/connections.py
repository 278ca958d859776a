"""The reading connections of a database, each used by one thread at a time.

Owns: which connection is idle, and the deadline of a query. May not: know a database.

A hung read is abandoned at its deadline, but its thread keeps the connection. So the thread takes and returns a
connection, not the waiting task.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

import trio

from chatserver.log.interface import ANSWER_DEADLINE, LogUnavailable
from chatserver.log.program import Post, never_post
from chatserver.log.threads import ThreadPool

#: Seconds that closing waits for a thread that is still busy, as with a disk that hangs, and between two looks.
BUSY_PATIENCE, LOOK = 1.0, 0.005

T = TypeVar("T")
C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)

#: Held while a connection is taken, given back or closed. One lock for all logs: if the last two connections of an
#: SQLite file closed together, each would leave the side files to the other.
close_lock = threading.Lock()


class Reader(Protocol[C_co]):
    """A connection, for one thread at a time."""

    def run(self, doing: str, work: Callable[[C_co], T]) -> T:
        """Run a query. Raises LogUnavailable, which says what failed by `doing`."""

    def close(self) -> None:
        """End it."""


class Readers(Generic[C]):
    """Connections, and as many threads. Made in any thread; used and closed on the trio loop."""

    def __init__(self, readers: Iterable[Reader[C]], post: Post = never_post) -> None:
        self._post = post  # how outcomes come back to the loop
        self._idle: list[Reader[C]] | None = list(readers)  # None: closed
        self._threads = ThreadPool(len(self._idle))

    @property
    def can_run(self) -> bool:
        return self._threads.can_run

    async def ask(self, query: Callable[[C], T]) -> T:
        """The result of a query, which must close its cursors, from a thread. Raises LogUnavailable."""

        def work() -> T:
            with close_lock:
                if self._idle is None:
                    raise LogUnavailable("the log is closed")
                reader = self._idle.pop()  # not empty: there are as many connections as threads
            try:
                found = reader.run("reading messages", query)
            except BaseException:
                self._give_back(reader, has_failed=True)
                raise
            self._give_back(reader)
            return found

        with trio.move_on_after(ANSWER_DEADLINE):
            return await self._threads.run(work, self._post)
        raise LogUnavailable(f"reading messages took longer than {ANSWER_DEADLINE:g} s")

    async def close(self) -> None:
        """Close idle connections now, and busy ones when they are given back, for which it waits BUSY_PATIENCE."""
        with close_lock:
            for reader in self._idle or ():
                reader.close()
            self._idle = None
        with trio.move_on_after(BUSY_PATIENCE, shield=True):
            while self._threads.busy:  # noqa: ASYNC110  only threads know
                await trio.sleep(LOOK)

    def _give_back(self, reader: Reader[C], *, has_failed: bool = False) -> None:
        with close_lock:
            if self._idle is None:
                reader.close()
            elif has_failed:
                self._idle.insert(0, reader)  # it is taken last, since the others may work
            else:
                self._idle.append(reader)
