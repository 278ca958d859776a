"""The log of the fuzz world: in memory, slow or failing as a rule wants it.

Owns: whether somebody waits for it, and all that was ever said. May not: judge.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import trio
from outcome import Outcome, capture

from chatserver.chat import catch_up
from chatserver.log.groups import Outcomes
from chatserver.log.interface import MAX_READ_BYTES, Draft, Head, Record, Stored
from tests.support.chatting import ControlledLog


class MoodyLog(ControlledLog):
    """Knows whether somebody waits for it, or for a reader that it has put off; and all that was ever said."""

    def __init__(self) -> None:
        super().__init__()
        self.committed: dict[tuple[str, int], str] = {}
        self._waiting = 0
        self._put_off_until = -1.0

    @property
    def well(self) -> bool:
        return not (self.delay or self._waiting or trio.current_time() <= self._put_off_until)

    def last(self, room: str) -> int:
        """The newest offset."""
        return self._any(room).last

    def _commit(self, drafts: Sequence[Draft]) -> Outcomes:
        outcomes = super()._commit(drafts)
        for outcome in outcomes:
            if isinstance(outcome, Stored):
                self.committed[outcome.record.room, outcome.record.offset] = outcome.record.text
        return outcomes

    async def _before(self) -> None:
        if self.failing_reads:
            self._put_off_until = trio.current_time() + self.delay + catch_up.READ_RETRY
        await super()._before()

    async def head(self, room: str) -> Head:
        with self._busy():
            return await super().head(room)

    async def read(self, room: str, *, after: int, limit: int, max_bytes: int = MAX_READ_BYTES) -> list[Record]:
        with self._busy():
            return await super().read(room, after=after, limit=limit, max_bytes=max_bytes)

    async def latest(
        self, room: str, limit: int, *, before: int | None = None, max_bytes: int = MAX_READ_BYTES
    ) -> list[Record]:
        with self._busy():
            return await super().latest(room, limit, before=before, max_bytes=max_bytes)

    def _begin_commit(self, drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        trio.lowlevel.spawn_system_task(self._commit_later, drafts, done)

    async def _commit_later(self, drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        with self._busy():
            await trio.sleep(self.delay)
            done(capture(self._commit, drafts))

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
