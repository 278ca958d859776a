"""Several servers on one database: offsets without holes, keys that hold everywhere, and hints that arrive."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import time_ns

import pytest
import trio
from msgspec.structs import replace

from chatserver.log import postgres_news as news_module
from chatserver.log.interface import MAX_READ, Head, LogError, Stored
from chatserver.log.postgres import PostgresLog
from chatserver.log.postgres_connection import Connection
from tests.log.support import draft, fill, ignore, offsets, submit_all
from tests.log.test_records import edit
from tests.support.groups import append


class Node:
    """A server's log, with what it heard of the others."""

    def __init__(self, url: str) -> None:
        self.log = PostgresLog(url)
        self.heard: dict[str, int] = {}
        self._changed = trio.Event()

    def hear(self, hints: Mapping[str, int]) -> None:
        self.heard.update(hints)
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(30):
            while not condition():
                await self._changed.wait()


@asynccontextmanager
async def nodes(url: str, count: int = 2) -> AsyncIterator[list[Node]]:
    made = [Node(url) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for node in made:
            await nursery.start(
                lambda node=node, *, task_status: node.log.run(ignore, heard=node.hear, task_status=task_status)
            )
        yield made
        nursery.cancel_scope.cancel()


async def test_servers_that_write_at_once(postgres_tables: str) -> None:
    """In several rooms, in opposite orders, with keys of which each is used at every server."""
    rooms = ["a", "b", "c", "d"]
    outcomes: list[Sequence[Stored | LogError]] = []

    async def publish(node: Node, order: Sequence[str]) -> None:
        for number in range(10):
            drafts = [draft(f"{number}", room=room, key=f"{number}") for room in order for _ in range(3)]
            outcomes.append(await submit_all(node.log, drafts))
            await fill(node.log, 7, room=order[0])

    async with nodes(postgres_tables, 3) as made:
        async with trio.open_nursery() as nursery:
            for index, node in enumerate(made):
                nursery.start_soon(publish, node, rooms if index % 2 else rooms[::-1])
        stored = [one for group in outcomes for one in group]
        assert all(isinstance(one, Stored) for one in stored)
        fresh = [one.record for one in stored if isinstance(one, Stored) and one.fresh]
        assert len(fresh) == 10 * len(rooms), "each key once"
        assert {one.record for one in stored if isinstance(one, Stored)} == set(fresh)
        for room in rooms:
            records = await made[0].log.read(room, after=0, limit=MAX_READ)
            assert offsets(records) == list(range(1, len(records) + 1))
            assert [record.time for record in records] == sorted(record.time for record in records)
            assert await made[2].log.head(room) == Head(1, len(records))
        assert sum(head.last for head in (await made[1].log.heads(rooms)).values()) == 40 + 3 * 70


async def test_a_hint_tells_the_others_and_not_the_writer(postgres_tables: str) -> None:
    async with nodes(postgres_tables) as (one, other):
        await append(one.log, draft(room="ops"))
        await submit_all(one.log, [draft(room="ops"), draft(room="lobby \0")])
        await other.until(lambda: other.heard == {"ops": 2, "lobby \0": 1})
        await append(other.log, draft(room="ops"))
        await one.until(lambda: bool(one.heard))
        assert one.heard == {"ops": 3}
        await append(one.log, replace(edit(1, "tea"), room="ops"))
        await other.until(lambda: "*texts" in other.heard)


async def test_hints_of_a_group_that_one_notification_does_not_hold(postgres_tables: str) -> None:
    rooms = [f"{number} \N{GRINNING FACE}" + "x" * 200 for number in range(200)]
    async with nodes(postgres_tables) as (one, other):
        await submit_all(one.log, [draft(room=room) for room in rooms])
        await other.until(lambda: other.heard == dict.fromkeys(rooms, 1))


async def test_what_other_programs_say_on_the_channel(postgres_tables: str) -> None:
    async with nodes(postgres_tables) as (one, other):
        for payload in ("", "{}", '["x", {"a": "b"}]', "\N{GRINNING FACE}"):
            await one.log.change("a test", partial(_notify, payload))
        await append(one.log, draft())
        await other.until(lambda: other.heard == {"lobby": 1})


async def test_a_hint_of_a_change(postgres_tables: str) -> None:
    async with nodes(postgres_tables) as (one, other):
        await one.log.change("a test", lambda connection: None, hint="*sanctions")
        await other.until(lambda: other.heard == {"*sanctions": 0})
        assert one.heard == {}


async def test_what_was_written_while_the_listener_was_away(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LISTEN first, then what was written meanwhile: no hint is missing, whatever came when."""
    monkeypatch.setattr(news_module, "RETRY_FIRST", 0.3)
    async with nodes(postgres_tables) as (one, other):
        await append(one.log, draft(room="before"))
        await other.until(lambda: bool(other.heard))
        other.heard.clear()
        killed = await one.log.ask(lambda connection: connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query ~ 'LISTEN|clock_timestamp' AND pid != pg_backend_pid()"
        ).fetchone())  # fmt: skip
        assert killed is not None
        assert killed[0] >= 2
        await append(one.log, draft(room="meanwhile"))
        await one.log.change("a test", lambda connection: None, hint="*sanctions")
        await other.until(lambda: {"meanwhile", "*sanctions"} <= other.heard.keys())
        await append(one.log, draft(room="after"))
        await other.until(lambda: "after" in other.heard)


async def test_the_age_of_a_message_is_by_the_clock_of_the_database(
    postgres_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose clock was a day ahead removed all messages of the last day, of all servers."""
    monkeypatch.setattr("chatserver.log.postgres.time_ns", lambda: time_ns() + 86_400 * 10**9)
    async with nodes(postgres_tables) as (one, other):
        await append(one.log, draft())
        await append(other.log, draft())
        assert await one.log.retain(max_messages=0, max_age_ms=3_600_000) == {}


async def test_retention_by_several_at_once(postgres_tables: str) -> None:
    async with nodes(postgres_tables, 3) as made:
        for room in "abc":
            await fill(made[0].log, 700, room)
        lost: list[dict[str, int]] = []

        async def retain(node: Node) -> None:
            lost.append(await node.log.retain(max_messages=10, max_age_ms=0))

        async with trio.open_nursery() as nursery:
            for node in made:
                nursery.start_soon(retain, node)
        assert {room for found in lost for room in found} == set("abc")
        assert await made[0].log.heads(["a", "b", "c", "d"]) == dict.fromkeys("abc", Head(691, 700))
        assert offsets(await made[1].log.latest("b", 99)) == list(range(691, 701))


def _notify(payload: str, connection: Connection) -> None:
    connection.execute("SELECT pg_notify('chatserver', %s)", (payload,))
