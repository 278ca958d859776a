"""One thread, one job at a time; its outcome on the loop; nobody held by a job that hangs."""

import threading
from collections.abc import Callable

import pytest
import trio
from outcome import Error, Outcome, Value

from chatserver.log.serial import SerialThread


def note_in(seen: list[Outcome[object]]) -> Callable[[Outcome[object]], None]:
    return seen.append


async def test_jobs_in_turn_and_outcomes_on_the_loop() -> None:
    thread = SerialThread()
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
        thread.start(
            lambda name=name: work(name),  # type: ignore[misc]
            lambda outcome, name=name: told.append((name, outcome.unwrap(), threading.get_ident())),  # type: ignore[misc]
        )
    assert told == []
    assert thread.busy
    assert await thread.run(lambda: work("f")) == "F"
    assert told == [(name, name.upper(), loop) for name in "abcde"]
    assert at_once == [1] * 6
    assert not thread.busy


async def test_a_fault_is_the_outcome_of_its_job_alone() -> None:
    thread = SerialThread()
    seen: list[Outcome[object]] = []
    thread.start(lambda: 1 // 0, note_in(seen))
    with pytest.raises(ValueError, match="not a number"):
        await thread.run(lambda: int("not a number"))
    assert isinstance(seen[0], Error)
    assert isinstance(seen[0].error, ZeroDivisionError)
    assert await thread.run(lambda: "well") == "well"


async def test_whoever_hears_an_outcome_may_ask_for_more() -> None:
    """It began what it was asked for twice."""
    thread = SerialThread()
    done = trio.Event()
    times = 0

    def again(outcome: Outcome[None]) -> None:
        nonlocal times
        times += 1
        if times == 20:
            done.set()
        else:
            thread.start(lambda: None, again)

    thread.start(lambda: None, again)
    await done.wait()
    assert await thread.run(lambda: times) == 20
    assert not thread.busy


async def test_who_is_cancelled_leaves_its_job_undone() -> None:
    thread = SerialThread()
    release, ran = threading.Event(), threading.Event()
    seen: list[Outcome[object]] = []
    thread.start(release.wait, note_in(seen))
    with trio.move_on_after(0) as gone:
        await thread.run(ran.set)
    assert gone.cancelled_caught
    release.set()
    assert await thread.run(lambda: "behind it") == "behind it"
    assert seen == [Value(True)]
    assert not ran.is_set()


async def test_a_job_that_hangs_holds_nobody_who_gives_up() -> None:
    thread = SerialThread()
    release, began = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        release.wait(60)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(thread.run, hang)
        await trio.to_thread.run_sync(began.wait)
        nursery.cancel_scope.cancel()
    assert thread.busy, "it cannot be taken back"
    release.set()
    assert await thread.run(lambda: "free again") == "free again"


def test_a_loop_that_ends_before_the_job_is_not_called() -> None:
    release, began, came_back = threading.Event(), threading.Event(), threading.Event()
    seen: list[Outcome[object]] = []

    def hang() -> None:
        began.set()
        release.wait(60)
        came_back.set()

    async def main() -> None:
        SerialThread().start(hang, note_in(seen))
        await trio.to_thread.run_sync(began.wait)

    trio.run(main)
    release.set()
    assert came_back.wait(60)
    assert seen == []


@pytest.mark.parametrize("fault", [RuntimeError("can't start new thread"), MemoryError("no room for its stack")])
async def test_a_system_without_threads(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    """To a publisher it is a fault of the log, as a full disk is; and the next one is served."""
    thread = SerialThread()

    def no_thread(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(trio.lowlevel, "start_thread_soon", no_thread)
        for _ in range(3):
            with pytest.raises(type(fault), match=str(fault)):
                await thread.run(lambda: None)
    assert await thread.run(lambda: "a thread again") == "a thread again"
