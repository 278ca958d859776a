"""One file with several writers: two logs in one process. Several processes, some killed: `make soak`."""

import errno
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import trio

from chatserver.log import open_log
from chatserver.log import sqlite_index as index_module
from chatserver.log.file_lock import FileLock
from chatserver.log.interface import LogOpenError, LogUnavailable
from chatserver.log.sqlite import SqliteLog
from tests.log.support import Clock, draft, fill, neighbours_in, nodes, running, shared_log
from tests.log.test_records import delete
from tests.log.test_sqlite_open import execute
from tests.support.groups import append
from tests.support.serving import eventually

Pair = tuple[SqliteLog, SqliteLog]


@asynccontextmanager
async def running_pair(folder: Path, clock: Clock) -> AsyncIterator[Pair]:
    first, second = (shared_log(folder, number, 2, clock=clock) for number in range(2))
    async with nodes([first, second]):
        yield first, second


@pytest.fixture
async def pair(tmp_path: Path, clock: Clock) -> AsyncIterator[Pair]:
    async with running_pair(tmp_path, clock) as found:
        yield found


async def test_a_group_is_decided_under_both_write_locks(tmp_path: Path) -> None:
    """When the clock is read, a program that ignores our lock must already wait for SQLite's."""
    refused: list[str] = []
    ours = neighbours_in(tmp_path, 1, 2).lock("writing")

    class Meddler(Clock):
        def __call__(self) -> int:
            other = sqlite3.connect(tmp_path / "chat.db", timeout=0, isolation_level=None)
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                refused.append(str(error))
            other.close()
            assert not ours.try_acquire(), "held by the log"
            return super().__call__()

    async with running(shared_log(tmp_path, clock=Meddler())) as log:
        await append(log, draft())
    assert refused == ["database is locked"]
    ours.close()


async def test_a_turn_that_the_kernel_refuses_fails_what_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a fault of the server's own: a traceback for each group, and 500 for what is stored beside messages."""
    refused, told = OSError(errno.ENOLCK, "No locks available"), "cannot lock .*: No locks available"
    with monkeypatch.context() as kernel:
        kernel.setattr("fcntl.flock", Mock(side_effect=refused))
        with pytest.raises(ExceptionGroup) as caught:
            async with running(shared_log(tmp_path)):
                pass
    assert caught.group_contains(LogOpenError, match=told)
    async with running(shared_log(tmp_path)) as log:
        with monkeypatch.context() as kernel:
            kernel.setattr("fcntl.flock", Mock(side_effect=refused))
            for attempt in (append(log, draft()), log.change("adding", str), log.retain(lambda _: (0, 1))):
                with pytest.raises(LogUnavailable, match=told):
                    await attempt
        await append(log, draft())
        monkeypatch.setattr("fcntl.flock", Mock(side_effect=refused))  # also while it closes
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):  # and Python says nothing of it later
        log._writer._connection.execute("SELECT 1")


async def test_a_process_that_opens_another_epoch_ends_those_of_the_old_one(tmp_path: Path, path: Path) -> None:
    """Of two workers one had died, and gave offsets of a removed room again, which members at the other never saw."""
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
        async with running(shared_log(tmp_path, 0, 2)) as log:
            await append(log, draft())
            execute(path, "DELETE FROM rooms")
            async with running(shared_log(tmp_path, 1, 2)):
                with trio.fail_after(30):
                    await trio.sleep_forever()
    assert caught.group_contains(LogOpenError, match="or a room removed")


async def test_after_each_step_of_a_scrub_others_read_every_page_again(pair: Pair, path: Path) -> None:
    """PRAGMA data_version changes when a connection must read its pages again."""
    first, _ = pair
    await append(first, draft("one"))
    other = sqlite3.connect(path, isolation_level=None)
    versions = set()
    for number in range(3):
        assert other.execute("SELECT count(*) FROM messages").fetchone() == (1,)
        versions.add(other.execute("PRAGMA data_version").fetchone())
        assert len(versions) == number + 1
        await first._writer_thread.run(partial(first._writer.in_turn, partial(first._scrubber.step, 1)))
    other.close()


async def test_logs_that_close_at_the_same_time_do_so_in_turn_and_the_last_writes_the_wal_back(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the last connection does. So of two that close, the second must wait until the first has closed."""
    other = sqlite3.connect(path, check_same_thread=False)
    enter = FileLock.__enter__

    def enter_after_other(lock: FileLock) -> None:
        other.close()
        enter(lock)

    monkeypatch.setattr(index_module, "INDEX_INTERVAL", 0)
    async with running(shared_log(tmp_path)) as log:
        await append(log, draft("one"))
        await eventually(lambda: not log.index.behind)  # a reader that is busy at the end would close later
        assert other.execute("SELECT text FROM messages").fetchall() == [("one",)]
        monkeypatch.setattr(FileLock, "__enter__", enter_after_other)
    assert not path.with_name(f"{path.name}-wal").exists()


async def test_our_own_rooms_are_listed_at_once_and_those_of_others_after_a_while(
    pair: Pair, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = pair
    for log, room, factor, expected in (
        (other, "a", 0, "a"), (other, "b", 1e9, "ba"), (other, "c", 1e9, "ba"), (ours, "d", 1e9, "dba"),
        (ours, "e", 1e9, "edba"),
    ):  # fmt: skip
        monkeypatch.setattr("chatserver.log.sqlite_readers.NEWEST_REUSE_FACTOR", factor)
        clock.ms += 5
        await append(log, draft(room=room))
        assert "".join(summary.room for summary in await ours.rooms(9)) == expected


async def test_one_log_does_retention_until_it_ends(tmp_path: Path, clock: Clock) -> None:
    async def retain(log: SqliteLog, left: int) -> Mapping[str, int]:
        return await log.retain(lambda _: (left, 0))

    async with running_pair(tmp_path, clock) as (first, second):
        await fill(second, 10)
        assert await retain(first, 8) == {"lobby": 3}
        assert await retain(second, 5) == {}
        assert await retain(first, 5) == {"lobby": 6}
        assert (await append(second, draft())).record.offset == 11
    async with running_pair(tmp_path, clock) as (first, second):
        assert await retain(second, 2) == {"lobby": 10}


async def test_deleted_words_are_cleaned_by_one_log_at_a_time(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise both subtract from the count of deletions to clean."""
    monkeypatch.setattr(index_module, "INDEX_INTERVAL", 0)
    async with running_pair(tmp_path, clock) as (first, second):
        stored = await append(first, draft("antimony"))
        await eventually(lambda: not first.index.behind)
        await append(first, delete(stored.record.offset))
        cleaned: list[bool] = []

        async def clean(log: SqliteLog) -> None:
            cleaned.append(await log.index.clean())

        async with trio.open_nursery() as nursery:
            for log in (first, second):
                nursery.start_soon(clean, log)
        debris = await first.ask(lambda it: it.execute("SELECT deletions FROM search_debris").fetchone())
        assert debris == (0,)
        assert True in cleaned
        assert [await log.index.clean() for log in (first, second)] == [True, True], "one after the other may"

        async def fail() -> None:
            assert not await second.index.clean()
            raise LogUnavailable("planted")

        monkeypatch.setattr(first.index, "_clean", fail)
        with pytest.raises(LogUnavailable, match="planted"):
            await first.index.clean()
        assert await second.index.clean(), "also after one that failed"


async def test_a_log_without_other_processes_says_so(tmp_path: Path) -> None:
    assert not SqliteLog(str(tmp_path / "chat.db")).shared
    assert shared_log(tmp_path).shared
    with pytest.raises(LogOpenError, match="one process only"):
        open_log("memory:", neighbours_in(tmp_path))
