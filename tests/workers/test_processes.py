"""`chatserver serve --workers 2` as processes: killed, stopped, replaced, under clients that check every message.

Which worker has a connection is the kernel's choice, so connections are opened until each has one.
"""

import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.support.peers import (
    Address,
    Chatter,
    ClosedError,
    EndOfStreamError,
    Peer,
    ask,
    chatter,
    connect,
    publish,
    read_all,
)
from tests.support.running import is_running
from tests.support.serving import ServerProcess, eventually, free_flags, sample, server_process, serving, until

ROOM = "lobby"
PUBLISHERS = 4
#: Acknowledged messages between two kills, and seconds between two messages of one publisher, so that the other worker
#: is not busy with thousands while one starts.
ACKS, PAUSE = 60, 0.02
#: The text of the last message.
THE_END = "the end"

GONE = (ClosedError, EndOfStreamError, trio.BrokenResourceError, OSError)


@asynccontextmanager
async def two_workers(folder: Path, *flags: str) -> AsyncIterator[ServerProcess]:
    async with server_process(folder, *free_flags(folder, "--workers", "2", *flags), is_forked=True) as server:
        assert len(server.lines) == 1, server.errors
        yield server


def said(server: ServerProcess, event: str) -> list[Any]:
    """The log's lines of one kind, of the supervisor or a worker."""
    lines = [json.loads(line) for line in server.errors.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def pids(server: ServerProcess) -> dict[int, int]:
    """The serving processes, by the number of the worker."""
    return {line["worker"]: line["pid"] for line in said(server, "worker_ready")}


async def connections(peer: Peer) -> Counter[int]:
    text = (await peer.request("GET", "/metrics")).body
    return Counter({n: int(sample(text, "chatserver_worker_connections", worker=str(n))) for n in (1, 2)})


@asynccontextmanager
async def one_on_each(address: Address) -> AsyncIterator[dict[int, Chatter]]:
    """A client of each worker, by its number. No other client is connected, except those that are leaving."""
    found: dict[int, Chatter] = {}
    async with AsyncExitStack() as stack:
        observer = await stack.enter_async_context(connect(address))
        while (before := await connections(observer)).total() > 1:
            pass
        for number in range(1, 200):
            friend = await stack.enter_async_context(chatter(address, source=f"127.0.0.{number}"))
            now = await connections(observer)
            while now.total() == before.total():
                now = await connections(observer)
            [worker] = now - before
            before = now
            found.setdefault(worker, friend)
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
    async with two_workers(tmp_path) as server, one_on_each(server.address) as friends:
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


# -- kill -9 ----------------------------------------------------------------------------------------------------------


class Story:
    """The state of the clients."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.offsets: dict[str, int] = {}  # by text, as acknowledged
        self.heard: list[Any] = []
        self.cursor = "0"
        self.over = False

    async def publish(self, name: str) -> None:
        """Publish one message after the other; one without an answer is sent again with its key to any worker."""
        session, count = "", 0
        while not self.over:
            with suppress(*GONE):
                headers = {"Cookie": f"chat_session={session}"} if session else {}
                async with chatter(self.address, headers=headers) as friend:
                    session = friend.hello["session"]
                    while not self.over:
                        text = f"{name}/{count}"
                        answer = await friend.ask("publish", room=ROOM, text=text, key=text)
                        if answer["type"] == "ack":
                            assert text not in self.offsets
                            self.offsets[text] = answer["offset"]
                            count += 1
                            await trio.sleep(PAUSE)
                        else:
                            assert answer["code"] == "unavailable", answer

    async def listen(self) -> None:
        """Receive each message once, whatever happens to the worker."""
        while not self.heard or self.heard[-1]["text"] != THE_END:
            with suppress(*GONE):
                async with chatter(self.address) as friend:
                    joined = await friend.ask("join", room=ROOM, after=self.cursor)
                    assert joined["recovered"] is True
                    self.heard += joined["messages"]
                    self.cursor = joined["cursor"]
                    while not self.heard or self.heard[-1]["text"] != THE_END:
                        message = await friend.next("message", "gap")
                        assert message["type"] == "message"
                        self.heard.append(message)
                        self.cursor = message["cursor"]

    async def more(self, acks: int) -> None:
        """Wait until `acks` more messages are acknowledged."""
        enough = len(self.offsets) + acks
        await eventually(lambda: len(self.offsets) >= enough)


async def test_kill_9_of_each_worker_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    async with two_workers(tmp_path) as server:
        story = Story(server.address)
        async with trio.open_nursery() as listening:
            listening.start_soon(story.listen)
            async with trio.open_nursery() as publishing:
                for number in range(PUBLISHERS):
                    publishing.start_soon(story.publish, f"p{number}")
                for worker in (1, 2):
                    await story.more(ACKS)
                    before = pids(server)[worker]
                    os.kill(before, signal.SIGKILL)
                    await story.more(ACKS)
                    await eventually(lambda worker=worker, before=before: pids(server)[worker] != before)  # type: ignore[misc]
                await story.more(ACKS)
                story.over = True
            await publish(server.address, ROOM, THE_END)
        stored = await read_all(server.address, ROOM)
        assert [message["offset"] for message in stored] == list(range(1, len(stored) + 1))
        places = {message["text"]: message["offset"] for message in stored}
        assert len(places) == len(stored), "a message is stored twice"
        assert {text: places.get(text) for text in story.offsets} == story.offsets
        assert [message["text"] for message in story.heard] == [message["text"] for message in stored]
        assert {line["code"] for line in said(server, "worker_died")} == {-signal.SIGKILL}


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

        async with one_on_each(server.address) as friends, trio.open_nursery() as nursery:
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

        async with one_on_each(server.address) as friends:
            server.process.kill()
            await say_goodbye(friends.values())
            await server.ended()
            # Only the first process waits for them now.
            await eventually(lambda: not any(map(is_running, after.values())))
        assert len(said(server, "supervisor_gone")) == 2
    async with serving(log=f"sqlite:{tmp_path / 'chat.db'}") as again:
        [message] = (await ask(again.address, "GET", f"/rooms/{ROOM}/messages")).json["messages"]
        assert message["text"] == "still here"
