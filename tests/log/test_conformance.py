"""What every engine promises of messages, keys and its own life: one suite, run against each."""

from collections.abc import Sequence
from functools import partial

import pytest
import trio
from msgspec.structs import replace

from chatserver.log.interface import KEY_LIFETIME, MAX_GROUP, MAX_READ, Head, Log, LogUnavailable, Record, Stored
from tests.log.support import START_MS, Clock, draft, fill, groups_of, offsets, running, submit_all, texts
from tests.support.groups import append, together

LIFETIME_MS = int(KEY_LIFETIME * 1000)


# -- appending


async def test_a_message_gets_its_place(log: Log, news: list[list[Record]]) -> None:
    stored = await append(log, draft("hello"))
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
        with together(groups_of(closed_log)):
            for number in range(5):
                closed_log.submit(draft(str(number)), partial(answer, number))
        await append(closed_log, draft("5"))
    assert seen == [*(f"news {n}" for n in range(5)), *(f"answer {n}" for n in range(5)), "news 5"]


async def test_what_was_answered_can_be_read_at_once(log: Log) -> None:
    for number in range(20):
        stored = await append(log, draft(str(number)))
        assert await log.latest("lobby", 1) == [stored.record]


@pytest.mark.parametrize(
    "text",
    ["", "a\0b", "\0", "é \U0001f600 \u2028 \x7f \ufffe", "'; DROP TABLE messages; --", '{"a": [1]}', "x" * 65_536],
    ids=["empty", "nul inside", "nul", "unicode", "sql", "json", "64 KiB"],
)
async def test_text_comes_back_as_it_went_in(log: Log, text: str) -> None:
    stored = await append(log, draft(text, user="u_\0é", key=text or "k"))
    assert stored.record.text == text
    assert await log.latest("lobby", 1) == [stored.record]
    assert await append(log, draft("again", user="u_\0é", key=text or "k")) == Stored(stored.record, fresh=False)


@pytest.mark.parametrize("field", ["room", "user_id", "user_name", "text", "key"])
async def test_text_without_a_utf8_form_is_refused_at_once(log: Log, field: str) -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        await append(log, replace(draft(), **{field: "cut \ud83d"}))
    assert (await append(log, draft())).record.offset == 1


async def test_time_is_the_clocks_but_never_decreases_within_a_room(log: Log, clock: Clock) -> None:
    times = []
    for step in (0, 5, -10_000, 0, 10_001):
        clock.ms += step
        times.append((await append(log, draft())).record.time - START_MS)
    assert times == [0, 5, 5, 5, 6]
    clock.ms = START_MS - 60_000
    assert (await append(log, draft(room="other"))).record.time == START_MS - 60_000


# -- keys


async def test_a_key_used_again_answers_the_first_result_and_makes_no_news(
    log: Log, clock: Clock, news: list[list[Record]]
) -> None:
    first = await append(log, draft("one", key="k"))
    clock.ms += LIFETIME_MS - 1
    again = await append(log, draft("two", key="k"))
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
    await append(log, draft(key=""))
    assert not (await append(log, draft(key=""))).fresh
    assert (await append(log, draft(key=None))).fresh


async def test_a_key_expires_and_can_be_used_anew(log: Log, clock: Clock) -> None:
    await append(log, draft("one", key="k"))
    clock.ms += LIFETIME_MS
    second = await append(log, draft("two", key="k"))
    assert second.fresh
    assert second.record.offset == 2
    clock.ms += 1
    assert await append(log, draft("three", key="k")) == Stored(second.record, fresh=False)


async def test_a_key_outlives_the_message_that_retention_took(log: Log, clock: Clock) -> None:
    first = await append(log, draft("one", key="k"))
    await append(log, draft("two"))
    await log.retain(max_messages=1, max_age_ms=0, now_ms=clock.ms)
    assert await append(log, draft("one", key="k")) == Stored(first.record, fresh=False)
    assert await log.head("lobby") == Head(2, 2)


# -- life


async def test_identity(log: Log) -> None:
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
            await append(closed_log, draft())
        with pytest.raises(LogUnavailable):
            await closed_log.head("lobby")
        with pytest.raises(LogUnavailable):
            await closed_log.read("lobby", after=0, limit=1)
        with pytest.raises(LogUnavailable):
            await closed_log.latest("lobby", 1, before=1)
        with pytest.raises(LogUnavailable):
            await closed_log.latest("lobby", 1)
        with pytest.raises(LogUnavailable):
            await closed_log.rooms(1)
        with pytest.raises(LogUnavailable):
            await closed_log.retain(max_messages=1, max_age_ms=1, now_ms=1)

    await refused()
    async with running(closed_log):
        await append(closed_log, draft())
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
        await append(log, draft("left"))
    assert scope.cancelled_caught
    assert (await append(log, draft("stayed"))).record.offset == 2
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
