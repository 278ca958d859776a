"""What is kept beside the messages: changes in the writing thread, questions in the reading ones."""

import sqlite3
import time
from pathlib import Path

import pytest

from chatserver.log import database as database_module
from chatserver.log.interface import LogUnavailable
from chatserver.log.sqlite import SqliteLog
from tests.log.support import fill, running


def _make(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE beside (value INTEGER NOT NULL) STRICT")


def _add(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO beside VALUES (7)")


def _add_and_fail(connection: sqlite3.Connection) -> None:
    _add(connection)
    raise ZeroDivisionError("planted")


def _add_wrongly(connection: sqlite3.Connection) -> None:
    _add(connection)
    connection.execute("INSERT INTO nowhere VALUES (7)")


def _count(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM beside").fetchone()
    assert isinstance(count, int)
    return count


async def test_a_change_is_whole_or_not_at_all_and_outlives_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "chat.db")
    async with running(SqliteLog(path)) as log:
        assert isinstance(log, SqliteLog)
        await log.change("making a table", _make)
        await log.change("adding", _add)
        with pytest.raises(ZeroDivisionError, match="planted"):
            await log.change("adding", _add_and_fail)
        with pytest.raises(LogUnavailable, match="adding twice failed: no such table: nowhere"):
            await log.change("adding twice", _add_wrongly)
        assert await log.ask(_count) == 1
        await fill(log, 3)  # messages are stored as before
        assert (await log.head("lobby")).last == 3
    async with running(SqliteLog(path)) as log:
        assert isinstance(log, SqliteLog)
        assert await log.ask(_count) == 1


async def test_a_change_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "ANSWER_DEADLINE", 0.05)
    async with running(SqliteLog(str(tmp_path / "chat.db"))) as log:
        assert isinstance(log, SqliteLog)
        with pytest.raises(LogUnavailable, match=r"hanging took longer than 0\.05 s"):
            await log.change("hanging", lambda connection: time.sleep(1.0))
        with pytest.raises(LogUnavailable, match="reading messages failed: no such table: beside"):
            await log.ask(_count)
