"""The index of PostgreSQL: its words, its merges, and that a search delays nothing."""

import math
import threading
import time
from collections.abc import AsyncIterator
from unittest import mock

import psycopg
import pytest
import trio
from msgspec.structs import replace
from structlog.testing import capture_logs

from chatserver.log import postgres_index as index_module
from chatserver.log.index import Found, Question
from chatserver.log.interface import LogUnavailable
from chatserver.log.postgres import PostgresLog
from chatserver.log.postgres_connection import Connection
from tests.log.support import draft, running, submit_all
from tests.support.groups import append
from tests.support.serving import eventually

#: Seconds, on a busy machine too.
PATIENCE = 60


@pytest.fixture
async def log(postgres_tables: str) -> AsyncIterator[PostgresLog]:
    async with running(PostgresLog(postgres_tables)) as log:
        yield log


async def test_the_index_is_merged_concurrently_with_commits_and_after_failures(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(index_module, "MERGE_AFTER", 20)
    monkeypatch.setattr(index_module, "MERGE_INTERVAL", 3600)
    monkeypatch.setattr(index_module, "MERGE_RETRY", 0.01)
    full = psycopg.OperationalError("no space left on device")
    failures: list[Exception] = [ZeroDivisionError("planted"), full, full]
    merge, merged = index_module._merge, []

    def counted(connection: Connection) -> bool:
        if failures:
            raise failures.pop()
        merge(connection)
        merged.append(connection.execute(
            "SELECT count(*), gin_clean_pending_list('messages_words') FROM messages WHERE words @@ 'apple'"
        ).fetchone())  # fmt: skip
        return False

    monkeypatch.setattr(index_module, "_merge", counted)
    with capture_logs() as lines:
        for expected in ([], [(20, 0)], [(20, 0)], [(20, 0), (40, 0)]):
            await submit_all(log, [draft(f"apple {number}") for number in range(10)])
            await eventually(lambda expected=expected: merged == expected)  # type: ignore[misc]
    assert [line["event"] for line in lines] == ["indexing_failed"], "once until it succeeds"
    assert "a fault in PostgresIndex" in caplog.text


async def test_a_list_that_takes_long_to_merge_is_merged_in_parts(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge of 40 MB was cut off at its deadline and began anew each time, while the list grew; at 64 MB each commit
    tried to merge it too, and no message could be stored."""
    monkeypatch.setattr(index_module, "MERGE_INTERVAL", math.inf)
    monkeypatch.setattr(index_module, "MERGE_MS", 3_000)
    for first in (0, 100_000):
        said = [
            draft(" ".join(f"w{word}" for word in range(at, at + 1_000))) for at in range(first, first + 100_000, 1_000)
        ]
        for start in range(0, 100, 10):
            await submit_all(log, said[start : start + 10])
        began = time.monotonic()
        with trio.fail_after(PATIENCE):
            while await log.change("merging", index_module._merge):
                pass
        # The first list, mostly merged at once, tells how long the second takes: about three times this.
        monkeypatch.setattr(index_module, "MERGE_MS", max(int((time.monotonic() - began) * 300), 1))
    assert [hit.record.offset for hit in (await log.index.find(Question(("w150000",)))).hits] == [151]


async def test_a_commit_merges_no_list(log: PostgresLog) -> None:
    asked = "SELECT reloptions FROM pg_class WHERE oid = 'messages_words'::regclass"
    [(options,)] = await log.ask(lambda connection: connection.execute(asked).fetchall())
    assert f"gin_pending_list_limit={2**31 - 1}" in options


@pytest.mark.parametrize(("frequent", "most"), [(index_module.FREQUENT, 10), (0, 20)])  # 0: with further statements
async def test_a_search_in_one_room_reads_no_other_rooms(
    postgres_schema: str, frequent: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planner took two rows as bounds for half of the table, and read the ids of all 100,000 rooms."""
    monkeypatch.setattr(index_module, "FREQUENT", frequent)
    with psycopg.connect(postgres_schema, autocommit=True, options="-c search_path=chatserver") as connection:
        async with running(PostgresLog(postgres_schema)) as log:
            connection.execute("INSERT INTO rooms (name, last) SELECT 'r' || n, 2 FROM generate_series(1, 5000) AS n")
            connection.execute("""INSERT INTO messages (room, place, time, user_id, user_name, text, words)
                SELECT id, place, 0, 'u', 'U', 'apple', 'apple' FROM rooms, generate_series(1, 2) AS place""")
            connection.execute("ANALYZE")

            def read(connection: Connection) -> tuple[int, int]:
                connection.execute("BEGIN")
                found = index_module._find(Question(("apple",), room="r2500"), 0, connection)
                asked = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'rooms'"
                [(rows,)] = connection.execute(asked).fetchall()
                return len(found.hits), rows

            hits, rows = await log.search(read)
    assert hits == 2
    assert rows < most


async def test_a_word_of_one_user_is_looked_up_as_one_condition_of_the_index(log: PostgresLog) -> None:
    """PostgreSQL looked at 5,000 messages with the word to find those of the user: 1.2 s for a common one."""
    plans: list[str] = []

    def explained(connection: Connection) -> None:
        connection.execute("SET enable_indexscan = off")  # in an empty table, that by place is as good
        execute = connection.execute

        def explain(query: str, parameters: object) -> object:
            if not query.startswith("EXPLAIN"):
                plans.extend(line for (line,) in execute("EXPLAIN " + query, parameters))  # type: ignore[call-overload]
            return execute(query, parameters)  # type: ignore[call-overload]

        with mock.patch.object(connection, "execute", explain):
            index_module._find(Question(("apple",), user="u_ann"), 0, connection)

    await log.search(explained)
    conditions = [line for line in plans if "Index Cond" in line and "words" in line]
    assert len(conditions) == 2, "the word, and its beginning"
    assert all("ARRAY[user_id] @> '{u_ann}'" in condition for condition in conditions)


async def test_a_search_that_takes_too_long_fails(postgres_tables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "SETTINGS", ("statement_timeout = 200",))
    question = Question(("apple",), room="lobby")
    async with running(PostgresLog(postgres_tables)) as log:
        await append(log, draft("apple"))
        with monkeypatch.context() as patch:
            patch.setattr(index_module, "_ROOM", "SELECT pg_sleep(10) WHERE %s::text IS NOT NULL")
            with pytest.raises(LogUnavailable, match="statement timeout"):
                await log.index.find(question)

        async def found() -> bool:
            try:
                return len((await log.index.find(question)).hits) == 1
            except LogUnavailable:  # on a very busy machine
                return False

        await eventually(found)


async def test_a_word_that_only_old_rooms_have_is_found_by_the_index_of_words(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With three million messages the planner read them from the newest on, and the search was given up."""
    cancelled = "CASE WHEN pg_cancel_backend(pg_backend_pid()) THEN pg_sleep(3600) IS NULL END"  # as when time is up
    slow = index_module._FIND.replace("WHERE words", f"WHERE ('{{order}}' LIKE '%%+ 0%%' OR {cancelled}) AND words")
    monkeypatch.setattr(index_module, "_FIND", slow)
    await append(log, draft("apple"))
    assert [hit.record.offset for hit in (await log.index.find(Question(("apple",)))).hits] == [1]


async def test_a_frequent_word_is_looked_for_among_the_newest_messages_of_each_room(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a newer room of two million messages without the word, every second search for one was given up."""
    monkeypatch.setattr(index_module, "FREQUENT", 1)
    monkeypatch.setattr(index_module, "NEWEST_OF_EACH", 3)
    monkeypatch.setattr(index_module, "MAX_HITS", 2)
    await submit_all(log, [draft(f"apple {number}", room="old") for number in range(5)])
    await submit_all(log, [draft("pear", room="new") for _ in range(9)])
    question = Question(("apple",))
    found = await log.index.find(question)
    assert {hit.record.offset for hit in found.hits} == {3, 4, 5}
    found = await log.index.find(replace(question, go_on=found.go_on))
    assert {hit.record.offset for hit in found.hits} == {1, 2}
    monkeypatch.setattr(index_module, "MAX_HITS", 4)
    found = await log.index.find(question)
    assert len(found.hits) == 5, "it is not frequent there, so all are found"
    assert found.go_on is None


async def test_a_search_that_no_caller_waits_for_ends(log: PostgresLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queries of single rooms are given up after 0.05 s; each held up the next search by up to 3.6 s."""
    ended: list[type[Exception]] = []
    began = threading.Event()

    def slow(_question: Question, _now_ms: int, connection: Connection) -> Found:
        began.set()
        try:
            connection.execute("SET statement_timeout = 0")
            connection.execute("SELECT pg_sleep(60)")
        except psycopg.Error as error:
            ended.append(type(error))
        return Found([], None)

    monkeypatch.setattr(index_module, "_find", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.index.find, Question(("apple",)))
        await eventually(began.is_set)
        nursery.cancel_scope.cancel()
    await eventually(lambda: ended == [psycopg.errors.QueryCanceled])
