"""The queue and the loop of all engines, with an engine that the test controls."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain

import pytest
import trio
from outcome import Error, Outcome, Value
from trio.testing import MockClock, wait_all_tasks_blocked

from chatserver.log import groups as groups_module
from chatserver.log.groups import LONGEST_TEXT, PATIENCE, STRETCH, Outcomes
from chatserver.log.interface import (
    ANSWER_DEADLINE,
    DRAIN_DEADLINE,
    MAX_GROUP,
    Draft,
    LogBusy,
    LogUnavailable,
)
from tests.log.support import draft
from tests.log.writers import Written
from tests.support.groups import together


@pytest.fixture
async def it(nursery: trio.Nursery) -> Written:
    it = Written()
    await nursery.start(it.run)
    return it


async def test_a_group_begins_without_waiting_for_the_loop(nursery: trio.Nursery) -> None:
    begun: list[list[str]] = []
    outcomes: list[Callable[[Outcome[Outcomes]], None]] = []

    def begin(drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        begun.append([one.text for one in drafts])
        outcomes.append(done)

    it = Written(begin)
    await nursery.start(it.run)
    begun_when_told: list[int] = []
    it.writer.submit(draft("a"), lambda outcome: begun_when_told.append(len(begun)))
    it.submit("b", "c")
    assert (begun, it.writer.statistics().pending) == ([["a"]], 3)
    outcomes[0](Value([LogUnavailable("no")]))
    assert (begun, begun_when_told) == ([["a"], ["b", "c"]], [2]), "the second commit runs while the first is told"
    outcomes[1](Error(ZeroDivisionError("a bug")))
    assert (begun, it.seen) == ([["a"], ["b", "c"]], [LogUnavailable] * 2)
    assert it.writer.statistics().pending == 0


async def test_groups_of_a_fast_disk_begin_an_interval_apart(autojump_clock: MockClock) -> None:
    """One for each draft of the last group, up to STRETCH; a full one does not wait, nor any at the end of the log."""
    it = Written(interval=1.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(it.run)
        for text, waits in (("a", 0), ("b", 1), ("c", 1)):  # the first does not wait
            began = trio.current_time()
            await it.append(text)
            assert trio.current_time() == began + waits
        it.submit_together("de")
        for text, waits in (("f", 2), ("g", 1)):
            began = trio.current_time()
            await it.append(text)
            assert trio.current_time() == began + waits
        it.submit_together("x" * MAX_GROUP)
        await it.append("h")
        assert trio.current_time() == began + 1 + STRETCH
        it.submit(*"x" * MAX_GROUP)
        await wait_all_tasks_blocked()
        assert trio.current_time() == began + 1 + STRETCH
        it.submit("i")
        nursery.cancel_scope.cancel()
    assert (it.engine.groups[-1], it.seen[-1]) == (["i"], "i")


@pytest.mark.parametrize(
    ("limit", "value", "texts", "message"),
    [
        ("MAX_PENDING", 3, ["0", "1", "2"], "3 messages wait to be stored, limit 3"),
        ("MAX_PENDING_TEXT", 10, ["12345", "67890"], "10 characters wait to be stored, limit 10"),
    ],
)
async def test_the_queue_is_bounded(
    it: Written, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, texts: list[str], message: str
) -> None:
    monkeypatch.setattr(groups_module, limit, value)
    for _ in range(3):
        with together(it.writer):
            it.submit(*texts)
            with pytest.raises(LogBusy, match=message):
                it.submit("refused")
        await wait_all_tasks_blocked()
    assert it.seen == texts * 3


async def test_in_a_long_queue_each_network_has_a_share(it: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "SHARED_PENDING", 6)
    say = it.submit_from
    for _ in range(3):
        with together(it.writer):
            for number in range(8):
                say("crowd", str(number))  # alone it may have all places
            say("office", "8")
            with pytest.raises(LogBusy, match="the messages of crowd that wait to be stored have its share"):
                say("crowd", "refused")
            say("office", "9")
            say("visitor", "10")
        await wait_all_tasks_blocked()
    assert sorted(map(str, it.seen)) == sorted([str(number) for number in range(11)] * 3)


async def test_the_queue_does_not_grow_with_many_networks(it: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "SHARED_PENDING", 6)
    accepted = 0
    with together(it.writer):
        for number in range(60):
            with suppress(LogBusy):
                it.submit_from(str(number % 3), str(number))
                accepted += 1
    assert accepted == 6


async def test_groups_are_fair_to_networks_and_ordered_within(it: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "MAX_GROUP", 4)
    with together(it.writer):
        for number in range(6):
            it.submit_from("crowd", str(number))
        it.submit_from("office", "6")
        it.submit_from("visitor", "7")
    await wait_all_tasks_blocked()
    assert it.engine.groups == [["0", "1", "6", "7"], ["2", "3", "4", "5"]]


async def test_the_text_of_a_group_is_limited(it: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "MAX_GROUP_TEXT", 10)
    monkeypatch.setattr(groups_module, "MAX_GROUP", 3)
    groups = [["1", "2", "3"], ["xxxxx", "xxxxx"], ["a", "x" * 50], ["漢字", "漢字"], ["b", "c"]]
    with together(it.writer):
        it.submit(*chain.from_iterable(groups))
    await wait_all_tasks_blocked()
    assert it.engine.groups == groups
    assert it.writer._waiting_text == 0


async def test_drafts_without_a_place_in_their_group_are_next(it: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stay before later ones, and count for more than before."""
    monkeypatch.setattr(it.engine, "most_capitals", 1)
    monkeypatch.setattr(groups_module, "MAX_GROUP_TEXT", 2 * LONGEST_TEXT)
    with together(it.writer):
        it.submit(*"aBCdEF")
    it.submit("g")
    it.submit_from("others", "h")
    await wait_all_tasks_blocked()
    assert it.engine.groups == [[*"aBCdEF"], [*"CEh"], [*"EF"], [*"Fg"]]
    assert (it.seen, it.told) == ([*"aBdChEFg"], [[*"aBd"], [*"Ch"], ["E"], [*"Fg"]])
    assert (it.writer._waiting_text, it.writer.statistics().failures) == (0, 0)


async def test_a_draft_without_a_place_is_dropped_if_it_was_answered(
    it: Written, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(it.engine, "most_capitals", 1)
    it.engine.seconds = ANSWER_DEADLINE + 1
    with together(it.writer):
        it.submit("A", "B")
    await trio.sleep(3 * ANSWER_DEADLINE)
    assert (it.engine.groups, it.seen, it.told) == ([["A", "B"]], [LogUnavailable] * 2, [["A"]])


async def test_drafts_of_any_network_are_answered_at_their_deadline(it: Written, autojump_clock: MockClock) -> None:
    gate = it.close_gate()
    it.submit("running")
    await wait_all_tasks_blocked()
    for number in range(3 * MAX_GROUP):
        it.submit_from(str(number % 7), str(number))
    await trio.sleep(1)
    it.submit_from("3", "later")
    await trio.sleep(ANSWER_DEADLINE - 0.5)
    assert it.seen == [LogUnavailable, *[LogBusy] * (3 * MAX_GROUP)]
    gate.set()
    await wait_all_tasks_blocked()
    assert it.seen[-1] == "later"


async def test_the_end_waits_for_the_running_commit_and_the_queue(autojump_clock: MockClock) -> None:
    it = Written()
    async with trio.open_nursery() as nursery:
        await nursery.start(it.run)
        gate = it.close_gate()
        it.submit("running")
        await wait_all_tasks_blocked()
        it.submit("waiting")
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            with pytest.raises(LogUnavailable):
                it.submit("late")
        assert it.seen == []
        gate.set()
    assert it.seen == ["running", "waiting"]
    assert trio.current_time() == 0.0, "and for nothing else"


async def test_a_disk_that_hangs_cannot_delay_the_end(autojump_clock: MockClock) -> None:
    """Each draft is answered once, a hanging commit does not count as stored, and its outcome is dropped."""
    it = Written()
    async with trio.open_nursery() as nursery:
        await nursery.start(it.run)
        gate = it.close_gate()
        it.submit(*["x"] * (MAX_GROUP + 5))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == pytest.approx(DRAIN_DEADLINE)
    gate.set()
    await wait_all_tasks_blocked()
    assert (it.engine.groups, it.told, it.seen) == ([["x"]], [], [LogUnavailable] * (MAX_GROUP + 5))
    assert it.writer.statistics().pending == 0


async def test_drafts_are_answered_at_their_deadline_while_the_disk_hangs(
    autojump_clock: MockClock, it: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drafts in the hanging commit may be stored all the same; drafts behind it are not.

    Those refused meanwhile were not counted, so the alert for them ended while the disk still hung.
    """
    monkeypatch.setattr(groups_module, "MAX_PENDING_TEXT", len("committing"))  # answered drafts do not count
    gate = it.close_gate()
    it.submit("committing")
    await trio.sleep(1.0)
    it.submit("waiting")
    await trio.sleep(ANSWER_DEADLINE - 1.0 - 0.01)
    assert it.seen == []
    await trio.sleep(0.02)
    assert it.seen == [LogUnavailable]
    with pytest.raises(LogBusy, match="a commit has been under way"):
        it.submit("refused")
    await trio.sleep(1.0)
    assert it.seen == [LogUnavailable, LogBusy]
    gate.set()
    await wait_all_tasks_blocked()
    assert (it.engine.groups, it.told, it.seen) == ([["committing"]], [["committing"]], [LogUnavailable, LogBusy])
    assert (await it.append("again")).offset == 2
    found = it.writer.statistics()
    assert (found.pending, found.groups, found.failures, found.late) == (0, 2, 0, 3)


async def test_a_group_that_is_late_in_part_is_answered_in_part(autojump_clock: MockClock, it: Written) -> None:
    it.engine.seconds = ANSWER_DEADLINE * 0.6
    it.submit("first")
    await trio.sleep(0.1)
    it.submit("early")
    await trio.sleep(ANSWER_DEADLINE * 0.5)
    it.submit("late")
    await trio.sleep(ANSWER_DEADLINE)
    assert it.engine.groups == [["first"], ["early", "late"]]
    assert it.seen == ["first", LogUnavailable, "late"]


async def test_a_draft_that_is_answered_late_in_a_short_commit_has_no_other_refused(
    autojump_clock: MockClock, it: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One network whose drafts waited for nearly all of their time had everybody refused in each of its commits."""
    monkeypatch.setattr(groups_module, "MAX_GROUP", 1)
    it.engine.seconds = ANSWER_DEADLINE - 1.0
    it.submit_from("crowd", "first")
    it.submit_from("crowd", "second")
    await trio.sleep(ANSWER_DEADLINE + 0.5)  # the second is in a commit since a second and a half
    it.engine.seconds = 0.0
    it.submit_from("visitor", "third")
    await trio.sleep(ANSWER_DEADLINE - 1.0)
    assert it.seen == ["first", LogUnavailable, "third"]


@pytest.mark.parametrize(("seconds", "passes"), [(0.1, ["at once"] * 3), (2.0, ["a pause", "at once", "PATIENCE"])])
async def test_background_work_waits_for_a_pause_of_the_publishes_only_on_a_slow_disk(
    autojump_clock: MockClock, it: Written, nursery: trio.Nursery, seconds: float, passes: list[str]
) -> None:
    it.engine.seconds = seconds

    async def publish(until: float) -> None:
        while trio.current_time() < until:
            it.submit("x")
            await trio.sleep(seconds / 2)

    async def passed() -> str:
        began = trio.current_time()
        await it.writer.give_way()
        waited = trio.current_time() - began
        return "at once" if not waited else "PATIENCE" if waited == PATIENCE else "a pause"

    nursery.start_soon(publish, trio.current_time() + 20)
    await trio.sleep(5.5)
    found = [await passed()]
    await trio.sleep(30)
    found.append(await passed())
    nursery.start_soon(publish, trio.current_time() + 2 * PATIENCE)
    await trio.sleep(5.5)
    found.append(await passed())
    assert found == passes
