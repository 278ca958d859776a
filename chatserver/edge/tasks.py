"""The tasks of connections: those that have to wait for something of ours.

Owns: how many there are at a time, and where a fault in one ends. May not: know what they do. The poller has the same
border for what needs no task; without this one a bug behind a wait would end the nursery, and with it everybody's
connections.

What a task waits for is the log, which reads for two at a time: more tasks than that are only memory, 6 KB each where a
parked connection has 400 bytes. So whoever comes when there are enough waits its turn as something to call, and its
deadline runs meanwhile.
"""

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import trio

from chatserver.net.connection import Connection
from chatserver.net.connections import Connections

#: Tasks at a time: sixteen for each of the log's two reading threads, which so never wait for one; 200 KB of memory.
AT_ONCE = 32

Attend: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


class Tasks:
    """See the module. A task is begun in the order it was asked for."""

    def __init__(self, connections: Connections, nursery: trio.Nursery) -> None:
        self._connections = connections
        self._nursery = nursery
        self._running = 0
        self._waiting: deque[tuple[Any, ...]] = deque()

    def start(self, attend: Attend, connection: Connection, *arguments: object) -> None:
        """Attend to one connection, now or when another task is done. A deadline is among the arguments."""
        if self._running < AT_ONCE:
            self._running += 1
            self._nursery.start_soon(self._attend, attend, connection, *arguments)
        else:
            self._waiting.append((attend, connection, *arguments))

    async def _attend(self, attend: Attend, connection: Connection, *arguments: object) -> None:
        try:
            await attend(connection, *arguments)
        except Exception:  # noqa: BLE001  what nobody foresaw is logged, and costs that connection
            self._connections.fault(connection)
        finally:
            # A task of its own for each, so that all are begun and ended even if the nursery is cancelled.
            if self._waiting:
                self._nursery.start_soon(self._attend, *self._waiting.popleft())
            else:
                self._running -= 1

    @property
    def crowded(self) -> bool:
        """Whether as many wait as are at work."""
        return len(self._waiting) >= AT_ONCE

    def statistics(self) -> dict[str, int]:
        """Tasks at work, and those that wait for one of these to be done."""
        return {"running": self._running, "waiting": len(self._waiting)}
