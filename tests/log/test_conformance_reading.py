"""Reads, lists of rooms and retention: one suite for all engines."""

from collections.abc import Callable
from functools import partial

import pytest
import trio

from chatserver.log import memory, postgres_writer, sqlite_writer
from chatserver.log.interface import MAX_READ, MAX_READ_BYTES, Head, Log, RoomSummary
from chatserver.log.memory import MemoryLog
from tests.log.support import Clock, draft, fill, offsets, submit_all
from tests.support.groups import append

FAR = 2**70  # beyond SQLite's integers

# -- reading


async def test_a_room_never_written_is_empty(log: Log) -> None:
    assert await log.head("nobody") == Head(1, 0)
    assert await log.latest("nobody", 10) == []
    assert await log.read("nobody", after=0, limit=10) == []
    assert await log.latest("nobody", 10, before=100) == []
    assert await log.rooms(10) == []


async def test_reads(log: Log) -> None:
    """Whatever the bounds, no record of a neighbouring room is read."""
    for room, count in (("before", 3), ("lobby", 10), ("behind", 3)):
        await fill(log, count, room)
    everything = list(range(1, 11))
    for after, limit, expected in (
        (0, 3, [1, 2, 3]),
        (8, 5, [9, 10]),
        (10, 5, []),
        (0, 0, []),
        (0, -1, []),
        (-5, 2, [1, 2]),
        (-FAR, 2, [1, 2]),
        (FAR, 2, []),
        (0, FAR, everything),
    ):
        assert offsets(await log.read("lobby", after=after, limit=limit)) == expected, (after, limit)
    for before, limit, expected in (
        (11, 3, [8, 9, 10]),
        (3, 10, [1, 2]),
        (1, 5, []),
        (-7, 5, []),
        (99, 2, [9, 10]),
        (11, -1, []),
        (FAR, 2, [9, 10]),
        (-FAR, 2, []),
        (None, 3, [8, 9, 10]),
        (None, 0, []),
        (None, -1, []),
        (None, FAR, everything),
    ):
        assert offsets(await log.latest("lobby", limit, before=before)) == expected, (before, limit)


async def test_no_read_is_longer_than_its_bound(log: Log) -> None:
    await fill(log, MAX_READ + 1)
    assert len(await log.read("lobby", after=0, limit=MAX_READ + 1)) == MAX_READ
    assert len(await log.latest("lobby", MAX_READ + 1, before=2**40)) == MAX_READ
    assert len(await log.latest("lobby", MAX_READ + 1)) == MAX_READ


async def test_a_read_is_bounded_in_bytes(log: Log) -> None:
    """A message longer than the bound is read alone; otherwise a reader would never get past it."""
    await submit_all(log, [draft("é" * 5), draft("\U0001f600" * 5), draft("x" * 5)])
    for max_bytes, first, last in (
        (-1, [1], [3]),
        (9, [1], [3]),
        (29, [1], [2, 3]),
        (30, [1, 2], [2, 3]),
        (34, [1, 2], [2, 3]),
        (35, [1, 2, 3], [1, 2, 3]),
        (FAR, [1, 2, 3], [1, 2, 3]),
    ):
        assert offsets(await log.read("lobby", after=0, limit=99, max_bytes=max_bytes)) == first
        assert offsets(await log.latest("lobby", 99, before=4, max_bytes=max_bytes)) == last
        assert offsets(await log.latest("lobby", 99, max_bytes=max_bytes)) == last
        assert await log.read("lobby", after=3, limit=99, max_bytes=max_bytes) == []


async def test_a_read_has_a_default_bound(log: Log) -> None:
    await submit_all(log, [draft("x" * (MAX_READ_BYTES // 4)) for _ in range(6)])
    assert offsets(await log.read("lobby", after=0, limit=99)) == [1, 2, 3, 4]
    assert offsets(await log.latest("lobby", 99, before=7)) == [3, 4, 5, 6]
    assert offsets(await log.latest("lobby", 99)) == [3, 4, 5, 6]


async def test_rooms_come_most_recently_written_first(log: Log, clock: Clock) -> None:
    for room, count in (("b", 1), ("a", 2), ("c", 3)):
        clock.ms += 1
        await fill(log, count, room)
    assert await log.rooms(10) == [RoomSummary("c", 3, 3), RoomSummary("a", 2, 2), RoomSummary("b", 1, 1)]
    clock.ms += 1
    await fill(log, 1, "b")
    assert await log.rooms(2) == [RoomSummary("b", 2, 2), RoomSummary("c", 3, 3)]
    await fill(log, 1, "a")  # in the same millisecond as "b"
    assert sorted(summary.room for summary in await log.rooms(2)) == ["a", "b"]
    assert [summary.room for summary in await log.rooms(10)][2:] == ["c"]
    assert await log.rooms(0) == await log.rooms(-1) == []


# -- retention


@pytest.mark.parametrize(
    ("max_messages", "max_age_ms", "lost"),
    [(0, 3_000, {"lobby": 3}), (4, 3_000, {"lobby": 3}), (2, 3_000, {"lobby": 4}), (0, 0, {}), (5, 10**6, {})],
)
async def test_retain_by_the_tighter_bound(
    log: Log, clock: Clock, max_messages: int, max_age_ms: int, lost: dict[str, int]
) -> None:
    for _ in range(5):
        await append(log, draft())
        clock.ms += 1_000
    assert await log.retain(lambda _: (max_messages, max_age_ms)) == lost
    assert await log.head("lobby") == Head(lost.get("lobby", 1), 5)
    assert offsets(await log.read("lobby", after=0, limit=9)) == list(range(lost.get("lobby", 1), 6))


async def test_a_room_may_have_bounds_of_its_own(log: Log, clock: Clock) -> None:
    for room in ("short", "young", "all", "lobby"):
        for _ in range(5):
            await append(log, draft(room=room))
            clock.ms += 1_000
    own = {"short": (1, 0), "young": (0, 12_500), "all": (0, 0)}
    lost = await log.retain(lambda room: own.get(room, (3, 0)))
    assert lost == {"short": 5, "young": 4, "lobby": 3}
    assert await log.head("all") == Head(1, 5)


async def test_an_emptied_room_keeps_its_offsets(log: Log, clock: Clock) -> None:
    await fill(log, 5)
    clock.ms += 1_000
    assert await log.retain(lambda _: (0, 1)) == {"lobby": 6}
    assert await log.head("lobby") == Head(6, 5)
    assert await log.latest("lobby", 9) == []
    assert await log.rooms(9) == []
    clock.ms += 99
    assert await log.retain(lambda _: (1, 1)) == {}
    assert (await append(log, draft())).record.offset == 6
    assert await log.head("lobby") == Head(6, 6)


async def test_retain_many_rooms_while_publishers_go_on(
    log: Log, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention takes several steps, by rooms and by records."""
    for module in (sqlite_writer, postgres_writer):
        monkeypatch.setattr(module, "FORGET_STEP", 20)
        monkeypatch.setattr(module, "ROOMS_STEP", 10)
    monkeypatch.setattr(memory, "RETAIN_STEP", 20)
    await fill(log, 170)
    await submit_all(log, [draft(room=f"room-{number % 45}") for number in range(90)])
    lost: dict[str, int] = {}

    async def retain() -> None:
        lost.update(await log.retain(lambda _: (1, 0)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(retain)
        for number in range(10):
            await append(log, draft(str(number), room="busy"))
    assert lost.pop("lobby") == 170
    lost.pop("busy", None)
    assert lost == {f"room-{number}": 2 for number in range(45)}
    assert await log.head("lobby") == Head(170, 170)
    assert (await log.head("busy")).last == 10


async def test_the_outcome_of_a_read_is_posted(closed_log: Log, nursery: trio.Nursery) -> None:
    """A join reads twice, and waiting for a pass of the loop takes milliseconds on a busy server."""
    if isinstance(closed_log, MemoryLog):
        pytest.skip("this engine reads at once")
    token, posted = trio.lowlevel.current_trio_token(), []

    def post(call: Callable[[], object]) -> bool:
        posted.append(call)
        token.run_sync_soon(call)
        return True

    await nursery.start(partial(closed_log.run, post=post), lambda records: None)
    posted.clear()
    assert await closed_log.latest("lobby", 10) == []
    assert len(posted) == 1
