"""Records in a file: databases of the first schema, and deleted texts, which leave every file."""

import errno
import os
import random
import sqlite3
import struct
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace
from structlog.testing import capture_logs
from trio.testing import MockClock

from chatserver.log import sqlite_file as file_module
from chatserver.log import sqlite_index as index_module
from chatserver.log import sqlite_indexing as indexing_module
from chatserver.log import sqlite_markers as markers_module
from chatserver.log import sqlite_readers as readers_module
from chatserver.log import sqlite_retention as retention_module
from chatserver.log import sqlite_scrub as scrub_module
from chatserver.log import sqlite_writer as writer_module
from chatserver.log.changes import RoomEnd
from chatserver.log.index import Question
from chatserver.log.interface import Head, Kind, MessageState, Range
from chatserver.log.sqlite import SqliteLog
from chatserver.log.sqlite_file import BUSY_TIMEOUT
from chatserver.log.sqlite_rows import execute_rows
from chatserver.log.sqlite_scrub import _HEADERS, MAX_PAGES, Scrubber, ScrubSchedule, dirty_gaps
from tests.log.support import Clock, draft, nodes, running, shared_log, steps_of, submit_all, texts
from tests.log.test_records import delete, edit, react
from tests.support.groups import append
from tests.support.serving import eventually

FIRST_SCHEMA = Path(__file__).parent / "schema_1.sql"
STATEMENTS = {
    f"{module.__name__}.{name}": value
    for module in (indexing_module, markers_module, retention_module, writer_module)
    for name, value in vars(module).items()
    if name.isupper() and "ROWS" in str(value)
}
SECRET = "correct-horse-battery-staple"


async def test_a_log_of_the_first_schema_goes_on(path: Path, clock: Clock) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(FIRST_SCHEMA.read_text(encoding="utf-8"))
    connection.close()
    for restart in range(2):
        async with running(SqliteLog(str(path), wall_ms=clock)) as log:
            assert log.identity.epoch == "3mlpcw"
            assert await log.head("empty") == Head(2, 1 + restart)
            records = await log.read(Range("lobby", after=0, limit=10))
            assert texts(records)[1:3] == ["hello", "grüß 👋\nquote ' and \""]
            assert 2 in [hit.record.offset for hit in (await log.index.find(Question(("hello",)))).hits]
            assert [(record.kind, record.mentions) for record in records[:3]] == [(Kind.MESSAGE, ())] * 3
            if restart:
                assert records[1].state == MessageState(reactions=(("👍", 1),))
                assert [record.kind for record in records[3:]] == [Kind.REACTION]
            else:
                again = await append(log, draft("hello", user="g_0123456789abcde", key="7c1e"))
                assert (again.fresh, again.record.offset) == (False, 2)
                assert (await append(log, react(2))).record.offset == 4
                assert (await append(log, draft(room="empty"))).record.offset == 2


def test_no_statement_for_many_rows_scans_a_whole_table(connection: sqlite3.Connection) -> None:
    """For 256 rows SQLite may prefer to build a temporary index over all messages."""
    tables = {f"SCAN {table}" for table in ("messages", "reactions", "rooms", "keys", "markers")}
    for name, statement in STATEMENTS.items():
        for rows in (4, 256):
            plan = []
            for width in range(1, 9):
                with suppress(sqlite3.OperationalError):  # not the number of columns in the rows of this statement
                    zeros = [[0] * width] * rows
                    explain = f"EXPLAIN QUERY PLAN {statement}"
                    plan = execute_rows(connection, explain, zeros, width, *[0] * statement.count("?")).fetchall()
                    break
            assert plan, name
            assert not [step for *_, step in plan if step in tables or "AUTOMATIC" in step], name


def test_python_counts_inserted_rows_in_every_locale() -> None:
    """In Turkish and Azeri, Python 3.11 knows no `INSERT`, and its `rowcount` is -1: no message could be stored."""
    assert writer_module._INSERT_MESSAGES.startswith("insert ")
    assert writer_module._INSERT_RECORDS.startswith("insert ")


def test_removing_a_reaction_does_not_visit_the_others_of_its_message(connection: sqlite3.Connection) -> None:
    values = [("\U0001f44d", f"user {number}") for number in range(5_000)]
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO reactions VALUES (1, ?, ?)", values)
    writer = writer_module.SqliteWriter(connection, lambda: 0, lambda: None)
    writer._rooms["lobby"] = RoomEnd(0, 1, 0)
    assert steps_of(connection, partial(writer.unreact, [("lobby", 1, *value) for value in values[3:5]])) < 1_000
    left = connection.execute("SELECT count(*), min(user_id) FROM reactions").fetchone()
    assert left == (4_998, "user 0")


def bytes_on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob("chat.db*")))


@asynccontextmanager
async def hurried(
    path: Path, monkeypatch: pytest.MonkeyPatch, processes: int = 1
) -> AsyncIterator[tuple[SqliteLog, SqliteLog]]:
    """A log that scrubs its files at once, twice; or two such logs on one file."""
    monkeypatch.setattr(scrub_module, "SCRUB_AFTER", 0.01)
    monkeypatch.setattr(scrub_module, "SCRUB_RETRY", 0.01)
    monkeypatch.setattr(index_module, "INDEX_INTERVAL", 0)
    logs = [SqliteLog(str(path))] if processes == 1 else [shared_log(path.parent, number, 2) for number in range(2)]
    async with nodes(logs):
        yield logs[0], logs[-1]


@pytest.mark.parametrize(("seed", "processes"), [(1, 1), (2, 1), (1, 2)])
async def test_a_deleted_text_leaves_every_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, processes: int
) -> None:
    """SQLite leaves copies of a row at its place before a page split, and another process may write them back."""
    monkeypatch.setattr(scrub_module, "STEP_BYTES", 65_536)
    monkeypatch.setattr(scrub_module, "READ_BYTES", 16_384)
    chance = random.Random(seed)
    async with hurried(path, monkeypatch, processes) as logs:
        for log in logs:
            said = [draft(f"{SECRET}{'q' * chance.randrange(900)}", room=chance.choice("ab")) for _ in range(100)]
            await submit_all(log, said)
        for number in range(20):  # rows that grow are moved
            changes = [
                react(chance.randrange(1, 90), chr(0x1F600 + chance.randrange(20)))
                if chance.random() < 0.5
                else edit(chance.randrange(1, 90), f"{SECRET}{'w' * chance.randrange(9_000)}")
                for _ in range(10)
            ]
            await submit_all(logs[number % 2], [replace(change, room=chance.choice("ab")) for change in changes])
        assert SECRET.encode() in bytes_on_disk(path)
        await eventually(lambda: not any(log.index.behind for log in logs))
        lasts = {room: (await logs[0].head(room)).last for room in "ab"}
        await submit_all(
            logs[0],
            [replace(delete(target), room=room) for room, last in lasts.items() for target in range(1, last + 1)],
        )
        await eventually(lambda: not any(word in bytes_on_disk(path) for word in (SECRET.encode(), b"staple", b"qqq")))
        for log in logs:  # pages in a writer's memory are written again
            await submit_all(log, [draft(f"{number}", room=room) for room in lasts for number in range(100)])
        assert [(await logs[0].head(room)).last > last + 100 for room, last in lasts.items()] == [True, True]
    assert SECRET.encode() not in bytes_on_disk(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_text_deleted_just_before_a_stop_has_left_every_file(path: Path, processes: int) -> None:
    """Else it stayed until the next start on this file, if there ever was one: the words in the index, and copies."""
    logs = [SqliteLog(str(path))] if processes == 1 else [shared_log(path.parent, number, 2) for number in range(2)]
    async with nodes(logs):
        for number, log in enumerate(logs):
            await submit_all(log, [draft(f"{SECRET}{'q' * (each % 900)}", room="ab"[number]) for each in range(200)])
        for number, log in enumerate(logs):
            await log.change("indexing", partial(indexing_module.index_rooms, ["a", "b"]))
            await submit_all(log, [replace(delete(target), room="ab"[number]) for target in range(1, 201)])
        assert SECRET.encode() in bytes_on_disk(path)
    assert not [word for word in (SECRET.encode(), b"staple", b"qqq") if word in bytes_on_disk(path)]


async def test_texts_that_retention_removed_leave_every_file_and_the_index(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite leaves some texts in gaps of pages, even without deletions."""
    chance = random.Random(1)
    monkeypatch.setattr(scrub_module, "RETENTION_SCRUB", 0.05)
    async with hurried(path, monkeypatch) as (log, _):
        await eventually(lambda: log._scrubs.began > 0)  # the first scrub, for the remains of a crash
        for _ in range(20):
            said = [draft(f"{SECRET}{'q' * chance.randrange(400)}", room=chance.choice("ab")) for _ in range(50)]
            await submit_all(log, said)
        await eventually(lambda: not log.index.behind)
        await submit_all(log, [draft("kept", room=room) for room in "ab"])

        async def gone() -> bool:  # retention is tried each minute
            await log.retain(lambda _: (1, 0))
            return not any(word in bytes_on_disk(path) for word in (SECRET.encode(), b"staple", b"qqq"))

        await eventually(gone)
        assert [texts(await log.read(Range(room, 9, last=True))) for room in "ab"] == [["kept"], ["kept"]]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The attempts to scrub that have ended, and whether each was complete."""
    outcomes: list[bool] = []
    attempt = scrub_module.ScrubSchedule._try

    async def note_end(schedule: scrub_module.ScrubSchedule) -> bool:
        outcomes.append(await attempt(schedule))
        return outcomes[-1]

    monkeypatch.setattr(scrub_module.ScrubSchedule, "_try", note_end)
    return outcomes


async def test_another_reader_of_the_file_only_delays_the_scrub(
    path: Path, monkeypatch: pytest.MonkeyPatch, ended: list[bool]
) -> None:
    """A backup holds a snapshot, and with it earlier pages.

    Beside a forgotten shell the index was cleaned, and so written anew, before each attempt: with an edit in each five
    seconds a file of 16 MB got a write-ahead log of 6 GB an hour.
    """
    monkeypatch.setattr(scrub_module, "PATIENCE_MS", 1)
    monkeypatch.setattr(file_module, "BUSY_TIMEOUT", 60)  # for which a scrub may not wait, nor the commits behind it
    async with hurried(path, monkeypatch) as (log, _):
        await append(log, draft(SECRET))
        await eventually(lambda: not log.index.behind)
        await eventually(lambda: True in ended)  # the scrub of a start, which may clean the index after the deletion
        with capture_logs() as lines:
            backup = sqlite3.connect(path, isolation_level=None)
            backup.execute("BEGIN")
            assert backup.execute("SELECT count(*) FROM messages").fetchone() == (1,)
            await append(log, delete(1))
            ended.clear()
            await eventually(lambda: len(ended) > 1)
        assert not any(ended)
        assert ["read by another program" in line["reason"] for line in lines] == [True]
        assert SECRET.encode() in bytes_on_disk(path)
        assert await log.search(index_module._debris) == (1, 0), "no attempt has cleaned the index"
        assert (await append(log, draft("goes on"))).record.offset == 3
        backup.close()
        await eventually(lambda: SECRET.encode() not in bytes_on_disk(path))
        patience = await log.change("looking", lambda it: it.execute("PRAGMA busy_timeout").fetchone())
        assert patience == (int(BUSY_TIMEOUT * 1000),), "a commit waits longer for others than a scrub does"


async def test_a_write_ahead_log_that_grows_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, ended: list[bool]
) -> None:
    """SQLite tells nobody that it cannot write it back, until the disk is full; no text has been deleted here."""
    monkeypatch.setattr(scrub_module, "WAL_KEPT", 4 << 20)
    monkeypatch.setattr(scrub_module, "PATIENCE_MS", 1)
    wal = path.with_name(f"{path.name}-wal")
    async with hurried(path, monkeypatch) as (log, _):
        await eventually(lambda: True in ended and wal.stat().st_size == 0)  # the scrub of a start is over
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM identity").fetchone()
        with capture_logs() as lines:
            while wal.stat().st_size <= 4 << 20:
                assert lines == []
                await submit_all(log, [draft("q" * 9_000) for _ in range(50)])
                await log.retain(lambda _: (0, 0))
            await log.retain(lambda _: (0, 0))
            await eventually(lambda: bool(lines))
        assert "read by another program" in lines[0]["reason"]
        ended.clear()
        reader.close()
        await eventually(lambda: True in ended)
        assert wal.stat().st_size < 4 << 20, "emptied, and since then the index has written at most"


async def test_when_the_files_are_scrubbed(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """After a start, after the first of some deletions, and for what retention has removed; again after a failure."""
    times: list[float] = []
    full, busy = OSError(errno.ENOSPC, "No space left on device"), sqlite3.OperationalError("busy")
    outcomes: list[Exception | bool] = [full, busy, False, True, True, True, full, True, True]

    async def scrub() -> bool:
        times.append(trio.current_time())
        if times[-1] == 130:
            schedule.altered()  # this scrub may miss it
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    schedule = ScrubSchedule(scrub)
    nursery.start_soon(schedule.run)
    with capture_logs() as lines:
        for time, note in (
            (100, schedule.altered), (110, schedule.altered), (200, schedule.altered),
            (300, partial(schedule.retained, {"lobby": 2})), (3834, partial(schedule.retained, {})),
            (3836, partial(schedule.retained, {})), (9000, partial(schedule.retained, {})),
        ):  # fmt: skip
            await trio.sleep_until(time)
            note()
        await trio.sleep(10_000)
    assert times == [30, 35, 40, 45, 130, 160, 230, 235, 3866]
    failed = {"event": "scrub_failed", "log_level": "warning", "reason": str(full)}
    assert lines == [failed] * 2, "once in each series of failures"


def test_a_gap_is_what_lies_between_the_list_of_cells_and_the_cells() -> None:
    for kind, cells, content, gap in [
        (2, 3, 4_000, (18, 4_000)),  # of an index
        (5, 3, 4_000, (18, 4_000)),  # of a table
        (10, 3, 4_000, (14, 4_000)),  # a leaf of an index
        (13, 0, 4_096, (8, 4_096)),  # an empty leaf of a table
        (13, 3, 14, None),  # a full one
        (13, 3, 5_000, None),  # damaged
        (0, 3, 4_000, None),  # the rest of a long text
    ]:
        page = bytearray(b"\xff" * 4_096)
        struct.pack_into(">BxxHH", page, 0, kind, cells, content)
        found = [gap, (4_096 + gap[0], 4_096 + gap[1])] if gap else []
        assert dirty_gaps(bytes(page * 2), 4_096) == found, (kind, cells, content)
        for begin, end in found[:1]:
            page[begin:end] = bytes(end - begin)
            assert dirty_gaps(bytes(page), 4_096) == [], "it is not written again"


@pytest.mark.parametrize("spoil", ["auto_vacuum", "MAX_PAGES"])
async def test_pages_that_may_be_of_another_kind_are_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    """With auto_vacuum, or in a file of 128 GiB, a page's first byte may be part of a number."""
    assert min(_HEADERS) > MAX_PAGES >> 24
    async with running(SqliteLog(str(path))) as log:
        await append(log, draft(SECRET))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if spoil == "auto_vacuum":
            connection.execute("PRAGMA auto_vacuum = FULL")
            connection.execute("VACUUM")
        else:
            monkeypatch.setattr(scrub_module, "MAX_PAGES", 1)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        plant(path)
        scrubber = Scrubber(connection, path)
        assert scrubber.step(1) == 0
    scrubber.close()
    assert bytes_on_disk(path).count(SECRET.encode()) == 2


async def test_a_scrub_syncs_in_the_step_that_writes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file was synced at the end: up to all of its bytes at once, while no commit could run."""
    monkeypatch.setattr(scrub_module, "STEP_BYTES", 65_536)
    async with running(SqliteLog(str(path))) as log:
        await submit_all(log, [draft("q" * 900, room="ab"[number % 2]) for number in range(1_000)])
    calls: list[str] = []

    def recorded(name: str) -> Callable[..., object]:
        call = getattr(os, name)

        def record(*given: object) -> object:
            calls.append(name)
            return call(*given)

        return record

    for name in ("pwrite", "fsync"):
        monkeypatch.setattr(os, name, recorded(name))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        scrubber = Scrubber(connection, path)
        page: int | None = 1
        steps: list[tuple[str, ...]] = []
        while page:
            calls.clear()
            page = scrubber.step(page)
            steps.append(tuple(dict.fromkeys(calls)))
    scrubber.close()
    assert set(steps) == {("pwrite", "fsync"), ()}
    assert len(steps) > 3


async def test_a_scrub_reads_little_at_a_time(path: Path) -> None:
    """It read 4 MiB at once; after that, the C library kept up to 8 MiB of free heap for good."""
    async with running(SqliteLog(str(path))) as log:
        await submit_all(log, [draft("q" * 900, room="ab"[number % 2]) for number in range(1_000)])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        scrubber = Scrubber(connection, path)
        tracemalloc.start()
        try:
            assert scrubber.step(1) == 0, "the whole file in one step"
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    scrubber.close()
    assert len(bytes_on_disk(path)) > 1_000_000
    assert most < 300_000


def plant(path: Path) -> None:
    """Leave a text where SQLite may: between the list of cells and the cells, in the only page of the messages."""
    with closing(sqlite3.connect(path)) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'messages'").fetchall()
    pages = bytearray(path.read_bytes())
    leaf = (page - 1) * 4096
    assert pages[leaf] == 13
    pages[leaf + 100 : leaf + 100 + len(SECRET)] = SECRET.encode()
    path.write_bytes(pages)


async def test_a_page_in_the_memory_of_the_writer_does_not_bring_a_text_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(SqliteLog(str(path))) as log:
        await append(log, draft("one"))
    plant(path)
    async with hurried(path, monkeypatch) as (log, _):
        await append(log, draft("two"))
        await eventually(lambda: SECRET.encode() not in bytes_on_disk(path))
        await append(log, draft("three"))
        assert SECRET.encode() not in bytes_on_disk(path)


async def test_a_text_deleted_just_before_a_crash_leaves_at_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a first scrub: the text in the write-ahead log, and what is left in gaps of pages."""
    async with running(SqliteLog(str(path))) as log:
        await append(log, draft(SECRET))
        await append(log, delete(1))
        crashed = {file.name: file.read_bytes() for file in path.parent.iterdir()}
        assert SECRET.encode() in crashed["chat.db-wal"]
    for name, content in crashed.items():
        (path.parent / name).write_bytes(content)
    async with hurried(path, monkeypatch) as (log, _):
        await eventually(lambda: SECRET.encode() not in bytes_on_disk(path))
        assert texts(await log.read(Range("lobby", after=0, limit=9))) == ["", ""]
    plant(path)
    async with hurried(path, monkeypatch):
        await eventually(lambda: SECRET.encode() not in bytes_on_disk(path))


def test_a_minute_allows_several_attempts() -> None:
    assert scrub_module.SCRUB_AFTER + 3 * scrub_module.SCRUB_RETRY < 60.0


async def test_a_page_ends_where_records_were_removed_meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention may run between two statements of a read; a page never has a hole."""
    monkeypatch.setattr(readers_module, "READ_STEP", 4)
    async with running(SqliteLog(str(path))) as log:
        await submit_all(log, [draft(str(number)) for number in range(1, 13)])
        remove = "DELETE FROM messages WHERE text IN ('5', '6')"
        await log.change("removing records", lambda connection: connection.execute(remove))
        assert texts(await log.read(Range("lobby", after=0, limit=12))) == ["1", "2", "3", "4"]
        assert texts(await log.read(Range("lobby", after=4, limit=12))) == ["7", "8", "9", "10", "11", "12"]
        assert texts(await log.read(Range("lobby", after=8, limit=12))) == ["9", "10", "11", "12"]
        assert texts(await log.read(Range("lobby", 6, last=True))) == ["7", "8", "9", "10", "11", "12"]
