"""A thread for something that one thread may use at a time: jobs in turn, outcomes on the loop.

Owns: the order of jobs, and how an outcome comes back. May not: know what a job does.

Why not `trio.to_thread.run_sync`: it wants a task, which takes a pass of the loop to begin and another to hear of the
end. Beside a crowd a pass is some two milliseconds, and a commit is what everybody in a room waits for. Here a job
begins when it is asked for, and its outcome is told by the loop's own entry queue.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import trio
from outcome import Error, Outcome

T = TypeVar("T")


class _Job(NamedTuple):
    work: Callable[[], Any]
    done: Callable[[Outcome[Any]], object]


class SerialThread:
    """To be used on the trio loop. A job that hangs holds up those behind it, and nothing else."""

    def __init__(self) -> None:
        self._jobs: deque[_Job] = deque()  # the first one is under way

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return bool(self._jobs)

    def start(self, work: Callable[[], T], done: Callable[[Outcome[T]], object]) -> None:
        """Do this in the thread, behind what was asked for before.

        `done` gets the outcome on the loop, later; it may not raise, and is not called once the loop has ended.
        """
        self._add(_Job(work, done))

    async def run(self, work: Callable[[], T]) -> T:
        """Do this in the thread and wait for it. Cancelled, it is left undone, or to the thread if it is under way."""
        finished = trio.Event()
        result: Outcome[T] | None = None

        def done(outcome: Outcome[T]) -> None:
            nonlocal result
            result = outcome
            finished.set()

        job = _Job(work, done)
        self._add(job)
        try:
            await finished.wait()
        finally:
            if job in self._jobs and job is not self._jobs[0]:
                self._jobs.remove(job)
        assert result is not None
        return result.unwrap()

    def _add(self, job: _Job) -> None:
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self._begin()

    def _begin(self) -> None:
        token = trio.lowlevel.current_trio_token()

        def report(outcome: Outcome[Any]) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._finish, outcome)

        try:
            trio.lowlevel.start_thread_soon(self._jobs[0].work, report)
        except (RuntimeError, MemoryError) as error:  # the system has no thread for us
            token.run_sync_soon(self._finish, Error(error))

    def _finish(self, outcome: Outcome[Any]) -> None:
        job = self._jobs.popleft()
        if self._jobs:
            self._begin()
        job.done(outcome)  # which may ask for the next one
