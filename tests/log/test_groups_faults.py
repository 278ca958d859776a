"""Exceptions in receivers and engines: each is logged once, and all other receivers are called."""

import logging
from collections.abc import Callable, Sequence
from typing import cast

import pytest
import trio
from outcome import Error, Outcome, Value
from trio.testing import MockClock

from chatserver.log.groups import GroupWriter, Outcomes
from chatserver.log.interface import ANSWER_DEADLINE, Draft, Log, LogBusy, LogUnavailable, Record, Stored
from tests.log.support import draft, groups_of, ignore, running
from tests.log.test_groups import Engine, note_in, start
from tests.support.groups import append, beside, together


def broken(_: object) -> None:
    raise KeyError("planted")


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The errors, each with its traceback."""
    assert all(record.exc_info for record in caplog.records)
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


# -- receivers


async def test_a_receiver_of_news_that_raises(closed_log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """In every engine: all publishers are answered, and the next group's news comes all the same."""
    calls: list[list[str]] = []

    def news(records: Sequence[Record]) -> None:
        calls.append([record.text for record in records])
        if len(calls) == 1:
            raise KeyError("planted")

    seen: list[object] = []
    async with running(closed_log, news):
        with together(groups_of(closed_log)):
            for text in "abc":
                closed_log.submit(draft(text), note_in(seen))
        assert (await append(closed_log, draft("d"))).record.offset == 4
        assert (calls, seen) == ([["a", "b", "c"], ["d"]], ["a", "b", "c"])
        assert [summary.last for summary in await closed_log.rooms(9)] == [4]
    assert logged(caplog) == ["a receiver of the log's news failed"]


@pytest.mark.parametrize("broken_at", [0, 1, 2])
async def test_a_publisher_that_raises(closed_log: Log, caplog: pytest.LogCaptureFixture, broken_at: int) -> None:
    """In every engine: those before and behind it in the group are answered, and so is the next group."""
    seen: list[object] = []
    told: list[Record] = []
    async with running(closed_log, told.extend):
        with together(groups_of(closed_log)):
            for number in range(3):
                closed_log.submit(draft(str(number)), broken if number == broken_at else note_in(seen))
        assert (await append(closed_log, draft("3"))).record.offset == 4
    assert seen == [str(number) for number in range(3) if number != broken_at]
    assert [record.text for record in told] == ["0", "1", "2", "3"]
    assert logged(caplog) == ["a receiver of the log's answers failed"]


async def test_all_receivers_raise(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    writer = GroupWriter(beside(Engine().commit))
    await nursery.start(start(writer, broken))
    with together(writer):
        for _ in range(3):
            writer.submit(draft("x"), broken)
    await trio.testing.wait_all_tasks_blocked()
    assert (await append(writer, draft("y"))).record.text == "y"
    news, answers = "a receiver of the log's news failed", "a receiver of the log's answers failed"
    assert logged(caplog) == [news, answers, answers, answers, news]


async def test_a_publisher_that_raises_at_its_deadline(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine()
    engine.gate = trio.Event()
    writer = GroupWriter(beside(engine.commit))
    await nursery.start(start(writer))
    seen: list[object] = []
    for done in (broken, broken, note_in(seen)):  # the first is being committed, the others wait
        writer.submit(draft("x"), done)
    await trio.sleep(ANSWER_DEADLINE + 1)
    assert seen == [LogBusy]
    engine.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert (await append(writer, draft("y"))).record.text == "y"
    assert logged(caplog) == ["a receiver of the log's answers failed"] * 2


async def test_a_publisher_that_raises_at_the_end(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    engine.gate = trio.Event()
    writer = GroupWriter(beside(engine.commit))
    seen: list[object] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(start(writer))
        for done in (broken, broken, note_in(seen)):
            writer.submit(draft("x"), done)
        nursery.cancel_scope.cancel()
    assert seen == [LogUnavailable]
    assert logged(caplog) == ["a receiver of the log's answers failed"] * 2


# -- engines


Begin = Callable[[Sequence[Draft], Callable[[Outcome[Outcomes]], None]], None]


def raises(drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
    raise ZeroDivisionError("planted")


def gives_a_fault(drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
    trio.lowlevel.current_trio_token().run_sync_soon(done, Error(ZeroDivisionError("planted")))


def gives_too_few(drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
    trio.lowlevel.current_trio_token().run_sync_soon(done, Value([]))


def gives_nonsense(drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
    trio.lowlevel.current_trio_token().run_sync_soon(done, cast(Outcome[Outcomes], Value(None)))


@pytest.mark.parametrize("fault", [raises, gives_a_fault, gives_too_few, gives_nonsense])
async def test_an_engine_with_a_bug_fails_its_group_and_is_asked_again(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, fault: Begin
) -> None:
    """No draft is answered before `submit` has returned, and a failing group does not end the process."""
    failing = True

    def begin(drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        if failing:
            fault(drafts, done)
        else:
            beside(engine.commit)(drafts, done)

    engine = Engine()
    writer = GroupWriter(begin)
    await nursery.start(start(writer))
    seen: list[object] = []
    for _ in range(3):
        writer.submit(draft("lost"), note_in(seen))
        assert seen == []
    await trio.testing.wait_all_tasks_blocked()
    assert seen == [LogUnavailable] * 3
    failing = False
    assert (await append(writer, draft("kept"))).record.offset == 1
    found = writer.statistics()
    assert (found.pending, found.groups, found.records, found.failures) == (0, 1, 1, 2)
    assert logged(caplog) == [f"the log's engine failed on a group of {count} drafts" for count in (1, 2)]


async def test_an_engine_that_raises_while_others_are_answered(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """The next group begins before the answers of the last one: its fault must not cost them."""
    begun = 0

    def begin(drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        nonlocal begun
        begun += 1
        if begun == 2:
            raise ZeroDivisionError("planted")
        beside(engine.commit)(drafts, done)

    engine = Engine()
    writer = GroupWriter(begin)
    await nursery.start(start(writer, ignore))
    seen: list[object] = []
    for text in "abc":
        writer.submit(draft(text), note_in(seen))
    await trio.testing.wait_all_tasks_blocked()
    assert seen == ["a", LogUnavailable, LogUnavailable]
    assert isinstance(await append(writer, draft("d")), Stored)
    assert len(logged(caplog)) == 1
