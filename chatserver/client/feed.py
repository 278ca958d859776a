"""A buffer of events between a connection, which must not wait, and a reader that may be slow.

Owns: the bounded buffer. May not: decide what happens when it is full; its owner pauses the rooms that fill it.
"""

from collections import deque
from collections.abc import Callable
from copy import copy

import trio

from chatserver.client.events import Entered, Event
from chatserver.client.wire import Expiring, Record

MAX_QUEUED_EVENTS = 256  # events at which rooms are paused; one page of history (200) may be added
LOW_WATER = MAX_QUEUED_EVENTS // 2  # events at which they resume


class Feed:
    """Iterate over it; `drained` is called when it is down to LOW_WATER again."""

    def __init__(self, drained: Callable[[], None], cursor: str | None = None) -> None:
        self.cursor = cursor  # of the last record that was read, at first the place where reading began
        self._drained = drained
        self._events: deque[Event] = deque()
        self._news = trio.Event()
        self._ending: Exception | None = None  # what readers get after the last event

    @property
    def full(self) -> bool:
        """Whether rooms should be paused."""
        return len(self._events) >= MAX_QUEUED_EVENTS

    def put(self, event: Event) -> None:
        """Add an event. The end of our token is the next to be read, and only the last notice of it is kept."""
        if isinstance(event, Expiring):
            if self._events and isinstance(self._events[0], Expiring):
                self._events.popleft()
            self._events.appendleft(event)
        else:
            self._events.append(event)
        self._news.set()

    def end(self, error: Exception | None = None) -> None:
        """End the feed; readers get the remaining events, then the error, if there is one."""
        self._ending = error or StopAsyncIteration()
        self._news.set()

    def hand_over(self) -> tuple[Event, ...]:
        """Return the remaining events, which another feed will have; a reader here would wait for ever."""
        events = tuple(self._events)
        self._events.clear()
        self.end(RuntimeError("chat.events() has the events of all rooms"))
        return events

    def __aiter__(self) -> "Feed":
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._events:
            if self._ending is not None:
                raise copy(self._ending)  # for each reader and each time its own, with a traceback of its own
            if self._news.is_set():  # else another reader waits for it
                self._news = trio.Event()
            await self._news.wait()
        event = self._events.popleft()
        if isinstance(event, Record):
            self.cursor = event.cursor
        elif isinstance(event, Entered):
            self.cursor = self.cursor or event.cursor
        if len(self._events) == LOW_WATER:
            self._drained()
        return event
