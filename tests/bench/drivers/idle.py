"""A pool of connections under asyncio that serves requests in the order in which they came.

`asyncio.Queue` does not: a task that returns a connection and asks again gets it before the tasks that wait.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Idle(Generic[T]):
    """The connections that are free, or the requests that wait for one."""

    def __init__(self, connections: Iterable[T]) -> None:
        self._idle = deque(connections)
        self._waiting: deque[asyncio.Future[T]] = deque()

    async def take(self) -> T:
        if self._idle:
            return self._idle.popleft()
        turn: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return await turn

    def give(self, connection: T) -> None:
        """Return a connection; it goes to the request that has waited longest."""
        if self._waiting:
            self._waiting.popleft().set_result(connection)
        else:
            self._idle.append(connection)
