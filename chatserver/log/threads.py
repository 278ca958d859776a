"""A few threads for blocking work: jobs begin in the order they were asked for, and their outcomes come on the loop.

Owns: the queue of jobs, and how an outcome comes back. May not: know what a job does.

Why not `trio.to_thread.run_sync`: it needs a task for each job, and takes a pass of the loop to begin and another to
end. Beside thousands of busy connections a pass takes some two milliseconds, and a commit is what a whole room waits
for. Here a job begins when it is asked for, and its outcome is one callback.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import trio
from outcome import Error, Outcome

from chatserver.log.interface import LogUnavailable

T = TypeVar("T")
Job: TypeAlias = tuple[Callable[[], Any], Callable[[Outcome[Any]], object]]


class ThreadPool:
    """At most `size` jobs at a time, in as many threads. To be used on the trio loop.

    A job that hangs keeps its thread and holds up no other thread.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._size = size
        self._waiting: deque[Job] = deque()

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self._free < self._size

    def start(self, work: Callable[[], T], done: Callable[[Outcome[T]], object]) -> Job:
        """Do this in a thread, behind what was asked for before.

        `done` gets the outcome on the loop, later. It may not raise. It is not called once the loop has ended.
        """
        job = work, done
        self._waiting.append(job)
        self._begin()
        return job

    async def run(self, work: Callable[[], T]) -> T:
        """Do this in a thread and wait for it. Cancelled, it does not begin, or its outcome is dropped."""
        answer, answered = trio.open_memory_channel[Outcome[T]](1)
        job = self.start(work, answer.send_nowait)
        try:
            outcome = await answered.receive()
        except trio.Cancelled:
            with suppress(ValueError):
                self._waiting.remove(job)
            raise
        return outcome.unwrap()

    def _begin(self) -> None:
        if not (self._free and self._waiting):
            return
        self._free -= 1
        work, done = self._waiting.popleft()
        token = trio.lowlevel.current_trio_token()

        def report(outcome: Outcome[Any]) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._finish, done, outcome)

        try:
            trio.lowlevel.start_thread_soon(work, report)
        except (RuntimeError, MemoryError) as error:  # what Python raises when the system gives no more threads
            token.run_sync_soon(self._finish, done, Error(LogUnavailable(f"no thread for the log: {error}")))

    def _finish(self, done: Callable[[Outcome[Any]], object], outcome: Outcome[Any]) -> None:
        self._free += 1
        self._begin()
        done(outcome)  # may ask for another job
