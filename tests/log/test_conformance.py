"""What every engine promises: one suite, run against each."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import trio

from chatserver.log import Head, Log, LogUnavailable, Record, RoomSummary, Stored
from chatserver.log.interface import KEY_LIFETIME, MAX_GROUP, MAX_READ
from tests.log.support import (
    ENGINES,
    START_MS,
    Clock,
    draft,
    offsets,
    running,
    submit_all,
    texts,
)

LIFETIME_MS = int(KEY_LIFETIME * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def news() -> list[list[Record]]:
    return []


@pytest.fixture(params=ENGINES)
def closed_log(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Log:
    return ENGINES[request.param](tmp_path, clock)


@pytest.fixture
async def log(closed_log: Log, news: list[list[Record]]) -> AsyncIterator[Log]:
    def note(records: Sequence[Record]) -> None:
        news.append(list(records))

    async with running(closed_log, note):
        yield closed_log


async def fill(log: Log, count: int, room: str = "lobby") -> None:
    await submit_all(log, [draft(str(number), room=room) for number in range(1, count + 1)])


# -- appending


async def test_a_message_gets_its_place(log: Log, news: list[list[Record]]) -> None:
    stored = await log.append(draft("hello"))
    expected = Record("lobby", 1, START_MS, "u_ann", "U_Ann", "hello")
    assert stored == Stored(expected, fresh=True)
    assert await log.read("lobby", after=0, limit=10) == [expected]
    assert news == [[expected]]


async def test_offsets_start_at_1_in_each_room_and_have_no_holes(log: Log) -> None:
    drafts = [draft(str(number), room=f"room-{number % 3}") for number in range(300)]
    outcomes = await submit_all(log, drafts)
    for room in range(3):
        got = [out.record for out in outcomes if isinstance(out, Stored) and out.record.room == f"room-{room}"]
        assert offsets(got) == list(range(1, 101))
        assert await log.read(f"room-{room}", after=0, limit=MAX_READ) == got


async def test_publishers_at_once_are_stored_in_the_order_of_their_calls(log: Log) -> None:
    await fill(log, 3 * MAX_GROUP)
    read: list[Record] = []
    while page := await log.read("lobby", after=len(read), limit=MAX_READ):
        read += page
    assert offsets(read) == list(range(1, 3 * MAX_GROUP + 1))
    assert texts(read) == [str(offset) for offset in offsets(read)]


async def test_news_of_a_group_comes_whole_in_order_and_before_its_answers(
    closed_log: Log,
) -> None:
    seen: list[str] = []

    def note(records: Sequence[Record]) -> None:
        seen.extend(f"news {record.text}" for record in records)

    def answer(number: int, outcome: object) -> None:
        seen.append(f"answer {number}")

    async with running(closed_log, note):
        for number in range(5):
            closed_log.submit(draft(str(number)), partial(answer, number))
        await closed_log.append(draft("5"))
    assert seen == [*(f"news {n}" for n in range(6)), *(f"answer {n}" for n in range(5))]


async def test_what_was_answered_can_be_read_at_once(log: Log) -> None:
    for number in range(20):
        stored = await log.append(draft(str(number)))
        assert await log.latest("lobby", 1) == [stored.record]


@pytest.mark.parametrize(
    "text",
    ["", "a\0b", "\0", "é \U0001f600 \u2028 \x7f \ufffe", "'; DROP TABLE messages; --", '{"a": [1]}', "x" * 65_536],
    ids=["empty", "nul inside", "nul", "unicode", "sql", "json", "64 KiB"],
)
async def test_text_comes_back_as_it_went_in(log: Log, text: str) -> None:
    stored = await log.append(draft(text, user="u_\0é", key=text or "k"))
    assert stored.record.text == text
    assert await log.latest("lobby", 1) == [stored.record]
    assert await log.append(draft("again", user="u_\0é", key=text or "k")) == Stored(stored.record, fresh=False)


@pytest.mark.parametrize("field", ["room", "user_id", "user_name", "text", "key"])
async def test_text_without_a_utf8_form_is_refused_at_once(log: Log, field: str) -> None:
    from msgspec.structs import replace

    with pytest.raises(ValueError, match="surrogates not allowed"):
        await log.append(replace(draft(), **{field: "cut \ud83d"}))
    assert (await log.append(draft())).record.offset == 1


async def test_time_is_the_clocks_but_never_decreases_within_a_room(log: Log, clock: Clock) -> None:
    times = []
    for step in (0, 5, -10_000, 0, 10_001):
        clock.ms += step
        times.append((await log.append(draft())).record.time - START_MS)
    assert times == [0, 5, 5, 5, 6]
    clock.ms = START_MS - 60_000
    assert (await log.append(draft(room="other"))).record.time == START_MS - 60_000


# -- keys


async def test_a_key_used_again_answers_the_first_result_and_makes_no_news(
    log: Log, clock: Clock, news: list[list[Record]]
) -> None:
    first = await log.append(draft("one", key="k"))
    clock.ms += LIFETIME_MS - 1
    again = await log.append(draft("two", key="k"))
    assert again == Stored(first.record, fresh=False)
    assert await log.head("lobby") == Head(1, 1)
    assert news == [[first.record]]


async def test_a_key_is_the_users_in_the_room(log: Log) -> None:
    drafts = [draft(key="k"), draft(key="k", user="u_bob"), draft(key="k", room="ops"), draft(key="k2"), draft()]
    outcomes = await submit_all(log, drafts)
    assert all(isinstance(outcome, Stored) and outcome.fresh for outcome in outcomes)


async def test_a_key_twice_in_one_group_is_one_message(log: Log) -> None:
    outcomes = await submit_all(log, [draft("one", key="k"), draft("two"), draft("three", key="k")])
    assert [outcome.fresh for outcome in outcomes if isinstance(outcome, Stored)] == [True, True, False]
    assert texts(await log.latest("lobby", 10)) == ["one", "two"]


async def test_an_empty_key_is_a_key(log: Log) -> None:
    await log.append(draft(key=""))
    assert not (await log.append(draft(key=""))).fresh
    assert (await log.append(draft(key=None))).fresh


async def test_a_key_expires_and_can_be_used_anew(log: Log, clock: Clock) -> None:
    await log.append(draft("one", key="k"))
    clock.ms += LIFETIME_MS
    second = await log.append(draft("two", key="k"))
    assert second.fresh
    assert second.record.offset == 2
    clock.ms += 1
    assert await log.append(draft("three", key="k")) == Stored(second.record, fresh=False)


async def test_a_key_outlives_the_message_that_retention_took(log: Log, clock: Clock) -> None:
    first = await log.append(draft("one", key="k"))
    await log.append(draft("two"))
    await log.retain(max_messages=1, max_age_ms=0, now_ms=clock.ms)
    assert await log.append(draft("one", key="k")) == Stored(first.record, fresh=False)
    assert await log.head("lobby") == Head(2, 2)


# -- reading


async def test_a_room_never_written_is_empty(log: Log) -> None:
    assert await log.head("nobody") == Head(1, 0)
    assert await log.latest("nobody", 10) == []
    assert await log.read("nobody", after=0, limit=10) == []
    assert await log.read_before("nobody", before=100, limit=10) == []
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
    assert offsets(await log.read_before("lobby", before=before, limit=limit)) == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [(3, [8, 9, 10]), (99, list(range(1, 11))), (0, []), (-1, []), (2**70, list(range(1, 11)))]
)
async def test_latest(log: Log, limit: int, expected: list[int]) -> None:
    await fill(log, 10)
    assert offsets(await log.latest("lobby", limit)) == expected


async def test_no_read_is_longer_than_its_bound(log: Log) -> None:
    await fill(log, MAX_READ + 1)
    assert len(await log.read("lobby", after=0, limit=MAX_READ + 1)) == MAX_READ
    assert len(await log.read_before("lobby", before=2**40, limit=MAX_READ + 1)) == MAX_READ
    assert len(await log.latest("lobby", MAX_READ + 1)) == MAX_READ


async def test_rooms_do_not_see_each_others_messages(log: Log) -> None:
    for room in ("a", "b", "c"):
        await fill(log, 2, room)
    assert {record.room for record in await log.latest("b", 10)} == {"b"}
    assert {record.room for record in await log.read("b", after=0, limit=10)} == {"b"}
    assert {record.room for record in await log.read_before("b", before=10, limit=10)} == {"b"}


async def test_rooms_come_most_recently_written_first(log: Log, clock: Clock) -> None:
    for room, count in (("b", 1), ("a", 2), ("c", 3)):
        clock.ms += 1
        await fill(log, count, room)
    assert await log.rooms(10) == [RoomSummary("c", 3, 3), RoomSummary("a", 2, 2), RoomSummary("b", 1, 1)]
    clock.ms += 1
    await fill(log, 1, "b")
    assert await log.rooms(2) == [RoomSummary("b", 2, 2), RoomSummary("c", 3, 3)]
    await fill(log, 1, "a")
    assert [summary.room for summary in await log.rooms(10)] == ["a", "b", "c"]
    assert await log.rooms(0) == await log.rooms(-1) == []


# -- retention


async def test_retain_keeps_the_newest(log: Log, clock: Clock) -> None:
    await fill(log, 10)
    await fill(log, 3, "small")
    assert await log.retain(max_messages=4, max_age_ms=0, now_ms=clock.ms) == {"lobby": 7}
    assert await log.head("lobby") == Head(7, 10)
    assert offsets(await log.read("lobby", after=0, limit=99)) == [7, 8, 9, 10]
    assert offsets(await log.read("lobby", after=8, limit=99)) == [9, 10]
    assert offsets(await log.read_before("lobby", before=9, limit=99)) == [7, 8]
    assert await log.read_before("lobby", before=7, limit=99) == []
    assert await log.head("small") == Head(1, 3)
    assert RoomSummary("lobby", 4, 10) in await log.rooms(10)


async def test_retain_by_age(log: Log, clock: Clock) -> None:
    for _ in range(5):
        await log.append(draft())
        clock.ms += 1_000
    assert await log.retain(max_messages=0, max_age_ms=3_000, now_ms=clock.ms) == {"lobby": 3}
    assert await log.head("lobby") == Head(3, 5)


async def test_retain_by_whichever_bound_is_tighter(log: Log, clock: Clock) -> None:
    for _ in range(5):
        await log.append(draft())
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
    assert (await log.append(draft())).record.offset == 6
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
            await log.append(draft(str(number), room="busy"))
    assert lost.pop("lobby") == 1_700
    lost.pop("busy", None)
    assert lost == {f"room-{number}": 2 for number in range(450)}
    assert await log.head("lobby") == Head(1_700, 1_700)
    assert (await log.head("busy")).last == 10


# -- life


async def test_identity(log: Log, tmp_path: Path) -> None:
    assert 4 <= len(log.identity.epoch) <= 8
    assert set(log.identity.epoch) <= set("abcdefghijklmnopqrstuvwxyz0123456789")
    assert len(log.identity.secret) == 16


async def test_a_closed_log_refuses_everything(closed_log: Log) -> None:
    async def refused() -> None:
        def never(outcome: object) -> None:
            pytest.fail("the refused are not answered")

        with pytest.raises(LogUnavailable):
            closed_log.submit(draft(), never)
        with pytest.raises(LogUnavailable):
            await closed_log.append(draft())
        with pytest.raises(LogUnavailable):
            await closed_log.head("lobby")
        with pytest.raises(LogUnavailable):
            await closed_log.read("lobby", after=0, limit=1)
        with pytest.raises(LogUnavailable):
            await closed_log.read_before("lobby", before=1, limit=1)
        with pytest.raises(LogUnavailable):
            await closed_log.latest("lobby", 1)
        with pytest.raises(LogUnavailable):
            await closed_log.rooms(1)
        with pytest.raises(LogUnavailable):
            await closed_log.retain(max_messages=1, max_age_ms=1, now_ms=1)

    await refused()
    async with running(closed_log):
        await closed_log.append(draft())
    await refused()


async def test_what_was_submitted_before_the_end_is_stored_and_told(closed_log: Log) -> None:
    answers: list[object] = []
    told: list[Record] = []
    async with running(closed_log, told.extend):
        for number in range(2 * MAX_GROUP + 1):
            closed_log.submit(draft(str(number)), answers.append)
    assert [answer.record.offset for answer in answers if isinstance(answer, Stored)] == list(
        range(1, 2 * MAX_GROUP + 2)
    )
    assert offsets(told) == list(range(1, 2 * MAX_GROUP + 2))
    assert closed_log.statistics().pending == 0


async def test_a_cancelled_append_leaves_the_others_alone(log: Log) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await log.append(draft("left"))
    assert scope.cancelled_caught
    assert (await log.append(draft("stayed"))).record.offset == 2
    assert texts(await log.latest("lobby", 9)) == ["left", "stayed"]


async def test_reads_may_be_cancelled(log: Log) -> None:
    await fill(log, 3)
    for _ in range(5):
        with trio.CancelScope() as scope:
            scope.cancel()
            await log.latest("lobby", 1)
    assert offsets(await log.latest("lobby", 1)) == [3]


async def test_many_reads_at_once(log: Log) -> None:
    await fill(log, 50)
    read: list[list[int]] = []

    async def reader(number: int) -> None:
        read.append(offsets(await log.read("lobby", after=number, limit=1)))

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(reader, number)
    assert sorted(read) == [[number] for number in range(1, 51)]


async def test_statistics(log: Log) -> None:
    await submit_all(log, [draft(key="k"), draft(key="k"), draft()])
    found = log.statistics()
    assert (found.pending, found.groups, found.records, found.failures) == (0, 1, 2, 0)
