"""A disk that is full, read-only, locked or silent: publishers are told when to return, readers notice nothing,
no acknowledged message is lost, and the refusals end with the trouble, without a restart.
"""

import os
import resource
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import trio

from chatserver.log import connections, groups, sqlite_readers
from chatserver.log.sqlite import SqliteLog
from chatserver.log.sqlite_writer import SqliteWriter
from tests.support.peers import PATIENCE, Address, EndOfStreamError, Peer, ask, chatter, connect, read_all, request
from tests.support.serving import Serving, eventually, free_flags, reader, server_process, serving, until

#: The deadline of the log in these tests, instead of 5 s.
ANSWER = 0.3


async def post(peer: Peer, text: str, key: str = "") -> tuple[int, Any]:
    """Publish over HTTP on a kept connection: status and offset, or a refusal after a check of its form."""
    answer = await peer.request("POST", "/rooms/lobby/messages", {"text": text, "key": key or None})
    if answer.status == 201:
        return answer.status, answer.json["offset"]
    assert (answer.status, answer.error) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["connection"] == "keep-alive", "the connection stays"
    return answer.status, None


async def everything(address: Address) -> dict[int, str]:
    """The texts of all messages by offset, which have no holes."""
    found = {message["offset"]: message["text"] for message in await read_all(address, "lobby")}
    assert list(found) == list(range(1, len(found) + 1))
    return found


def writer_of(server: Serving) -> SqliteWriter:
    """The server's writer, to plant a fault in."""
    log = server.server.parts.log
    assert isinstance(log, SqliteLog)
    return log._writer


def fill(server: Serving) -> Callable[[], object]:
    """Make the disk full. Returns a function that ends it."""
    connection = writer_of(server)._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    return partial(connection.execute, "PRAGMA max_page_count = 1000000")


def make_read_only(server: Serving) -> Callable[[], object]:
    connection = writer_of(server)._connection
    connection.execute("PRAGMA query_only = ON")
    return partial(connection.execute, "PRAGMA query_only = OFF")


def lock(server: Serving) -> Callable[[], object]:
    """Lock the file as another program. Returns a function that ends it."""
    other = sqlite3.connect(server.server.settings.log.removeprefix("sqlite:"))
    other.execute("BEGIN IMMEDIATE")
    return other.close


@pytest.mark.parametrize("trouble", [fill, make_read_only, lock])
async def test_a_disk_that_refuses(
    tmp_path: Path, trouble: Callable[[Serving], Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatserver.log.sqlite_file.BUSY_TIMEOUT", 0.1)
    async with (
        serving(log=f"sqlite:{tmp_path / 'chat.db'}") as server,
        reader(server),
        chatter(server.address) as speaker,
        connect(server.address) as poster,
    ):
        await speaker.ask("join", room="lobby")
        acknowledged = {(await post(poster, "before"))[1]: "before"}
        end = trouble(server)
        try:
            # A large text: a small one may fit into the rest of the last page.
            for _ in range(3):
                assert (await post(poster, "x" * 7_000))[0] == 503
                refused = await speaker.ask("publish", room="lobby", text="y" * 7_000)
                assert (refused["type"], refused["code"]) == ("error", "unavailable")
                assert refused["retry_after"] > 0
            assert (await speaker.ask("history", room="elsewhere"))["type"] == "history"
            # With 503 a balancer would send readers away from every node, and nobody to try a publish.
            assert (await poster.request("GET", "/readyz")).status == 200
        finally:
            end()
        acknowledged[(await post(poster, "after"))[1]] = "after"
        ack = await speaker.ask("publish", room="lobby", text="as well")
        acknowledged[ack["offset"]] = "as well"
        assert await everything(server.address) == acknowledged
        assert acknowledged == {1: "before", 2: "after", 3: "as well"}


async def test_a_server_that_gets_no_threads_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A balancer went on sending it clients, all of whom got 503, while the other servers could serve them."""
    monkeypatch.setattr("chatserver.log.threads.IDLE_TIMEOUT", 0.01)
    async with serving(log=f"sqlite:{tmp_path / 'chat.db'}") as server:

        async def ready() -> int:
            return (await ask(server.address, "GET", "/readyz")).status

        async def published() -> int:
            await trio.sleep(0.05)  # after each, the thread waits for another job
            return (await ask(server.address, "POST", "/rooms/lobby/messages", b"hi")).status

        assert await ready() == 200
        with monkeypatch.context() as patch:
            patch.setattr("chatserver.log.threads.Thread", Mock(side_effect=RuntimeError("can't start new thread")))
            await until(ready, lambda status: status == 503)
            await until(published, lambda status: status == 503)  # the writer's thread may still be there
        assert await ready() == 200


async def test_a_disk_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting publishers are told in time, later ones at once, and the queue does not grow.

    The same holds for requests for a room that is not in memory. Held polls and events stay, and get the next message.
    """
    monkeypatch.setattr(groups, "ANSWER_DEADLINE", ANSWER)
    go_on = threading.Event()
    async with (
        serving(log=f"sqlite:{tmp_path / 'chat.db'}") as server,
        reader(server),
        chatter(server.address) as speaker,
        connect(server.address) as poster,
        connect(server.address) as poller,
        connect(server.address) as listener,
    ):

        async def stored(text: str) -> bool:
            return (await post(poster, text, key=text))[0] == 201

        await speaker.ask("join", room="lobby")
        await eventually(lambda: stored("before"))
        assert (await speaker.next("message"))["text"] == "before"
        await poller.send(request("GET", "/rooms/lobby/messages?after=1&wait=60"))
        await listener.send(request("GET", "/rooms/lobby/events"))
        await server.in_phase("held")
        writer, commit, heads = writer_of(server), writer_of(server).commit, sqlite_readers.heads
        monkeypatch.setattr(writer, "commit", lambda drafts: go_on.wait(PATIENCE) and commit(drafts))
        monkeypatch.setattr(sqlite_readers, "heads", lambda *arguments: go_on.wait(PATIENCE) and heads(*arguments))
        monkeypatch.setattr(connections, "ANSWER_DEADLINE", ANSWER)
        for number in range(100):  # more than may be in flight: the rest waits unread
            await speaker.say(type="publish", id=number, room="lobby", text=f"ws {number}", key=f"ws {number}")
        assert not await stored("http")
        refused = [await speaker.next("error") for _ in range(100)]
        assert sorted(error["id"] for error in refused) == list(range(100))
        assert {error["code"] for error in refused} == {"unavailable"}
        for number in range(20):
            assert await post(poster, f"late {number}") == (503, None)
        answer = await poster.request("GET", "/rooms/elsewhere/messages")
        assert (answer.status, answer.error, answer.headers["connection"]) == (503, "unavailable", "keep-alive")
        assert (await speaker.ask("history", room="elsewhere"))["code"] == "unavailable"
        assert server.server.parts.log.statistics().pending <= 64 + 1
        assert await server.metric("chatserver_log_late_total") > 0
        await server.in_phase("held")

        for module in (groups, connections):  # a busy disk is not too late with these
            monkeypatch.setattr(module, "ANSWER_DEADLINE", PATIENCE)
        go_on.set()
        assert (await speaker.next("message"))["offset"] == 2, "the late message is news"
        assert (await poller.response()).json["messages"][0]["offset"] == 2
        await listener.until(b'"offset":2,')
        await eventually(lambda: stored("http"))
        for number in range(100):
            await speaker.say(type="publish", id=number, room="lobby", text=f"ws {number}", key=f"ws {number}")
        for _ in range(100):
            await speaker.next("ack")
        found = list((await everything(server.address)).values())
        assert sorted(found) == sorted(["before", "http", *(f"ws {number}" for number in range(100))]), "each once"
        assert (await speaker.ask("history", room="elsewhere"))["type"] == "history"


# -- drain and kill ---------------------------------------------------------------------------------------------------


#: Bytes of a file that can be written while the disk is full: the log of the server's faults, and no commit. Up to its
#: present size the write-ahead log had space for 200 more.
FULL_AT = 64 * 1024


class Insisting:
    """Publishes numbered texts, each with its key and repeated until it is acknowledged."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.acknowledged: dict[int, str] = {}
        self.refused = 0

    async def run(self, address: Address) -> None:
        # The kill comes while it works.
        with suppress(EndOfStreamError, trio.BrokenResourceError, OSError):
            async with connect(address) as peer:
                while True:
                    text = f"{self.name} {len(self.acknowledged)} " + "x" * 500
                    status, offset = await post(peer, text, key=text[:20])
                    if status == 201:
                        self.acknowledged[offset] = text
                    else:
                        self.refused += 1
                        await trio.sleep(0.05)  # shorter than Retry-After, to save time


async def more(publishers: list[Insisting], *, acknowledged: int = 0, refused: int = 0) -> None:
    """Wait until `acknowledged` and `refused` more answers have arrived."""

    def counts() -> tuple[int, int]:
        return sum(len(each.acknowledged) for each in publishers), sum(each.refused for each in publishers)

    goals = counts()[0] + acknowledged, counts()[1] + refused
    await eventually(lambda: all(count >= goal for count, goal in zip(counts(), goals, strict=True)))


def check(publishers: list[Insisting], found: dict[int, str]) -> None:
    """Check that all acknowledged texts are stored, and none twice."""
    for publisher in publishers:
        assert publisher.acknowledged.items() <= found.items()
        own = [text for text in found.values() if text.startswith(publisher.name)]
        assert len(own) == len(set(own)), "stored twice"
        assert len(own) - len(publisher.acknowledged) in (0, 1), "at most one was in flight"


async def test_acknowledged_messages_survive_a_drain(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'chat.db'}"
    publishers = [Insisting(name) for name in "abcd"]
    async with serving(log=url) as server, trio.open_nursery() as nursery:
        for publisher in publishers:
            nursery.start_soon(publisher.run, server.address)
        await more(publishers, acknowledged=50)
        os.kill(os.getpid(), signal.SIGTERM)
    async with serving(log=url) as server:
        check(publishers, await everything(server.address))


@pytest.mark.slow
async def test_acknowledged_messages_survive_a_full_disk_and_kill_9(tmp_path: Path) -> None:
    """Several times the server can write nearly nothing for a while; then it is killed."""
    publishers = [Insisting(name) for name in "abcd"]
    flags = free_flags(tmp_path)
    async with server_process(tmp_path, *flags, is_forked=True) as server, trio.open_nursery() as nursery:
        limit = partial(resource.prlimit, server.process.pid, resource.RLIMIT_FSIZE)
        for publisher in publishers:
            nursery.start_soon(publisher.run, server.address)
        for _ in range(3):
            limit((resource.RLIM_INFINITY,) * 2)
            await more(publishers, acknowledged=50)
            limit((FULL_AT, resource.RLIM_INFINITY))
            await more(publishers, refused=20)
            assert (await ask(server.address, "GET", "/rooms/lobby/messages")).status == 200
        server.process.kill()
    async with server_process(tmp_path, *flags, is_forked=True) as server:
        check(publishers, await everything(server.address))
