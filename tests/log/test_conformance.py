"""Messages, keys, and the life of a log: one suite for all engines."""

import gc
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
import trio
from msgspec.structs import replace

from chatserver.log import (
    changes,
    interface,
    memory,
    postgres_connection,
    postgres_writer,
    sqlite_file,
    sqlite_writer,
    threads,
)
from chatserver.log.database import DatabaseLog
from chatserver.log.index import Question
from chatserver.log.interface import (
    KEY_LIFETIME_MS,
    MAX_GROUP,
    Head,
    Kind,
    Log,
    LogOpenError,
    LogUnavailable,
    Range,
    Record,
    Stored,
)
from chatserver.log.markers import Marker
from chatserver.log.program import Program
from chatserver.log.sqlite import SqliteLog
from tests.log.support import (
    START_MS,
    Clock,
    Disk,
    Unvisited,
    draft,
    ignore,
    offsets,
    running,
    submit_all,
    texts,
)
from tests.log.test_sanctions import ENTRY, sanction
from tests.log.test_signouts import sign_out
from tests.support.groups import append
from tests.support.parked import descriptors
from tests.support.peers import PATIENCE
from tests.support.serving import eventually

# -- appending


async def test_a_message_gets_its_offset(log: Log, news: list[list[Record]]) -> None:
    stored = await append(log, draft("hello"))
    expected = Record("lobby", 1, START_MS, "u_ann", "U_Ann", "hello")
    assert stored == Stored(expected, fresh=True)
    assert await log.read(Range("lobby", after=0, limit=10)) == [expected]
    assert news == [[expected]]


TEXTS = ["", "a\x1ab", "é \U0001f600 \u2028 \x7f \ufffe", "'; DROP TABLE messages; --", '{"a": [1]}', "x" * 65_536]


async def test_text_is_read_back_unchanged(log: Log) -> None:
    for text in TEXTS:
        stored = await append(log, draft(text, user="u_é", key=text or "k"))
        assert stored.record.text == text
        assert await log.read(Range("lobby", 1, last=True)) == [stored.record]
        assert await append(log, draft("again", user="u_é", key=text or "k")) == Stored(stored.record, fresh=False)


async def test_times_are_the_clocks_but_never_decrease_within_a_room(log: Log, clock: Clock) -> None:
    times = []
    for step in (0, 5, -10_000, 0, 10_001):
        clock.ms += step
        times.append((await append(log, draft())).record.time - START_MS)
    assert times == [0, 5, 5, 5, 6]
    clock.ms = START_MS - 60_000
    assert (await append(log, draft(room="other"))).record.time == START_MS - 60_000


# -- keys


async def test_a_key_stands_for_its_first_message_until_it_expires(
    log: Log, clock: Clock, news: list[list[Record]]
) -> None:
    first = await append(log, draft("one", key="k"))
    clock.ms += KEY_LIFETIME_MS - 1
    assert await append(log, draft("two", key="k")) == Stored(first.record, fresh=False)
    assert await log.head("lobby") == Head(1, 1)
    assert news == [[first.record]]
    clock.ms += 1
    second = await append(log, draft("two", key="k"))
    assert (second.fresh, second.record.offset) == (True, 2)
    clock.ms += 1
    assert await append(log, draft("three", key="k")) == Stored(second.record, fresh=False)
    clock.ms -= KEY_LIFETIME_MS + 1
    assert (await append(log, draft("four", key="k"))).fresh, "a clock that was ahead keeps no key"


async def test_a_key_is_per_user_and_room_in_one_group_too(log: Log) -> None:
    drafts = [draft(key="k"), draft(key="k", user="u_bob"), draft(key="k", room="ops"), draft(key="k2"), draft()]
    drafts += [draft(key=""), draft(key=""), draft("other text", key="k")]
    outcomes = await submit_all(log, drafts)
    fresh = [outcome.fresh for outcome in outcomes if isinstance(outcome, Stored)]
    assert fresh == [True, True, True, True, True, True, False, False]
    assert offsets(await log.read(Range("lobby", 10, last=True))) == [1, 2, 3, 4, 5]


async def test_a_room_named_0_gets_nothing_of_others(log: Log) -> None:
    """In SQLite the rows of a statement that are not needed are zeros, and 0 equals the name."""
    await append(log, draft(room="0"))
    await submit_all(log, [draft(room=name) for name in "abc"])
    await log.markers.move([Marker("u_ann", name, 1) for name in "abc"])
    assert await log.heads([*"0abc"]) == dict.fromkeys("0abc", Head(1, 1))
    assert await log.markers.of_user("0") == {}


async def test_a_room_that_has_used_all_offsets_takes_no_more(
    reopen: Callable[[], Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In SQLite its next message was acknowledged, and was the first one of the next room."""
    monkeypatch.setattr(changes, "HIGHEST", 2)
    drafts = [draft(), draft(), draft(), draft(room="ops"), replace(draft(), kind=Kind.REACTION, target=1, emoji="x")]
    async with running(reopen()) as log:
        stored = [isinstance(outcome, Stored) for outcome in await submit_all(log, drafts)]
        assert stored == [True, True, False, True, False]
        assert await log.head("lobby") == Head(1, 2)
        assert await log.head("ops") == Head(1, 1)


async def test_a_key_outlives_a_message_removed_by_retention(log: Log, clock: Clock) -> None:
    first = await append(log, draft("one", key="k"))
    await append(log, draft("two"))
    await log.retain(lambda _: (1, 0))
    assert await append(log, draft("one", key="k")) == Stored(first.record, fresh=False)
    assert await log.head("lobby") == Head(2, 2)


async def test_a_clock_that_was_ahead_does_not_keep_later_keys(
    log: Log, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (memory, sqlite_writer, postgres_writer):
        monkeypatch.setattr(module, "EXPIRE_EVERY", 50)
    clock.ms += 10 * KEY_LIFETIME_MS
    await submit_all(log, [draft(key=f"ahead {number}") for number in range(50)])
    clock.ms -= 10 * KEY_LIFETIME_MS
    for step in range(5):
        await submit_all(log, [draft(key=f"{step} {number}") for number in range(50)])
        clock.ms += KEY_LIFETIME_MS
    if isinstance(log, DatabaseLog):
        ((kept,),) = await log.ask_tables(lambda tables: tables.run("SELECT count(*) FROM keys"))
    else:
        assert isinstance(log, memory.MemoryLog)
        kept = len(log._keys)
    assert kept <= 100


# -- rooms in the memory of a writer


def in_memory(log: Disk) -> tuple[Any, str]:
    """The writer of a database, and the name of its rooms in memory."""
    assert log._opened is not None
    return log._opened.writer, "_rooms" if isinstance(log, SqliteLog) else "_ids"


async def test_they_are_bounded_and_not_visited_by_the_collector(
    reopen: Callable[[], Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sqlite_writer, postgres_writer):
        monkeypatch.setattr(module, "MAX_CACHED_ROOMS", 4)
    async with running(reopen()) as log:
        every_room = [draft(room=f"room-{number}") for number in range(10)]
        writer, name = in_memory(log)
        rooms = getattr(writer, name)
        ends = getattr(writer, "_committed", rooms)  # PostgreSQL's
        for one in every_room:
            await append(log, one)
            assert 0 < len(ends) <= len(rooms) <= 4
        await submit_all(log, every_room)
        assert [(await log.head(one.room)).last for one in every_room] == [2] * 10
        assert gc.is_tracked(rooms) == gc.is_tracked({})  # since Python 3.14 all dicts are
        assert not any(map(gc.is_tracked, rooms.values()))


async def test_a_commit_asks_only_for_its_own(reopen: Callable[[], Disk]) -> None:
    """With 50,000 rooms in memory the difference of two sets took 3.9 ms, and the interpreter lock with it."""
    async with running(reopen()) as log:
        setattr(*in_memory(log), Unvisited(getattr(*in_memory(log))))
        assert [(await append(log, draft())).record.offset for _ in range(2)] == [1, 2]


# -- life


def locked_by_another_program(log: Disk) -> tuple[sqlite3.Connection | psycopg.Connection, str]:
    """A connection that locks the log, and what the log says of it."""
    if isinstance(log, SqliteLog):
        other = sqlite3.connect(log._path)
        other.execute("BEGIN IMMEDIATE")
        return other, "SQLITE_BUSY"
    shell = psycopg.connect(log._url)
    shell.execute("SELECT FROM chatserver.rooms FOR UPDATE")
    return shell, "canceling statement due to lock timeout"


async def test_a_lock_of_another_program_is_an_error_in_time(
    reopen: Callable[[], Disk], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT", 0.01)
    monkeypatch.setattr(postgres_connection, "LOCK_MS", 300)
    async with running(reopen()) as log:
        await append(log, draft("one"))
        other, told = locked_by_another_program(log)
        with closing(other):
            with pytest.raises(LogUnavailable, match=told):
                await append(log, draft("refused", key="k"))
            clock.ms += 99
            with pytest.raises(LogUnavailable, match=told):
                await log.retain(lambda _: (0, 1))
            assert texts(await log.read(Range("lobby", 9, last=True))) == ["one"]
        assert (await append(log, draft("two", key="k"))).record.offset == 2


async def test_each_log_has_an_epoch_and_a_secret_of_its_own(log: Log) -> None:
    assert 4 <= len(log.identity.epoch) <= 8
    assert set(log.identity.epoch) <= set("abcdefghijklmnopqrstuvwxyz0123456789")
    assert len(log.identity.secret) == 16
    assert len({log.identity.epoch, *[interface.new_identity().epoch for _ in range(5)]}) == 6
    assert len({log.identity.secret, *[interface.new_identity().secret for _ in range(5)]}) == 6


async def test_a_closed_log_refuses_everything(closed_log: Log) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        partial(append, closed_log, draft()),
        partial(closed_log.head, "lobby"),
        partial(closed_log.read, Range("lobby", 1)),
        partial(closed_log.read, Range("lobby", 1, last=True)),
        partial(closed_log.rooms, 1),
        partial(closed_log.retain, lambda _: (1, 1)),
        partial(closed_log.markers.move, [Marker("u_ann", "lobby", 1)]),
        partial(closed_log.markers.of_user, "u_ann"),
        partial(closed_log.markers.unread, "u_ann", {"lobby": 0}),
        partial(closed_log.audit.add, [ENTRY]),
        partial(closed_log.audit.read, after=0, limit=1),
        partial(closed_log.sanctions.load, START_MS),
        partial(closed_log.sanctions.add, sanction(), ENTRY),
        partial(closed_log.sanctions.lift, 1, ENTRY),
        partial(closed_log.signouts.load, START_MS),
        partial(closed_log.signouts.add, sign_out(1)),
        partial(closed_log.index.find, Question(("hi",))),
    ]

    async def refused() -> None:
        for call in calls:
            with pytest.raises(LogUnavailable):
                await call()

    await refused()
    async with running(closed_log):
        for call in calls:
            await call()
    await refused()


async def test_records_and_tables_outlive_a_restart(reopen: Callable[[], Disk]) -> None:
    async with running(reopen()) as log:
        identity, stored = log.identity, await append(log, draft(key="k"))
        await log.markers.move([Marker("u_ann", "lobby", 1)])
        made = await log.sanctions.add(sanction(), ENTRY)
        await log.signouts.add(sign_out(1))
    async with running(reopen()) as log:
        assert log.identity == identity
        assert await append(log, draft(key="k")) == Stored(stored.record, fresh=False)
        assert (await append(log, draft())).record.offset == 2
        assert await log.markers.of_user("u_ann") == {"lobby": 1}
        assert await log.sanctions.load(START_MS) == [made]
        assert (await log.signouts.load(START_MS))[0] == [sign_out(1)]
        assert await log.audit.read(after=0, limit=9) == [replace(ENTRY, id=1)]


async def test_a_system_without_threads(reopen: Callable[[], Disk], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no bug of the server, to be reported, and the log still closes what it has opened."""
    monkeypatch.setattr(threads, "IDLE_TIMEOUT", 0.0)
    log, faults, closed = reopen(), list[object](), descriptors()
    with monkeypatch.context() as patch:
        async with trio.open_nursery() as nursery:
            await nursery.start(log.run, ignore, Program(faulted=faults.append))
            await append(log, draft("one"))
            await eventually(lambda: not log._writer_thread._threads)
            patch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
            for outcome in await submit_all(log, [draft("two"), draft("three")]):
                assert isinstance(outcome, LogUnavailable)
                assert "can't start new thread" in str(outcome)
            nursery.cancel_scope.cancel()
        await eventually(lambda: descriptors() == closed)  # a query that is under way closes its connection afterwards
    assert faults == []
    with monkeypatch.context() as patch:
        patch.setattr("trio.to_thread.run_sync", Mock(side_effect=RuntimeError("can't start new thread")))
        with pytest.raises(LogOpenError, match="can't start new thread"):
            await reopen().run(ignore)
    async with running(reopen()) as again:
        assert texts(await again.read(Range("lobby", 9, last=True))) == ["one"]


async def test_drafts_submitted_before_the_end_are_stored_and_told(closed_log: Log) -> None:
    answers: list[object] = []
    told: list[Record] = []
    async with running(closed_log, told.extend):
        for number in range(2 * MAX_GROUP + 1):
            closed_log.submit(draft(str(number)), answers.append)
    stored = [answer.record for answer in answers if isinstance(answer, Stored)]
    assert offsets(stored) == offsets(told) == list(range(1, 2 * MAX_GROUP + 2))
    assert texts(told) == [str(number) for number in range(2 * MAX_GROUP + 1)]
    assert closed_log.statistics().pending == 0


@pytest.mark.parametrize("why", ["its deadline", "its caller is cancelled", "its answer is lost"])
async def test_a_change_that_may_be_stored_is_a_hint_to_its_own_process(
    reopen: Callable[[], Disk], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """With a lost answer, other servers enforced a ban at once, and the one that had made it half a minute later."""
    log, may_end, begun = reopen(), threading.Event(), threading.Event()
    hints, heard = list[str](), trio.Event()

    def hear(given: Mapping[str, int]) -> None:
        hints.extend(given)
        heard.set()

    def hang(connection: object) -> None:
        begun.set()
        assert may_end.wait(10)

    def lose(connection: object) -> None:
        raise LogUnavailable("planted")

    async with trio.open_nursery() as nursery:
        await nursery.start(log.run, ignore, Program(on_hints=hear))
        await log.change("adding", lambda connection: None, hint="*x")
        assert hints == [], "the caller knows the outcome"
        if why == "its deadline":
            monkeypatch.setattr("chatserver.log.database.ANSWER_DEADLINE", 0.1)
            with pytest.raises(LogUnavailable, match=r"hanging took longer than 0\.1 s"):
                await log.change("hanging", hang, hint="*x")
        elif why == "its answer is lost":
            with pytest.raises(LogUnavailable, match="planted"):
                await log.change("losing", lose, hint="*x")
        else:
            async with trio.open_nursery() as calling:
                calling.start_soon(lambda: log.change("hanging", hang, hint="*x"))
                await trio.to_thread.run_sync(begun.wait)
                calling.cancel_scope.cancel()
        may_end.set()
        with trio.fail_after(PATIENCE):
            await heard.wait()
        assert hints == ["*x"]
        nursery.cancel_scope.cancel()
