"""Connections under asyncio, each for one request at a time, in the order in which the requests came.

`asyncio.Queue` is not it: the task that gives a connection back and asks again takes it from those that wait.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Idle(Generic[T]):
    """The connections that nobody uses, or the requests that wait for one."""

    def __init__(self, connections: Iterable[T]) -> None:
        self._idle = deque(connections)
        self._waiting: deque[asyncio.Future[T]] = deque()

    async def take(self) -> T:
        """One of them, to be given back."""
        if self._idle:
            return self._idle.popleft()
        turn: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return await turn

    def give(self, connection: T) -> None:
        """To the request that has waited longest, if one does."""
        if self._waiting:
            self._waiting.popleft().set_result(connection)
        else:
            self._idle.append(connection)
