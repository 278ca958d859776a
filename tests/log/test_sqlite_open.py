"""Opening a file as a log: refusals and their messages, and what a log keeps over restarts."""

import errno
import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import trio
from structlog.testing import capture_logs

from chatserver.log import open_log
from chatserver.log import sqlite_file as file_module
from chatserver.log import sqlite_schema as schema_module
from chatserver.log.interface import Head, LogOpenError, LogUnavailable, Range
from chatserver.log.memory import MemoryLog
from chatserver.log.postgres import PostgresLog
from chatserver.log.sqlite import SqliteLog
from chatserver.log.sqlite_file import LONGEST_PATH
from tests.log.support import Clock, draft, ignore, listing, running, submit_all, texts
from tests.log.test_records import delete
from tests.support.groups import append
from tests.support.parked import descriptors
from tests.support.serving import eventually


async def refused(path: Path | str) -> str:
    """The message with which a path is refused."""
    log = open_log(f"sqlite:{path}")
    async with trio.open_nursery() as nursery:
        with pytest.raises(LogOpenError) as caught:
            await nursery.start(log.run, ignore)
        nursery.cancel_scope.cancel()
    return str(caught.value)


async def fill(path: Path, count: int = 3) -> None:
    async with running(SqliteLog(str(path))) as log:
        await submit_all(log, [draft(f"{number} {'x' * 200}") for number in range(count)])


def execute(path: Path, statement: str) -> None:
    """Execute a statement as another program."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


# -- URLs and paths


def test_urls_name_engines() -> None:
    urls = ["memory:", "sqlite:chat.db", "postgresql://ann@db/chat", "postgres://ann@db/chat"]
    assert [type(open_log(url)) for url in urls] == [MemoryLog, SqliteLog, PostgresLog, PostgresLog]


async def test_an_impossible_path_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name, message in (
        (".", "{} is a directory"),
        ("no/chat.db", "the directory {}/no does not exist"),
        ("file/chat.db", "the directory {}/file does not exist"),
        ("~no.such.user/chat.db", "cannot open ~no.such.user/chat.db: "),
        ("loop", "cannot open loop: "),
        ("a\0.db", "cannot open a\0.db: "),
    ):
        assert message.format(tmp_path) in await refused(name)


async def test_a_path_may_be_as_long_as_sqlite_takes_it(tmp_path: Path) -> None:
    folder = tmp_path / ("ü" * 100) / "f"
    folder.mkdir(parents=True)
    longest = folder / ("n" * (LONGEST_PATH - len(os.fsencode(folder)) - 1))
    async with running(SqliteLog(str(longest))) as log:
        await append(log, draft())
    assert f"{LONGEST_PATH + 1} bytes" in await refused(f"{longest}n")
    assert {path.name for path in folder.glob("*n")} == {longest.name}


async def test_a_path_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with running(open_log("sqlite:~/chat.db")):
        assert (tmp_path / "chat.db").exists()


async def test_a_directory_whose_name_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xfc") / "chat.db"
    path.parent.mkdir()
    async with running(SqliteLog(str(path))) as log:
        await append(log, draft())
        path.unlink()
        with pytest.raises(LogUnavailable, match="removed or replaced; restart"):
            await append(log, draft())


# -- content of the file


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 8192)


def break_schema(path: Path) -> None:
    """SQLite's error quotes the byte, and cannot be decoded."""
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE keys", b"CREATE TABL\xc3 keys"))


def replace_by_another_program(path: Path) -> None:
    path.unlink()
    execute(path, "CREATE TABLE bookmarks (url)")


NEWER = len(schema_module.MIGRATIONS) + 1
SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no database": (lambda path: path.write_bytes(b"dear diary, " * 1000), "is not an SQLite database"),
    "another program's": (replace_by_another_program, "another program"),
    "a newer schema": (
        lambda path: execute(path, f"PRAGMA user_version = {NEWER}"),
        f"has schema {NEWER}, this server knows up to {NEWER - 1}",
    ),
    "damaged": (overwrite, "; restore a backup, or save what is left with: sqlite3"),
    "damaged in its schema": (break_schema, "is damaged ("),
    "cut short": (lambda path: os.truncate(path, path.stat().st_size // 2), "is damaged"),
    "without identity": (lambda path: execute(path, "DELETE FROM identity"), "the log's identity is missing"),
}


def test_a_file_that_is_no_log_is_refused_and_left_alone(path: Path) -> None:
    trio.run(fill, path, 400)  # fewer than are indexed at once
    # The thread that searched for unindexed messages closes its connection last, which changes the file.
    trio.run(eventually, lambda: not path.with_name("chat.db-wal").exists())
    whole = path.read_bytes()
    for what, (spoil, message) in SPOILED.items():
        path.write_bytes(whole)
        spoil(path)
        before = path.read_bytes()
        for _ in range(2):  # the first attempt has released the lock
            assert message in trio.run(refused, path), what
            assert path.read_bytes() == before, what
    path.unlink()
    path.touch()
    trio.run(fill, path)  # an empty file becomes a log


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="no sqlite3 on this machine")
def test_the_command_in_the_refusal_of_a_damaged_file_prints_the_messages_that_are_left(tmp_path: Path) -> None:
    """Debian 12's sqlite3 has no `.recover`; the `.dump` of newer ones left out what comes after the damage."""
    path = tmp_path / "a folder" / "chat.db"
    path.parent.mkdir()
    trio.run(fill, path, 100)
    content = path.read_bytes()
    page = content.index(b"50 xxx") // 4096 * 4096
    path.write_bytes(content[:page] + bytes(range(256)) * 16 + content[page + 4096 :])
    _, _, command = trio.run(refused, path).partition("what is left with: ")
    left = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False).stdout
    assert [f"'{number} xxx".encode() in left for number in (0, 50, 99)] == [True, False, True]


@pytest.mark.parametrize(
    ("damage", "told", "ends_retention"),
    [
        (overwrite, "SQLITE_CORRUPT", True),
        (partial(execute, statement="UPDATE messages SET user_name = CAST(x'ff' AS TEXT)"), "DecodeError", False),
        (partial(execute, statement="UPDATE messages SET more = '{\"state\"'"), "DecodeError", True),
    ],
    ids=["page", "text", "JSON"],
)
async def test_damage_in_a_file_too_large_to_check_is_found_when_it_is_met(
    path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object], told: str, ends_retention: bool
) -> None:
    await fill(path, 500)
    damage(path)
    monkeypatch.setattr(file_module, "MAX_CHECKED_AT_OPEN", 0)
    async with running(SqliteLog(str(path))) as log:
        with pytest.raises(LogUnavailable, match=told):
            await log.read(Range("lobby", after=0, limit=500))
        if ends_retention:  # which reads no names
            with capture_logs() as lines, suppress(LogUnavailable):
                assert await log.retain(lambda _: (1, 0))  # which is all that the steps before the damage have removed
                assert told in lines[0]["reason"], "no line told of that"
            assert log.statistics().failures == 1, "no metric told of it"
        if told == "DecodeError":
            with pytest.raises(LogUnavailable, match=told):
                await append(log, delete(2))


# -- other programs


async def test_a_second_log_on_the_file_is_refused_until_the_first_ends(path: Path) -> None:
    alias = path.with_name("alias.db")
    alias.symlink_to(path)
    async with running(SqliteLog(str(path))) as log:
        for name in (path, alias):
            message = await refused(name)
            assert "in use by another server" in message
            assert f"process {os.getpid()}" in message
        await append(log, draft())
    await fill(alias)
    async with running(SqliteLog(str(path))) as log:
        assert await log.head("lobby") == Head(1, 4)


async def test_a_file_with_two_names_is_refused_while_it_is_open_and_after(path: Path) -> None:
    """Each name would have a lock and a write-ahead log of its own, and offsets would be given twice."""
    other = path.with_name("other.db")
    async with running(SqliteLog(str(path))) as log:
        os.link(path, other)
        assert f"{other} has 2 names" in await refused(other)
        await append(log, draft())
    assert f"{path} has 2 names" in await refused(path)
    other.unlink()
    async with running(SqliteLog(str(path))) as log:
        assert await log.head("lobby") == Head(1, 1)


async def test_a_file_that_is_mounted_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As into a container, where its write-ahead log would stay."""
    path = path.with_name("my chat.db")
    await fill(path)
    mounts = path.with_name("mounts")
    monkeypatch.setattr(file_module, "MOUNTS", mounts)
    line = "36 35 98:0 /chat.db {} rw,noatime master:1 - ext4 /dev/root rw\n"
    mounts.write_text("".join(line.format(where) for where in ("/", str(path.parent).replace(" ", "\\040"))))
    await fill(path)
    mounts.write_text(line.format("/") + line.format(str(path).replace(" ", "\\040")))
    assert f"{path} is mounted alone" in await refused(path)


async def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
    assert "No locks available; put it on a local disk" in await refused(path)


async def test_another_program_that_holds_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(path)
    monkeypatch.setattr(file_module, "BUSY_TIMEOUT", 0.01)
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("BEGIN EXCLUSIVE")
    assert "is locked by another program" in await refused(path)
    shell.close()
    await fill(path)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Become another user if this is root, since root may write everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("locked_before", [True, False])
def test_a_path_without_write_permission(locked_before: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "chat.db"
        trio.run(fill, path)
        lock = folder / "chat.db-lock"
        for folder_mode, file_mode in ((0o777, 0o444), (0o555, 0o666), (0o555, 0o444), (0o777, 0)):
            if locked_before:
                lock.chmod(0o666)
            else:
                lock.unlink(missing_ok=True)
            path.chmod(file_mode)
            folder.chmod(folder_mode)
            with as_nobody():
                message = trio.run(refused, path)
            folder.chmod(0o700)
            assert str(path) in message, (folder_mode, file_mode)
            assert "check" in message, (folder_mode, file_mode)


async def test_only_the_owner_can_read_the_file(path: Path) -> None:
    async with running(SqliteLog(str(path))) as log:
        await append(log, draft())
        modes = {name: stat.S_IMODE((path.parent / name).stat().st_mode) for name in listing(path.parent)}
    names = ["chat.db", "chat.db-lock", "chat.db-shm", "chat.db-wal"]
    assert modes == dict.fromkeys(names, 0o600)
    await eventually(lambda: listing(path.parent) == names[:2])  # a query of the index may end after the log


# -- over restarts


async def test_an_emptied_room_goes_on_over_a_restart_and_a_clock_set_back(path: Path) -> None:
    clock = Clock()
    async with running(SqliteLog(str(path), wall_ms=clock)) as log:
        await submit_all(log, [draft() for _ in range(3)])
        before, clock.ms = clock.ms, clock.ms + 99
        assert await log.retain(lambda _: (0, 1)) == {"lobby": 4}
    clock.ms -= 60_000
    async with running(SqliteLog(str(path), wall_ms=clock)) as log:
        assert await log.head("lobby") == Head(4, 3)
        record = (await append(log, draft())).record
        assert (record.offset, record.time) == (4, before)


async def test_an_older_schema_is_migrated_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(path, 3)
    kept = schema_module.MIGRATIONS
    monkeypatch.setattr(schema_module, "MIGRATIONS", (*kept, ("DELETE FROM messages", "NO SUCH STATEMENT")))
    assert "cannot be opened" in await refused(path)
    step = ("ALTER TABLE messages ADD COLUMN colour TEXT", "UPDATE messages SET colour = 'blue'")
    monkeypatch.setattr(schema_module, "MIGRATIONS", (*kept, step))
    connection, _ = file_module.connect_writer(path)
    assert connection.execute("SELECT count(*) FROM messages WHERE colour = 'blue'").fetchone() == (3,)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(kept) + 1,)
    connection.close()


FULL = "its disk is full ({}); free space there"


@pytest.mark.parametrize(
    ("name", "told"), [("SQLITE_FULL", FULL), ("SQLITE_IOERR_SHMSIZE", FULL), ("", "no memory is left")]
)
@pytest.mark.parametrize("step", ["sqlite_file.migrate", "sqlite_writer.OpenFiles"])
async def test_a_lack_of_space_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str, step: str
) -> None:
    """SQLite calls it a disk I/O error if there is no room for the file of its shared memory.

    After the tables had been migrated, the start ended with a traceback.
    """
    error: Exception = MemoryError()
    if name:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = name
    monkeypatch.setattr(f"chatserver.log.{step}", Mock(side_effect=error))
    opened, connect = list[sqlite3.Connection](), sqlite3.connect

    def noted(*args: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **options))
        return opened[-1]

    monkeypatch.setattr("sqlite3.connect", noted)
    assert await refused(path) == f"{path} cannot be opened: {told.format(name)}"
    assert opened
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


async def test_a_killed_server_starts_again_on_a_full_disk_and_serves_what_it_has(path: Path) -> None:
    """There is no room to write the write-ahead log back: a limit on the size of files stands for the disk's."""
    killed, text = path.with_name("killed.db"), "x" * 50_000
    async with running(SqliteLog(str(path))) as log:
        await append(log, draft(text))
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{killed}{suffix}")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        async with running(SqliteLog(str(killed))) as log:
            assert texts(await log.read(Range("lobby", 9, last=True))) == [text]
            with pytest.raises(LogUnavailable):
                await append(log, draft("no room"))
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert (await append(log, draft("room"))).record.offset == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_commits_survive_power_loss_and_readers_cannot_write(path: Path) -> None:
    """Three settings protect against a loss of power. kill -9: tests/e2e/test_crash.py."""
    await fill(path)
    connection, _ = file_module.connect_writer(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA fullfsync").fetchone() == (1,)
    assert connection.execute("PRAGMA secure_delete").fetchone() == (1,)
    assert connection.execute("PRAGMA journal_size_limit").fetchone() == (file_module.WAL_KEPT,)
    reader = file_module.connect_reader(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM rooms")
    reader.close()
    connection.close()


async def test_a_read_needs_no_new_descriptor(path: Path) -> None:
    """SQLite opens its write-ahead log at the first read, when an attack may have taken the last descriptor."""
    closed = descriptors()
    async with running(SqliteLog(str(path))) as log:
        await append(log, draft())
        before = descriptors()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(log.read, Range("lobby", 10))
        assert descriptors() == before
    await eventually(lambda: descriptors() == closed)
