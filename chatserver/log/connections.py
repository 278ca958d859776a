"""A pool of connections for reading, each used by one thread at a time: shared by the readers of all databases.

Owns: which connection is idle, and the deadline of a query. May not: know a database.

A hung read is abandoned at its deadline, but its thread keeps the connection. So the thread takes and returns a
connection, not the waiting task.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

import trio

from chatserver.log.interface import ANSWER_DEADLINE, LogUnavailable, Post, untaken
from chatserver.log.threads import ThreadPool

T = TypeVar("T")

#: Held while a connection is taken, given back or closed. One lock for all logs: if the last two connections of an
#: SQLite file closed together, each would leave the side files to the other.
close_lock = threading.Lock()


class Closable(Protocol):
    """A connection."""

    def close(self) -> None:
        """End it."""


C = TypeVar("C", bound=Closable)


class ConnectionPool(Generic[C]):
    """Connections, and as many threads. Made in any thread; used and closed on the trio loop."""

    def __init__(self, connections: Iterable[C]) -> None:
        self.post: Post = untaken  # how outcomes come back to the loop
        self._idle: list[C] | None = list(connections)  # None: closed
        self._threads = ThreadPool(len(self._idle))

    async def run(self, query: Callable[[C], T]) -> T:
        """Run a query on a connection, in a thread. Raises LogUnavailable."""

        def work() -> T:
            with close_lock:
                if self._idle is None:
                    raise LogUnavailable("the log is closed")
                connection = self._idle.pop()  # not empty: there are as many connections as threads
            try:
                return query(connection)
            finally:
                self._give_back(connection)

        with trio.move_on_after(ANSWER_DEADLINE):
            return await self._threads.run(work, self.post)
        raise LogUnavailable(f"reading messages took longer than {ANSWER_DEADLINE:g} s")

    def close(self) -> None:
        """Close the idle connections now, and busy ones when they are given back."""
        with close_lock:
            for connection in self._idle or ():
                connection.close()
            self._idle = None

    def _give_back(self, connection: C) -> None:
        with close_lock:
            if self._idle is None:
                connection.close()
            else:
                self._idle.append(connection)
