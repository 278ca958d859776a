"""Descriptors run out: members chat on, peers inside are served, nothing spins, and it recovers by itself.

The server is a process of its own, under a `ulimit -n` of its own.
"""

import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.support.parked import descriptors
from tests.support.peers import PATIENCE, Address, Answer, Chatter, EndOfStreamError, Peer, chatter, connect
from tests.support.serving import ServerProcess, eventually, free_flags, sample, server_process
from tests.support.siege import PERSON, Attack, visit

#: `ulimit -n` of a server under test, and how many attackers come.
DESCRIPTORS, ATTACKERS = 160, 320
PASSES = "chatserver_loop_pass_seconds_count"
#: Passes of the loop in a second that members chat with: a hundred or two. A loop that spins makes some ten thousand.
CALM = 1_500
#: Where the insider comes from, alone: a connection that shares its address with others is idle for less than that.
INSIDER = PERSON.format(200)
#: Seconds for which an idle connection may count on its place even in a full server: `--evict-after`, less a margin.
LEFT_TO_THE_IDLE = 1.5


class Insider:
    """A client with a connection of its own from before the attack."""

    def __init__(self, address: Address, connections: AsyncExitStack) -> None:
        self._address = address
        self._connections = connections
        self._peer: Peer | None = None
        self._turn = trio.Lock()
        self._last = 0.0

    async def get(self, path: str) -> Answer:
        async with self._turn:
            if self._peer is None:
                self._peer = await self._connections.enter_async_context(connect(self._address, source=INSIDER))
            try:
                answer = await self._peer.request("GET", path)
            except EndOfStreamError:
                # A full server leaves the idle two or three seconds: on a busy machine it may have to come back.
                assert trio.current_time() - self._last > LEFT_TO_THE_IDLE
                self._peer = await self._connections.enter_async_context(connect(self._address, source=INSIDER))
                answer = await self._peer.request("GET", path)
            self._last = trio.current_time()
            return answer

    async def metric(self, name: str, **labels: str) -> float:
        return sample((await self.get("/metrics")).body, name, **labels)

    async def stays(self) -> None:
        """Ask for /healthz, for ever."""
        while True:
            assert (await self.get("/healthz")).status == 200
            await trio.sleep(0.05)

    async def counts(self) -> list[float]:
        """What must be the same before and after."""
        return [await self.metric(f"chatserver_{name}") for name in ("connections", "addresses", "members")]

    async def counts_are(self, counts: list[float]) -> bool:
        """Whether it is as it was."""
        return await self.counts() == counts

    async def is_calm(self) -> bool:
        """Whether the loop goes round seldom for a second."""
        before = await self.metric(PASSES)
        await trio.sleep(1.0)
        return await self.metric(PASSES) - before < CALM


@dataclass(frozen=True)
class Inside:
    """Those who were in before, and how it was then."""

    server: ServerProcess
    insider: Insider
    counts: list[float]
    descriptors_before: int

    def descriptors(self) -> int:
        """Descriptors that the server has."""
        return descriptors(self.server.process.pid)

    async def recovers(self) -> None:
        """Wait until all is as it was before, by itself."""
        await eventually(lambda: self.insider.counts_are(self.counts))
        assert self.descriptors() == self.descriptors_before
        assert await self.insider.metric("chatserver_faults_total") == 0


@asynccontextmanager
async def inside(server: ServerProcess) -> AsyncIterator[Inside]:
    """An insider and two members, who go on with what they do until the end of the block."""
    async with (
        AsyncExitStack() as connections,
        chatter(server.address) as member,
        chatter(server.address) as friend,
        trio.open_nursery() as nursery,
    ):
        await member.ask("join", room="inside")
        await friend.ask("join", room="inside")
        insider = Insider(server.address, connections)
        counts = await insider.counts()
        nursery.start_soon(insider.stays)
        nursery.start_soon(chat, member, friend)
        yield Inside(server, insider, counts, descriptors(server.process.pid))
        nursery.cancel_scope.cancel()


async def chat(member: Chatter, friend: Chatter) -> None:
    """For ever."""
    while True:
        ack = await member.ask("publish", room="inside", text="all is well")
        assert ack["type"] == "ack"
        for hears in (member, friend):
            assert (await hears.next("message"))["offset"] == ack["offset"]
        await trio.sleep(0.05)


async def test_twice_as_many_attackers_as_descriptors(tmp_path: Path) -> None:
    async with server_process(tmp_path, *free_flags(tmp_path), descriptors=DESCRIPTORS) as server, inside(server) as it:
        assert await it.insider.metric("chatserver_places") < DESCRIPTORS
        attack = Attack(server.address)
        async with attack.of(ATTACKERS):
            await eventually(lambda: attack.was_told(ATTACKERS))
            for number in range(1, 6):
                await visit(server.address, PERSON.format(number))
            attack.pause = PATIENCE  # those outside leave it at that; those inside stay as long as they may
            await eventually(it.insider.is_calm)
        assert {answer.status for answer in attack.told} <= {503, 408}
        await it.recovers()
        assert await it.insider.metric("chatserver_closes_total", reason="evicted") > 0
        await visit(server.address, PERSON.format(99))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux only: takes descriptors from a process that runs")
async def test_descriptors_that_are_gone_before_the_places_are(tmp_path: Path) -> None:
    """EMFILE: something else in the process, or the operator, has taken what the server counted on."""
    async with server_process(tmp_path, *free_flags(tmp_path), descriptors=DESCRIPTORS) as server, inside(server) as it:
        attack = Attack(server.address)
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        async with attack.of(ATTACKERS):
            await eventually(lambda: attack.was_told(ATTACKERS))
            fewer = it.descriptors() - 20
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (fewer, limits[1]))
            attack.told.clear()
            await eventually(lambda: attack.was_told(ATTACKERS))
            for number in range(1, 6):
                await visit(server.address, PERSON.format(number))
            attack.pause = PATIENCE
            await eventually(it.insider.is_calm)
        assert {answer.status for answer in attack.told} <= {503, 408}
        assert await it.insider.metric("chatserver_connections") < fewer
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
        await it.recovers()
        await visit(server.address, PERSON.format(99))
