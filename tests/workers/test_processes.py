"""`chatserver serve --workers 2` as processes: one server, replaced at a hangup, drained without their supervisor.

Which worker has a connection is the kernel's choice, so connections are opened until each has one.
"""

import json
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.support.peers import Chatter, ask, chatter, publish
from tests.support.running import is_running
from tests.support.serving import ServerProcess, eventually, free_flags, sample, server_process, serving, until

ROOM = "lobby"


@asynccontextmanager
async def two_workers(folder: Path, *flags: str) -> AsyncIterator[ServerProcess]:
    async with server_process(folder, *free_flags(folder, "--workers", "2", *flags), is_forked=True) as server:
        assert len(server.lines) == 1, server.errors
        await eventually(lambda: len(pids(server)) == 2)  # it listens once one of them is ready
        yield server


def said(server: ServerProcess, event: str) -> list[Any]:
    """The log's lines of one kind, of the supervisor or a worker."""
    lines = [json.loads(line) for line in server.errors.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def pids(server: ServerProcess) -> dict[int, int]:
    """The serving processes, by the number of the worker."""
    return {line["worker"]: line["pid"] for line in said(server, "worker_ready")}


def worker_of(server: ServerProcess, friend: Chatter) -> int:
    """The number of the worker whose process has the other end of a client's connection open."""
    host, port = friend.peer.transport.socket.getsockname()
    theirs, ours = f":{server.address.port:04X}", f"{socket.inet_aton(host)[::-1].hex().upper()}:{port:04X}"
    rows = map(str.split, Path("/proc/net/tcp").read_text().splitlines())
    [inode] = [row[9] for row in rows if row[1].endswith(theirs) and row[2] == ours]
    [number] = [
        number
        for number, pid in pids(server).items()
        if f"socket:[{inode}]" in {each.resolve().name for each in Path(f"/proc/{pid}/fd").iterdir()}
    ]
    return number


@asynccontextmanager
async def one_on_each(server: ServerProcess) -> AsyncIterator[dict[int, Chatter]]:
    """A client of each worker, by its number."""
    found: dict[int, Chatter] = {}
    async with AsyncExitStack() as stack:
        for number in range(1, 200):
            friend = await stack.enter_async_context(chatter(server.address, source=f"127.0.0.{number}"))
            found.setdefault(worker_of(server, friend), friend)
            if len(found) == 2:
                break
        yield found


async def say_goodbye(friends: Iterable[Chatter]) -> None:
    """Close each client when it is told to leave, in any order."""

    async def go(friend: Chatter) -> None:
        assert (await friend.next("goaway"))["reason"] == "restart"
        await friend.close()

    async with trio.open_nursery() as nursery:
        for friend in friends:
            nursery.start_soon(go, friend)


# -- two workers ------------------------------------------------------------------------------------------------------


async def test_two_workers_are_one_server(tmp_path: Path) -> None:
    """A message crosses the workers, and both return the same metrics."""
    async with two_workers(tmp_path) as server, one_on_each(server) as friends:
        for friend in friends.values():
            await friend.ask("join", room=ROOM)
        for sender, listener in ((1, 2), (2, 1)):
            ack = await friends[sender].ask("publish", room=ROOM, text=f"from {sender}")
            assert ack["type"] == "ack", ack
            message = await friends[listener].next("message")
            while message["offset"] != ack["offset"]:
                message = await friends[listener].next("message")
            assert message["text"] == f"from {sender}"
        names = ("messages_total", "workers_ready", "members")
        for number in range(7, 11):
            get = partial(ask, server.address, "GET", source=f"127.0.0.{number}")
            await until(partial(get, f"/rooms/{ROOM}/members"), lambda answer: answer.json["count"] == 2)
            # a busy worker counts with its last numbers
            await until(
                partial(get, "/metrics"),
                lambda answer: [sample(answer.body, f"chatserver_{name}") for name in names] == [2, 2, 2],
            )
        server.process.terminate()
        await say_goodbye(friends.values())
        assert await server.ended() == 0
        assert [line["worker"] for line in said(server, "stopped")] in ([1, 2], [2, 1])


async def test_a_hangup_refuses_no_client_and_workers_drain_without_a_supervisor(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as server:
        before = pids(server)
        answered = Counter[int]()
        done = trio.Event()

        async def come_and_go() -> None:
            while not done.is_set():
                answer = await ask(server.address, "GET", "/healthz")
                answered[answer.status] += 1
                await trio.sleep(0.05)  # leaves CPU to the starting workers

        async with one_on_each(server) as friends, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(come_and_go)
            server.process.send_signal(signal.SIGHUP)
            await say_goodbye(friends.values())
            await eventually(lambda: bool(said(server, "workers_replaced")))
            done.set()
        assert set(answered) == {200}
        assert answered.total() > 10
        after = pids(server)
        assert not set(after.values()) & set(before.values())
        assert not any(map(is_running, before.values()))
        await publish(server.address, ROOM, "still here")

        async with one_on_each(server) as friends:
            server.process.kill()
            await say_goodbye(friends.values())
            await server.ended()
            # Only the first process waits for them now.
            await eventually(lambda: not any(map(is_running, after.values())))
        assert len(said(server, "supervisor_gone")) == 2
    async with serving(log=f"sqlite:{tmp_path / 'chat.db'}") as again:
        [message] = (await ask(again.address, "GET", f"/rooms/{ROOM}/messages")).json["messages"]
        assert message["text"] == "still here"
