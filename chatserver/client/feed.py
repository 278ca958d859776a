"""What happened and was not read yet: between a connection, which is never kept waiting, and a reader at its own pace.

Owns: the bounded buffer. May not: decide what a full buffer means; its maker pauses the rooms that fill it.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import trio

from chatserver.client.errors import ChatError
from chatserver.client.events import Event

EVENTS_AHEAD = 256  # events before the rooms are paused; one page of history (200) may come on top
LOW_WATER = EVENTS_AHEAD // 2  # events at which they go on

_E = TypeVar("_E", bound=Event)


class Feed(Generic[_E]):
    """Iterate over it; `drained` is called when a reader has made room again."""

    def __init__(self, drained: Callable[[], None]) -> None:
        self._drained = drained
        self._events: deque[_E] = deque()
        self._news = trio.Event()
        self._ended = False
        self._error: ChatError | None = None

    @property
    def full(self) -> bool:
        """Whether nothing more should be put in."""
        return len(self._events) >= EVENTS_AHEAD

    def put(self, event: _E) -> None:
        """Add an event."""
        self._events.append(event)
        self._news.set()

    def end(self, error: ChatError | None = None) -> None:
        """No more will come; readers get what there is, then the error, if there is one."""
        self._ended, self._error = True, error
        self._news.set()

    def __aiter__(self) -> "Feed[_E]":
        """Iterate until the end."""
        return self

    async def __anext__(self) -> _E:
        """Wait for the next event."""
        await trio.lowlevel.checkpoint()
        while not self._events:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._news = trio.Event()
            await self._news.wait()
        event = self._events.popleft()
        if len(self._events) == LOW_WATER:
            self._drained()
        return event
