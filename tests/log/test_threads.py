"""Jobs in order, so many at a time; outcomes on the loop; a job that hangs holds up its own thread only."""

import threading
from collections.abc import Callable
from functools import partial

import pytest
import trio
from outcome import Error, Outcome, Value

from chatserver.log.interface import LogUnavailable
from chatserver.log.threads import ThreadPool


def note_in(seen: list[Outcome[object]]) -> Callable[[Outcome[object]], None]:
    return seen.append


async def test_jobs_in_order_and_outcomes_on_the_loop() -> None:
    pool = ThreadPool(1)
    running: list[str] = []
    at_once: list[int] = []
    told: list[tuple[str, object, int]] = []
    loop = threading.get_ident()

    def work(name: str) -> str:
        assert threading.get_ident() != loop
        running.append(name)
        at_once.append(len(running))
        running.remove(name)
        return name.upper()

    for name in "abcde":
        pool.start(
            lambda name=name: work(name),  # type: ignore[misc]
            lambda outcome, name=name: told.append((name, outcome.unwrap(), threading.get_ident())),  # type: ignore[misc]
        )
    assert told == []
    assert pool.busy
    assert await pool.run(lambda: work("f")) == "F"
    assert told == [(name, name.upper(), loop) for name in "abcde"]
    assert at_once == [1] * 6
    assert not pool.busy


async def test_a_fault_is_the_outcome_of_its_job_alone() -> None:
    pool = ThreadPool(1)
    seen: list[Outcome[object]] = []
    pool.start(lambda: 1 // 0, note_in(seen))
    with pytest.raises(ValueError, match="not a number"):
        await pool.run(lambda: int("not a number"))
    assert isinstance(seen[0], Error)
    assert isinstance(seen[0].error, ZeroDivisionError)
    assert await pool.run(lambda: "well") == "well"


async def test_the_receiver_of_an_outcome_may_ask_for_more() -> None:
    """It began what it was asked for twice."""
    pool = ThreadPool(1)
    done = trio.Event()
    times = 0

    def again(outcome: Outcome[None]) -> None:
        nonlocal times
        times += 1
        if times == 20:
            done.set()
        else:
            pool.start(lambda: None, again)

    pool.start(lambda: None, again)
    await done.wait()
    assert await pool.run(lambda: times) == 20
    assert not pool.busy


async def test_a_cancelled_job_does_not_begin() -> None:
    pool = ThreadPool(1)
    release, ran = threading.Event(), threading.Event()
    seen: list[Outcome[object]] = []
    pool.start(release.wait, note_in(seen))
    with trio.move_on_after(0) as gone:
        await pool.run(ran.set)
    assert gone.cancelled_caught
    release.set()
    assert await pool.run(lambda: "behind it") == "behind it"
    assert seen == [Value(True)]
    assert not ran.is_set()


async def test_a_job_that_hangs_does_not_hold_the_task_that_waits_for_it() -> None:
    pool = ThreadPool(1)
    release, began = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        release.wait(60)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, hang)
        await trio.to_thread.run_sync(began.wait)
        nursery.cancel_scope.cancel()
    assert pool.busy, "it cannot be taken back"
    release.set()
    assert await pool.run(lambda: "free again") == "free again"


def test_a_loop_that_ends_before_the_job_is_not_called() -> None:
    release, began, came_back = threading.Event(), threading.Event(), threading.Event()
    seen: list[Outcome[object]] = []

    def hang() -> None:
        began.set()
        release.wait(60)
        came_back.set()

    async def main() -> None:
        ThreadPool(1).start(hang, note_in(seen))
        await trio.to_thread.run_sync(began.wait)

    trio.run(main)
    release.set()
    assert came_back.wait(60)
    assert seen == []


@pytest.mark.parametrize("fault", [RuntimeError("can't start new thread"), MemoryError("no room for its stack")])
async def test_a_system_without_threads(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    """To a publisher or reader the log is unavailable, as with a full disk; and the next one is served."""
    pool = ThreadPool(1)

    def no_thread(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(trio.lowlevel, "start_thread_soon", no_thread)
        for _ in range(3):
            with pytest.raises(LogUnavailable, match=str(fault)):
                await pool.run(lambda: None)
    assert await pool.run(lambda: "a thread again") == "a thread again"


async def test_so_many_jobs_at_a_time_and_the_others_in_order() -> None:
    pool = ThreadPool(2)
    order: list[int] = []
    release = [threading.Event() for _ in range(5)]

    async def use(number: int) -> None:
        def work() -> None:
            order.append(number)
            release[number].wait(60)

        await pool.run(work)

    async def began(count: int) -> None:
        with trio.fail_after(60):
            while len(order) < count:  # noqa: ASYNC110  it changes in another thread
                await trio.sleep(0.01)
        assert len(order) == count

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(use, number)
            await trio.testing.wait_all_tasks_blocked()
        await began(2)
        release[order[1]].set()  # the other one hangs, and holds up no other
        await began(3)
        release[2].set()
        await began(4)
        release[3].set()
        await began(5)
        assert order[2:] == [2, 3, 4]
        for one in release:
            one.set()
    assert not pool.busy


async def test_a_job_begins_before_any_other_task_runs() -> None:
    """With `trio.to_thread.run_sync` a free thread was had after one more pass of the loop."""
    pool = ThreadPool(1)
    began = threading.Event()
    pool.start(began.set, lambda outcome: None)
    assert began.wait(60)
    assert pool.busy


async def test_a_cancelled_job_makes_way_for_those_behind_it() -> None:
    pool = ThreadPool(1)
    release = threading.Event()
    ran: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, release.wait)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as others:
            for name in ("first", "second"):
                others.start_soon(pool.run, partial(ran.append, name))
            await trio.testing.wait_all_tasks_blocked()
            others.cancel_scope.cancel()
        nursery.start_soon(pool.run, partial(ran.append, "third"))
        await trio.testing.wait_all_tasks_blocked()
        release.set()
    assert ran == ["third"]
