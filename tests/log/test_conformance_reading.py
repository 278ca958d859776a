"""Reads and lists of rooms: one suite for all engines."""

import pytest
import trio

from chatserver.log.interface import MAX_READ, MAX_READ_BYTES, Head, Log, Range, RoomSummary
from chatserver.log.memory import MemoryLog
from chatserver.log.program import Program
from tests.log.support import Clock, Posted, draft, fill, ignore, offsets, submit_all

FAR = 2**70  # beyond SQLite's integers


async def test_a_room_never_written_is_empty(log: Log) -> None:
    assert await log.head("nobody") == Head(1, 0)
    assert await log.read(Range("nobody", 10, last=True)) == []
    assert await log.read(Range("nobody", after=0, limit=10)) == []
    assert await log.read(Range("nobody", 10, before=100, last=True)) == []
    assert await log.rooms(10) == []


async def test_reads_stay_within_their_bounds_and_room(log: Log) -> None:
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
        assert offsets(await log.read(Range("lobby", after=after, limit=limit))) == expected, (after, limit)
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
        assert offsets(await log.read(Range("lobby", limit, before=before, last=True))) == expected, (before, limit)


async def test_no_read_is_longer_than_its_bound(log: Log) -> None:
    await fill(log, MAX_READ + 1)
    assert len(await log.read(Range("lobby", after=0, limit=MAX_READ + 1))) == MAX_READ
    assert len(await log.read(Range("lobby", MAX_READ + 1, before=2**40, last=True))) == MAX_READ
    assert len(await log.read(Range("lobby", MAX_READ + 1, last=True))) == MAX_READ


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
        assert offsets(await log.read(Range("lobby", after=0, limit=99, max_bytes=max_bytes))) == first
        assert offsets(await log.read(Range("lobby", 99, before=4, max_bytes=max_bytes, last=True))) == last
        assert offsets(await log.read(Range("lobby", 99, max_bytes=max_bytes, last=True))) == last
        assert await log.read(Range("lobby", after=3, limit=99, max_bytes=max_bytes)) == []


async def test_a_read_has_a_default_bound(log: Log) -> None:
    await submit_all(log, [draft("x" * (MAX_READ_BYTES // 4)) for _ in range(6)])
    assert offsets(await log.read(Range("lobby", after=0, limit=99))) == [1, 2, 3, 4]
    assert offsets(await log.read(Range("lobby", 99, before=7, last=True))) == [3, 4, 5, 6]
    assert offsets(await log.read(Range("lobby", 99, last=True))) == [3, 4, 5, 6]


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


async def test_the_outcome_of_a_read_is_posted(closed_log: Log, nursery: trio.Nursery) -> None:
    """A join reads twice, and waiting for a pass of the loop takes milliseconds on a busy server."""
    if isinstance(closed_log, MemoryLog):
        pytest.skip("this engine reads at once")
    posted = Posted()
    await nursery.start(closed_log.run, ignore, Program(post=posted))
    posted.clear()
    assert await closed_log.read(Range("lobby", 10, last=True)) == []
    assert len(posted) == 1
