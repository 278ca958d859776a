"""A disk that is full, read-only, locked or silent: publishers are told when to come back, readers do not notice,
nothing that was acknowledged is lost, and when the trouble ends so do the refusals, without a restart.
"""

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver.log.sqlite import SqliteLog
from tests.support.peers import PATIENCE, Address, EndOfStreamError, Peer, ask, chatter, connect, request
from tests.support.serving import Serving, eventually, free_flags, reader, server_process, serving

#: Seconds in which the log answers in these tests, instead of 5.
ANSWER = 0.5


async def post(peer: Peer, text: str, key: str = "") -> tuple[int, Any]:
    """Publish over HTTP on a connection that is kept: the offset, or the refusal, whose form is checked."""
    body = json.dumps({"text": text, "key": key or None}).encode()
    answer = await peer.request("POST", "/rooms/lobby/messages", body, headers={"Content-Type": "application/json"})
    if answer.status == 201:
        return answer.status, answer.json["offset"]
    assert (answer.status, answer.error) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["connection"] == "keep-alive", "its connection stays"
    return answer.status, None


async def everything(address: Address) -> dict[int, str]:
    """Offset and text of all messages; there are no holes."""
    found: dict[int, str] = {}
    async with connect(address) as peer:
        while True:
            page = (await peer.request("GET", f"/rooms/lobby/messages?after={len(found)}&limit=200")).json["messages"]
            if not page:
                assert sorted(found) == list(range(1, len(found) + 1))
                return found
            found.update({message["offset"]: message["text"] for message in page})


def log_of(server: Serving) -> SqliteLog:
    log = server.server.parts.log
    assert isinstance(log, SqliteLog)
    return log


def writing_connection(server: Serving) -> sqlite3.Connection:
    """The server's own, to plant a fault in; between commits."""
    opened = log_of(server)._opened
    assert opened is not None
    return opened.writer._connection


def fill(server: Serving) -> Callable[[], object]:
    """Let the disk be full; returns what frees it."""
    connection = writing_connection(server)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    return partial(connection.execute, "PRAGMA max_page_count = 1000000")


def make_read_only(server: Serving) -> Callable[[], object]:
    connection = writing_connection(server)
    connection.execute("PRAGMA query_only = ON")
    return partial(connection.execute, "PRAGMA query_only = OFF")


def lock(server: Serving) -> Callable[[], object]:
    """Another program holds the file."""
    path = server.server.settings.log.removeprefix("sqlite:")
    hold = "import sqlite3,sys; it = sqlite3.connect(sys.argv[1]); it.execute('BEGIN IMMEDIATE'); print(1, flush=True)"
    child = subprocess.Popen(
        [sys.executable, "-c", f"{hold}; sys.stdin.read()", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"1\n"
    return child.communicate


@pytest.mark.parametrize("trouble", [fill, make_read_only, lock])
async def test_a_disk_that_refuses(
    tmp_path: Path, trouble: Callable[[Serving], Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatserver.log.sqlite_file.BUSY_TIMEOUT", 0.3)
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
            # A large text: a small one may fit into what is left of the last page.
            for _ in range(3):
                assert (await post(poster, "x" * 7_000))[0] == 503
                refused = await speaker.ask("publish", room="lobby", text="y" * 7_000)
                assert (refused["type"], refused["code"]) == ("error", "unavailable")
                assert refused["retry_after"] > 0
        finally:
            end()
        acknowledged[(await post(poster, "after"))[1]] = "after"
        ack = await speaker.ask("publish", room="lobby", text="as well")
        acknowledged[ack["offset"]] = "as well"
        assert await everything(server.address) == acknowledged
        assert acknowledged == {1: "before", 2: "after", 3: "as well"}


class Hanging:
    """The log's writing thread stops in the driver, until it is let go."""

    def __init__(self, server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hangs = False
        self._go_on = threading.Event()
        opened = log_of(server)._opened
        assert opened is not None
        commit = opened.writer.commit

        def perhaps(drafts: Any) -> Any:
            if self.hangs:
                self._go_on.wait(PATIENCE)
            return commit(drafts)

        monkeypatch.setattr(opened.writer, "commit", perhaps)

    def let_go(self) -> None:
        self.hangs = False
        self._go_on.set()


async def test_a_disk_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishers that wait are told in time, later ones at once; the queue does not grow meanwhile."""
    monkeypatch.setattr("chatserver.log.groups.ANSWER_DEADLINE", ANSWER)
    async with (
        serving(log=f"sqlite:{tmp_path / 'chat.db'}") as server,
        reader(server),
        chatter(server.address) as speaker,
        connect(server.address) as poster,
    ):
        await speaker.ask("join", room="lobby")
        assert await post(poster, "before") == (201, 1)
        disk = Hanging(server, monkeypatch)
        disk.hangs = True
        for number in range(100):  # more than may be in flight: the others wait unread
            await speaker.say(type="publish", id=number, room="lobby", text=f"ws {number}", key=f"ws {number}")
        assert await post(poster, "http", "key") == (503, None)
        refused = [await speaker.next("error") for _ in range(100)]
        assert sorted(error["id"] for error in refused) == list(range(100))
        assert {error["code"] for error in refused} == {"unavailable"}
        for number in range(20):
            assert await post(poster, f"late {number}") == (503, None)
        assert log_of(server).statistics().pending <= 64 + 1
        assert await server.metric("chatserver_log_late_total") > 0

        disk.let_go()
        assert (await speaker.next("message"))["text"] == "before"
        assert (await speaker.next("message"))["offset"] == 2, "what the disk had taken is news, though it came late"

        async def well_again() -> bool:
            return (await post(poster, "http", "key"))[0] == 201

        await eventually(well_again)
        for number in range(100):
            ack = await speaker.ask("publish", room="lobby", text=f"ws {number}", key=f"ws {number}")
            assert ack["type"] == "ack"
        found = list((await everything(server.address)).values())
        assert sorted(found) == sorted(["before", "http", *(f"ws {number}" for number in range(100))]), "each once"


async def test_reads_that_hang_are_refused_and_the_connections_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of the log, since the room is not in memory. A WebSocket was closed after 11 s, its task could not end."""
    monkeypatch.setattr("chatserver.log.sqlite_readers.ANSWER_DEADLINE", ANSWER)
    go_on = threading.Event()

    def hang(*_: object) -> Any:
        go_on.wait(PATIENCE)
        raise sqlite3.OperationalError("it was a bad disk")

    async with (
        serving(log=f"sqlite:{tmp_path / 'chat.db'}") as server,
        chatter(server.address) as friend,
        connect(server.address) as peer,
    ):
        await friend.ask("join", room="lobby")
        with monkeypatch.context() as patch:
            patch.setattr("chatserver.log.sqlite_readers._head", hang)
            for _ in range(3):
                answer = await peer.request("GET", "/rooms/elsewhere/messages")
                assert (answer.status, answer.error) == (503, "unavailable")
                assert answer.headers["connection"] == "keep-alive"
                refused = await friend.ask("history", room="elsewhere")
                assert (refused["code"], refused["retry_after"] > 0) == ("unavailable", True)
                assert (await friend.ask("publish", room="lobby", text="hi"))["type"] == "ack"
        go_on.set()

        async def well_again() -> bool:
            return (await peer.request("GET", "/rooms/elsewhere/messages")).status == 200

        await eventually(well_again)
        assert (await friend.ask("history", room="elsewhere"))["type"] == "history"


async def test_what_was_acknowledged_is_there_after_a_drain(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'chat.db'}"
    acknowledged: list[Any] = []
    async with serving(log=url) as server, trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(_publish_until_the_end, server.address, number, acknowledged)

        await eventually(lambda: len(acknowledged) > 50)
        os.kill(os.getpid(), signal.SIGTERM)
    async with serving(log=url) as server:
        stored = await everything(server.address)
        assert all(stored[offset] == text for offset, text in acknowledged)


async def _publish_until_the_end(address: Address, number: int, acknowledged: list[Any]) -> None:
    try:
        async with connect(address) as peer:
            for count in range(1_000_000):
                text = f"{number}/{count}"
                answer = await peer.request("POST", "/rooms/lobby/messages", text.encode())
                assert answer.status == 201
                acknowledged.append((json.loads(answer.body)["offset"], text))
                if answer.headers["connection"] == "close":
                    return
    except (EndOfStreamError, trio.BrokenResourceError, ConnectionRefusedError):
        return  # it was told to go, in between two requests


# -- in a process of its own, to be killed --------------------------------------------------------------------------


class Insisting:
    """Publishes numbered texts, each with its key until it is acknowledged, through every refusal and restart."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.acknowledged: dict[int, str] = {}
        self.refused = 0

    async def run(self, address: Address) -> None:
        try:
            async with connect(address) as peer:
                while True:
                    text = f"{self.name} {len(self.acknowledged)} " + "x" * 500
                    status, offset = await post(peer, text, key=text[:20])
                    if status == 201:
                        self.acknowledged[offset] = text
                    else:
                        self.refused += 1
                        await trio.sleep(0.05)  # less than it is told: there is no time in a test
        except (EndOfStreamError, trio.BrokenResourceError, OSError):
            return  # killed, in the middle of whatever it did


@pytest.mark.slow
async def test_acknowledged_messages_survive_a_full_disk_and_kill_9_in_the_middle(tmp_path: Path) -> None:
    """The kernel refuses to let the server's files grow, for a while, again and again; then it is killed."""
    publishers = [Insisting(name) for name in "abcd"]

    def acknowledged() -> int:
        return sum(len(each.acknowledged) for each in publishers)

    for _ in range(3):
        async with server_process(tmp_path, *free_flags(tmp_path)) as server, trio.open_nursery() as nursery:
            for publisher in publishers:
                nursery.start_soon(publisher.run, server.address)
            for _ in range(2):
                before = acknowledged()
                await eventually(partial(_passed, acknowledged, before + 50))
                most = (largest_file(tmp_path), resource.RLIM_INFINITY)
                resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, most)
                refused = sum(each.refused for each in publishers)
                await eventually(partial(_passed, lambda: sum(each.refused for each in publishers), refused + 20))
                assert (await ask(server.address, "GET", "/rooms/lobby/messages")).status == 200
                if before % 2:  # killed while it is full, or after it has recovered
                    break
                resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            server.process.kill()
    async with server_process(tmp_path, *free_flags(tmp_path)) as server:
        found = await everything(server.address)
    for publisher in publishers:
        assert publisher.acknowledged.items() <= found.items()
        own = [text for text in found.values() if text.startswith(publisher.name)]
        assert len(own) == len(set(own)), "stored twice"
        assert len(own) - len(publisher.acknowledged) in (0, 1), "one was on its way"


def largest_file(folder: Path) -> int:
    return max(file.stat().st_size for file in folder.iterdir())


async def _passed(count: Callable[[], int], goal: int) -> bool:
    return count() >= goal


async def test_peers_that_wait_for_a_silent_disk_are_not_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held polls, events and idle connections need no log: they stay, and get what comes after it."""
    monkeypatch.setattr("chatserver.log.groups.ANSWER_DEADLINE", ANSWER)
    async with (
        serving(log=f"sqlite:{tmp_path / 'chat.db'}") as server,
        connect(server.address) as poller,
        connect(server.address) as listener,
        connect(server.address) as poster,
    ):
        await poller.send(request("GET", "/rooms/lobby/messages?after=0&wait=60"))
        await listener.send(request("GET", "/rooms/lobby/events"))
        await listener.head()
        await server.in_phase("held")
        disk = Hanging(server, monkeypatch)
        disk.hangs = True
        assert await post(poster, "lost?", "key") == (503, None)
        await server.in_phase("held")
        disk.let_go()
        assert [each["text"] for each in (await poller.response()).json["messages"]] == ["lost?"]
        assert b"lost?" in await listener.until(b"lost?")
        assert await post(poster, "lost?", "key") == (201, 1)
