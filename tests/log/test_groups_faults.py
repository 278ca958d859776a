"""Exceptions in receivers and engines: each is counted once, and all other receivers are called."""

from collections.abc import Callable, Sequence
from typing import cast
from unittest.mock import Mock

import pytest
import trio
from outcome import Error, Outcome, Value
from trio.testing import MockClock, wait_all_tasks_blocked

from chatserver.log.groups import Begin, Outcomes
from chatserver.log.interface import ANSWER_DEADLINE, Draft, LogBusy, LogUnavailable, Record
from chatserver.log.program import Program
from tests.log.support import draft
from tests.log.writers import Written
from tests.support.groups import beside, together


def broken(_: object) -> None:
    raise KeyError("planted")


# -- receivers


async def test_receivers_that_raise(nursery: trio.Nursery) -> None:
    """The other publishers are answered, and the next group is told and answered."""
    it = Written()

    def news(records: Sequence[Record]) -> None:
        it.news(records)
        if len(it.told) == 1:
            broken(records)

    await nursery.start(it.writer.run, news, Program(faulted=it.faulted))
    with together(it.writer):
        for text, done in zip("abcd", (broken, it.answer, broken, it.answer), strict=True):
            it.writer.submit(draft(text), done)
    assert (await it.append("e")).offset == 5
    assert (it.told, it.seen) == ([["a", "b", "c", "d"], ["e"]], ["b", "d"])
    assert it.faults == [KeyError] * 3


@pytest.mark.parametrize("ends", [False, True])
async def test_publishers_that_raise_at_their_deadline_or_at_the_end(autojump_clock: MockClock, ends: bool) -> None:
    it = Written()
    async with trio.open_nursery() as nursery:
        await nursery.start(it.run)
        gate = it.close_gate()
        for done in (broken, broken, it.answer):  # the first is being committed, the others wait
            it.writer.submit(draft("x"), done)
        if not ends:
            await trio.sleep(ANSWER_DEADLINE + 1)
            gate.set()
            await wait_all_tasks_blocked()
            assert (await it.append("y")).text == "y"
        nursery.cancel_scope.cancel()
    assert it.seen == [LogUnavailable if ends else LogBusy]
    assert it.faults == [KeyError] * 2


# -- engines


def raises(drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
    raise ZeroDivisionError("planted")


def gives(outcome: Outcome[Outcomes]) -> Begin:
    def begin(drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(done, outcome)

    return begin


FAULTS = {
    "raises": raises,
    "gives a fault": gives(Error(ZeroDivisionError("planted"))),
    "gives too few": gives(Value([])),
    "gives nonsense": gives(cast(Outcome[Outcomes], Value(None))),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_an_engine_with_a_bug_fails_its_group_and_is_used_again(nursery: trio.Nursery, fault: Begin) -> None:
    """No draft is answered before `submit` returns, and a failing group does not end the process."""
    failing = True

    def begin(drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        (fault if failing else beside(it.engine.commit))(drafts, done)

    it = Written(begin)
    await nursery.start(it.run)
    it.submit("lost", "lost", "lost")
    assert it.seen == []
    await wait_all_tasks_blocked()
    assert it.seen == [LogUnavailable] * 3
    failing = False
    assert (await it.append("kept")).offset == 1
    found = it.writer.statistics()
    assert (found.pending, found.groups, found.failures) == (0, 1, 2)
    assert len(it.faults) == 2


async def test_a_fault_after_a_commit_costs_the_answers_of_its_group_only(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the exception, in a callback of trio, ends the process."""
    it = Written()
    await nursery.start(it.run)
    with monkeypatch.context() as patch:
        patch.setattr(it.writer, "_send", Mock(side_effect=ZeroDivisionError("planted")))
        it.submit("lost", "lost")
        await wait_all_tasks_blocked()
    assert it.heard == []
    assert (await it.append("kept")).text == "kept"
    assert it.faults == [ZeroDivisionError] * 2
