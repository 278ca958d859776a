"""Files of the database that another program moves, removes, replaces or changes while the server runs."""

import gc
import shutil
import weakref
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from chatserver.exits import innermost
from chatserver.log import sqlite_file as file_module
from chatserver.log import sqlite_index as index_module
from chatserver.log.interface import Draft, LogOpenError, LogUnavailable, Range
from chatserver.log.sqlite import SqliteLog
from tests.log.support import Clock, draft, running, shared_log, texts
from tests.log.test_sqlite_open import execute
from tests.support.groups import append
from tests.support.serving import eventually


@pytest.fixture
async def log(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteLog]:
    monkeypatch.setattr(file_module, "BUSY_TIMEOUT", 0.01)
    async with running(SqliteLog(str(path), wall_ms=clock)) as log:
        yield log


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
async def test_nothing_is_written_into_a_file_that_was_moved_away(
    log: SqliteLog, path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite goes on writing to it, but the next server would open another one.

    Without the -shm file a new worker and an old one overwrote each other's commits and damaged the database.
    """
    monkeypatch.setattr(file_module, "TIME_STEP", 0)
    await append(log, draft("one"))
    await eventually(partial(_gets_another_time, path))
    scrub = partial(log._writer.in_turn, partial(log._scrubber.step, 1))
    file = path.with_name(path.name + suffix)
    away = file.rename(path.with_name("away"))
    for replaced in (False, True):
        if replaced:
            file.write_bytes(away.read_bytes())
        with pytest.raises(LogUnavailable, match="removed or replaced; restart"):
            await append(log, draft("refused", key="k"))
        with pytest.raises(LogUnavailable, match="removed or replaced; restart"):
            await log._writer_thread.run(scrub)
    away.replace(file)
    assert (await append(log, draft("two", key="k"))).record.offset == 2
    assert texts(await log.read(Range("lobby", 9, last=True))) == ["one", "two"]


def _gets_another_time(path: Path) -> bool:
    """Whether the next change of this file's directory is told apart from the last one."""
    lock = path.with_name(f"{path.name}-lock")
    lock.touch()
    return lock.stat().st_ctime_ns > path.parent.stat().st_ctime_ns


async def test_a_file_that_is_removed_right_after_it_was_made_is_noticed(
    log: SqliteLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both changes of the directory have the same time on FAT, which keeps times to 2 s."""
    exact = file_module._stamp

    def coarse(file: str) -> tuple[int, int, int] | None:
        found = exact(file)
        return found and (*found[:2], found[2] // 2_000_000_000 * 2_000_000_000)

    monkeypatch.setattr(file_module, "_stamp", coarse)
    await append(log, draft("one"))
    path.with_name(f"{path.name}-wal").unlink()
    with pytest.raises(LogUnavailable, match="removed or replaced; restart"):
        await append(log, draft("refused"))


async def test_a_server_whose_lock_another_one_has_writes_no_more(log: SqliteLog, path: Path) -> None:
    """The file of the lock was removed, and a second server started beside the first, which went on to write."""
    await append(log, draft("one"))
    path.with_name(f"{path.name}-lock").unlink()
    await append(log, draft("two"))
    async with running(SqliteLog(str(path))) as other:
        with pytest.raises(LogUnavailable, match="removed or replaced; restart"):
            await append(log, draft("refused"))
        assert (await append(other, draft("three"))).record.offset == 3


@pytest.mark.parametrize("change", ["DELETE FROM rooms", "UPDATE rooms SET name = 'other'"])
@pytest.mark.parametrize(
    ("when", "refused"),
    [
        ("alone", draft("two")),
        ("alone", replace(draft("two"), mentions=("u_bob",))),
        ("with neighbours", draft("two", key="k")),
        ("after a failure", draft("two", room="den")),
        ("stopped", None),
    ],
)
async def test_another_program_that_removes_a_room_begins_an_epoch(
    tmp_path: Path, when: str, refused: Draft | None, change: str
) -> None:
    """Messages there were acknowledged, and nobody could read them, or their offsets were given again in this epoch.

    A room that was made later could get no message: those of the removed room were in their place. And a server that
    refused all messages was ready, so that nothing started it again.
    """
    path = tmp_path / "chat.db"
    ended = ""
    try:
        async with running(shared_log(tmp_path) if when == "with neighbours" else SqliteLog(str(path))) as log:
            await append(log, draft("one"))
            epoch = log.identity.epoch
            if when == "after a failure":
                with pytest.raises(LogUnavailable):
                    await log.change("failing", lambda connection: connection.execute("INSERT INTO nowhere VALUES (1)"))
            if refused is not None:
                execute(path, change)
                with pytest.raises(LogUnavailable, match="removed a room or changed the epoch"):
                    await append(log, refused)
                with trio.fail_after(30):
                    await trio.sleep_forever()
    except* LogOpenError as group:
        ended = str(innermost(group))
    assert ("or a room removed" in ended) is (refused is not None)
    if refused is None:
        execute(path, change)
    async with running(SqliteLog(str(path))) as log:
        assert log.identity.epoch != epoch
        for room in ("den", "lobby"):
            assert (await append(log, draft("new", room=room))).record.offset == 1
            assert texts(await log.read(Range(room, 9, last=True))) == ["new"]


@pytest.mark.parametrize("change", ["another -shm file", "a backup copied over it"])
async def test_closing_writes_nothing_into_the_files_of_others(
    path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A server that was stopped only after a restore damaged the restored database."""
    monkeypatch.setattr(index_module, "INDEX_INTERVAL", 0)
    shm, wal, backup = (path.with_name(f"{path.name}{suffix}") for suffix in ("-shm", "-wal", "-backup"))

    async def run_and_close() -> tuple[list[bytes], weakref.ref[SqliteLog]]:
        async with running(SqliteLog(str(path))) as log:
            await append(log, draft("one"))
            await eventually(lambda: not log.index.behind)  # which writes, too
            if change == "another -shm file":
                shm.unlink()
                shm.touch()
            else:
                execute(path, f"VACUUM INTO '{backup}'")
                shutil.copyfile(backup, path)
            return [file.read_bytes() for file in (path, wal)], weakref.ref(log)

    before, log = await run_and_close()
    await eventually(lambda: gc.collect() >= 0 and log() is None)  # with it goes a connection that nobody keeps
    assert [file.read_bytes() for file in (path, wal)] == before
