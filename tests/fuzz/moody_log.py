"""The log of the fuzz world: in memory, slow or failing on order.

Owns: whether any task waits for it. May not: judge.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio
from outcome import Outcome, capture

from chatserver.chat import catch_up
from chatserver.log.groups import Outcomes
from chatserver.log.interface import Draft, LogUnavailable
from tests.support.chatting import ControlledLog


class MoodyLog(ControlledLog):
    """Knows whether a task waits for it, or for the next attempt after a failed read."""

    def __init__(self) -> None:
        super().__init__()
        self._put_off_until = -1.0

    @property
    def well(self) -> bool:
        return not (self.delay or self.waiting or trio.current_time() <= self._put_off_until)

    def last(self, room: str) -> int:
        return self._room(room).last

    @asynccontextmanager
    async def _slowly(self) -> AsyncIterator[None]:
        try:
            async with super()._slowly():
                yield
        except LogUnavailable:  # also of a read that ran when the failure was set
            self._put_off_until = trio.current_time() + catch_up.READ_RETRY
            raise

    def _begin_commit(self, drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        trio.lowlevel.spawn_system_task(self._commit_later, drafts, done)

    async def _commit_later(self, drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        self.waiting += 1
        await trio.sleep(self.delay)
        self.waiting -= 1
        done(capture(self._commit, drafts))
