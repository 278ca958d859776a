"""Retention: one suite for all engines, and the steps of it in a database."""

import re
import sqlite3
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio
from msgspec.structs import replace

from chatserver.log import memory, postgres_retention, retention, sqlite_retention
from chatserver.log.interface import Head, Log, LogUnavailable, Range, RefusalReason
from chatserver.log.postgres import PostgresLog
from chatserver.log.postgres_rows import plain_arrays
from chatserver.log.rows import OFFSET_BITS
from chatserver.log.sqlite_writer import SqliteWriter
from tests.log.support import START_MS, Clock, Disk, draft, fill, offsets, running, submit_all, texts
from tests.log.test_records import edit, react, reactions, read, refusal
from tests.support.groups import append


async def test_each_room_keeps_what_the_tighter_of_its_bounds_allows(log: Log, clock: Clock) -> None:
    rooms = {
        "age": (0, 3_000, 3), "both": (4, 3_000, 3), "count": (2, 3_000, 4), "last": (1, 0, 5), "all": (0, 0, 1),
        "wide": (5, 10**6, 1),
    }  # fmt: skip
    for _ in range(5):
        await submit_all(log, [draft(room=room) for room in rooms])
        clock.ms += 1_000
    lost = await log.retain(lambda room: rooms[room][:2])
    assert lost == {room: first for room, (_, _, first) in rooms.items() if first > 1}
    for room, (_, _, first) in rooms.items():
        assert await log.head(room) == Head(first, 5)
        assert offsets(await log.read(Range(room, after=0, limit=9))) == list(range(first, 6))


async def test_an_emptied_room_keeps_its_offsets(log: Log, clock: Clock) -> None:
    await fill(log, 5)
    clock.ms += 1_000
    assert await log.retain(lambda _: (0, 1)) == {"lobby": 6}
    assert await log.head("lobby") == Head(6, 5)
    assert await log.read(Range("lobby", 9, last=True)) == []
    assert await log.rooms(9) == []
    clock.ms += 99
    assert await log.retain(lambda _: (1, 1)) == {}
    clock.ms = START_MS - 9
    record = (await append(log, draft())).record
    assert (record.offset, record.time) == (6, START_MS), "though no earlier record is left, and the clock was set back"
    assert await log.head("lobby") == Head(6, 6)


async def test_retain_many_rooms_while_publishers_go_on(
    log: Log, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention takes several steps, by rooms and by records."""
    monkeypatch.setattr(retention, "FORGET_STEP", 20)
    monkeypatch.setattr(retention, "ROOMS_STEP", 10)
    monkeypatch.setattr(memory, "RETAIN_STEP", 20)
    await fill(log, 170)
    await submit_all(log, [draft(room=f"room-{number % 45}") for number in range(90)])
    await submit_all(log, [draft(room="room-0") for _ in range(30)])  # so two rooms of a step have more than it removes
    lost: dict[str, int] = {}

    async def retain() -> None:
        lost.update(await log.retain(lambda _: (1, 0)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(retain)
        for number in range(10):
            await append(log, draft(str(number), room="busy"))
    assert lost.pop("lobby") == 170
    lost.pop("busy", None)
    assert lost == {"room-0": 32} | {f"room-{number}": 2 for number in range(1, 45)}
    assert await log.head("lobby") == Head(170, 170)
    assert (await log.head("busy")).last == 10


async def test_retention_removes_reactions_with_their_message(log: Log, clock: Clock) -> None:
    await append(log, draft())
    await append(log, react(1))
    await append(log, draft("kept"))
    assert await reactions(log) == 1
    assert await log.retain(lambda _: (1, 0)) == {"lobby": 3}
    assert await reactions(log) == 0
    assert await refusal(log, react(1, on=False)) is RefusalReason.MISSING
    assert (await append(log, react(3))).record.offset == 4


async def test_retention_removes_the_text_of_an_edit_with_its_message(log: Log) -> None:
    for room in ("lobby", "ops"):
        await append(log, draft("one", room=room))
        await append(log, draft("two", room=room))
        await append(log, replace(edit(1, "secret"), room=room))
        await append(log, replace(edit(2, "kept"), room=room))
    await append(log, edit(1, "secret again"))
    lost = await log.retain(lambda room: (4 * (room == "lobby"), 0))
    assert lost == {"lobby": 2}
    assert texts(await read(log)) == ["kept", "", "kept", ""]
    assert texts(await read(log, "ops")) == ["secret", "kept", "secret", "kept"]


# -- steps


def keep_from(offset: int) -> Callable[[str], tuple[int, int]]:
    """Keep the records of a room with 20 of them from this one on."""
    return lambda _: (21 - offset, 0)


async def test_a_step_removes_a_share_of_each_room(reopen: Callable[[], Disk], monkeypatch: pytest.MonkeyPatch) -> None:
    """And at least one record, or retention would stand still once more rooms than that have some."""
    async with running(reopen()) as log:
        await submit_all(log, [draft(room=room) for room in "abc" for _ in range(9)])
        for most, first in ((2, 2), (3, 3), (8, 5)):
            monkeypatch.setattr(retention, "FORGET_STEP", most)
            lost, _ = await log.change("retention", partial(retention.step, log._retention, lambda _: (1, 0), 0, 0))
            assert lost == dict.fromkeys("abc", first)


async def test_a_step_removes_whole_records_with_a_bounded_number_of_reactions(
    reopen: Callable[[], Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A room may have millions of reactions, and the database ends a transaction that takes too long."""
    monkeypatch.setattr(retention, "REACTIONS_STEP", 4)
    async with running(reopen()) as log:
        await fill(log, 10)
        reacted = [1, 1, 1, 2, 4, 4, 4, 4, 4, 5]
        await submit_all(log, [react(target, user=f"u_{number}") for number, target in enumerate(reacted)])
        seen = []
        after: int | None = 0
        while after is not None:
            step = partial(retention.step, log._retention, keep_from(7), after, START_MS)
            first, after = await log.change("retention", step)
            seen.append((first, await reactions(log)))
        assert seen == [({"lobby": 4}, 6), ({"lobby": 5}, 1), ({"lobby": 7}, 0)]
        assert await log.head("lobby") == Head(7, 20)


@pytest.mark.parametrize("kept", [(10, 0), (0, 5_000)], ids=["count", "age"])
async def test_retention_goes_on_behind_records_that_were_removed_by_hand(
    reopen: Callable[[], Disk], clock: Clock, monkeypatch: pytest.MonkeyPatch, kept: tuple[int, int]
) -> None:
    """Or lost with a damaged page of the file: it stopped there for good, and said nothing."""
    monkeypatch.setattr(retention, "FORGET_STEP", 3)
    async with running(reopen()) as log:
        await fill(log, 10)
        clock.ms += 5_001
        await fill(log, 10)
        by_hand = f"DELETE FROM messages WHERE place % {1 << OFFSET_BITS} IN (1, 2, 4, 5, 6, 7, 10)"
        await log.change("a test", lambda connection: connection.execute(by_hand))
        firsts = []
        while lost := await log.retain(lambda _: kept):
            firsts.append(lost["lobby"])
        assert firsts[-1] == 10
        assert offsets(await read(log)) == list(range(11, 21))


async def test_a_step_that_fails_is_undone_and_the_steps_before_it_are_told(
    reopen: Callable[[], Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a room whose records are gone would be shown as whole, and its text would stay in the files."""
    monkeypatch.setattr(retention, "FORGET_STEP", 4)
    async with running(reopen()) as log:
        await fill(log, 20)
        remove, calls = log._retention.remove, count(1)

        def fail_at_second(*arguments: Any) -> None:
            remove(*arguments)
            if next(calls) in {2, 3}:
                raise LogUnavailable("planted")

        monkeypatch.setattr(log._retention, "remove", fail_at_second)
        assert await log.retain(keep_from(11)) == {"lobby": 5}
        assert await log.head("lobby") == Head(5, 20)
        with pytest.raises(LogUnavailable, match="planted"):
            await log.retain(keep_from(11))
        assert log.statistics().failures == 2, "operators hear of it as of a group that failed"
        assert await log.retain(keep_from(11)) == {"lobby": 11}


def test_in_sqlite_a_step_is_a_few_statements_however_many_rooms_it_looks_at(
    connection: sqlite3.Connection, clock: Clock
) -> None:
    """A commit waits for a step, and each statement waits for the interpreter lock beside a busy loop."""
    writer = SqliteWriter(connection, clock, lambda: None)
    for _ in range(2):
        writer.commit([draft(room=f"room-{number}") for number in range(50)])
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    for kept, lost, most in ((2, 0, 3), (1, 50, 9)):
        step = partial(retention.step, sqlite_retention, lambda _, kept=kept: (kept, 0), 0, clock.ms)  # type: ignore[misc]
        first, _ = writer.change("retention", step)
        assert len(first) == lost
        assert len({each for each in statements if not each.startswith("--")}) <= most  # a trigger repeats one
        statements.clear()


async def test_in_postgresql_a_step_reads_only_what_it_may_remove(postgres_tables: str) -> None:
    """Of a few large rooms each step read all messages.

    Writers to these rooms waited for 0.7 s, and from nine million messages on each step failed at its deadline.
    """
    async with running(PostgresLog(postgres_tables)):
        pass
    with psycopg.connect(postgres_tables, options="-c search_path=chatserver") as connection:
        connection.execute("INSERT INTO rooms (name, last) SELECT id, 200 FROM generate_series(1, 20) AS id")
        connection.execute("""INSERT INTO messages (room, place, time, user_id, user_name, text)
            SELECT id, place, place, 'u_ann', 'Ann', '' FROM rooms, generate_series(1, 200) AS place""")
        connection.execute("ANALYZE rooms, messages")
        rooms = [id_ for (id_,) in connection.execute("SELECT id FROM rooms")]
        due = plain_arrays([(id_, 1, 100, 0) for id_ in rooms])
        for statement, values in (
            (postgres_retention._ROOMS, (0, retention.ROOMS_STEP)),
            (postgres_retention._RECORDS, (*due, retention.FORGET_STEP // len(rooms))),
        ):
            plan = "\n".join(line for (line,) in connection.execute("EXPLAIN " + statement, values))
            assert "Seq Scan on messages" not in plan
        connection.rollback()


def test_no_mark_of_a_statement_has_a_number() -> None:
    """Values are given in order: CPython 3.12 warns of `?1` then, and 3.14 refuses it."""
    modules = Path(sqlite_retention.__file__).parent.glob("sqlite*.py")
    assert not [path.name for path in modules if re.search(r"\?\d", path.read_text())]
