"""The tasks of connections: those that have to wait for the log.

Owns: how many there are at a time, in which order, and where a fault in one ends. May not: know what they do.

What a task waits for is the log, which reads for two at a time: more tasks than a few are only memory, 6 KB each where
a parked connection has 400 bytes. So the others wait as something to call, and networks take turns: five hundred peers
of one address that ask for old pages are one voice. Their deadlines run meanwhile. A connection that ends takes what
waits for it along: peers that ask, go and come back would otherwise fill memory while the log is slow.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import msgspec
import trio

from chatserver.fair import FairQueue
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections

#: Tasks at a time: four for each of the log's two reading threads, which so never wait for one. With more of them, a
#: network that comes later would find as many of another's in front of it.
AT_ONCE = 8
#: The same for searches: one is at work in the log's searching thread, and others ask their limiters meanwhile.
SEARCHES_AT_ONCE = 4

Attend: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


class _Waiting(msgspec.Struct, gc=False, eq=False):
    """Something to call, and the network whose turn it waits for."""

    network: str
    attend: Attend
    connection: Connection
    arguments: tuple[object, ...]


class Tasks:
    """See the module."""

    def __init__(self, connections: Connections, nursery: trio.Nursery, *, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._connections = connections
        self._nursery = nursery
        self._running = 0
        self._waiting: FairQueue[_Waiting] = FairQueue()
        self._of: dict[Connection, _Waiting] = {}  # what waits for each; one at a time, since it is not read meanwhile

    def start(self, attend: Attend, connection: Connection, *arguments: object) -> None:
        """Attend to one connection, now or when its network's turn comes. A deadline is among the arguments."""
        if self._running < self._at_once:
            self._running += 1
            self._nursery.start_soon(self._attend, attend, connection, *arguments)
        else:
            waiting = self._of[connection] = _Waiting(connection.network, attend, connection, arguments)
            self._waiting.push(waiting.network, waiting)

    def forget(self, connection: Connection) -> None:
        """The connection has ended: what waits for it does not begin any more."""
        waiting = self._of.pop(connection, None)
        if waiting is not None:
            self._waiting.remove(waiting.network, waiting)
            for argument in waiting.arguments:
                if isinstance(argument, Coroutine):
                    argument.close()

    async def _attend(self, attend: Attend, connection: Connection, *arguments: object) -> None:
        try:
            await attend(connection, *arguments)
        except Exception:  # noqa: BLE001  what nobody foresaw is logged, and costs that connection
            self._connections.faults.end(connection)
        finally:
            # A task of its own for each, so that all are begun and ended even if the nursery is cancelled.
            if self._waiting:
                following = self._waiting.pop()
                self._of.pop(following.connection, None)
                self._nursery.start_soon(self._attend, following.attend, following.connection, *following.arguments)
            else:
                self._running -= 1

    def statistics(self) -> dict[str, int]:
        """Tasks at work, and those that wait for one of these to be done."""
        return {"running": self._running, "waiting": len(self._waiting)}
