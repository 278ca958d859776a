"""What is beside the messages in PostgreSQL, when two servers use one database; and what its index does by itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from msgspec.structs import replace

from chatserver.log import postgres_index as index_module
from chatserver.log.audit import AuditEntry
from chatserver.log.index import Question, SearchFailed
from chatserver.log.interface import Kind, Log, RefusalReason, Refused
from chatserver.log.markers import Marker
from chatserver.log.postgres_connection import Connection
from tests.log.support import START_MS, draft, fill, submit_all, texts
from tests.log.test_postgres_shared import Node, nodes
from tests.log.test_records import delete, edit, react
from tests.log.test_sanctions import ENTRY, sanction
from tests.log.test_signouts import sign_out
from tests.support.groups import append
from tests.support.serving import eventually


@asynccontextmanager
async def two(url: str) -> AsyncIterator[list[Node]]:
    """Two servers, each of which hears the other."""
    async with nodes(url) as (first, second):
        for node, other in ((first, second), (second, first)):
            await eventually(partial(_greet, node, other))
        for node in (first, second):
            node.heard.clear()
        yield [first, second]


async def _greet(node: Node, other: Node) -> bool:
    await append(node.log, draft("hello", room="greetings"))
    return "greetings" in other.heard


async def test_a_server_hears_of_sanctions_and_sign_outs_of_another_and_not_of_its_own(postgres_tables: str) -> None:
    async with two(postgres_tables) as (first, second):
        made = await first.log.sanctions.add(sanction(), ENTRY)
        await second.until(lambda: "*sanctions" in second.heard)
        assert await second.log.sanctions.load(START_MS) == [made]
        assert await second.log.sanctions.lift(made.id, ENTRY)
        await first.until(lambda: "*sanctions" in first.heard)
        assert await first.log.sanctions.load(START_MS) == []
        await second.log.signouts.add(sign_out(7))
        await first.until(lambda: "*signouts" in first.heard)
        assert await first.log.signouts.load(START_MS) == [sign_out(7)]
        assert set(second.heard) == {"*sanctions"}, "one's own changes are no news"


async def test_two_servers_change_the_same_at_the_same_time(postgres_tables: str) -> None:
    """Each change is whole, none waits for the other for ever, and ids ascend in the order in which they are seen."""
    async with two(postgres_tables) as (first, second):
        await fill(first.log, 5, "a")
        await fill(first.log, 5, "b")

        async def busy(log: Log, rooms: str) -> None:
            for offset in range(1, 6):
                await log.sanctions.add(sanction(), ENTRY)
                await log.signouts.add(sign_out(7, time=START_MS + offset))
                await log.audit.add([replace(ENTRY, action="twice"), ENTRY])
                await log.markers.move([Marker(user, room, offset) for user in rooms for room in rooms])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(busy, first.log, "ab")
            nursery.start_soon(busy, second.log, "ba")
        assert len(await first.log.sanctions.load(START_MS)) == 1
        assert await second.log.signouts.load(START_MS) == [sign_out(7, time=START_MS + 5)]
        trail: list[AuditEntry] = await first.log.audit.read(after=0, limit=100)
        assert len(trail) == 30
        assert [trail[at + 1].id - each.id for at, each in enumerate(trail) if each.action == "twice"] == [1] * 10
        assert await second.log.markers.of_user("a") == {"a": 5, "b": 5}


async def test_what_one_server_altered_another_finds_so(postgres_tables: str) -> None:
    async with two(postgres_tables) as (first, second):
        await append(first.log, draft("apple"))
        await append(second.log, react(1))
        assert not (await append(first.log, react(1))).fresh
        await append(second.log, edit(1, "pear"))
        assert texts([hit.record for hit in (await first.log.index.find(Question(("pear",)))).hits]) == ["pear"]
        await append(first.log, delete(1))
        with pytest.raises(Refused) as refused:
            await append(second.log, edit(1, "plum"))
        assert refused.value.reason is RefusalReason.DELETED
        assert texts(await second.log.read("lobby", after=0, limit=9)) == [""] * 4


async def test_edits_of_two_servers_at_once_leave_one_text(postgres_tables: str) -> None:
    async with two(postgres_tables) as (first, second):
        await append(first.log, draft("0"))
        async with trio.open_nursery() as nursery:
            for number in range(1, 9):
                node = (first, second)[number % 2]
                nursery.start_soon(append, node.log, edit(1, f"text {number}"))
        records = await first.log.read("lobby", after=0, limit=20)
        with_text = [record for record in records if record.text]
        assert [record.kind for record in with_text] == [Kind.MESSAGE, Kind.EDIT]
        assert with_text[0].text == with_text[1].text
        assert with_text[1].offset == 9, "the last edit"


def words_in_tables(connection: Connection) -> str:
    """All that the table of messages says."""
    rows = connection.execute("SELECT text, words::text, more FROM messages").fetchall()
    return repr(rows)


async def test_a_deleted_text_leaves_the_tables_with_the_commit(postgres_tables: str) -> None:
    async with two(postgres_tables) as (first, _):
        for change in (delete(1), edit(1, "nothing")):
            room = change.kind.name
            await append(first.log, replace(draft("the xylophonist"), room=room))
            assert "xylophonist" in await first.log.ask(words_in_tables)
            await append(first.log, replace(change, room=room))
            assert "xylophonist" not in await first.log.ask(words_in_tables)
            assert not (await first.log.index.find(Question(("xylophonist",)))).hits


async def test_words_that_postgresql_would_take_for_something_else(postgres_tables: str) -> None:
    """Its parser makes one word of an address, and refuses longer words than 2,046 bytes."""
    said = [
        "mail ann@example.org",
        "http://example.org/page?x=1",
        "1e5 -7 0x1f",
        "x" * 65_536,
        "w\u00f6rd " * 9_000,
        "a:b'c\\d & !e",
    ]
    async with two(postgres_tables) as (first, _):
        await submit_all(first.log, [draft(text) for text in said])
        for words, number in (
            ("ann", 0), ("page", 1), ("1e5", 2), ("7", 2), ("x" * 256, 3), ("word", 4), ("d", 5), ("e", 5),
        ):  # fmt: skip
            hits = (await first.log.index.find(Question((words,)))).hits
            assert said[number] in [hit.record.text for hit in hits], words


async def test_the_index_is_merged_beside_the_commits(postgres_tables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "MERGE_AFTER", 20)
    monkeypatch.setattr(index_module, "MERGE_INTERVAL", 3600)
    monkeypatch.setattr(index_module, "MERGE_RETRY", 0.01)
    merge, merged, failures = index_module._merge, [], [0]

    def counted(connection: Connection) -> None:
        if failures:
            connection.execute(f"SELECT 1 / {failures.pop()}")
        merge(connection)
        merged.append(apples(connection))

    def apples(connection: Connection) -> int:
        return connection.execute("SELECT 1 FROM messages WHERE words @@ 'apple'").rowcount

    monkeypatch.setattr(index_module, "_merge", counted)
    async with two(postgres_tables) as (first, _):
        await submit_all(first.log, [draft(f"apple {number}") for number in range(10)])
        assert merged == []
        await submit_all(first.log, [draft(f"apple {number}") for number in range(10)])
        await eventually(lambda: merged == [20])
        assert failures == []


async def test_a_search_that_takes_too_long_fails_and_holds_up_nothing(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_SETTINGS", ("statement_timeout = 200",))
    question = Question(("apple",), room="lobby")
    async with two(postgres_tables) as (first, _):
        await append(first.log, draft("apple"))
        with monkeypatch.context() as patch:
            patch.setattr(index_module, "_ROOM", "SELECT pg_sleep(10) WHERE %s::text IS NOT NULL")
            async with trio.open_nursery() as nursery:

                async def search() -> None:
                    with pytest.raises(SearchFailed, match="statement timeout"):
                        await first.log.index.find(question)

                nursery.start_soon(search)
                assert (await append(first.log, draft("pear"))).record.offset == 2
                assert len(await first.log.latest("lobby", 9)) == 2

        async def found() -> bool:
            try:
                return len((await first.log.index.find(question)).hits) == 1
            except SearchFailed:  # on a machine that is that busy
                return False

        await eventually(found)
