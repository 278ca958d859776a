"""One search in SQLite, beside tests/log/test_index.py: prefixes of very many messages."""

import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatserver.log import sqlite_search as search_module
from chatserver.log.index import Found
from chatserver.log.sqlite import SqliteLog
from tests.log.support import Clock, draft, running, submit_all, texts
from tests.log.test_index import find, indexed, search


@pytest.fixture
async def log(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteLog]:
    monkeypatch.setattr("chatserver.log.sqlite_index.INDEX_INTERVAL", 0)
    async with running(SqliteLog(str(tmp_path / "chat.db"), wall_ms=clock)) as log:
        yield log


class Traced:
    """The words that searches look up in the index."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looked_up: list[str] = []
        run = search_module.Search.run

        def traced(search: search_module.Search, connection: sqlite3.Connection) -> Found:
            connection.set_trace_callback(self._note)
            return run(search, connection)

        monkeypatch.setattr(search_module.Search, "run", traced)

    def _note(self, statement: str) -> None:
        self.looked_up += re.findall(r"MATCH '(.*?)' AND", statement)


async def test_a_prefix_of_too_many_messages_is_compared_with_the_newest_instead_of_listed(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FTS5 lists them all before it can be interrupted: of a million messages, a search for "th" was answered 503."""
    monkeypatch.setattr(search_module, "MAX_LISTED", 8)
    traced = Traced(monkeypatch)
    await submit_all(log, [draft("plum jam", room="small"), draft("plums", room="small"), draft("pear", room="small")])
    await submit_all(log, [draft(f"plum {word}", user="u_bob") for word in ("tart", "cake", "tree", "trees", "rest")])
    await indexed(log)
    assert set(await find(log, "plu", room="small")) == {"plum jam", "plums"}
    assert traced.looked_up == ['"plu"', '"plu"*']
    traced.looked_up.clear()
    await submit_all(log, [draft("plum, not by bob")])
    await indexed(log)
    for words, more, expected in (
        ("plu", {"room": "small"}, {"plum jam", "plums"}),
        ("plum", {"room": "small"}, {"plum jam", "plums"}),
        ("jam plu", {}, {"plum jam"}),
        ("not plu", {"user": "u_bob"}, set()),
        ("plu", {"user": "u_bob", "room": "lobby", "before": 3}, {"plum tart", "plum cake"}),
    ):  # fmt: skip
        assert set(await find(log, words, **more)) == expected, words
    assert not any("*" in words for words in traced.looked_up)
    assert set(await find(log, "plum tre")) == {"plum tree", "plum trees"}
    assert traced.looked_up[-1] == '"plum" "tre"*'


async def test_a_search_for_a_prefix_of_too_many_messages_continues_below_those_compared(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "MAX_LISTED", 1)
    monkeypatch.setattr(search_module, "COMPARED", 2)
    await submit_all(log, [draft(text) for text in ("plums", "plu", "plum", "pear", "plum pie", "pears")])
    await indexed(log)
    found, go_on = [], None
    for _ in range(4):
        answer = await search(log, "plu", go_on=go_on)
        found.append(set(texts([hit.record for hit in answer.hits])))
        go_on = answer.go_on
    # Those with the whole word are found in the index, wherever they are.
    assert (found, go_on) == ([{"plum pie", "plu"}, {"plum", "plu"}, {"plums", "plu"}, set()], None)
