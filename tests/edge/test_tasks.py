"""A fault after a wait, or in the answer to a poll, ends one connection: neither the nursery nor the poller."""

import threading
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
import trio.testing

from chatserver.api.answers import Queue
from chatserver.edge.tasks import MAX_SCANS, MAX_SEARCHES, MAX_SLOW_TASKS, MAX_TASKS, Tasks
from chatserver.log import sqlite_readers
from chatserver.log.connections import Readers
from chatserver.log.index import Found, Question
from chatserver.log.interface import Range, Record
from chatserver.net.connection import Connection
from tests.support.parked import parked
from tests.support.peers import ask, chatter, connect, publish, request
from tests.support.serving import eventually, serving


class Work:
    """Work that records its begin and its end, and ends when it is allowed to."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.may_end = trio.Event()

    async def do(self, connection: object, number: int) -> None:
        self.begun.append(number)
        try:
            await self.may_end.wait()
        finally:
            self.ended.append(number)


@asynccontextmanager
async def tasks_of_one() -> AsyncIterator[tuple[Tasks, Connection, trio.CancelScope]]:
    """At the end of the block all tasks have ended."""
    with parked() as it:
        connection, _ = it.connect()
        async with trio.open_nursery() as nursery:
            tasks = Tasks(it.connections, nursery)
            yield tasks, connection, nursery.cancel_scope
        assert tasks.statistics() == {"running": 0, "waiting": 0}


@pytest.mark.parametrize("cancelled", [False, True])
async def test_at_most_max_tasks_run_and_the_others_wait(cancelled: bool) -> None:
    """Cancelled tasks begin as well: Python warns of a coroutine that never began, and what it holds would stay."""
    work = Work()
    async with tasks_of_one() as (tasks, connection, cancel_scope):
        for number in range(MAX_TASKS + 10):
            tasks.start(work.do, connection, number)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(work.begun) == list(range(MAX_TASKS))  # trio begins the tasks of one pass in any order
        assert tasks.statistics() == {"running": MAX_TASKS, "waiting": 10}
        if cancelled:
            cancel_scope.cancel()
        else:
            work.may_end.set()
    assert sorted(work.ended) == list(range(MAX_TASKS + 10))


async def silent(*arguments: object, **options: object) -> NoReturn:
    """A disk that does not answer."""
    await trio.sleep_forever()


async def test_requests_that_wait_behind_others_for_a_silent_disk_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times as many requests as tasks: each is answered at its own deadline, not one after another."""

    async with serving(log=f"sqlite:{tmp_path / 'c.db'}", serving_deadline=1.0) as server:
        monkeypatch.setattr(Readers, "ask", silent)
        answers: list[int] = []

        async def read() -> None:
            answers.append((await ask(server.address, "GET", "/rooms/old/messages")).status)

        with trio.fail_after(20.0):
            async with trio.open_nursery() as nursery:
                for _ in range(MAX_TASKS * 4):
                    nursery.start_soon(read)
        assert answers == [503] * (MAX_TASKS * 4)
        tasks = server.server.parts.exchanges._tasks[Queue.READ]
        await eventually(lambda: tasks.statistics() == {"running": 0, "waiting": 0})


#: Requests that may take the log dozens of milliseconds. Those of one address held up others' reads for 40 to 140.
LONG = (
    "/search?q=word{0}",
    "/rooms?limit={1}",
    "/unread",
    "/rooms/old/messages?kinds=message&limit={1}",
    "/rooms/old/messages?kinds=message&wait=60&limit={1}",
    "/poll?room=lobby&kinds=message&limit={1}",
    "/poll?" + "&".join(f"room=old{number}" for number in range(9)),
)


@pytest.mark.parametrize("target", LONG)
async def test_long_reads_wait_apart_from_short_ones_and_only_for_clients_that_are_there(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, at_once = {"/search": (Queue.SEARCH, MAX_SEARCHES), "/rooms": (Queue.LIST, MAX_TASKS)}.get(
        target.partition("?")[0], (Queue.SLOW, MAX_SLOW_TASKS) if "old8" in target else (Queue.SCAN, MAX_SCANS)
    )
    async with serving(log=f"sqlite:{tmp_path / 'c.db'}") as server, AsyncExitStack() as stack:
        parts = server.server.parts
        tasks, connections = dict(parts.exchanges._tasks), parts.connections
        await publish(server.address, "lobby", "hello")
        await eventually(lambda: connections.held == 0)
        monkeypatch.setattr(parts.log.index, "find", silent)
        monkeypatch.setattr(Readers, "ask", silent)
        peers = [await stack.enter_async_context(connect(server.address)) for _ in range(MAX_TASKS + 1)]
        for number, peer in enumerate(peers):
            await peer.send(request("GET", target.format(number, number + 1)))
        long = tasks.pop(queue)
        await eventually(lambda: long.statistics()["waiting"] == MAX_TASKS + 1 - at_once)
        assert [each.statistics() for each in tasks.values()] == [{"running": 0, "waiting": 0}] * len(tasks)
        for peer in peers:
            peer.reset()
        await eventually(lambda: connections.held == 0)
        assert long.statistics()["waiting"] == 0


async def test_a_read_does_not_wait_for_reads_of_all_records_of_a_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four clients that asked a room of 60,000 reactions for its messages made each other read 0.1 to 0.2 s long."""
    may_end, begun, read = threading.Event(), threading.Event(), sqlite_readers.read

    def slow_if_all(wanted: Range, connection: Any) -> list[Record]:
        if wanted.messages_only:
            begun.set()
            may_end.wait()
        return read(wanted, connection)

    monkeypatch.setattr(sqlite_readers, "read", slow_if_all)
    async with serving(log=f"sqlite:{tmp_path / 'c.db'}") as server, AsyncExitStack() as stack:
        stack.callback(may_end.set)
        await publish(server.address, "lobby", "hello")
        for number in range(sqlite_readers.READERS + 1):
            peer = await stack.enter_async_context(connect(server.address))
            await peer.send(request("GET", f"/rooms/lobby/messages?kinds=message&limit={number + 1}"))
        await eventually(begun.is_set)
        assert (await ask(server.address, "GET", "/rooms/old/messages")).status == 200


async def test_a_search_waits_for_few_searches_of_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queries of tasks that run are first come, first served: with four tasks it waited for five."""
    thread, may_go_on, asked = trio.Lock(), trio.Event(), list[str]()

    async def find(question: Question) -> Found:
        async with thread:
            asked.append(question.words[0])
            await may_go_on.wait()
        return Found([], None)

    async with serving() as server, AsyncExitStack() as stack:
        searches = server.server.parts.exchanges._tasks[Queue.SEARCH]
        monkeypatch.setattr(server.server.parts.log.index, "find", find)
        crowd = [await stack.enter_async_context(connect(server.address, source="127.0.0.2")) for _ in range(MAX_TASKS)]
        for number, peer in enumerate(crowd):
            await peer.send(request("GET", f"/search?q=crowd{number}"))
        await eventually(lambda: searches.statistics()["waiting"] == MAX_TASKS - MAX_SEARCHES)
        async with connect(server.address) as neighbour:
            await neighbour.send(request("GET", "/search?q=neighbour"))
            await eventually(lambda: searches.statistics()["waiting"] == MAX_TASKS - MAX_SEARCHES + 1)
            may_go_on.set()
            assert (await neighbour.response()).status == 200
    assert asked.index("neighbour") <= 3


#: Requests that wait for the log.
WAITING = (
    "/rooms",
    "/rooms/old",
    "/rooms/old/messages?after=0",
    "/rooms/old/messages?before=9",
    "/rooms/old/messages?wait=60",
    "/poll?room=old&room=older&wait=60",
    "/rooms/old/events",
)
HEAD_BYTES = 15_000


@pytest.mark.parametrize("target", WAITING)
async def test_a_request_that_waits_keeps_no_header_fields(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8,000 waiting requests with heads of 15 KB would otherwise keep 139 MB of fields."""

    asking = request("GET", target, headers={"x": "x" * HEAD_BYTES})
    async with serving(log=f"sqlite:{tmp_path / 'c.db'}", serving_deadline=60.0) as server, AsyncExitStack() as stack:
        monkeypatch.setattr(Readers, "ask", silent)
        peers = [await stack.enter_async_context(connect(server.address)) for _ in range(MAX_TASKS * 3)]
        tasks = server.server.parts.exchanges._tasks[Queue.LIST if target == "/rooms" else Queue.READ]
        for peer in peers[:MAX_TASKS]:
            await peer.send(asking)
        await server.in_phase("serving", MAX_TASKS)
        tracemalloc.start()
        try:
            for peer in peers[MAX_TASKS:]:
                await peer.send(asking)
            await server.in_phase("serving", len(peers))
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert tasks.statistics() == {"running": MAX_TASKS, "waiting": 2 * MAX_TASKS}
        assert kept < 2 * MAX_TASKS * HEAD_BYTES / 2, "a buffer of 64 KiB in this process may be traced as well"


async def test_nothing_is_looked_up_for_a_client_that_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise thousands of requests of closed connections would keep the log busy."""
    asked, go_on = 0, trio.Event()
    original = Readers.ask

    async def slow(self: Readers[Any], *arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        await go_on.wait()
        return await original(self, *arguments)

    async with serving(log=f"sqlite:{tmp_path / 'c.db'}") as server, AsyncExitStack() as stack:
        monkeypatch.setattr(Readers, "ask", slow)
        peers = [await stack.enter_async_context(connect(server.address)) for _ in range(MAX_TASKS + 20)]
        friends = [await stack.enter_async_context(chatter(server.address)) for _ in range(20)]
        tasks = server.server.parts.exchanges._tasks[Queue.READ]

        async def stand_at(running: int, waiting: int) -> bool:
            return tasks.statistics() == {"running": running, "waiting": waiting}

        for peer in peers:
            await peer.send(request("GET", "/rooms/old/messages?after=0"))
        await eventually(partial(stand_at, MAX_TASKS, 20))
        for friend in friends:
            await friend.say(type="history", id=1, room="old")
        await eventually(partial(stand_at, MAX_TASKS, 40))
        at_work = asked
        held = server.server.parts.connections.held
        for each in [*peers[MAX_TASKS:], *(friend.peer for friend in friends)]:
            each.reset()

        await eventually(lambda: server.server.parts.connections.held == held - 40)
        assert tasks.statistics() == {"running": MAX_TASKS, "waiting": 0}, "closed connections leave the queue"
        go_on.set()
        await eventually(partial(stand_at, 0, 0))
        assert [(await peer.response()).status for peer in peers[:MAX_TASKS]] == [200] * MAX_TASKS
        assert asked <= at_work * 3, "the log is asked for the running requests only"
