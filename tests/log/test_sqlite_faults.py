"""A disk that is full, locked or broken: the whole group fails, no hole stays, and the log goes on."""

import resource
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from chatserver.log import connections as connections_module
from chatserver.log import groups as groups_module
from chatserver.log import sqlite as sqlite_module
from chatserver.log import sqlite_file as file_module
from chatserver.log import sqlite_index as index_module
from chatserver.log import sqlite_readers as readers_module
from chatserver.log import sqlite_writer as writer_module
from chatserver.log.groups import Outcomes
from chatserver.log.interface import Draft, Head, LogError, LogUnavailable, Range, Stored
from chatserver.log.sqlite import SqliteLog
from chatserver.log.sqlite_schema import MOST_ROOMS
from tests.log.support import Clock, draft, offsets, running, submit_all, texts
from tests.log.test_records import delete, react
from tests.support.groups import append
from tests.support.parked import descriptors
from tests.support.serving import eventually


@pytest.fixture
async def log(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteLog]:
    monkeypatch.setattr(file_module, "BUSY_TIMEOUT", 0.01)
    async with running(SqliteLog(str(path), wall_ms=clock)) as log:
        yield log


def connection_of(log: SqliteLog) -> sqlite3.Connection:
    """The writing connection, for planting a fault. The writer's thread, which calls callbacks, also removes them."""
    return log._writer._connection


def refusals(outcomes: list[Stored | LogError]) -> list[str]:
    assert all(isinstance(outcome, LogUnavailable) for outcome in outcomes), outcomes
    return [str(outcome) for outcome in outcomes]


async def test_a_full_disk_fails_the_whole_group_and_leaves_no_hole(log: SqliteLog) -> None:
    await submit_all(log, [draft(str(number)) for number in range(3)])
    connection = connection_of(log)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    big = [draft("x" * 3_000, key=f"k{number}", room=f"room-{number % 3}") for number in range(20)]
    for _ in range(2):
        assert all("SQLITE_FULL" in refusal for refusal in refusals(await submit_all(log, big)))
    assert await log.head("room-0") == Head(1, 0)
    assert await log.ask(lambda it: it.execute("SELECT name FROM rooms").fetchall()) == [("lobby",)]
    assert log.statistics().failures == 2

    connection.execute("PRAGMA max_page_count = 1000000")
    outcomes = await submit_all(log, big)
    assert all(isinstance(outcome, Stored) and outcome.fresh for outcome in outcomes)
    assert offsets(await log.read(Range("room-0", 9, last=True))) == list(range(1, 8))
    assert (await append(log, draft())).record.offset == 4


async def test_a_disk_with_less_room_than_the_write_ahead_log_takes_goes_on_after_a_failure(log: SqliteLog) -> None:
    """SQLite empties it at 4 MB only: where less was left, a full disk that got room again filled up at once."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))  # of a file's bytes, which stands for the disk's
    try:
        stored = [isinstance(outcome, Stored) for _ in range(150) for outcome in await submit_all(log, [draft()])]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not all(stored)
    assert stored.count(False) < 10
    assert offsets(await log.read(Range("lobby", 200))) == list(range(1, stored.count(True) + 1))


async def test_a_long_change_needs_no_temporary_file(log: SqliteLog) -> None:
    """They are on another disk. While that was full, retention failed, and groups with edits of long texts."""
    await submit_all(log, [draft("x" * 8_000) for _ in range(30)])
    connection, before, during = connection_of(log), descriptors(), set[int]()
    # By the thread that uses the connection: another one would wait for its statement, which waits for the handler.
    watch = partial(connection.set_progress_handler, lambda: during.add(descriptors()), 20)
    await log._writer_thread.run(watch)
    await log.retain(lambda _: (1, 0))
    await log._writer_thread.run(partial(connection.set_progress_handler, None, 0))
    assert during == {before}


async def test_sqlite_without_memory_is_a_log_that_cannot_be_used(log: SqliteLog) -> None:
    """Python raises MemoryError for SQLITE_NOMEM, which was taken for a bug: clients got 500, and stopped."""

    def allocate() -> None:
        raise MemoryError

    await append(log, draft("before"))
    connection = connection_of(log)
    connection.create_function("allocate", 0, allocate)
    connection.execute("CREATE TEMP TRIGGER fault BEFORE INSERT ON main.messages BEGIN SELECT allocate(); END")
    refused = "storing a message failed: no memory is left"
    assert refusals(await submit_all(log, [draft("new"), draft("other", room="other")])) == [refused] * 2
    connection.execute("DROP TRIGGER fault")
    assert (await append(log, draft("after"))).record.offset == 2
    assert log._opened is not None
    for _ in range(readers_module.READERS + 1):  # a failed read gives its connection back
        with pytest.raises(LogUnavailable, match="reading messages failed: no memory is left"):
            await log._opened.readers.ask(lambda _: allocate())
    assert texts(await log.read(Range("lobby", 9, last=True))) == ["before", "after"]


async def test_without_an_id_for_a_new_room_the_other_rooms_go_on(log: SqliteLog) -> None:
    """The place of its message was too large for SQLite, so each message to a new room failed with its whole group."""
    connection_of(log).execute("INSERT INTO rooms (id, name) VALUES (?, 'lobby')", (MOST_ROOMS - 1,))
    for _ in range(2):
        *stored, refused = await submit_all(log, [draft(room="lobby"), draft(room="last"), draft(room="new", key="k")])
        assert all(isinstance(outcome, Stored) for outcome in stored)
        assert refusals([refused]) == ["the log has no place for one more message in room new"]
    assert offsets(await log.read(Range("last", 9, last=True))) == [1, 2]
    assert await log.heads(["lobby", "new"]) == {"lobby": Head(1, 2)}


async def test_a_failed_change_of_a_message_leaves_no_record_of_it(log: SqliteLog) -> None:
    """It comes after the records of its group, and these were one statement."""
    await append(log, draft("before"))
    connection = connection_of(log)
    connection.execute("CREATE TEMP TRIGGER fault BEFORE INSERT ON main.reactions BEGIN SELECT RAISE(FAIL, 'no'); END")
    assert len(refusals(await submit_all(log, [draft("new"), react(1)]))) == 2
    assert await log.head("lobby") == Head(1, 1)
    connection.execute("DROP TRIGGER fault")
    assert (await append(log, react(1))).record.offset == 2


async def test_on_a_slow_disk_publishes_that_wait_come_before_all_other_writing(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With syncs of two seconds most publishes got 503, since a commit of the index came between each two groups.

    After an edit they got it again, since the steps of a scrub did.
    """
    monkeypatch.setattr(index_module, "INDEX_SOON", 1)
    for each in (draft("antimony"), delete(1)):  # its words are to be cleaned away
        await append(log, each)
        await eventually(lambda: not log.index.behind)
    monkeypatch.setattr(groups_module, "SLOW_COMMIT", -1.0)
    monkeypatch.setattr(groups_module, "MAX_GROUP", 1)
    monkeypatch.setattr(log._groups, "_interval", 0.0)  # on a fast disk the log is idle between two groups
    writer, done, released = log._writer, list[str](), threading.Event()
    commit, change, in_turn = writer.commit, writer.change, writer.in_turn

    def committing(drafts: Sequence[Draft]) -> Outcomes:
        released.wait()
        done.append(drafts[0].text)
        return commit(drafts)

    def changing(doing: str, *rest: Any) -> Any:
        done.append(doing)
        return change(doing, *rest)

    def scrubbing(work: Callable[[], int | None]) -> int | None:
        done.append("scrubbing")
        return in_turn(work)

    monkeypatch.setattr(writer, "commit", committing)
    monkeypatch.setattr(writer, "change", changing)
    monkeypatch.setattr(writer, "in_turn", scrubbing)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit_all, log, [draft(text) for text in "abc"])
        await wait_all_tasks_blocked()
        for work in (partial(log.retain, lambda _: (0, 0)), log._scrub, log.index.clean):
            nursery.start_soon(work)
        await log.search(lambda _: None)  # cleaning has asked what there is to clean
        await wait_all_tasks_blocked()
        released.set()
    await eventually(lambda: not log.index.behind)
    assert done[:3] == ["a", "b", "c"]
    assert set(done[3:]) == {"retention", "indexing", "scrubbing", "cleaning the index"}


async def test_a_rollback_that_fails_hides_no_error_and_is_tried_again(log: SqliteLog) -> None:
    connection = connection_of(log)

    def allow(action: int, what: str | None, *rest: object) -> int:
        return sqlite3.SQLITE_DENY if (action, what) == (sqlite3.SQLITE_TRANSACTION, "ROLLBACK") else sqlite3.SQLITE_OK

    def insert_and_fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO rooms (name) VALUES ('left-over')")
        connection.execute("INSERT INTO nowhere VALUES (1)")

    connection.set_authorizer(allow)
    with pytest.raises(LogUnavailable, match="adding failed: no such table: nowhere"):
        await log.change("adding", insert_and_fail)
    assert "not authorized" in refusals(await submit_all(log, [draft()]))[0]
    await log._writer_thread.run(partial(connection.set_authorizer, None))
    assert (await append(log, draft())).record.offset == 1
    assert await log.ask(lambda it: it.execute("SELECT name FROM rooms").fetchall()) == [("lobby",)]


async def test_a_bug_in_the_writer_is_undone_too(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    await append(log, draft("one"))
    with monkeypatch.context() as patch:
        patch.setattr(writer_module.SqliteWriter, "_expire_keys", None)
        with pytest.raises(LogUnavailable):
            await append(log, draft("lost", key="k"))
    assert (await append(log, draft("two", key="k"))).record.offset == 2
    assert texts(await log.read(Range("lobby", 9, last=True))) == ["one", "two"]


async def test_a_read_cut_short_by_its_bytes_holds_no_snapshot(log: SqliteLog) -> None:
    """A statement that has not ended keeps the write-ahead log from being reused, and the file grows."""
    await submit_all(log, [draft("x" * 100) for _ in range(200)])
    for _ in range(readers_module.READERS + 1):
        assert offsets(await log.read(Range("lobby", after=0, limit=99, max_bytes=1_000))) == list(range(1, 11))
        assert offsets(await log.read(Range("lobby", 99, max_bytes=1_000, last=True))) == list(range(191, 201))
    await append(log, draft())
    assert connection_of(log).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


class Hanging:
    """Calls that hang in the driver, each in its thread, until they are released."""

    def __init__(self, owner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hanging = 0
        self.go_on = threading.Event()
        original = getattr(owner, name)

        def hang(*arguments: Any, **options: Any) -> Any:
            self.hanging += 1
            self.go_on.wait(60)
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, hang)

    async def hang(self, count: int) -> None:
        await eventually(lambda: self.hanging >= count)


@pytest.mark.parametrize("hangs", ["commit", "change"])
async def test_a_hanging_disk_neither_delays_the_end_nor_frees_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, hangs: str
) -> None:
    """A thread cannot be cancelled: it keeps its connection, and the lock stays until the process ends.

    Publishers do not wait for a hanging step of retention either.
    """
    monkeypatch.setattr(groups_module, "DRAIN_DEADLINE", 0.05)
    monkeypatch.setattr(sqlite_module, "BUSY_PATIENCE", 0.05)
    monkeypatch.setattr(groups_module, "ANSWER_DEADLINE", 0.2)
    log = SqliteLog(str(path))
    outcomes: list[Stored | LogError] = []
    with capture_logs() as lines:
        async with running(log), trio.open_nursery() as nursery:
            disk = Hanging(log._writer, hangs, monkeypatch)
            if hangs == "change":
                nursery.start_soon(lambda: log.retain(lambda _: (1, 0)))
                await disk.hang(1)
                with pytest.raises(LogUnavailable):
                    await append(log, draft())
            else:
                log.submit(draft(), outcomes.append)
                await disk.hang(1)
            nursery.cancel_scope.cancel()
    refusals(outcomes)
    assert [line["event"] for line in lines] == ["last_commit_hangs"]
    with pytest.raises(LogError, match="in use by another server"):
        await SqliteLog(str(path)).run(lambda records: None)
    disk.go_on.set()
    await log._writer_thread.run(lambda: None)  # after the calls that hung
    log._writer.close()
    log._locks.close()


async def test_lists_of_very_many_rooms_delay_no_read(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their order takes long to find, and two lists at a time occupied both threads that read."""
    await append(log, draft("one"))
    lists, listed = Hanging(readers_module.RecentRooms, "_newest", monkeypatch), list[str]()

    async def list_rooms() -> None:
        listed.extend(summary.room for summary in await log.rooms(9))

    async with trio.open_nursery() as nursery:
        for _ in range(readers_module.READERS):
            nursery.start_soon(list_rooms)
        await lists.hang(1)
        assert texts(await log.read(Range("lobby", 9, last=True))) == ["one"]
        assert listed == []
        lists.go_on.set()
    assert listed == ["lobby"] * readers_module.READERS


async def test_reads_that_hang_fail_in_time_and_the_log_recovers(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both threads hang, and a third read waits for a thread: all are answered in time."""
    monkeypatch.setattr(connections_module, "ANSWER_DEADLINE", 0.2)
    await submit_all(log, [draft() for _ in range(9)])
    reads = Hanging(readers_module, "read", monkeypatch)
    refused = []

    async def read() -> None:
        with pytest.raises(LogUnavailable, match="took longer than"):
            await log.read(Range("lobby", 9, last=True))
        refused.append(True)

    async with trio.open_nursery() as readers:
        for _ in range(5):
            readers.start_soon(read)
        assert (await append(log, draft())).record.offset == 10
    assert len(refused) == 5
    await reads.hang(2)
    assert reads.hanging == 2, "only these two threads"
    monkeypatch.setattr(connections_module, "ANSWER_DEADLINE", 60.0)
    reads.go_on.set()
    assert len(await log.read(Range("lobby", 99, last=True))) == 10
