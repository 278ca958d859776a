"""Jobs run in order, a bounded number at a time; outcomes arrive on the loop; a hanging job blocks its thread only."""

import errno
import re
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TypeVar
from unittest.mock import Mock

import pytest
import structlog
import trio
from outcome import Outcome, Value
from trio._core._wakeup_socketpair import WakeupSocketpair

from chatserver.log import connections, threads
from chatserver.log.connections import Readers, close_lock
from chatserver.log.interface import LogOpenError, LogUnavailable
from chatserver.log.threads import ThreadPool, run_to_open
from tests.support.serving import eventually

T = TypeVar("T")


@pytest.fixture
def pool() -> ThreadPool:
    return ThreadPool(1)


@pytest.fixture
def seen() -> list[Outcome[object]]:
    return []


class Hanging:
    """A job that hangs until it is released."""

    def __init__(self) -> None:
        self.began, self.go_on, self.came_back = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.began.set()
        self.go_on.wait(60)
        self.came_back.set()


async def test_a_log_line_of_a_thread_names_the_worker(pool: ThreadPool) -> None:
    """PostgreSQL's lines `database_lost` and `database_reached` come from threads, and had no `worker`."""
    with structlog.contextvars.bound_contextvars(worker=2):
        assert await pool.run(structlog.contextvars.get_contextvars) == {"worker": 2}


async def test_an_outcome_is_posted_or_comes_between_passes(pool: ThreadPool, seen: list[Outcome[object]]) -> None:
    posted: list[Callable[[], object]] = []

    def post(call: Callable[[], object]) -> bool:
        posted.append(call)
        return len(posted) == 1

    pool.start(lambda: "taken", seen.append, post)
    pool.start(lambda: "not taken", seen.append, post)
    await pool.run(lambda: None)
    assert seen == [Value("not taken")]
    posted[0]()
    assert seen[1:] == [Value("taken")]


def test_a_loop_that_ends_before_the_job_is_not_called(pool: ThreadPool, seen: list[Outcome[object]]) -> None:
    hanging = Hanging()

    async def main() -> None:
        pool.start(hanging, seen.append)
        await trio.to_thread.run_sync(hanging.began.wait)

    trio.run(main)
    hanging.go_on.set()
    assert hanging.came_back.wait(60)
    assert trio.run(pool.run, lambda: "in the next loop") == "in the next loop"
    assert seen == []
    assert not pool.busy


FAULTS = [RuntimeError("can't start new thread"), MemoryError("no room for its stack")]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_log_without_a_thread_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    """It was a fault with a traceback, where a container or `ulimit -v` allows too little. Other faults stay theirs."""
    with pytest.raises(type(fault), match=str(fault)):
        await run_to_open(Mock(side_effect=fault))
    monkeypatch.setattr("trio.to_thread.run_sync", Mock(side_effect=fault))
    with pytest.raises(LogOpenError, match=f"no thread for the log: {fault}"):
        await run_to_open(lambda: None)


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files", "chat.db"), LogUnavailable("no lock")])
async def test_a_log_whose_files_the_system_refuses_cannot_be_opened(error: Exception) -> None:
    """Where descriptors ended before the last file, which is not SQLite's, it was a fault with a traceback."""
    with pytest.raises(LogOpenError, match=f"it cannot be opened: {re.escape(str(error))}"):
        await run_to_open(Mock(side_effect=error))


async def test_a_thread_that_cannot_wake_the_loop_goes_on(pool: ThreadPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended: the socket by which trio is woken had no memory (ENOBUFS), and nothing was stored until a restart."""
    send, tries = WakeupSocketpair.wakeup_thread_and_signal_safe, count()

    def wake(pair: WakeupSocketpair) -> None:
        if threading.current_thread() is not threading.main_thread() and next(tries) % 3 < 2:
            raise OSError(errno.ENOBUFS, "No buffer space available")
        send(pair)

    monkeypatch.setattr(WakeupSocketpair, "wakeup_thread_and_signal_safe", wake)
    with trio.fail_after(30):
        for number in range(3):
            assert await pool.run(lambda number=number: number) == number  # type: ignore[misc]


async def test_a_thread_that_cannot_wait_ends_and_another_takes_its_place(
    pool: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory for the lock of its wait it ended and was still counted, so that no later job ever ran."""
    refuse = Mock(side_effect=RuntimeError("can't allocate lock"))
    with monkeypatch.context() as patch:
        await pool.run(lambda: patch.setattr(threading, "_allocate_lock", refuse))  # after its thread has started
        await eventually(lambda: not pool._threads)
    assert await pool.run(lambda: "the second") == "the second"


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_thread_that_cannot_start(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    """The job that needs a new thread fails at once, even if another thread becomes idle later; the next job runs."""
    pool, hanging = ThreadPool(2), Hanging()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, hanging)
        await trio.testing.wait_all_tasks_blocked()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", Mock(side_effect=fault))
            for _ in range(3):
                with pytest.raises(LogUnavailable, match=f"no thread for the log: {fault}"):
                    await pool.run(lambda: None)
        assert await pool.run(lambda: "a second thread") == "a second thread"
        assert pool.busy
        hanging.go_on.set()
    assert not pool.busy


@pytest.mark.parametrize("fault", FAULTS)
def test_a_pool_that_gets_no_thread_cannot_run(
    pool: ThreadPool, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """By this `/readyz` knows that the log is unreachable."""
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", Mock(side_effect=fault))
        assert not pool.can_run
    assert pool.can_run


async def test_consecutive_jobs_use_one_thread() -> None:
    pool = ThreadPool(2)
    assert len({await pool.run(threading.current_thread) for _ in range(50)}) == 1


async def test_jobs_submitted_while_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pools at once make the race likely."""
    monkeypatch.setattr(threads, "IDLE_TIMEOUT", 0.0)
    used: set[threading.Thread] = set()
    pools = [ThreadPool(size) for size in (1, 2, 3) for _ in range(4)]

    async def ask(pool: ThreadPool) -> None:
        for _ in range(20):
            used.add(await pool.run(threading.current_thread))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for pool in pools:
                for _ in range(4):
                    nursery.start_soon(ask, pool)
    for thread in used:
        thread.join(60)
    assert not any(thread.is_alive() for thread in used)
    assert not any(pool.busy for pool in pools)


async def test_an_idle_thread_keeps_nothing_of_its_last_job(pool: ThreadPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE_TIMEOUT", 600.0)
    work = Hanging()
    work.go_on.set()
    await pool.run(work)
    held = weakref.ref(work)
    del work
    await eventually(lambda: held() is None)
    monkeypatch.setattr(threads, "IDLE_TIMEOUT", 0.0)
    thread = await pool.run(threading.current_thread)
    thread.join(60)
    assert not thread.is_alive()


async def test_a_bounded_number_of_jobs_runs_and_the_others_wait_in_order() -> None:
    pool = ThreadPool(2)
    order: list[int] = []
    release = [threading.Event() for _ in range(5)]

    def work(number: int) -> None:
        order.append(number)
        release[number].wait(60)

    async def began(count: int) -> None:
        await eventually(lambda: len(order) >= count)
        assert len(order) == count

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(pool.run, partial(work, number))
            await trio.testing.wait_all_tasks_blocked()
        await began(2)
        release[order[1]].set()  # the other job hangs and delays no other
        await began(3)
        release[2].set()
        await began(4)
        release[3].set()
        await began(5)
        assert order[2:] == [2, 3, 4]
        for one in release:
            one.set()
    assert not pool.busy


async def test_a_cancelled_job_does_not_begin_and_leaves_the_queue(pool: ThreadPool) -> None:
    hanging = Hanging()
    ran: list[str] = []
    async with trio.open_nursery() as nursery:
        pool.start(hanging, lambda _: None)
        assert hanging.began.wait(60), "the job begins before any other task runs"
        async with trio.open_nursery() as others:
            for name in ("first", "second"):
                others.start_soon(pool.run, partial(ran.append, name))
            await trio.testing.wait_all_tasks_blocked()
            others.cancel_scope.cancel()
        nursery.start_soon(pool.run, partial(ran.append, "third"))
        await trio.testing.wait_all_tasks_blocked()
        hanging.go_on.set()
    assert ran == ["third"]


async def test_a_job_with_a_thread_counts_as_begun(pool: ThreadPool) -> None:
    """This holds even if the thread wakes late."""
    for number in range(100):
        ran = threading.Event()
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.run(ran.set)
        assert ran.wait(60), number
        while pool.busy:
            await trio.lowlevel.checkpoint()


# -- connections for reading, which threads take and return


class Connection:
    """Records how many connections are closed at the same time."""

    closing = 0

    def __init__(self, at_once: list[int]) -> None:
        self._at_once = at_once

    def run(self, doing: str, work: Callable[["Connection"], T]) -> T:
        return work(self)

    def close(self) -> None:
        Connection.closing += 1
        time.sleep(0.05)
        self._at_once.append(Connection.closing)
        Connection.closing -= 1


class Failing(Connection):
    """Fails each query."""

    def run(self, doing: str, work: Callable[[Connection], T]) -> T:
        raise LogUnavailable("refused")


async def test_a_connection_that_fails_is_taken_after_those_that_work() -> None:
    """Each read got the one that the database refused, while the others were idle."""
    readers = Readers([Connection([]), Failing([])])
    with pytest.raises(LogUnavailable, match="refused"):
        await readers.ask(id)
    assert [await readers.ask(lambda _: "found") for _ in range(2)] == ["found"] * 2
    await readers.close()


async def test_closing_waits_for_queries_that_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index may search for its backlog meanwhile: its connection, the last one, changed the file after the end."""
    monkeypatch.setattr(connections, "BUSY_PATIENCE", 60.0)
    at_once: list[int] = []
    query, readers = Hanging(), Readers([Connection(at_once)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(readers.ask, lambda _: query())
        await trio.to_thread.run_sync(query.began.wait)
        nursery.start_soon(trio.to_thread.run_sync, query.go_on.set)
        await readers.close()
        assert at_once == [1]


async def test_the_connections_of_a_file_close_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two SQLite connections that close at once, each leaves the side files to the other.

    Busy ones are closed when they are returned.
    """
    monkeypatch.setattr(connections, "BUSY_PATIENCE", 0.0)
    at_once: list[int] = []
    begun, go_on = threading.Semaphore(0), threading.Event()
    pools = [Readers([Connection(at_once) for _ in range(size)]) for size in (3, 1)]

    def query(_: Connection) -> None:
        begun.release()
        go_on.wait()

    def close_writer() -> None:
        go_on.set()
        with close_lock:
            Connection(at_once).close()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for pool, busy in zip(pools, (2, 1), strict=True):
                for _ in range(busy):
                    nursery.start_soon(pool.ask, query)
                    await trio.to_thread.run_sync(begun.acquire)
                await pool.close()
            assert at_once == [1], "the idle connection is closed at once"
            with pytest.raises(LogUnavailable, match="closed"):
                await pools[0].ask(query)
            await trio.to_thread.run_sync(close_writer)
    assert at_once == [1] * 5
