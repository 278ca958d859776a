"""Several processes of one chat, which exchange presence over a medium that may lose, double and delay messages.

Owns: the stand-in for the shards or datagrams between them. May not: share a log between them; see `chatting`.
"""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from chatserver.chat.cluster import REPORT_INTERVAL, RESEND_INTERVAL
from chatserver.chat.process_messages import Kicked, ProcessReport, decode
from tests.support.chatting import Chatting, chatting
from tests.support.scripted import Peer

#: Seconds in which everything has been sent, received and announced.
SAID = 3 * REPORT_INTERVAL
#: The same after a loss: the next message shows it, and everything is requested and sent again.
MENDED = 2 * RESEND_INTERVAL + SAID


class Air:
    """Carries each message to all processes, the sender included."""

    def __init__(self) -> None:
        self.said: list[ProcessReport] = []
        self.times: list[float] = []
        self.sizes: list[int] = []
        self.spoil: Callable[[bytes], list[bytes]] = lambda message: [message]
        self._hearing: list[Process] = []

    def tell(self, message: bytes) -> None:
        self.said.append(decode(message))
        self.times.append(trio.current_time())
        self.sizes.append(len(message))
        for each in self._hearing:
            for heard in self.spoil(message):
                each.kicks += each.cluster.receive(heard)

    @asynccontextmanager
    async def process(self, **options: Any) -> AsyncIterator["Process"]:
        """One process of the chat, until the end of the block; `options` are those of `chatting`."""
        async with chatting(tell=self.tell, **options) as it, trio.open_nursery() as nursery:
            process = Process(it)
            self._hearing.append(process)
            nursery.start_soon(process.run)
            yield process
            self._hearing.remove(process)
            nursery.cancel_scope.cancel()


class Process:
    """One process of several."""

    def __init__(self, it: Chatting) -> None:
        assert it.hub.cluster is not None
        self.it = it
        self.cluster = it.hub.cluster
        self.kicks: list[Kicked] = []  # of other processes
        self._running = trio.CancelScope()

    async def run(self) -> None:
        with self._running:
            await self.cluster.run()

    def stop(self) -> None:
        self._running.cancel()

    async def join(self, number: int, room: str = "lobby") -> Peer:
        peer = Peer(number)
        await self.it.join(peer, room)
        return peer

    def people(self, room: str = "lobby") -> set[int]:
        """The users in a room, as this process knows them."""
        return {each.number for each in self.it.hub.registry.presence(room).people()}

    def count(self, room: str = "lobby") -> int:
        return len(self.it.hub.registry.presence(room))


Pair = tuple[Process, Process]


def lose(share: float, rng: random.Random) -> Callable[[bytes], list[bytes]]:
    """Lose, double or delay some messages."""
    late: list[bytes] = []

    def spoil(message: bytes) -> list[bytes]:
        if rng.random() < share:
            return []
        heard = [message] * rng.choice((1, 1, 1, 2))
        heard += late
        late.clear()
        if rng.random() < share:
            late.append(message)
        return heard

    return spoil
