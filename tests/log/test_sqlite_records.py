"""Records in a file: databases of the first schema, and that a deleted text is in no file any more."""

import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatserver.log import sqlite as sqlite_module
from chatserver.log import sqlite_index as index_module
from chatserver.log.interface import SCRUB_WITHIN, Head, Kind, State
from chatserver.log.sqlite import SqliteLog
from tests.log.support import Clock, draft, running, submit_all, texts
from tests.log.test_records import delete, edit, react
from tests.support.groups import append
from tests.support.serving import eventually

FIRST_SCHEMA = Path(__file__).parent / "schema_1.sql"
SECRET = "correct-horse-battery-staple"


async def test_a_log_of_the_first_schema_goes_on(path: Path, clock: Clock) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(FIRST_SCHEMA.read_text(encoding="utf-8"))
    connection.close()
    for restart in range(2):
        async with running(SqliteLog(str(path), wall_ms=clock)) as log:
            assert log.identity.epoch == "3mlpcw"
            assert await log.head("empty") == Head(2, 1 + restart)
            records = await log.read("lobby", after=0, limit=10)
            assert texts(records)[1:3] == ["hello", "grüß 👋\nquote ' and \""]
            assert [(record.kind, record.mentions) for record in records[:3]] == [(Kind.MESSAGE, ())] * 3
            if restart:
                assert records[1].state == State(reactions=(("👍", 1),))
                assert [record.kind for record in records[3:]] == [Kind.REACTION]
            else:
                again = await append(log, draft("hello", user="g_0123456789abcde", key="7c1e"))
                assert (again.fresh, again.record.offset) == (False, 2)
                assert (await append(log, react(2))).record.offset == 4
                assert (await append(log, draft(room="empty"))).record.offset == 2


def bytes_on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


@asynccontextmanager
async def hurried(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteLog]:
    """A log that scrubs its files at once."""
    monkeypatch.setattr(sqlite_module, "SCRUB_AFTER", 0.01)
    monkeypatch.setattr(sqlite_module, "SCRUB_RETRY", 0.01)
    monkeypatch.setattr(index_module, "INDEX_INTERVAL", 0)
    monkeypatch.setattr(index_module, "CLEAN_AFTER_DELETION", 0.01)
    log = SqliteLog(str(path))
    async with running(log):
        yield log


async def test_a_deleted_text_leaves_every_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among many others, in a page that was split and shifted about, and long enough for pages of its own."""
    chance = random.Random(7)
    async with hurried(path, monkeypatch) as log:
        await submit_all(log, [draft(f"{number} {'x' * chance.randrange(400)}") for number in range(200)])
        secrets = [f"{SECRET}-{number}- {'y' * (9_000 if number == 5 else number)}" for number in range(10)]
        await submit_all(log, [draft(secret) for secret in secrets])
        for number in range(150):  # rows that grow are moved
            target = chance.randrange(1, 211)
            change = react(target, chance.choice("👍🎉👀")) if number % 3 else edit(target, SECRET + "z" * number)
            await append(log, change)
        assert SECRET.encode() in bytes_on_disk(path)
        await submit_all(log, [delete(target) for target in range(1, 211)])
        await eventually(lambda: SECRET.encode() not in bytes_on_disk(path))
        await eventually(lambda: b"x" * 30 not in bytes_on_disk(path))
    assert SECRET.encode() not in bytes_on_disk(path)


async def test_a_text_that_was_edited_away_leaves_every_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with hurried(path, monkeypatch) as log:
        await append(log, draft(f"{SECRET} one"))
        await append(log, edit(1, f"{SECRET} two"))
        await append(log, edit(1, "nothing"))
        await eventually(lambda: SECRET.encode() not in bytes_on_disk(path))


async def test_another_reader_of_the_file_only_delays_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A backup holds a snapshot, and with it the pages as they were."""
    monkeypatch.setattr("chatserver.log.sqlite_writer.SCRUB_PATIENCE_MS", 1)
    async with hurried(path, monkeypatch) as log:
        await append(log, draft(SECRET))
        backup = sqlite3.connect(path, isolation_level=None)
        backup.execute("BEGIN")
        assert backup.execute("SELECT count(*) FROM messages").fetchone() == (1,)
        await append(log, delete(1))
        await eventually(lambda: "read by another program" in caplog.text)
        assert SECRET.encode() in bytes_on_disk(path)
        assert (await append(log, draft("goes on"))).record.offset == 3
        backup.close()
        await eventually(lambda: SECRET.encode() not in bytes_on_disk(path))


async def test_what_was_deleted_just_before_a_crash_leaves_at_the_next_start(path: Path) -> None:
    async with running(SqliteLog(str(path))) as log:
        await append(log, draft(SECRET))
        await append(log, delete(1))
        crashed = {file.name: file.read_bytes() for file in path.parent.iterdir()}
        assert SECRET.encode() in crashed["chat.db-wal"]
    for name, content in crashed.items():
        (path.parent / name).write_bytes(content)
    async with running(SqliteLog(str(path))) as log:
        assert SECRET.encode() not in bytes_on_disk(path)
        assert texts(await log.read("lobby", after=0, limit=9)) == ["", ""]


def test_the_promise_is_kept_with_some_attempts_to_spare() -> None:
    assert index_module.CLEAN_AFTER_DELETION + sqlite_module.SCRUB_AFTER + sqlite_module.SCRUB_RETRY < SCRUB_WITHIN
