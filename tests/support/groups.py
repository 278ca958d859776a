"""Group commit under a test's control: commits that wait, and groups that are known beforehand."""

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import trio
from outcome import Error, Outcome, Value

from chatserver.log.groups import Begin, GroupWriter, Outcomes, _Entry
from chatserver.log.interface import Draft, Log, LogError, Stored
from chatserver.log.memory import MemoryLog


def beside(commit: Callable[[Sequence[Draft]], Awaitable[Outcomes]]) -> Begin:
    """An engine that commits in a task of its own, which is never cancelled."""

    async def store(drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        try:
            outcome: Outcome[Outcomes] = Value(await commit(drafts))
        except Exception as error:  # noqa: BLE001 -- a fault of an engine is an outcome
            outcome = Error(error)
        done(outcome)

    def begin(drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        trio.lowlevel.spawn_system_task(store, drafts, done)

    return begin


async def append(log: Log | GroupWriter, draft: Draft) -> Stored:
    """Submit and wait for the answer. Raises LogError."""
    answers, answered = trio.open_memory_channel[Stored | LogError](1)
    log.submit(draft, answers.send_nowait)
    outcome = await answered.receive()
    if isinstance(outcome, LogError):
        raise outcome
    return outcome


@contextmanager
def together(groups: GroupWriter) -> Iterator[None]:
    """Drafts submitted in this block are committed in as few groups as possible."""
    if groups._committing:
        yield
        return
    before_them = Draft("lobby", "u_first", "First", "before them")
    groups._committing, groups._hangs_from = [_Entry(before_them, lambda outcome: None, math.inf, 0)], math.inf
    try:
        yield
    finally:
        groups._committing = ()
        if groups._waiting:
            groups._begin_group()


class SteppedLog(MemoryLog):
    """Commits a group at each release of `steps`."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = 0  # begun ones
        self.steps = trio.Semaphore(0)

    def _begin_commit(self, drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        async def commit(drafts: Sequence[Draft]) -> Outcomes:
            await self.steps.acquire()
            return self._commit(drafts)

        self.groups += 1
        beside(commit)(drafts, done)
