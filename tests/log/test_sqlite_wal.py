"""A damaged write-ahead log: SQLite alone would go on without the commits after the damage."""

import filecmp
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from chatserver.log.interface import LogOpenError, Range
from chatserver.log.sqlite import SqliteLog
from chatserver.log.sqlite_wal import lost_commits
from chatserver.workers.shared_log import check_log
from tests.log.support import draft, offsets, running
from tests.log.test_sqlite_open import execute, refused
from tests.support.groups import append

FRAME = 24 + 4096


def flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


@pytest.fixture
async def left(path: Path) -> Path:
    """The path of a database that a killed server has left, with a write-ahead log of 50 commits."""
    killed = path.with_name("killed.db")
    async with running(SqliteLog(str(path))) as log:
        for number in range(50):
            await append(log, draft(str(number)))
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{killed}{suffix}")
    return killed


def wal_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


async def test_damage_is_distinguished_from_the_remains_of_a_crash(left: Path) -> None:
    wal = wal_of(left)
    content = wal.read_bytes()
    for what, damaged, lost in (
        ("nothing", content, False),
        ("a page", flipped(content, 32 + FRAME // 2), True),
        ("a salt of the first frame", flipped(content, 32 + 8), True),
        ("its checksum", flipped(content, 32 + 16), True),
        ("the middle", flipped(content, len(content) // 2), True),
        ("the header", flipped(content, 20), True),
        ("the last commit, which may not be synced", flipped(content, len(content) - 1), False),
        ("its end is missing", content[:-100], False),
        ("power lost before any write", bytes(len(content)), False),
        ("no header", bytes(32) + content[32:], True),
        ("emptied while a server wrote", bytes(32 + 9 * FRAME) + content[32 + 9 * FRAME :], True),
        ("a sector of zeros has a sound checksum", bytes(32) + b"\1" * (len(content) - 32), True),
        ("empty", b"", False),
    ):
        wal.write_bytes(damaged)
        assert bool(lost_commits(wal)) is lost, what


def test_old_frames_after_a_restart_of_the_file_are_no_damage(path: Path, connection: sqlite3.Connection) -> None:
    for number in range(20):
        connection.execute("INSERT INTO rooms (name) VALUES (?)", (f"room-{number}",))
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    connection.execute("INSERT INTO rooms (name) VALUES ('last')")
    assert wal_of(path).stat().st_size > 20 * FRAME
    assert lost_commits(wal_of(path)) == 0


@pytest.mark.parametrize("commits", [1, 2])
def test_of_a_long_commit_that_is_torn_only_a_later_one_is_lost(
    path: Path, connection: sqlite3.Connection, commits: int
) -> None:
    """A loss of power may damage any frame of the last commit."""
    damaged = wal_of(path).stat().st_size
    for _ in range(commits):
        connection.execute("INSERT INTO search_words VALUES (?)", ("x" * 5 * 4096,))
    wal_of(path).write_bytes(flipped(wal_of(path).read_bytes(), damaged + FRAME // 2))
    assert lost_commits(wal_of(path)) == commits - 1


@pytest.mark.parametrize("field", ["salt", "checksum", "page"])
def test_a_commit_that_is_damaged_before_the_last_one_is_lost(
    path: Path, connection: sqlite3.Connection, field: str
) -> None:
    """SQLite drops both without an error; for damage beside the page, the server had started without them."""
    connection.execute("INSERT INTO search_words VALUES ('acknowledged')")
    last_frame = wal_of(path).stat().st_size - FRAME
    connection.execute("INSERT INTO search_words VALUES ('acknowledged')")
    at = last_frame + {"salt": 8, "checksum": 16, "page": 24}[field]
    wal_of(path).write_bytes(flipped(wal_of(path).read_bytes(), at))
    assert lost_commits(wal_of(path)) == 1


def test_commits_whose_sync_failed_are_not_lost_ones(path: Path, connection: sqlite3.Connection) -> None:
    """Each is undone and overwritten by the next; the longer it was, the more of it is left behind that one."""
    connection.execute("INSERT INTO search_words VALUES ('acknowledged')")
    left = before = wal_of(path).read_bytes()
    for pages in (1, 4, 9):
        copy = path.with_name(f"{pages}.db")
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
        other = sqlite3.connect(copy, isolation_level=None)
        other.execute("INSERT INTO search_words VALUES (?)", ("x" * pages * 4096,))
        written = wal_of(copy).read_bytes()
        assert before
        assert written.startswith(before)
        left += written[len(left) :]
        other.close()
    wal_of(path).write_bytes(left)
    assert lost_commits(wal_of(path)) == 0


async def test_a_damaged_log_is_refused_and_left_alone(left: Path) -> None:
    wal = wal_of(left)
    damaged = flipped(wal.read_bytes(), wal.stat().st_size // 2)
    wal.write_bytes(damaged)
    for _ in range(2):
        told = re.search(f"{re.escape(str(wal))} is damaged, and at least (\\d+) of its commits", await refused(left))
        assert told is not None
        assert 10 < int(told[1]) < 50  # about half of them: the index commits too, at times of its own
    with pytest.raises(LogOpenError, match="is damaged"):
        await check_log(f"sqlite:{left}")
    assert wal.read_bytes() == damaged
    connection = sqlite3.connect(left)
    (before,) = connection.execute("SELECT epoch FROM identity").fetchone()
    connection.execute("UPDATE identity SET epoch = lower(hex(randomblob(3)))")
    connection.commit()
    connection.close()
    async with running(SqliteLog(str(left))) as log:
        assert log.identity.epoch != before
        kept = await log.read(Range("lobby", after=0, limit=100))
        assert offsets(kept) == list(range(1, len(kept) + 1))
        assert 0 < len(kept) < 50


@pytest.mark.parametrize("is_empty", [False, True])
async def test_a_log_without_its_database_is_refused_and_left_alone(left: Path, *, is_empty: bool) -> None:
    """SQLite would delete it, with the last messages of a database that was moved away without it."""
    content = wal_of(left).read_bytes()
    shutil.move(left, left.with_name("moved.db"))
    if is_empty:
        shutil.copy("/dev/null", left)
    assert f"{left} is missing or empty, but {wal_of(left)} has commits" in await refused(left)
    assert wal_of(left).read_bytes() == content
    shutil.move(left.with_name("moved.db"), left)
    async with running(SqliteLog(str(left))) as log:
        assert (await log.head("lobby")).last == 50


async def test_a_backup_is_not_damaged_by_the_write_ahead_log_that_a_crash_has_left(path: Path, left: Path) -> None:
    """SQLite wrote the commits of the old file into the new one."""
    backup = path.with_name("backup.db")
    execute(path, f"VACUUM INTO '{backup}'")
    shutil.copyfile(backup, left)
    assert f"{wal_of(left)} has commits of another database" in await refused(left)
    assert filecmp.cmp(left, backup, shallow=False)
    wal_of(left).unlink()
    async with running(SqliteLog(str(left))) as log:
        assert (await log.head("lobby")).last == 50
