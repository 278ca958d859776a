"""One search in SQLite, beside tests/log/test_index.py: its bounds, and prefixes of very many messages."""

import re
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio

from chatserver.log import database_index
from chatserver.log import sqlite_index as index_module
from chatserver.log import sqlite_search as search_module
from chatserver.log.index import Found, Question
from chatserver.log.interface import LogUnavailable, Range
from chatserver.log.sqlite import SqliteLog
from tests.log.support import Clock, draft, running, submit_all, texts
from tests.log.test_index import find, indexed, never, search
from tests.support.groups import append
from tests.support.serving import eventually

APPLE = Question(("apple",))


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


async def test_a_search_ends_when_cancelled_or_out_of_time(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "PROGRESS_INSTRUCTIONS", 1)
    began, ended = [], []

    def endless(question: Question, connection: sqlite3.Connection) -> Any:
        began.append(True)
        try:
            return connection.execute(
                "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) SELECT max(n) FROM numbers"
            ).fetchone()
        finally:
            ended.append(True)

    await append(log, draft("apple"))
    with monkeypatch.context() as patch:
        patch.setattr(search_module, "_find_in_index", endless)
        patch.setattr(search_module, "SEARCH_BUDGET", 60.0)
        patch.setattr(search_module, "SLOWEST_SEARCH", 60.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.index.find, APPLE)
            await eventually(lambda: bool(began))
            assert not ended
            nursery.cancel_scope.cancel()
        await eventually(lambda: bool(ended))
        patch.setattr(search_module, "SEARCH_BUDGET", 0.02)
        with pytest.raises(LogUnavailable, match="interrupted"):
            await log.index.find(APPLE)
        patch.setattr(search_module, "SEARCH_BUDGET", 60.0)
        patch.setattr(search_module, "SLOWEST_SEARCH", 0.02)
        with pytest.raises(LogUnavailable, match="interrupted"):
            await log.index.find(APPLE)
    for _ in range(2):
        assert await log.search(index_module._debris) == (0, 0), "a query that is no search has no limit"
        assert len((await log.index.find(APPLE)).hits) == 1


async def test_bounds_of_one_answer(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next answer has none of the messages outside the index again; for one user more matches are looked at."""
    monkeypatch.setattr(search_module, "CANDIDATES", 3)
    await submit_all(log, [draft("apple", user="u_bob"), *[draft("apple") for _ in range(5)]])
    await indexed(log)
    monkeypatch.setattr(log, "change", never)
    await append(log, draft("apple"))
    go_on, pages = None, list[list[int]]()
    while not pages or go_on is not None:
        found = await log.index.find(Question(("apple",), go_on=go_on))
        go_on = found.go_on
        pages.append(sorted(hit.record.offset for hit in found.hits))
    assert pages == [[4, 5, 6, 7], [1, 2, 3], []]
    assert [hit.record.offset for hit in (await log.index.find(Question(("apple",), user="u_bob"))).hits] == [1]


async def test_no_more_text_is_decoded_than_is_ranked(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest texts, in the index or not; JSON doubles each of their line feeds."""
    for limit in ("SEARCH_BUDGET", "SLOWEST_SEARCH"):  # a slow machine may need longer for so much text
        monkeypatch.setattr(search_module, limit, 60.0)
    decode = mock.Mock(wraps=search_module._decode)
    monkeypatch.setattr(search_module, "_decode", decode)
    text = "apple".ljust(8192, "\n")
    for is_indexed in (True, False):
        await submit_all(log, [draft(text) for _ in range(70)])
        if is_indexed:
            await indexed(log)
            monkeypatch.setattr(log, "change", never)
        last = (await log.head("lobby")).last
        found = await log.index.find(APPLE)
        assert [hit.record.offset for hit in found.hits] == list(range(last, last - 9, -1))
    assert max(len(call.args[0]) for call in decode.mock_calls) < 2.1 * 73_728


async def test_a_search_that_hangs_delays_no_other(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline of a search includes the wait for the searches before it."""
    began, go_on = threading.Event(), threading.Event()
    await append(log, draft("apple"))

    def hangs(question: Question, connection: sqlite3.Connection) -> Any:
        began.set()
        go_on.wait(60)
        return [], None

    monkeypatch.setattr(search_module, "_find_in_index", hangs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.index.find, APPLE)
        await trio.to_thread.run_sync(began.wait)
        monkeypatch.setattr(database_index, "ANSWER_DEADLINE", 0.01)
        with pytest.raises(LogUnavailable, match="took longer than"):
            await log.index.find(APPLE)
        assert (await append(log, draft("pear"))).record.offset == 2
        assert len(await log.read(Range("lobby", 9, last=True))) == 2
        go_on.set()
