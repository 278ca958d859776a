"""What every engine promises of reading, lists of rooms and retention: one suite, run against each."""

import pytest
import trio

from chatserver.log.interface import MAX_READ, MAX_READ_BYTES, Head, Log, RoomSummary
from tests.log.support import Clock, draft, fill, offsets, submit_all
from tests.support.groups import append

# -- reading


async def test_a_room_never_written_is_empty(log: Log) -> None:
    assert await log.head("nobody") == Head(1, 0)
    assert await log.latest("nobody", 10) == []
    assert await log.read("nobody", after=0, limit=10) == []
    assert await log.latest("nobody", 10, before=100) == []
    assert await log.rooms(10) == []


@pytest.mark.parametrize(
    ("after", "limit", "expected"),
    [
        (0, 3, [1, 2, 3]),
        (4, 3, [5, 6, 7]),
        (8, 5, [9, 10]),
        (10, 5, []),
        (99, 5, []),
        (0, 0, []),
        (0, -1, []),
        (-5, 2, [1, 2]),
        (-(2**70), 2, [1, 2]),
        (2**70, 2, []),
        (0, 2**70, list(range(1, 11))),
    ],
)
async def test_read(log: Log, after: int, limit: int, expected: list[int]) -> None:
    await fill(log, 10)
    assert offsets(await log.read("lobby", after=after, limit=limit)) == expected


@pytest.mark.parametrize(
    ("before", "limit", "expected"),
    [
        (11, 3, [8, 9, 10]),
        (5, 2, [3, 4]),
        (3, 10, [1, 2]),
        (1, 5, []),
        (0, 5, []),
        (-7, 5, []),
        (99, 2, [9, 10]),
        (11, 0, []),
        (11, -1, []),
        (2**70, 2, [9, 10]),
        (-(2**70), 2, []),
    ],
)
async def test_read_before(log: Log, before: int, limit: int, expected: list[int]) -> None:
    await fill(log, 10)
    assert offsets(await log.latest("lobby", limit, before=before)) == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [(3, [8, 9, 10]), (99, list(range(1, 11))), (0, []), (-1, []), (2**70, list(range(1, 11)))]
)
async def test_latest(log: Log, limit: int, expected: list[int]) -> None:
    await fill(log, 10)
    assert offsets(await log.latest("lobby", limit)) == expected


async def test_no_read_is_longer_than_its_bound(log: Log) -> None:
    await fill(log, MAX_READ + 1)
    assert len(await log.read("lobby", after=0, limit=MAX_READ + 1)) == MAX_READ
    assert len(await log.latest("lobby", MAX_READ + 1, before=2**40)) == MAX_READ
    assert len(await log.latest("lobby", MAX_READ + 1)) == MAX_READ


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [(30, 3), (31, 3), (39, 3), (40, 4), (10, 1), (9, 1), (0, 1), (-1, 1), (1_000, 6), (2**70, 6)],
)
async def test_a_read_is_bounded_in_bytes(log: Log, max_bytes: int, expected: int) -> None:
    """A message longer than the bound is read alone, or a reader would never get past it."""
    await submit_all(log, [draft(str(number) * 10) for number in range(6)])
    first, last = list(range(1, expected + 1)), list(range(7 - expected, 7))
    assert offsets(await log.read("lobby", after=0, limit=99, max_bytes=max_bytes)) == first
    assert offsets(await log.latest("lobby", 99, before=7, max_bytes=max_bytes)) == last
    assert offsets(await log.latest("lobby", 99, max_bytes=max_bytes)) == last
    assert await log.read("lobby", after=6, limit=99, max_bytes=max_bytes) == []
    assert await log.latest("lobby", 0, max_bytes=max_bytes) == []
    assert offsets(await log.read("lobby", after=0, limit=2, max_bytes=max_bytes)) == first[:2]


async def test_the_bound_counts_bytes_and_not_characters(log: Log) -> None:
    await submit_all(log, [draft("é" * 5), draft("\U0001f600" * 5), draft("x" * 5)])
    for max_bytes, expected in ((10, [1]), (29, [1]), (30, [1, 2]), (34, [1, 2]), (35, [1, 2, 3])):
        assert offsets(await log.read("lobby", after=0, limit=99, max_bytes=max_bytes)) == expected


async def test_a_long_message_between_short_ones_is_read_alone(log: Log) -> None:
    await submit_all(log, [draft("a"), draft("b" * 100), draft("c"), draft("d")])
    pages, after = [], 0
    while page := await log.read("lobby", after=after, limit=99, max_bytes=10):
        pages.append(offsets(page))
        after = page[-1].offset
    assert pages == [[1], [2], [3, 4]]
    pages, before = [], 5
    while page := await log.latest("lobby", 99, before=before, max_bytes=10):
        pages.append(offsets(page))
        before = page[0].offset
    assert pages == [[3, 4], [2], [1]]


async def test_a_read_that_names_no_bound_has_one(log: Log) -> None:
    await submit_all(log, [draft("x" * (MAX_READ_BYTES // 4)) for _ in range(6)])
    assert offsets(await log.read("lobby", after=0, limit=99)) == [1, 2, 3, 4]
    assert offsets(await log.latest("lobby", 99, before=7)) == [3, 4, 5, 6]
    assert offsets(await log.latest("lobby", 99)) == [3, 4, 5, 6]


async def test_rooms_do_not_see_each_others_messages(log: Log) -> None:
    for room in ("a", "b", "c"):
        await fill(log, 2, room)
    assert {record.room for record in await log.latest("b", 10)} == {"b"}
    assert {record.room for record in await log.read("b", after=0, limit=10)} == {"b"}
    assert {record.room for record in await log.latest("b", 10, before=10)} == {"b"}


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


async def test_a_room_emptied_and_written_again_is_the_first_of_the_list(log: Log, clock: Clock) -> None:
    for room in ("a", "b"):
        await fill(log, 2, room)
        clock.ms += 1_000
    assert await log.retain(max_messages=0, max_age_ms=1_000, now_ms=clock.ms) == {"a": 3}
    assert await log.rooms(10) == [RoomSummary("b", 2, 2)]
    await fill(log, 1, "a")
    assert await log.rooms(10) == [RoomSummary("a", 1, 3), RoomSummary("b", 2, 2)]


# -- retention


async def test_retain_keeps_the_newest(log: Log, clock: Clock) -> None:
    await fill(log, 10)
    await fill(log, 3, "small")
    assert await log.retain(max_messages=4, max_age_ms=0, now_ms=clock.ms) == {"lobby": 7}
    assert await log.head("lobby") == Head(7, 10)
    assert offsets(await log.read("lobby", after=0, limit=99)) == [7, 8, 9, 10]
    assert offsets(await log.read("lobby", after=8, limit=99)) == [9, 10]
    assert offsets(await log.latest("lobby", 99, before=9)) == [7, 8]
    assert await log.latest("lobby", 99, before=7) == []
    assert await log.head("small") == Head(1, 3)
    assert RoomSummary("lobby", 4, 10) in await log.rooms(10)


async def test_retain_by_age(log: Log, clock: Clock) -> None:
    for _ in range(5):
        await append(log, draft())
        clock.ms += 1_000
    assert await log.retain(max_messages=0, max_age_ms=3_000, now_ms=clock.ms) == {"lobby": 3}
    assert await log.head("lobby") == Head(3, 5)


async def test_retain_by_whichever_bound_is_tighter(log: Log, clock: Clock) -> None:
    for _ in range(5):
        await append(log, draft())
        clock.ms += 1_000
    assert await log.retain(max_messages=4, max_age_ms=3_000, now_ms=clock.ms) == {"lobby": 3}
    assert await log.retain(max_messages=2, max_age_ms=3_000, now_ms=clock.ms) == {"lobby": 4}


async def test_retain_without_bounds_or_without_need_does_nothing(log: Log, clock: Clock) -> None:
    await fill(log, 5)
    assert await log.retain(max_messages=0, max_age_ms=0, now_ms=clock.ms + 10**9) == {}
    assert await log.retain(max_messages=5, max_age_ms=10**6, now_ms=clock.ms) == {}
    assert await log.head("lobby") == Head(1, 5)


async def test_an_emptied_room_goes_on_where_it_was(log: Log, clock: Clock) -> None:
    await fill(log, 5)
    clock.ms += 1_000
    assert await log.retain(max_messages=0, max_age_ms=1, now_ms=clock.ms) == {"lobby": 6}
    assert await log.head("lobby") == Head(6, 5)
    assert await log.latest("lobby", 9) == []
    assert await log.rooms(9) == []
    assert await log.retain(max_messages=1, max_age_ms=1, now_ms=clock.ms + 99) == {}
    assert (await append(log, draft())).record.offset == 6
    assert await log.head("lobby") == Head(6, 6)


async def test_retain_a_lot_in_many_rooms_while_publishers_go_on(log: Log, clock: Clock) -> None:
    """More than one step of SQLite's retention, in rooms and in records."""
    await fill(log, 1_700)
    await submit_all(log, [draft(room=f"room-{number % 450}") for number in range(900)])
    lost: dict[str, int] = {}

    async def retain() -> None:
        lost.update(await log.retain(max_messages=1, max_age_ms=0, now_ms=clock.ms))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(retain)
        for number in range(10):
            await append(log, draft(str(number), room="busy"))
    assert lost.pop("lobby") == 1_700
    lost.pop("busy", None)
    assert lost == {f"room-{number}": 2 for number in range(450)}
    assert await log.head("lobby") == Head(1_700, 1_700)
    assert (await log.head("busy")).last == 10
