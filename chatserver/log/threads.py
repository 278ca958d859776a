"""A few threads for blocking work: jobs begin in the order of their calls, and the loop receives their outcomes.

Owns: the threads and the queue of jobs. May not: know what a job does.

`trio.to_thread.run_sync` needs a task for each job, and a pass of the loop to begin and to end: 3 ms each beside
thousands of busy connections. Here a thread takes the next job itself, and an outcome is one callback.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from itertools import islice
from threading import Condition, Lock, Thread
from time import sleep
from typing import Any, TypeAlias, TypeVar

import trio
from outcome import Error, Outcome, capture

from chatserver.log.interface import LogOpenError, LogUnavailable
from chatserver.log.program import Defer, Post, call_now, never_post

#: Seconds after which a thread without a job ends, as in trio's own cache of threads.
IDLE_TIMEOUT = 10.0
#: The interpreter's switch interval, seconds. Beside a busy loop a thread of the log waits that long at each statement,
#: and the loop for the thread; less helps no more (docs/measurements/2026-11-29-scheduler.md).
THREAD_SWITCH = 0.0002
#: Seconds until the loop is woken again, where that failed.
WAKE_RETRY = 0.05
#: Raised when the system refuses another thread, or memory for the lock of a wait.
REFUSALS = RuntimeError, MemoryError

T = TypeVar("T")
Job: TypeAlias = tuple[Callable[[], Any], Callable[[Outcome[Any]], object], Post, trio.lowlevel.TrioToken]


async def run_to_open(work: Callable[..., T], *args: object, abandon_on_cancel: bool = False) -> T:
    """Open a log in a thread of trio's. Raises LogOpenError, also if the system refuses a thread, a file or a lock."""
    began = False

    def begin() -> T:
        nonlocal began
        began = True
        return work(*args)

    try:
        return await trio.to_thread.run_sync(begin, abandon_on_cancel=abandon_on_cancel)
    except REFUSALS as error:
        if began:
            raise
        raise LogOpenError(f"no thread for the log: {error}") from error
    except (OSError, LogUnavailable) as error:
        raise LogOpenError(f"it cannot be opened: {error}") from error


def _call_soon(token: trio.lowlevel.TrioToken, call: Callable[[], object]) -> None:
    """Have the loop make a call. Raises RunFinishedError."""
    while True:
        try:
            return token.run_sync_soon(call)
        except OSError:  # the call is queued, but the kernel had no memory to wake the loop
            call = bool  # does nothing
            sleep(WAKE_RETRY)


class ThreadPool:
    """Runs at most `size` jobs at a time, in as many threads. Used on the trio loop.

    A job that hangs keeps its thread and holds up no other thread.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._changed = Condition(Lock())  # guards the three below; never held during a job
        self._waiting: deque[Job] = deque()
        self._threads = 0
        self._idle = 0  # threads that run no job; some may be about to take a waiting one

    @property
    def busy(self) -> bool:
        with self._changed:
            return self._idle - len(self._waiting) < self._threads

    @property
    def can_run(self) -> bool:
        """Whether it has a thread, or the system gives it one now."""
        with self._changed:
            try:
                if not self._threads:
                    self._add_thread()
            except REFUSALS:
                return False
            return True

    def _add_thread(self) -> None:
        # The context has the field `worker` of log lines.
        Thread(target=copy_context().run, args=(self._serve,), name="log", daemon=True).start()
        self._threads += 1
        self._idle += 1

    def start(
        self, work: Callable[[], T], done: Callable[[Outcome[T]], object], post: Post = never_post,
        defer: Defer = call_now,
    ) -> Job:  # fmt: skip
        """Run `work` in a thread, after the jobs that were started before.

        `done` gets the outcome on the loop, later: by `post`, or by trio if `post` returns False. It may not raise, and
        is not called after the loop has ended.

        `defer` wakes the thread. One that is woken while the loop works can do nothing but take the interpreter lock,
        at the loop's next system call, and each then waits for the other.
        """
        token = trio.lowlevel.current_trio_token()
        job = work, done, post, token
        with self._changed:
            try:
                if self._idle <= len(self._waiting) and self._threads < self._size:
                    self._add_thread()
            except REFUSALS as error:
                token.run_sync_soon(done, Error(LogUnavailable(f"no thread for the log: {error}")))
                return job
            self._waiting.append(job)
        defer(self._wake)
        return job

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    async def run(
        self, work: Callable[[], T], post: Post = never_post, *, late: Callable[[], object] = lambda: None
    ) -> T:
        """Run `work` in a thread and wait for it. On cancellation it does not begin, or its result is dropped.

        `late` is called on the loop when a job ends for which no caller waits any more; it may not raise.
        """
        task: trio.lowlevel.Task | None = trio.lowlevel.current_task()

        def wake(outcome: Outcome[T]) -> None:
            if task is not None:
                trio.lowlevel.reschedule(task, outcome)
            else:
                late()

        def withdraw(_: object) -> trio.lowlevel.Abort:
            nonlocal task
            task = None
            with self._changed:
                if job in islice(self._waiting, self._idle, None):  # idle threads are about to take the jobs before
                    self._waiting.remove(job)
            return trio.lowlevel.Abort.SUCCEEDED

        job = self.start(work, wake, post)
        result: T = await trio.lowlevel.wait_task_rescheduled(withdraw)
        return result

    async def close(self, work: Callable[[], object]) -> None:
        """Run `work`, which closes what the one thread of this pool uses, there; or here if the system refuses it one.

        Then none is running.
        """
        try:
            await self.run(work)
        except LogUnavailable:
            work()

    def _serve(self) -> None:
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        """Run the next job; False after IDLE_TIMEOUT without one. An idle thread holds no reference to a job."""
        with self._changed:
            found = self._waiting or self._wait()
            self._idle -= 1
            if not found:
                self._threads -= 1
                return False
            work, done, post, token = self._waiting.popleft()
        outcome = capture(work)
        with self._changed:
            self._idle += 1  # before `done` is called, so that a job that it starts needs no other thread
        call = partial(done, outcome)
        if not post(call):
            with suppress(trio.RunFinishedError):
                _call_soon(token, call)
        return True

    def _wait(self) -> bool:
        """Whether there is a job, after waiting for one. Without memory for the wait there is none, and no wait."""
        try:
            return bool(self._changed.wait_for(lambda: self._waiting, IDLE_TIMEOUT))
        except REFUSALS:
            return False
