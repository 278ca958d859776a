"""News and answers of finished groups as steps of a schedule: in order, a few at a time, none lost."""

from collections.abc import Sequence

import trio

from chatserver.log.groups import ANSWERS_A_STEP, GroupWriter
from chatserver.log.interface import Record, Step, Stored
from tests.log.support import draft
from tests.log.test_groups import Engine, note_in, start
from tests.support.groups import beside, together


class Turns:
    """A schedule whose turns a test gives."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __call__(self, step: Step) -> None:
        self.steps.append(step)

    def turn(self) -> bool:
        """Call the first step; whether it has more to do."""
        more = self.steps[0]()
        if not more:
            self.steps.pop(0)
        return more


async def test_nothing_is_told_before_its_turn_and_then_in_order(nursery: trio.Nursery) -> None:
    turns, seen = Turns(), list[object]()

    def news(records: Sequence[Record]) -> None:
        seen.append([record.text for record in records])

    writer = GroupWriter(beside(Engine().commit))
    await nursery.start(start(writer, news, turns))
    for text in "abc":  # "a" is a group of its own, since it found none under way
        writer.submit(draft(text), note_in(seen))
    await trio.testing.wait_all_tasks_blocked()
    assert (seen, len(turns.steps)) == ([], 1), "one step for both groups, since the first has not had its turn"
    assert not turns.turn()
    assert seen == [["a"], "a", ["b", "c"], "b", "c"]
    writer.submit(draft("d"), note_in(seen))
    await trio.testing.wait_all_tasks_blocked()
    assert len(turns.steps) == 1
    assert not turns.turn()
    assert seen[5:] == [["d"], "d"]


async def test_a_step_answers_a_few(nursery: trio.Nursery) -> None:
    turns, seen = Turns(), list[object]()
    writer = GroupWriter(beside(Engine().commit))
    await nursery.start(start(writer, schedule=turns))
    with together(writer):
        for number in range(3 * ANSWERS_A_STEP):
            writer.submit(draft(str(number)), note_in(seen))
    await trio.testing.wait_all_tasks_blocked()
    assert turns.turn()
    assert len(seen) == ANSWERS_A_STEP - 1  # and the news
    assert turns.turn()
    writer.submit(draft("another"), note_in(seen))
    await trio.testing.wait_all_tasks_blocked()
    assert len(turns.steps) == 1, "the step that is not done yet tells this one too"
    while turns.steps:
        turns.turn()
    assert seen == [*map(str, range(3 * ANSWERS_A_STEP)), "another"]


async def test_what_had_no_turn_is_told_at_the_end() -> None:
    turns, seen, told = Turns(), list[object](), list[Record]()
    writer = GroupWriter(beside(Engine().commit))
    async with trio.open_nursery() as nursery:
        await nursery.start(start(writer, told.extend, turns))
        for number in range(ANSWERS_A_STEP + 1):
            writer.submit(draft(str(number)), note_in(seen))
        nursery.cancel_scope.cancel()
    expected = list(map(str, range(ANSWERS_A_STEP + 1)))
    assert (seen, [record.text for record in told]) == (expected, expected)
    assert not turns.turn(), "a step that comes late finds nothing to do"
    assert seen == expected


async def test_a_receiver_may_publish_from_its_turn(nursery: trio.Nursery) -> None:
    turns, seen = Turns(), list[object]()
    writer = GroupWriter(beside(Engine().commit))
    await nursery.start(start(writer, schedule=turns))

    def again(outcome: object) -> None:
        assert isinstance(outcome, Stored)
        writer.submit(draft("second"), note_in(seen))

    writer.submit(draft("first"), again)
    for _ in range(2):
        await trio.testing.wait_all_tasks_blocked()
        assert not turns.turn()
    assert seen == ["second"]
