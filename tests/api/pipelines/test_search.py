"""The pipeline of a search: concurrent steps, cancellation, and failures that leave nothing behind."""

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from chatserver.api.pages import PAGE_BYTES
from chatserver.api.pipelines.background import BackgroundSteps
from chatserver.api.pipelines.limiters import OverLimitError
from chatserver.api.pipelines.results import RESULT_LIFETIME
from chatserver.api.pipelines.search import ROOMS_BUDGET, SHORT_ROOMS_BUDGET, Searched
from chatserver.log.interface import TEXTS_CHANGED, LogUnavailable, MessageState, Record
from tests.api.pipelines.stage import ANN, CancelAfter, Stage, Systems, cancelled_at_every_await, found

Clock = trio.testing.MockClock
#: Steps that a search of everywhere waits for when one answer does not hold all results.
STEPS = ("network", "minute", "session", "user", "get", "everywhere", "rooms", "a", "b")
AFTER = ("audit", "marker", "touch", "put")


@pytest.fixture
def systems() -> Systems:
    """Systems with more results than one answer holds."""
    systems = Systems()
    systems.go_on = 5
    return systems


@pytest.fixture
def stage(systems: Systems, nursery: trio.Nursery) -> Stage:
    return Stage(systems, nursery)


async def test_the_order_of_the_steps(autojump_clock: Clock, systems: Systems, stage: Stage) -> None:
    assert found(await stage.search()) == ["c", "b", "a"]
    assert not set(systems.log) & set(AFTER), "background steps begin after the answer"
    await trio.testing.wait_all_tasks_blocked()
    assert set(systems.log) == {*STEPS, *AFTER, *(f".{step}" for step in (*STEPS, *AFTER))}


async def test_concurrent_steps_take_the_longest_time(autojump_clock: Clock, systems: Systems, stage: Stage) -> None:
    systems.seconds = dict.fromkeys(("network", "minute", "session", "user", "everywhere"), 1.0)
    systems.go_on = None
    await trio.sleep(1.0)
    assert (await stage.search()).seconds == pytest.approx(1.0)


async def test_one_query_is_enough_for_most_searches(autojump_clock: Clock, systems: Systems, stage: Stage) -> None:
    systems.go_on = None
    assert found(await stage.search()) == ["c"]
    systems.go_on = 5
    assert found(await stage.search(room="a")) == ["a"]
    assert "rooms" not in systems.log
    await stage.search("other", limit=1)
    assert systems.log.count("everywhere") == 2, "once for each search of everywhere"


@pytest.mark.parametrize("letter", ["x", "\u6771"])
async def test_one_query_is_enough_if_its_results_fill_an_answer(
    autojump_clock: Clock, systems: Systems, stage: Stage, letter: str
) -> None:
    """Of messages of 8 KB an answer has eight: a search for fifty took a second query, as long as the first."""
    systems.rest = letter * (PAGE_BYTES // len(letter.encode()))
    assert found(await stage.search(room="a")) == ["a"]
    assert systems.log.count("a") == 1


async def test_rooms_that_are_slow_are_left_out(autojump_clock: Clock, systems: Systems, stage: Stage) -> None:
    systems.seconds = {"a": 60.0}
    searched = await stage.search()
    assert found(searched) == ["c", "b"]
    assert searched.seconds == pytest.approx(SHORT_ROOMS_BUDGET)
    full = await stage.search("other", limit=1)
    assert full.seconds == pytest.approx(ROOMS_BUDGET), "the others only improve the ranking"
    await trio.testing.wait_all_tasks_blocked()
    assert systems.running == 0


async def test_a_full_answer_needs_no_further_rooms(autojump_clock: Clock, systems: Systems, stage: Stage) -> None:
    """They could only improve the ranking, and their failure was the answer."""
    for step in ("rooms", "a"):
        systems.errors = {step: LogUnavailable("planted")}
        assert len(found(await stage.search(f"without-{step}", limit=1))) == 1
    with pytest.raises(LogUnavailable):
        await stage.search("short")


@pytest.mark.parametrize("limit", ["network", "minute", "user"])
async def test_a_refusal_by_a_limiter_cancels_the_queries(
    autojump_clock: Clock, systems: Systems, stage: Stage, limit: str
) -> None:
    """The refusal does not wait for the queries, which take much longer."""
    systems.waits = {limit: 3.0}
    systems.seconds = {"everywhere": 60.0, "session": 60.0, limit: 1.0}
    began = trio.current_time()
    with pytest.raises(OverLimitError) as caught:
        await stage.search()
    assert caught.value.wait == 3.0
    assert "everywhere" in systems.log
    await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() - began == 1.0
    assert (systems.running, len(stage.results._kept)) == (0, 0)
    assert ".audit" not in systems.log
    known = {each.name: each.buckets.wait(key, began + 1.0) for each, key in stage.limits.of(ANN)}
    assert {name: wait for name, wait in known.items() if wait} == {limit: pytest.approx(3.0)}, "the refusal is kept"


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_fails_fails_the_search_alone(autojump_clock: Clock, systems: Systems, step: str) -> None:
    """A failure of a system or a bug of ours cancels the other steps, and the next search succeeds."""
    for error, raised in ((LogUnavailable("planted"), LogUnavailable), (ZeroDivisionError("planted"), ExceptionGroup)):
        systems.errors, systems.far = {step: error}, {}
        systems.seconds = {each: 0.0 if each == step else 0.01 for each in STEPS}
        async with trio.open_nursery() as nursery:
            stage = Stage(systems, nursery)
            with pytest.raises(raised):
                await stage.search()
            assert systems.running == 0
            assert len(stage.results._kept) == len(stage.pipeline._flights) == 0
            systems.errors = {}
            assert found(await stage.search()) == ["c", "b", "a"]


@pytest.mark.parametrize("step", AFTER)
async def test_a_failure_after_the_answer_affects_nothing(autojump_clock: Clock, systems: Systems, step: str) -> None:
    caught: list[object] = []
    for error in (LogUnavailable("planted"), ZeroDivisionError("planted")):
        systems.errors, systems.far = {step: error}, {}
        systems.log.clear()
        async with trio.open_nursery() as nursery:
            stage = Stage(systems, nursery, BackgroundSteps(nursery, caught.append).start)
            assert found(await stage.search()) == ["c", "b", "a"]
        assert {f".{each}" for each in AFTER if each != step} <= set(systems.log), "the other steps succeed"
        assert len(stage.results._kept) == 6
    assert len(caught) == 1, "the failure of a system is logged and is no fault"


def test_cancelled_at_every_await() -> None:
    """No step stays running, no partial answer is cached, and the same search succeeds the next time."""
    assert cancelled_at_every_await(cancel_and_search_again) > 15, "at least one await in each step"


async def cancel_and_search_again(cancel: CancelAfter) -> None:
    systems = Systems()
    systems.go_on = 5
    async with trio.open_nursery() as nursery:
        stage = Stage(systems, nursery)
        with cancel:
            assert found(await stage.search()) == ["c", "b", "a"]
        assert systems.running == len(stage.pipeline._flights) == 0
        if cancel.scope.cancelled_caught:
            assert len(stage.results._kept) == 0
        assert found(await stage.search()) == ["c", "b", "a"]


async def test_results_of_other_processes_are_used(autojump_clock: Clock, systems: Systems) -> None:
    async with trio.open_nursery() as nursery:
        assert not (await Stage(systems, nursery).search()).cached
    systems.log.clear()
    async with trio.open_nursery() as nursery:
        again = await Stage(systems, nursery).search()
    assert (again.cached, found(again)) == (True, ["c", "b", "a"])
    assert not {"everywhere", "a", "b", "put"} & set(systems.log)


# -- cache and rights -------------------------------------------------------------------------------------------------


async def test_a_cached_result_needs_no_query_until_it_is_too_old(
    autojump_clock: Clock, systems: Systems, stage: Stage
) -> None:
    assert not (await stage.search()).cached
    await trio.testing.wait_all_tasks_blocked()
    systems.log.clear()
    again = await stage.search()
    assert (again.cached, found(again)) == (True, ["c", "b", "a"])
    assert "everywhere" not in systems.log
    await trio.sleep(RESULT_LIFETIME)
    systems.far.clear()
    assert not (await stage.search()).cached


async def test_equal_searches_at_once_have_one_query(autojump_clock: Clock, systems: Systems, stage: Stage) -> None:
    systems.seconds, systems.go_on = {"everywhere": 1.0}, None
    async with trio.open_nursery() as askers:
        for _ in range(5):
            askers.start_soon(stage.search)
    assert systems.log.count("everywhere") == 1


async def test_a_query_from_before_a_deletion_is_neither_cached_nor_shared(
    autojump_clock: Clock, systems: Systems, stage: Stage
) -> None:
    """The query may have found the deleted text, so a later search must neither share nor cache its result."""
    systems.seconds, systems.go_on = {"everywhere": 1.0}, None
    async with trio.open_nursery() as asking:
        asking.start_soon(stage.search)
        await trio.sleep(0.5)
        stage.results.forget(["elsewhere"])
    await trio.testing.wait_all_tasks_blocked()
    assert len(stage.results._kept) == 0
    systems.far.clear()
    async with trio.open_nursery() as asking:
        asking.start_soon(stage.search)
        await trio.sleep(0.5)
        stage.results.on_hints([TEXTS_CHANGED])  # the deletion is of another process
        await stage.search()
    assert systems.log.count("everywhere") == 3


async def test_a_message_changed_during_a_search_has_its_new_state(
    autojump_clock: Clock, systems: Systems, stage: Stage
) -> None:
    """A hit waits for the other queries, while the searching user is told of its deletion."""
    systems.seconds = {"user": 9.0}
    records = {room: Record(room, 1, 0, "u_ann", "Ann", f"hi from {room}") for room in "abc"}
    searched: list[Searched] = []

    async def search() -> None:
        searched.append(await stage.search())

    async with trio.open_nursery() as searching:
        searching.start_soon(search)
        await trio.sleep(5.0)
        stage.reader.altered("a", [replace(records["a"], text="", state=MessageState(deleted=True))], by=9)
        stage.reader.altered("b", [replace(records["b"], state=MessageState(reactions=(("+", 1),)))], by=9)
        systems.readable = "ab"  # a ban meanwhile
    assert [(hit.record.room, hit.record.state) for hit in searched[0].hits] == [
        ("b", MessageState(reactions=(("+", 1),)))
    ]
    assert len(stage.reader) == 0


async def test_rooms_that_may_not_be_read_are_neither_queried_nor_in_the_answer(
    autojump_clock: Clock, systems: Systems, stage: Stage
) -> None:
    """The search goes on while few of its results may be read, but only up to a bound."""
    systems.readable = "b"
    assert found(await stage.search()) == ["b"]
    assert "a" not in systems.log
    assert 1 < systems.log.count("everywhere") < 10
