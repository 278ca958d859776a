"""The scheduler: classes with shares of time, fairness between networks, and a boundary around each step.

The clock moves only when a step says so.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net import scheduler as scheduler_module
from chatserver.net.scheduler import QUANTUM, Scheduler
from chatserver.net.states import Priority

MILLISECOND = 0.001
#: Seconds of a whole round.
ROUND = sum(QUANTUM.values())


class Stage:
    """A scheduler whose clock moves when a step says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.wake = mock.Mock()
        self.faulted: list[Any] = []
        self.done: list[Any] = []
        self.scheduler = Scheduler(faulted=self.faulted.append, wake=self.wake)

    def clock(self) -> float:
        return self.now

    def submit(
        self, priority: Priority, item: Any, *, takes: float = 0.0, more: int = 0, network: str = ""
    ) -> None:  # fmt: skip
        """Submit a step that takes `takes` seconds and asks `more` times to run again."""
        left = more

        def step(item: Any) -> bool:
            nonlocal left
            self.now += takes
            self.done.append(item)
            left -= 1
            return left >= 0

        self.scheduler.submit(priority, step, item, network)

    def rounds(self, limit: int = 10_000) -> int:
        """Run until nothing is left. Returns the number of rounds."""
        for count in range(limit):
            if self.scheduler.idle:
                return count
            self.scheduler.round()
        raise AssertionError("work is left after the last round")


@contextmanager
def staged() -> Iterator[Stage]:
    made = Stage()
    with mock.patch.object(scheduler_module, "perf_counter", made.clock):
        yield made


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged() as made:
        yield made


# -- classes ----------------------------------------------------------------------------------------------------------


def test_a_class_has_its_time_in_each_round_beside_the_others(stage: Stage) -> None:
    for priority in Priority:
        for number in range(1_000):
            stage.submit(priority, priority, takes=0.1 * MILLISECOND, network=str(number % 7))
    begun = stage.now
    for _ in range(50):
        stage.scheduler.round()
    assert stage.now - begun == pytest.approx(50 * ROUND, rel=0.1)
    for priority in Priority:
        took = stage.done.count(priority) * 0.1 * MILLISECOND
        assert took == pytest.approx(50 * QUANTUM[priority], rel=0.1)


@pytest.mark.parametrize("priority", list(Priority))
def test_a_long_step_ends_the_turn_of_its_class_and_no_other(stage: Stage, priority: Priority) -> None:
    stage.submit(priority, "long", takes=1.0)
    stage.submit(priority, "behind it", network="another")
    others = [each for each in Priority if each is not priority]
    for each in others:
        stage.submit(each, each)
    stage.scheduler.round()
    assert sorted(stage.done, key=str) == sorted(["long", *others], key=str)
    stage.scheduler.round()
    assert stage.done[-1] == "behind it"


# -- more -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.BULK])
def test_a_step_with_more_to_do_goes_to_the_tail_of_bulk(stage: Stage, priority: Priority) -> None:
    stage.submit(priority, "long", more=3)
    stage.submit(priority, "short")
    stage.submit(Priority.BULK, "bulk", takes=0.0)
    stage.rounds()
    assert stage.done[1] == "short"
    assert stage.done.index("bulk") < [at for at, item in enumerate(stage.done) if item == "long"][2]
    assert stage.done.count("long") == 4


def test_the_servers_own_work_stays_ahead_of_thousands_of_networks_that_flood(stage: Stage) -> None:
    """In `BULK` each of its steps would wait for a turn of every network there."""
    for number in range(2000):
        stage.submit(Priority.NORMAL, "flood", takes=MILLISECOND / 10, more=10_000, network=str(number))
    stage.submit(Priority.FIRST, "housekeeping", takes=MILLISECOND / 10, more=19)
    for _ in range(20):
        stage.scheduler.round()
    assert stage.done.count("housekeeping") == 20


# -- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", list(Priority))
def test_networks_take_turns_in_each_class(stage: Stage, priority: Priority) -> None:
    """The rest of long work keeps its network. The fairness itself: tests/test_fair.py."""
    for _ in range(40):
        stage.submit(priority, "crowd", takes=MILLISECOND, more=5, network="a")
    stage.submit(priority, "newcomer", takes=MILLISECOND, more=5, network="b")
    stage.rounds()
    turns = [at for at, item in enumerate(stage.done) if item == "newcomer"]
    assert len(turns) == 6
    assert turns[-1] < 30
    assert len(stage.done) == 41 * 6


@given(
    st.lists(st.tuples(st.sampled_from(Priority), st.sampled_from("abc"), st.integers(0, 3)), min_size=8, max_size=60)
)
def test_each_step_runs_exactly_once(work: list[tuple[Priority, str, int]]) -> None:
    with staged() as stage:
        for number, (priority, network, more) in enumerate(work):
            stage.submit(priority, number, takes=MILLISECOND * (number % 5), more=more, network=network)
        stage.rounds()
    assert Counter(stage.done) == Counter({number: 1 + more for number, (_, _, more) in enumerate(work)})
    assert stage.scheduler.statistics() == {"first": 0, "normal": 0, "bulk": 0}


# -- sleep ------------------------------------------------------------------------------------------------------------


def test_a_sleeper_is_woken_once(stage: Stage) -> None:
    stage.submit(Priority.BULK, "awake")
    assert not stage.wake.called
    stage.scheduler.asleep = True
    stage.submit(Priority.BULK, "first")
    stage.submit(Priority.NORMAL, "second")
    assert stage.wake.call_count == 1


# -- from other threads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asleep", [True, False])
def test_a_posted_call_comes_first_in_the_next_round_and_wakes_only_who_sleeps(stage: Stage, asleep: bool) -> None:
    """A wake-up is a system call, and another pass of the loop."""
    stage.scheduler.begin()
    stage.submit(Priority.NORMAL, "a peer")
    stage.scheduler.asleep = asleep
    for _ in range(2):
        assert stage.scheduler.post(partial(stage.done.append, "posted"))
    assert stage.wake.call_count == asleep
    assert stage.done == []
    stage.scheduler.round()
    assert stage.done == ["posted", "posted", "a peer"]
    assert stage.scheduler.idle
    assert stage.scheduler.post(bool)
    assert not stage.scheduler.sleep(), "nothing would wake it for this call"
    stage.rounds()
    assert stage.scheduler.sleep()


def test_a_call_posted_just_after_the_look_for_work_wakes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread posts while the task falls asleep: otherwise the call would wait for the next event."""
    stage.scheduler.begin()
    monkeypatch.setattr(Scheduler, "idle", property(lambda scheduler: scheduler.post(bool)))
    assert stage.scheduler.sleep()
    assert stage.wake.called


def test_a_call_posted_during_a_step_comes_before_the_next_step(stage: Stage) -> None:
    """Otherwise a commit waits for the end of the round and delays all later ones."""
    stage.scheduler.begin()

    def step(_: object) -> bool:
        return not stage.scheduler.post(partial(stage.done.append, "posted"))

    stage.scheduler.submit(Priority.NORMAL, step, None)
    stage.submit(Priority.NORMAL, "a peer")
    stage.scheduler.round()
    assert stage.done == ["posted", "a peer"]


def test_a_posted_call_that_raises_is_a_fault_and_the_others_are_made(stage: Stage) -> None:
    stage.scheduler.begin()
    broken = mock.Mock(side_effect=ZeroDivisionError)
    stage.scheduler.post(broken)
    stage.scheduler.post(partial(stage.done.append, "posted"))
    stage.submit(Priority.NORMAL, "a peer")
    stage.scheduler.round()
    assert (stage.faulted, stage.done) == ([broken], ["posted", "a peer"])


def test_a_round_makes_each_call_that_it_has_taken(stage: Stage) -> None:
    """A call left in a queue at the last round would be lost, and a log would wait for it until its timeout."""
    stage.scheduler.begin()
    stage.submit(Priority.FIRST, "more than a round's share", takes=MILLISECOND)
    stage.scheduler.post(partial(stage.done.append, "posted"))
    stage.scheduler.round()
    assert "posted" in stage.done
    assert stage.scheduler.end() == []


@pytest.mark.parametrize(
    ("waiting", "waits"), [(0, True), (scheduler_module.FEW_STEPS, True), (scheduler_module.FEW_STEPS + 1, False)]
)
def test_a_call_is_deferred_unless_many_steps_wait(stage: Stage, waiting: int, waits: bool) -> None:
    stage.scheduler.begin()
    for number in range(waiting):
        stage.submit(list(Priority)[number % len(Priority)], "a peer")
    broken = mock.Mock(side_effect=ZeroDivisionError)
    if waits:
        stage.scheduler.defer(broken)
    stage.scheduler.defer(partial(stage.done.append, "deferred"))
    assert stage.done == ([] if waits else ["deferred"])
    stage.rounds()
    stage.scheduler.call_deferred()
    assert (stage.done.index("deferred"), len(stage.done)) == (waiting if waits else 0, waiting + 1)
    assert stage.faulted == [broken] * waits


def test_before_begin_and_after_end_deferred_calls_are_made_at_once(stage: Stage) -> None:
    """Nothing would make them later, and a thread would wait for them."""
    call = partial(stage.done.append, "deferred")
    stage.scheduler.defer(call)
    stage.scheduler.begin()
    stage.scheduler.defer(call)
    assert (stage.done, stage.scheduler.end()) == (["deferred"], [call])
    stage.scheduler.defer(call)
    assert (stage.done, stage.scheduler.end()) == (["deferred"] * 2, [])


def test_before_begin_and_after_end_posts_are_refused_and_wake_nothing(stage: Stage) -> None:
    """The descriptor that wakes is closed by then, and its number may be in use again."""
    call = partial(stage.done.append, "posted")
    assert not stage.scheduler.post(call)
    stage.scheduler.begin()
    stage.scheduler.asleep = True
    assert stage.scheduler.post(call)
    assert stage.scheduler.end() == [call]
    stage.scheduler.asleep = True
    assert not stage.scheduler.post(call)
    assert stage.scheduler.end() == []
    stage.scheduler.round()
    assert stage.done == []
    assert stage.wake.call_count == 1
