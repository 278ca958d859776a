"""The index of SQLite: additions and removals."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from itertools import chain, count
from operator import methodcaller
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio
from structlog.testing import capture_logs

from chatserver.log import sqlite_file as file_module
from chatserver.log import sqlite_index as index_module
from chatserver.log import sqlite_indexing
from chatserver.log import sqlite_schema as schema_module
from chatserver.log.index import Question
from chatserver.log.sqlite import SqliteLog
from chatserver.log.sqlite_indexing import index_rooms
from chatserver.log.words import VERSION
from tests.log.support import Clock, draft, fill, running, submit_all
from tests.log.test_index import find, never
from tests.log.test_records import edit
from tests.support.groups import append
from tests.support.serving import eventually

APPLE = Question(("apple",))


@pytest.fixture(autouse=True)
def endless_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of indexing takes all that is there; on a busy machine its time may be over before it begins."""
    monkeypatch.setattr(sqlite_indexing, "perf_counter", lambda: 0.0)


@pytest.fixture
async def log(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteLog]:
    monkeypatch.setattr(index_module, "INDEX_INTERVAL", 0)
    async with running(SqliteLog(str(path))) as log:
        yield log


async def indexed(log: SqliteLog) -> None:
    await eventually(lambda: not log.index.behind and log.index._backlog_after is None)


def in_index(path: Path) -> list[int]:
    """The offsets in the index."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT rowid FROM search WHERE search MATCH 'apple' ORDER BY rowid").fetchall()
    connection.close()
    return [place & (schema_module.OFFSETS - 1) for (place,) in rows]


def set_text(connection: sqlite3.Connection, offset: int, text: str) -> None:
    connection.execute("UPDATE messages SET text = ? WHERE place % ? = ?", (text, schema_module.OFFSETS, offset))


# -- additions


async def test_messages_not_indexed_at_the_end_are_indexed_after_a_restart(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `kill -9` the rooms with unindexed messages are found in the database."""
    for name, value in {"BACKLOG_ROOMS": 2, "INDEX_ROOMS": 3, "INDEX_INTERVAL": 0}.items():
        monkeypatch.setattr(index_module, name, value)
    with monkeypatch.context() as patch:
        patch.setattr(index_module.SqliteIndex, "run", never)
        async with running(SqliteLog(str(path))) as log:
            await submit_all(log, [draft(f"apple {n}", room=room) for room in "abcdefg" for n in range(40)])
            assert len(await find(log, "apple 7", room="c")) == 1
    assert in_index(path) == []
    async with running(SqliteLog(str(path))) as log:
        await indexed(log)
        await submit_all(log, [draft("apple of today", room="c")])
        assert await find(log, "apple today") == ["apple of today"]
        await indexed(log)
    assert in_index(path) == [*([*range(1, 41)] * 3), 41, *([*range(1, 41)] * 4)]


async def test_the_lag_of_messages_from_before_a_restart_is_counted_from_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module.SqliteIndex, "run", never)
    async with running(SqliteLog(str(path))) as log:
        await append(log, draft("apple"))
    async with running(SqliteLog(str(path))) as log:
        assert await find(log, "apple") == ["apple"]  # it looks for such messages
        assert 0 < log.index.lag < 1_000  # the clock is at 10,000 s or more


def make_older(path: Path, version: int, texts: Sequence[str]) -> sqlite3.Connection:
    """A file of an earlier schema with these messages, which are not indexed yet."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in chain.from_iterable(schema_module.MIGRATIONS[:version]):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute(f"PRAGMA application_id = {schema_module.APPLICATION_ID}")
    connection.execute("INSERT INTO identity VALUES ('epoch0', x'00')")
    connection.execute("INSERT INTO rooms (id, name) VALUES (1, 'lobby')")
    connection.executemany(
        "INSERT INTO messages (place, time, user_id, user_name, text) VALUES (?, 1, 'Ü: u', 'U', ?)",
        [(schema_module.OFFSETS + offset, text) for offset, text in enumerate(texts, 1)],
    )
    return connection


@pytest.mark.parametrize(
    "version", [6, 9, len(schema_module.MIGRATIONS)], ids=("words of FTS5", "no authors", "another version of words")
)
async def test_an_index_with_other_words_is_rebuilt(path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    monkeypatch.setattr(index_module, "INDEX_INTERVAL", 0)
    monkeypatch.setattr(sqlite_indexing, "INDEX_CHUNK", 4)
    said = ["Ещё apple", *["apple"] * 9]
    connection = make_older(path, version, said)
    if version == 6:
        connection.execute(
            "CREATE VIRTUAL TABLE search USING fts5(text, content = 'messages', content_rowid = 'place')"
        )
    if version < len(schema_module.MIGRATIONS):
        connection.execute("CREATE TRIGGER message_removed DELETE ON messages BEGIN SELECT no_such_function(); END")
    if version == 9:
        connection.execute("UPDATE search_words SET version = ?", (VERSION,))
    connection.execute("INSERT INTO search(rowid, text) SELECT place, text FROM messages")
    connection.execute("UPDATE rooms SET indexed = 10")
    connection.execute("UPDATE search_debris SET deletions = 1")
    connection.close()
    killed, _ = file_module.connect_writer(path)
    for end in ("COMMIT", "ROLLBACK"):  # like `kill -9` in the second step
        killed.execute("BEGIN")
        sqlite_indexing._index_chunk(["lobby"], killed)
        killed.execute(end)
    assert killed.execute("SELECT indexed, deletions FROM rooms, search_debris").fetchone() == (4, 0)
    killed.close()
    async with running(SqliteLog(str(path))) as log:
        await indexed(log)
        assert in_index(path) == list(range(1, 11))
        for words, by in (("еще", {}), ("ЕЩЁ app", {}), ("apple ЕЩ", {"user": "Ü: u"})):
            assert await find(log, words, **by) == said[:1]
        for change in ("UPDATE messages SET text = 'plüm' || place WHERE place % 2", "DELETE FROM messages"):
            await log.change("changing", methodcaller("execute", change))
        assert await log.change("looking", _terms) == []


def _terms(connection: sqlite3.Connection) -> list[tuple[str]]:
    connection.execute("CREATE VIRTUAL TABLE IF NOT EXISTS temp.terms USING fts5vocab(main, search, row)")
    return connection.execute("SELECT term FROM terms").fetchall()


async def test_another_program_cannot_remove_a_text_and_leave_its_words(path: Path, log: SqliteLog) -> None:
    """Another program cannot compute the words, so its change fails; a copy of the file, as in a backup, works."""
    await append(log, draft("еще"))
    await indexed(log)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="no such function: spaced_words"):
            connection.execute("DELETE FROM messages")
        connection.execute("VACUUM INTO ?", (str(path.with_name("copy.db")),))
    async with running(SqliteLog(str(path.with_name("copy.db")))) as copy:
        assert await find(copy, "ещё") == ["еще"]


async def test_news_is_indexed_in_batches_and_a_busy_room_delays_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step for each message would sync the disk for each."""
    steps = []

    def counted(rooms: Any, connection: sqlite3.Connection) -> Sequence[str]:
        steps.append(list(rooms))
        return index_rooms(rooms, connection)

    monkeypatch.setattr(index_module, "index_rooms", counted)
    monkeypatch.setattr(index_module, "INDEX_INTERVAL", 3600)
    monkeypatch.setattr(index_module, "INDEX_SOON", 20)
    monkeypatch.setattr(index_module, "INDEX_PAUSE", 0)
    async with running(SqliteLog(str(path))) as log:
        await indexed(log)  # the index waits for news afterwards
        assert log.index.lag == 0.0
        times = []
        for number in range(19):
            times.append(trio.current_time())
            await append(log, draft("apple", room="ab"[number % 2]))
        assert trio.current_time() - times[1] <= log.index.lag <= trio.current_time() - times[0]
        assert steps == []
        await append(log, draft("apple"))
        await indexed(log)
        assert log.index.lag == 0.0
        await append(log, draft("apple"))  # the first of the next batch
        for _ in range(3):
            await log.change("a turn of the writing thread", lambda connection: None)
        assert steps == [["b", "a", "lobby"]]
    assert len(in_index(path)) == 20


@pytest.mark.parametrize("needed", [1, 2])
async def test_a_message_that_arrives_during_a_step_waits_for_the_next_round(
    path: Path, monkeypatch: pytest.MonkeyPatch, needed: int
) -> None:
    """If a step has left out earlier messages of its room, another follows at once."""
    for name, value in {"INDEX_INTERVAL": 3600, "INDEX_SOON": 2, "INDEX_PAUSE": 0}.items():
        monkeypatch.setattr(index_module, name, value)
    log, steps = SqliteLog(str(path)), 0
    original = log.change

    async def change(doing: str, work: Any) -> Any:
        nonlocal steps
        done = await original(doing, work) if steps >= needed - 1 else ()
        if not steps:
            await append(log, draft("apple"))
        steps += 1
        return done

    async with running(log):
        await indexed(log)  # the index waits for news afterwards
        monkeypatch.setattr(log, "change", change)
        await submit_all(log, [draft("apple"), draft("apple")])
        await eventually(lambda: steps == needed)
        for _ in range(3):
            await original("a turn of the writing thread", lambda connection: None)
        assert (steps, log.index.behind) == (needed, 1)
        await append(log, draft("apple"))
        await indexed(log)
    assert in_index(path) == [1, 2, 3, 4]


async def test_a_failed_step_is_repeated(
    path: Path, log: SqliteLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(index_module, "INDEX_RETRY", 0.01)
    full = sqlite3.OperationalError("database or disk is full")
    failures: list[Exception] = [ZeroDivisionError("planted"), full, full]

    def failing(rooms: Any, connection: sqlite3.Connection) -> Sequence[str]:
        done = index_rooms(rooms, connection)
        if failures:
            raise failures.pop()
        return done

    monkeypatch.setattr(index_module, "index_rooms", failing)
    with capture_logs() as lines:
        await append(log, draft("apple"))
        await indexed(log)
        assert [line["event"] for line in lines] == ["indexing_failed"], "a disk may be full for a day"
        assert "a fault in SqliteIndex" in caplog.text
        await eventually(lambda: not log.index._is_failing)  # the round has ended
        failures.append(full)
        await append(log, draft("apple"))
        await indexed(log)
    assert [line["event"] for line in lines] == ["indexing_failed"] * 2
    assert in_index(path) == [1, 2]


async def test_rooms_that_wait_for_a_failing_index_are_bounded(
    path: Path, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"INDEX_RETRY": 0.01, "INDEX_ROOMS": 3, "BACKLOG_ROOMS": 4, "MAX_BEHIND": 20}.items():
        monkeypatch.setattr(index_module, name, value)
    with monkeypatch.context() as patch:
        patch.setattr(index_module, "index_rooms", mock.Mock(side_effect=sqlite3.OperationalError("planted")))
        for step in range(4):
            await submit_all(log, [draft("apple", room=f"room-{step}-{number}") for number in range(15)])
            assert await find(log, "apple")
            assert (len(log.index._behind) <= 20, len(log.index._backlog) < 20 + 4) == (True, True)
        assert await find(log, "apple", room="room-0-0") == ["apple"]
    await append(log, draft("apple"))
    await indexed(log)
    assert in_index(path) == [1] * 61, "all messages are indexed"


async def test_rooms_forgotten_while_the_backlog_is_looked_for_are_found_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins again: the rooms that it has passed may have new messages."""
    for name, value in {"BACKLOG_ROOMS": 2, "MAX_BEHIND": 4, "INDEX_INTERVAL": 0}.items():
        monkeypatch.setattr(index_module, name, value)
    async with running(SqliteLog(str(path))) as log:
        await submit_all(log, [draft("apple", room=room) for room in "abcd"])
        await indexed(log)
    monkeypatch.setattr(index_module.SqliteIndex, "run", never)
    async with running(SqliteLog(str(path))) as log:
        search, steps = log.search, count(1)

        async def search_and_write(query: Any) -> Any:
            found = await search(query)
            if next(steps) == 2:
                await submit_all(log, [draft("pear", room=room) for room in "abefg"])
            return found

        monkeypatch.setattr(log, "search", search_and_write)
        assert await find(log, "pear") == ["pear"] * 5


async def test_the_newest_unindexed_messages_are_found_beside_any_backlog(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search of all rooms reads the messages of TAIL rooms that are not in the index."""
    monkeypatch.setattr(index_module, "TAIL", 5)
    monkeypatch.setattr(index_module.SqliteIndex, "run", never)
    async with running(SqliteLog(str(path))) as log:
        await submit_all(log, [draft("pear", room=room) for room in "abcdefgh"])
    async with running(SqliteLog(str(path))) as log:
        await append(log, draft("apple"))
        assert await find(log, "pear") == ["pear"] * 4
        assert await find(log, "apple") == ["apple"]
        monkeypatch.setattr("chatserver.log.index.RANKED_BYTES", len("apple"))
        for text in ("pear", "apple"):
            assert await find(log, text) == [text], "the other messages take nothing of its bytes"


async def test_a_cursor_beyond_all_offsets_is_no_way_into_the_next_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Places of rooms follow each other; messages that are not in the index are found between two places."""
    monkeypatch.setattr(index_module.SqliteIndex, "run", never)
    async with running(SqliteLog(str(path))) as log:
        await submit_all(log, [draft("pear", room="a"), draft("secret pear", room="b")])
        for before in (schema_module.OFFSETS + 2, 2**52):
            assert await find(log, "pear", room="a", before=before) == ["pear"]


# -- removals


async def test_edits_of_one_group_make_one_segment_of_the_index(log: SqliteLog) -> None:
    """FTS5 begins a segment at each place that is not above the last one, and has to merge all of them later."""
    await fill(log, 3)
    await indexed(log)
    await submit_all(log, [edit(target, "pear") for target in (3, 1, 2)])
    assert await log.ask(lambda it: it.execute("SELECT count(DISTINCT segid) FROM search_idx").fetchone()) == (2,)


async def test_a_message_changed_before_it_is_indexed_is_indexed_in_its_new_state(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(index_module.SqliteIndex, "run", never)
        async with running(SqliteLog(str(path))) as log:
            await submit_all(log, [draft(f"apple {n}") for n in range(1, 5)])
            await log.change("editing", lambda connection: set_text(connection, 2, "pear 2"))
            await log.retain(lambda _: (3, 0))
            assert await find(log, "pear") == ["pear 2"]
    async with running(SqliteLog(str(path))) as log:
        await indexed(log)
        assert await find(log, "pear") == ["pear 2"]
    assert in_index(path) == [3, 4]


@pytest.mark.parametrize("secret", ["xylophonist", "ксилофонист"])
async def test_no_word_of_a_deleted_text_stays_in_the_file(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    """FTS5 only marks a text as deleted; its words stay until the index is merged."""
    monkeypatch.setattr(index_module, "INDEX_INTERVAL", 0)
    async with running(SqliteLog(str(path))) as log:
        for number in range(12):  # each makes a segment
            await submit_all(log, [draft(f"apple {n} {'' if n or number else secret}") for n in range(20)])
            await indexed(log)
        await log.change("deleting", lambda connection: set_text(connection, 1, ""))
        await log.retain(lambda _: (239, 0))
        assert await log.ask(index_module._debris) == (1, 1)
        assert await log.index.clean()
        assert await log.ask(index_module._debris) == (0, 0)
        assert await log.ask(_merged_from) == (schema_module.MERGE_FROM,), "commits merge as seldom as before"
        assert len((await log.index.find(APPLE)).hits) == 50
    assert secret[1:].encode() not in await trio.Path(path).read_bytes()
    assert len(in_index(path)) == 239


def _merged_from(connection: sqlite3.Connection) -> Any:
    return connection.execute("SELECT v FROM search_config WHERE k = 'usermerge'").fetchone()


async def test_messages_that_arrive_do_not_end_the_cleaning_early(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FTS5 left a merge of two segments for two new ones, which were too few to be merged: so nothing more was."""
    for module in (index_module, sqlite_indexing):
        monkeypatch.setattr(module, "MERGE_PAGES", 1)
    # Each message has words of its own, of a page. FTS5 leaves out the letters that a word shares with the one before.
    await submit_all(log, [draft(" ".join(f"{letter}x{n}{'y' * 40}" for n in range(100))) for letter in "abcdefghij"])
    await indexed(log)
    change, messages = log.change, list[str]()

    async def change_before_a_message(doing: str, work: Any, *, hint: str = "") -> Any:
        done = await change(doing, work, hint=hint)
        if doing == "cleaning the index" and messages:
            await append(log, draft(messages.pop()))
            await indexed(log)
        return done

    monkeypatch.setattr(log, "change", change_before_a_message)
    for target, letter in ((9, "i"), (10, "j")):  # their words are merged last
        await append(log, edit(target, "pear"))
        assert await log.index.clean()
        pages = await log.ask(lambda it: it.execute("SELECT block FROM search_data").fetchall())
        assert [page for (page,) in pages if f"{letter}x".encode() in page] == []
        messages += ["pear"] * 3  # from now on; the index is one large segment
