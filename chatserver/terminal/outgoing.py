"""What the user has typed, on its way to the server.

Owns: the queues of each room, how many texts are not acknowledged, typing notices. May not: print, or parse a line.
"""

import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from chatserver.client.chat import Chat

TYPING_EVERY = 3.0  # s between two typing notices, as the server accepts them

Job = Callable[[], Awaitable[object]]


class Outgoing:
    def __init__(self, chat: Chat, nursery: trio.Nursery, changed: Callable[[], None]) -> None:
        self.unsent = Counter[str]()  # texts by room
        self._chat = chat
        self._nursery = nursery
        self._changed = changed
        self._all_sent = trio.Event()
        self._told_typing = -math.inf
        # Texts by room, changes by room, other commands: what is typed in a room in slow mode may wait for minutes.
        self._queues: dict[tuple[str, str], deque[Job]] = {}  # those that a task is working through

    def say(self, room: str, publish: Job) -> None:
        """Publish a text after the others of its room."""
        self.unsent[room] += 1
        self._queue("texts", room, partial(self._say, room, publish))
        self._changed()

    def command(self, room: str, job: Job) -> None:
        """Carry out a command after the others of its room, or one without a room."""
        self._queue("commands", room, job)

    def typing(self, room: str) -> None:
        """Tell the others that the user is typing, as often as the server accepts it."""
        now = trio.current_time()
        if now >= self._told_typing + TYPING_EVERY:
            self._told_typing = now
            self._chat.typing(room)

    async def all_sent(self) -> None:
        """Wait until all texts are acknowledged, or refused."""
        if self.unsent.total():
            self._all_sent = trio.Event()
            await self._all_sent.wait()

    async def _say(self, room: str, publish: Job) -> None:
        await publish()
        self._told_typing = -math.inf  # the message has ended it
        self.unsent -= Counter([room])  # which drops a room without any
        if not self.unsent.total():
            self._all_sent.set()
        self._changed()

    def _queue(self, kind: str, room: str, job: Job) -> None:
        place = kind, room
        if place not in self._queues:
            self._queues[place] = deque()
            self._nursery.start_soon(self._work_through, place)
        self._queues[place].append(job)

    async def _work_through(self, place: tuple[str, str]) -> None:
        """Do the jobs of one queue. It ends with them: a client may run for months, and visit many rooms."""
        while self._queues[place]:
            await self._queues[place].popleft()()
        del self._queues[place]
