"""Read markers on their way to the log: at most one row a second for each, none lost, none superfluous."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from structlog.testing import capture_logs

from chatserver.chat import read_markers
from chatserver.chat.read_markers import STORE_EVERY, ReadMarkers
from chatserver.log.interface import LogBusy, LogUnavailable
from chatserver.log.markers import Marker, Unread
from tests.support.steps import FEW, StepCounts, few_in_a_step


class Notebook:
    """`Markers` that records each group and can fail."""

    def __init__(self) -> None:
        self.groups: list[list[tuple[str, str, int]]] = []
        self.failures: list[Exception] = []
        self.faults = 0  # of `ReadMarkers.run`, which is started again
        self.delay = 0.0
        self.answers_after = 0.0  # what a reader has found

    async def move(self, markers: Sequence[Marker]) -> None:
        await trio.sleep(self.delay)
        if self.failures:
            raise self.failures.pop()
        self.groups.append([(marker.user_id, marker.room, marker.offset) for marker in markers])

    async def of_user(self, user_id: str) -> dict[str, int]:
        stored = sorted(row for group in self.groups for row in group)
        await trio.sleep(self.answers_after)
        return {room: offset for marked, room, offset in stored if marked == user_id}

    async def unread(self, user_id: str, places: Mapping[str, int]) -> dict[str, Unread]:
        await trio.lowlevel.checkpoint()
        return {room: Unread(offset, 0, 0) for room, offset in places.items()}

    @property
    def rows(self) -> list[tuple[str, str, int]]:
        return [row for group in self.groups for row in group]


@asynccontextmanager
async def storing() -> AsyncIterator[tuple[Notebook, ReadMarkers]]:
    notebook = Notebook()
    markers = ReadMarkers(notebook)

    async def keep_running() -> None:
        while True:
            try:
                await markers.run()
            except ZeroDivisionError:
                notebook.faults += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_running)
        yield notebook, markers
        nursery.cancel_scope.cancel()


async def places(markers: ReadMarkers, user: str = "ann") -> dict[str, int]:
    found = await markers.unread(user, lambda room: room != "secret")
    return {room: unread.read for room, unread in found.items()}


async def test_a_marker_that_moves_ten_times_a_second_is_a_row_a_second() -> None:
    async with storing() as (notebook, markers):
        for offset in range(1, 51):
            markers.move("ann", "lobby", offset)
            await trio.sleep(0.1)
        assert 4 <= len(notebook.rows) <= 5
        await trio.sleep(2 * STORE_EVERY)
        assert notebook.rows[-1] == ("ann", "lobby", 50)
        assert len(notebook.rows) <= 6
        before = len(notebook.groups)
        await trio.sleep(60.0)
        assert len(notebook.groups) == before, "without new markers nothing is written"


async def test_a_waiting_marker_is_visible_at_once_and_never_moves_backwards() -> None:
    async with storing() as (notebook, markers):
        notebook.delay = 0.5
        markers.move("ann", "lobby", 7)
        markers.move("ann", "lobby", 5)
        markers.move("ann", "secret", 5)
        assert await places(markers) == {"lobby": 7}
        await trio.sleep(STORE_EVERY + 0.25)  # it is being stored
        markers.move("ann", "lobby", 6)
        markers.move("ann", "ops", 1)
        assert await places(markers) == {"lobby": 7, "ops": 1}
        assert await places(markers, "bob") == {}
        await trio.sleep(5.0)
        assert await places(markers) == {"lobby": 7, "ops": 1}
        notebook.answers_after = 2 * STORE_EVERY
        markers.move("ann", "ops", 2)
        assert await places(markers) == {"lobby": 7, "ops": 2}, "it was stored while the log's answer was on its way"


async def test_a_failing_log_loses_no_marker_and_a_fault_only_the_current_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read_markers, "STORE_GROUP", 2)
    async with storing() as (notebook, markers):
        notebook.failures = [LogUnavailable("the disk is full")] * 3
        for number in range(5):
            markers.move(f"u_{number}", "lobby", 1)
        with capture_logs() as lines:
            await trio.sleep(2.5 * STORE_EVERY)
        assert [line["event"] for line in lines] == ["read_markers_not_stored"], "once until it succeeds"
        markers.move("u_0", "lobby", 2)
        assert notebook.rows == []
        await trio.sleep(5 * STORE_EVERY)
        assert notebook.rows == [*((f"u_{number}", "lobby", 1) for number in range(5)), ("u_0", "lobby", 2)]
        assert max(map(len, notebook.groups)) == 2
        assert notebook.faults == 0
        notebook.failures = [ZeroDivisionError()]
        markers.move("u_8", "lobby", 1)
        await trio.sleep(5 * STORE_EVERY)
        assert notebook.faults == 1
        markers.move("u_9", "lobby", 1)
        await trio.sleep(5 * STORE_EVERY)
        assert notebook.rows[-1] == ("u_9", "lobby", 1)
        assert len(notebook.rows) == 7


async def test_the_rest_is_stored_at_the_end_unless_the_log_hangs() -> None:
    for delay, stored in ((0.1, 2), (100.0, 0)):
        with capture_logs() as lines:
            async with storing() as (notebook, markers):
                notebook.delay = delay
                markers.move("ann", "lobby", 1)
                await trio.sleep(STORE_EVERY + 0.05)  # it is being stored
                markers.move("ann", "ops", 1)
        assert len(notebook.rows) == stored
        assert [(line["event"], line["markers"]) for line in lines] == [("read_markers_lost", 2)] * (not stored)


async def test_the_number_of_waiting_markers_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_markers, "MAX_WAITING", 3)
    async with storing() as (_, markers):
        for room in "abc":
            markers.move("ann", room, 1)
        markers.move("ann", "a", 2)
        with pytest.raises(LogBusy):
            markers.move("bob", "a", 1)
        await trio.sleep(2 * STORE_EVERY)
        for room in "abc":
            markers.move("bob", room, 1)


async def test_a_user_in_many_rooms_is_stored_in_groups_and_has_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one statement, 8,000 rows of a user would hold the writing thread for 145 ms."""
    monkeypatch.setattr(read_markers, "STORE_GROUP", 3)
    monkeypatch.setattr(read_markers, "MAX_MARKED_ROOMS", 7)
    async with storing() as (notebook, markers):
        for number in range(7):
            markers.move("ann", f"room-{number}", 1)
        with pytest.raises(LogBusy, match="7 of them of this user"):
            markers.move("ann", "room-7", 1)
        markers.move("bob", "lobby", 1)
        await trio.sleep(2 * STORE_EVERY)
        assert [len(group) for group in notebook.groups] == [3, 3, 2]
        assert len(set(notebook.rows)) == 8
        assert markers.waiting == 0
        for number in range(7):
            markers.move("ann", f"room-{number}", 2)
        await markers.store("ann")
        assert [len(group) for group in notebook.groups[3:]] == [3, 3, 1]
        assert markers.waiting == 0


async def test_the_markers_of_one_user_can_be_stored_at_once() -> None:
    async with storing() as (notebook, markers):
        for user in ("ann", "bob"):
            markers.move(user, "lobby", 3)
        notebook.delay = 0.1
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(markers.store, "ann")
            await trio.sleep(0.05)
            markers.move("ann", "lobby", 4)
            markers.move("ann", "den", 1)
        assert set(notebook.rows) == {("ann", "lobby", 3)}
        assert (markers.waiting, await places(markers)) == (3, {"lobby": 4, "den": 1})
        await markers.store("ann")
        assert markers.waiting == 1
        await markers.store("ann")
        await markers.store("nobody")
        await trio.sleep(2 * STORE_EVERY)
        assert notebook.rows[-3:] == [("ann", "lobby", 4), ("ann", "den", 1), ("bob", "lobby", 3)]
        assert markers.waiting == 0
        markers.move("ann", "lobby", 5)
        await trio.sleep(2 * STORE_EVERY)
        assert notebook.rows[-1] == ("ann", "lobby", 5), "the next rounds go on"


async def test_a_round_may_begin_while_the_markers_of_a_user_are_stored_at_once() -> None:
    async with storing() as (notebook, markers):
        markers.move("ann", "lobby", 3)
        notebook.delay = 0.1
        await trio.sleep(STORE_EVERY - 0.05)
        await markers.store("ann")
        await trio.sleep(1.0)
        assert notebook.rows == [("ann", "lobby", 3)] * 2
        assert (notebook.faults, markers.waiting) == (0, 0)


async def test_markers_that_cannot_be_stored_at_once_stay_for_their_round() -> None:
    async with storing() as (notebook, markers):
        markers.move("ann", "lobby", 3)
        notebook.failures.append(LogUnavailable("planted"))
        with pytest.raises(LogUnavailable):
            await markers.store("ann")
        assert markers.waiting == 1
        await trio.sleep(2 * STORE_EVERY)
        assert notebook.rows == [("ann", "lobby", 3)]


async def test_rights_in_many_rooms_are_checked_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rights of a user in 1,000 rooms must not be one step of the loop."""
    few_in_a_step(monkeypatch)
    markers = ReadMarkers(Notebook())
    for number in range(10):
        markers.move("ann", f"room-{number}", 1)
    with StepCounts() as steps:
        await markers.unread("ann", steps.counted(lambda room: True))
    assert (max(steps.counts), sum(steps.counts)) == (FEW, 10)


async def test_of_too_many_rooms_the_last_marked_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of 1,000 includes markers that wait to be stored; otherwise an answer has up to 3,000 rooms."""
    monkeypatch.setattr(read_markers, "MAX_MARKED_ROOMS", 3)
    notebook = Notebook()
    notebook.groups = [[("ann", room, 1) for room in "abc"]]
    markers = ReadMarkers(notebook)
    for room in "cd":
        markers.move("ann", room, 2)
    assert await places(markers) == {"a": 1, "c": 2, "d": 2}
