"""The tasks of connections: work that has to wait for the log.

Owns: how many run at a time, their order, and the fault boundary of each. May not: know what they do.

The log runs two or three reads at a time, so more than a few tasks would only cost memory: 6 KB each, where a parked
connection has 400 bytes. Others are queued as calls, and networks take turns: five hundred peers of one address that
request old pages count as one. Their deadlines run meanwhile. Closing a connection removes its queued call: otherwise
peers that send a request, reset and come back would fill memory while the log is slow.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import msgspec
import trio

from chatserver.fair import FairQueue
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections

#: Tasks at a time: several for each of the log's reading threads, so that these never wait for a task. With more, a
#: network that comes later would find as many tasks of another network ahead of it.
MAX_TASKS = 8
#: The same for requests of many reads of the log, which would hold up those of others; sign-outs, which any guest may
#: have written while the disk hangs.
MAX_SLOW_TASKS = 4
#: The same for reads of thousands of records: 100,000 take a reading thread 0.1 s, and SQLite has two.
MAX_SCANS = 1
#: The same for searches: one runs in the log's searching thread while another asks its rate limiters. Of more, a search
#: of another network would wait for all.
MAX_SEARCHES = 2

Work: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


class _Waiting(msgspec.Struct, gc=False, eq=False):
    network: str
    work: Work
    connection: Connection
    arguments: tuple[object, ...]


class Tasks:
    def __init__(self, connections: Connections, nursery: trio.Nursery, *, at_once: int = MAX_TASKS) -> None:
        self._at_once = at_once
        self._connections = connections
        self._nursery = nursery
        self._running = 0
        self._waiting: FairQueue[_Waiting] = FairQueue()
        self._of: dict[Connection, _Waiting] = {}  # the queued call of each: one, since it is not read meanwhile

    def start(self, work: Work, connection: Connection, *arguments: object) -> None:
        """Run `work` for a connection, now or when its network's turn comes. A deadline is among the arguments."""
        if self._running < self._at_once:
            self._running += 1
            self._nursery.start_soon(self._run, work, connection, *arguments)
        else:
            waiting = self._of[connection] = _Waiting(connection.network, work, connection, arguments)
            self._waiting.push(waiting.network, waiting)

    def forget(self, connection: Connection) -> None:
        """Remove the queued call of a connection that has ended."""
        waiting = self._of.pop(connection, None)
        if waiting is not None:
            self._waiting.remove(waiting.network, waiting)
            for argument in waiting.arguments:
                if isinstance(argument, Coroutine):
                    argument.close()

    async def _run(self, work: Work, connection: Connection, *arguments: object) -> None:
        try:
            await work(connection, *arguments)
        except Exception:  # noqa: BLE001  the fault boundary: it ends that connection
            self._connections.faults.end(connection)
        finally:
            # A new task for each, so that every queued call begins and ends even if the nursery is cancelled.
            if self._waiting:
                following = self._waiting.pop()
                self._of.pop(following.connection, None)
                self._nursery.start_soon(self._run, following.work, following.connection, *following.arguments)
            else:
                self._running -= 1

    def statistics(self) -> dict[str, int]:
        """Tasks that run, and calls that wait for one of these to end."""
        return {"running": self._running, "waiting": len(self._waiting)}
