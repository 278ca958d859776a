"""One search in SQLite, beside tests/log/test_index.py: what is found when its time is over."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatserver.log import sqlite_search as search_module
from chatserver.log.index import Found, Question
from chatserver.log.interface import LogUnavailable
from chatserver.log.sqlite import SqliteLog
from tests.log.support import Clock, draft, running, submit_all
from tests.log.test_index import find, indexed


@pytest.fixture
async def log(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteLog]:
    monkeypatch.setattr("chatserver.log.sqlite_index.INDEX_INTERVAL", 0)
    async with running(SqliteLog(str(tmp_path / "chat.db"), wall_ms=clock)) as log:
        yield log


async def test_a_prefix_that_takes_too_long_leaves_the_messages_with_the_whole_word(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a million messages with a common word, a search for it in a small room was answered 503."""
    await submit_all(log, [draft("apple pie"), draft("apples")])
    await indexed(log)
    assert set(await find(log, "apple", room="lobby")) == {"apple pie", "apples"}

    class Searched(search_module.Search):
        def run(self, connection: sqlite3.Connection) -> Found:
            # The statement with the prefix is traced before it runs: its time is over from then on.
            def begun(statement: str) -> None:
                self.in_vain |= "*" in statement.partition("MATCH")[2].partition("AND")[0]

            connection.set_trace_callback(begun)
            return super().run(connection)

    monkeypatch.setattr("chatserver.log.sqlite_index.Search", Searched)
    monkeypatch.setattr(search_module, "PROGRESS_INSTRUCTIONS", 1)
    assert await find(log, "apple", room="lobby") == ["apple pie"]
    with pytest.raises(LogUnavailable):
        await log.index.find(Question(("appl",), room="lobby"))
