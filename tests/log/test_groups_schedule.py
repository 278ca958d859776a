"""Answers of finished groups are steps of a schedule: fair between networks, a few at a time, none lost."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from chatserver.log import groups as groups_module
from chatserver.log import open_log
from chatserver.log.groups import ANSWERS_PER_STEP
from chatserver.log.interface import MAX_GROUP, LogError, Stored
from chatserver.log.memory import MemoryLog
from chatserver.log.program import Program, Step
from chatserver.log.sqlite import SqliteLog
from tests.log.support import Posted, draft, ignore
from tests.log.writers import Written
from tests.support.groups import together
from tests.support.serving import eventually


class Turns:
    """A schedule whose steps the test runs."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __call__(self, step: Step) -> None:
        self.steps.append(step)

    def turn(self) -> bool:
        """Run the first step. Returns whether it has more to do."""
        more = self.steps[0]()
        if not more:
            self.steps.pop(0)
        return more


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
async def it(nursery: trio.Nursery, turns: Turns) -> Written:
    it = Written(schedule=turns)
    await nursery.start(it.run)
    return it


async def test_news_is_told_at_once_and_answers_wait_for_the_schedule(it: Written, turns: Turns) -> None:
    it.submit("a", "b", "c")  # "a" is a group of its own, since no commit was running
    await wait_all_tasks_blocked()
    assert it.heard == [["a"], ["b", "c"]]
    assert len(turns.steps) == 1, "one step for both groups, since the first has not run"
    assert not turns.turn()
    assert it.heard[2:] == ["a", "b", "c"]
    it.submit("d")
    await wait_all_tasks_blocked()
    assert len(turns.steps) == 1
    assert not turns.turn()
    assert it.heard[5:] == [["d"], "d"]


async def test_answers_are_fair_between_networks(it: Written, turns: Turns) -> None:
    with together(it.writer):
        for number in range(2 * ANSWERS_PER_STEP):
            it.submit_from("crowd", str(number))
        it.submit_from("visitor", "visitor's")
    await wait_all_tasks_blocked()
    assert turns.turn()
    assert it.seen[:3] == ["0", "visitor's", "1"]
    while turns.steps:
        turns.turn()
    assert len(it.seen) == 2 * ANSWERS_PER_STEP + 1


async def test_a_step_answers_a_few(it: Written, turns: Turns) -> None:
    texts = [str(number) for number in range(3 * ANSWERS_PER_STEP)]
    it.submit_together(texts)
    await wait_all_tasks_blocked()
    assert turns.turn()
    assert len(it.seen) == ANSWERS_PER_STEP
    assert turns.turn()
    it.submit("another")
    await wait_all_tasks_blocked()
    assert len(turns.steps) == 1, "the unfinished step answers this draft too"
    while turns.steps:
        turns.turn()
    assert it.seen == [*texts, "another"]


async def test_no_group_begins_while_many_answers_wait(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise their queue grows without a bound. At the end of the log all drafts are stored and answered."""
    monkeypatch.setattr(groups_module, "SHARED_PENDING", 3)
    it = Written(schedule=turns)
    async with trio.open_nursery() as nursery:
        await nursery.start(it.run)
        for text in "abcdefg":
            it.submit(text)
            await wait_all_tasks_blocked()
        assert it.engine.groups == [["a"], ["b"], ["c"], ["d"]]
        assert not turns.turn()
        await wait_all_tasks_blocked()
        assert it.engine.groups[4:] == [["e", "f", "g"]]
        for text in "hi":
            it.submit(text)
            await wait_all_tasks_blocked()
        assert it.engine.groups[5:] == [["h"]]
        nursery.cancel_scope.cancel()
    assert it.seen == [*"abcdefghi"]
    assert not turns.turn(), "a late step has nothing to do"
    assert it.seen == [*"abcdefghi"]


async def test_a_receiver_may_publish_from_its_step(it: Written, turns: Turns) -> None:
    it.writer.submit(draft("first"), lambda _: it.submit("second"))
    for _ in range(2):
        await wait_all_tasks_blocked()
        assert not turns.turn()
    assert it.seen == ["second"]


async def test_the_thread_is_woken_for_a_group_by_a_deferred_call(nursery: trio.Nursery, tmp_path: Path) -> None:
    """Woken at once it takes the interpreter lock from the loop, which is at work: a tenth of a message's CPU."""
    log, deferred, answers = SqliteLog(str(tmp_path / "log.db")), list[Callable[[], object]](), list[object]()
    await nursery.start(log.run, ignore, Program(defer=deferred.append))

    async def publish(number: int) -> None:
        log.submit(draft("hi"), answers.append)
        await eventually(lambda: len(deferred) == number)
        deferred[-1]()
        await eventually(lambda: len(answers) == number)
        assert isinstance(answers[-1], Stored)

    await publish(1)
    await publish(2)


@pytest.mark.parametrize("engine", ["memory:", "sqlite:{}/log.db"])
async def test_the_outcome_of_a_group_of_one_step_is_posted(nursery: trio.Nursery, tmp_path: Path, engine: str) -> None:
    """The outcome of a larger group waits for a pass of the loop, unless the next group is full already."""
    log, posted, answers = open_log(engine.format(tmp_path)), Posted(), list[Stored | LogError]()
    await nursery.start(log.run, ignore, Program(post=posted))
    assert isinstance(log, MemoryLog | SqliteLog)

    async def publish(count: int) -> None:
        answers.clear()
        with together(log._groups):
            for number in range(count):
                log.submit(draft(str(number)), answers.append)
        await eventually(lambda: len(answers) == count)
        assert all(isinstance(answer, Stored) for answer in answers)

    await publish(1)
    await publish(ANSWERS_PER_STEP)
    assert len(posted) == 2
    await publish(ANSWERS_PER_STEP + 1)
    assert len(posted) == 2
    await publish(2 * MAX_GROUP)
    assert len(posted) == 3, "the outcome of the first group; nothing waits behind the second"
