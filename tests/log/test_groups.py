"""The queue and the loop that every engine shares, with engines that a test controls."""

from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
from outcome import Error, Outcome, Value
from trio.testing import MockClock

from chatserver.log import groups as groups_module
from chatserver.log.groups import GroupWriter, Outcomes
from chatserver.log.interface import (
    ANSWER_DEADLINE,
    DRAIN_DEADLINE,
    MAX_GROUP,
    Draft,
    LogBusy,
    LogError,
    LogUnavailable,
    Record,
    Schedule,
    Stored,
    at_once,
)
from tests.log.support import draft, ignore
from tests.support.groups import append, beside, together


class Engine:
    """Stores nothing, notes its groups, and stops before each while `gate` is closed."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.fail: Exception | None = None
        self.seconds = 0.0  # that a commit takes

    async def commit(self, drafts: Sequence[Draft]) -> list[Stored | LogError]:
        await self.gate.wait()
        await trio.sleep(self.seconds)
        if self.fail is not None:
            raise self.fail
        start = sum(map(len, self.groups))
        self.groups.append([one.text for one in drafts])
        return [
            Stored(Record(one.room, start + number, 0, one.user_id, one.user_name, one.text), fresh=True)
            for number, one in enumerate(drafts, 1)
        ]


Start = Callable[..., Awaitable[None]]


def start(
    writer: GroupWriter, news: Callable[[Sequence[Record]], None] = ignore, schedule: Schedule = at_once
) -> Start:
    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await writer.run(news, schedule=schedule, task_status=task_status)

    return run


def note_in(seen: list[object]) -> Callable[[Stored | LogError], None]:
    def done(outcome: Stored | LogError) -> None:
        seen.append(outcome.record.text if isinstance(outcome, Stored) else type(outcome))

    return done


async def test_what_arrives_during_a_commit_is_the_next_group(nursery: trio.Nursery) -> None:
    engine = Engine()
    writer = GroupWriter(beside(engine.commit))
    await nursery.start(start(writer))
    engine.gate = trio.Event()
    seen: list[object] = []
    writer.submit(draft("0"), note_in(seen))
    await trio.testing.wait_all_tasks_blocked()
    for number in range(1, 4):
        writer.submit(draft(str(number)), note_in(seen))
    assert writer.statistics().pending == 4
    engine.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert engine.groups == [["0"], ["1", "2", "3"]]
    assert seen == ["0", "1", "2", "3"]
    assert writer.statistics().pending == 0


async def test_a_group_begins_with_the_first_draft_without_a_pass_of_the_loop(nursery: trio.Nursery) -> None:
    """A task that began groups took a pass of the loop, of some milliseconds beside a crowd, for each of them."""
    begun: list[list[str]] = []
    outcomes: list[Callable[[Outcome[Outcomes]], None]] = []

    def begin(drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        begun.append([one.text for one in drafts])
        outcomes.append(done)

    writer = GroupWriter(begin)
    await nursery.start(start(writer))
    seen: list[object] = []
    begun_when_told: list[int] = []
    writer.submit(draft("a"), lambda outcome: begun_when_told.append(len(begun)))
    for text in "bc":
        writer.submit(draft(text), note_in(seen))
    assert begun == [["a"]]
    outcomes[0](Value([LogUnavailable("no")]))
    assert (begun, begun_when_told) == ([["a"], ["b", "c"]], [2]), "the disk works while the first is told"
    outcomes[1](Error(ZeroDivisionError("a bug")))
    assert (begun, seen) == ([["a"], ["b", "c"]], [LogUnavailable] * 2)


async def test_groups_of_a_fast_disk_begin_an_interval_apart(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    engine = Engine()
    writer = GroupWriter(beside(engine.commit), interval=1.0)
    await nursery.start(start(writer))
    began = trio.current_time()
    for text in "abc":
        await append(writer, draft(text))
        assert trio.current_time() == began + (0 if text == "a" else 1), "the first waits for nothing"
        began = trio.current_time()
    await trio.sleep(0.5)
    seen: list[object] = []
    for text in "de":
        writer.submit(draft(text), note_in(seen))
    await trio.sleep(0.6)
    assert (engine.groups[3:], seen) == ([["d", "e"]], ["d", "e"])


async def test_what_waits_for_its_interval_is_stored_at_the_end(autojump_clock: MockClock) -> None:
    engine = Engine()
    writer = GroupWriter(beside(engine.commit), interval=1000.0)
    seen: list[object] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(start(writer))
        await append(writer, draft("a"))
        writer.submit(draft("b"), note_in(seen))
        nursery.cancel_scope.cancel()
    assert (engine.groups, seen) == ([["a"], ["b"]], ["b"])


async def test_a_group_is_bounded(nursery: trio.Nursery) -> None:
    engine = Engine()
    writer = GroupWriter(beside(engine.commit))
    await nursery.start(start(writer))
    with together(writer):
        for number in range(2 * MAX_GROUP + 1):
            writer.submit(draft(str(number)), lambda _: None)
    await trio.testing.wait_all_tasks_blocked()
    assert [len(group) for group in engine.groups] == [MAX_GROUP, MAX_GROUP, 1]


async def test_the_queue_is_bounded_in_drafts(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "MAX_PENDING", 3)
    writer = GroupWriter(beside(Engine().commit))
    await nursery.start(start(writer))
    seen: list[object] = []
    with together(writer):
        for number in range(3):
            writer.submit(draft(str(number)), note_in(seen))
        with pytest.raises(LogBusy, match="3 messages wait to be stored, limit 3"):
            writer.submit(draft("refused"), note_in(seen))
    await trio.testing.wait_all_tasks_blocked()
    assert seen == ["0", "1", "2"]
    writer.submit(draft("again"), note_in(seen))


async def test_the_queue_is_bounded_in_text(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "MAX_PENDING_TEXT", 10)
    writer = GroupWriter(beside(Engine().commit))
    await nursery.start(start(writer))
    for _ in range(3):
        with together(writer):
            writer.submit(draft("12345"), lambda _: None)
            writer.submit(draft("12345"), lambda _: None)
            with pytest.raises(LogBusy, match="10 characters wait to be stored, limit 10"):
                writer.submit(draft("1"), lambda _: None)
        await trio.testing.wait_all_tasks_blocked()


async def test_a_callback_may_submit_again(nursery: trio.Nursery) -> None:
    writer = GroupWriter(beside(Engine().commit))
    await nursery.start(start(writer))
    seen: list[object] = []

    def again(_: object) -> None:
        writer.submit(draft("second"), note_in(seen))

    writer.submit(draft("first"), again)
    await trio.testing.wait_all_tasks_blocked()
    assert seen == ["second"]


async def test_the_end_waits_for_the_commit_that_runs_and_for_what_waits() -> None:
    engine = Engine()
    writer = GroupWriter(beside(engine.commit))
    seen: list[object] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(start(writer))
        engine.gate = trio.Event()
        writer.submit(draft("running"), note_in(seen))
        await trio.testing.wait_all_tasks_blocked()
        writer.submit(draft("waiting"), note_in(seen))
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(LogUnavailable):
                writer.submit(draft("late"), note_in(seen))
        assert seen == []
        engine.gate.set()
    assert seen == ["running", "waiting"]


async def test_a_disk_that_hangs_cannot_hold_the_end(autojump_clock: MockClock) -> None:
    """Everybody is answered, once, and nothing that hangs is taken for stored."""
    engine = Engine()
    engine.gate = trio.Event()
    writer = GroupWriter(beside(engine.commit))
    seen: list[object] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(start(writer))
        for number in range(MAX_GROUP + 5):
            writer.submit(draft(str(number)), note_in(seen))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == pytest.approx(DRAIN_DEADLINE)
    assert seen == [LogUnavailable] * (MAX_GROUP + 5)
    assert writer.statistics().pending == 0


async def test_an_outcome_that_comes_after_the_end_is_dropped(autojump_clock: MockClock) -> None:
    """Its drafts were answered, and those of the next run wait for their own outcome."""
    engine = Engine()
    writer = GroupWriter(beside(engine.commit))
    old, new = trio.Event(), trio.Event()
    told: list[str] = []
    seen: list[object] = []
    for gate, text in ((old, "old"), (new, "new")):
        async with trio.open_nursery() as nursery:
            await nursery.start(start(writer, lambda records: told.extend(record.text for record in records)))
            engine.gate = gate
            writer.submit(draft(text), note_in(seen))
            if gate is new:
                old.set()
                await trio.testing.wait_all_tasks_blocked()
                assert (engine.groups, told, seen) == ([["old"]], [], [LogUnavailable])
                new.set()
            else:
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert (engine.groups, told, seen) == ([["old"], ["new"]], ["new"], [LogUnavailable, "new"])


async def test_drafts_are_answered_at_their_deadline_while_the_disk_hangs(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Those in the commit may be stored all the same, those behind it are not; and it goes on by itself."""
    engine = Engine()
    engine.gate = trio.Event()
    told: list[str] = []
    writer = GroupWriter(beside(engine.commit))
    await nursery.start(start(writer, lambda records: told.extend(record.text for record in records)))
    seen: list[object] = []
    writer.submit(draft("committing"), note_in(seen))
    await trio.sleep(1.0)
    writer.submit(draft("waiting"), note_in(seen))
    await trio.sleep(ANSWER_DEADLINE - 1.0 - 0.01)
    assert seen == []
    await trio.sleep(0.02)
    assert seen == [LogUnavailable]
    with pytest.raises(LogBusy, match="a commit has been under way"):
        writer.submit(draft("refused"), note_in(seen))
    await trio.sleep(1.0)
    assert seen == [LogUnavailable, LogBusy]
    engine.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert (engine.groups, told, seen) == ([["committing"]], ["committing"], [LogUnavailable, LogBusy])
    assert (await append(writer, draft("again"))).record.offset == 2
    found = writer.statistics()
    assert (found.pending, found.groups, found.records, found.failures, found.late) == (0, 2, 2, 0, 2)


async def test_a_group_that_is_late_in_part_is_answered_in_part(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The first of a group waited for the group before it; the last came just before its own."""
    engine = Engine()
    writer = GroupWriter(beside(engine.commit))
    await nursery.start(start(writer))
    engine.seconds = ANSWER_DEADLINE * 0.6
    seen: list[object] = []
    writer.submit(draft("first"), note_in(seen))
    await trio.sleep(0.1)
    writer.submit(draft("early"), note_in(seen))
    await trio.sleep(ANSWER_DEADLINE * 0.5)
    writer.submit(draft("late"), note_in(seen))
    await trio.sleep(ANSWER_DEADLINE)
    assert engine.groups == [["first"], ["early", "late"]]
    assert seen == ["first", LogUnavailable, "late"]


async def test_drafts_are_answered_at_their_deadline_behind_a_slow_disk(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """No commit hangs, but the third group would wait for two of them: it is told to come back, and not stored."""
    engine = Engine()
    engine.seconds = ANSWER_DEADLINE * 0.6
    writer = GroupWriter(beside(engine.commit))
    await nursery.start(start(writer))
    answered: list[tuple[float, object]] = []
    with together(writer):
        for _ in range(3 * MAX_GROUP):
            writer.submit(draft("x"), lambda answer: answered.append((trio.current_time(), type(answer))))
    await trio.sleep(3 * ANSWER_DEADLINE)
    assert [kind for _, kind in answered].count(Stored) == MAX_GROUP
    assert [kind for _, kind in answered].count(LogUnavailable) == MAX_GROUP  # their commit was under way
    assert [kind for _, kind in answered].count(LogBusy) == MAX_GROUP
    assert max(when for when, _ in answered) == pytest.approx(ANSWER_DEADLINE)
    assert [len(group) for group in engine.groups] == [MAX_GROUP, MAX_GROUP]


async def test_a_publisher_refused_at_the_deadline_may_submit_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    engine = Engine()
    engine.gate = trio.Event()
    writer = GroupWriter(beside(engine.commit))
    await nursery.start(start(writer))
    refused: list[type[LogError]] = []

    def again(_: object) -> None:
        try:
            writer.submit(draft("again"), again)
        except LogBusy as error:
            refused.append(type(error))

    for _ in range(3):
        writer.submit(draft("x"), again)
    await trio.sleep(2 * ANSWER_DEADLINE)
    assert refused == [LogBusy] * 3
    assert writer.statistics().late == 3


async def test_a_second_run_is_a_bug(nursery: trio.Nursery) -> None:
    writer = GroupWriter(beside(Engine().commit))
    await nursery.start(start(writer))
    with pytest.raises(RuntimeError, match="runs already"):
        await writer.run(ignore)


async def test_a_log_may_run_again() -> None:
    engine = Engine()
    writer = GroupWriter(beside(engine.commit))
    for text in ("first", "second"):
        async with trio.open_nursery() as nursery:
            await nursery.start(start(writer))
            await append(writer, draft(text))
            nursery.cancel_scope.cancel()
    assert engine.groups == [["first"], ["second"]]
