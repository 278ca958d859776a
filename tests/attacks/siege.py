"""A siege: peers that take places and reconnect, and visitors that need a place as well.

Owns: which peer has which address. On Linux the whole of 127.0.0.0/8 is local, so a crowd can come from one address and
honest visitors from others, as in reality. May not: assert anything about the server; a test does.

    attack = Attack(server.address)
    async with attack.of(100):
        await visit(server.address, PERSON.format(1))
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.support.peers import Address, Answer, EndOfStreamError, Peer, chatter, connect

#: The address of all attackers, and those of visitors.
CROWD, PERSON = "127.0.1.1", "127.0.2.{}"
#: The beginning of a slow head.
HALF_A_HEAD = b"GET /rooms HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
#: Seconds until an attacker reconnects: a crowd of 80 makes hundreds of connections a second.
PAUSE = 0.2


class Attack:
    """Peers that stay until they are closed and reconnect after `pause`. `told` has their answers."""

    def __init__(self, address: Address, opening: bytes = HALF_A_HEAD, *, receive_buffer: int = 0) -> None:
        self._address = address
        self._opening = opening
        self._receive_buffer = receive_buffer
        self.pause = PAUSE
        self.told: list[Answer] = []

    async def was_told(self, times: int) -> bool:
        return len(self.told) >= times

    @asynccontextmanager
    async def of(self, attackers: int) -> AsyncIterator[None]:
        """Run `attackers` attackers during the block."""
        async with trio.open_nursery() as nursery:
            for _ in range(attackers):
                nursery.start_soon(self._come_back_for_ever)
            yield
            nursery.cancel_scope.cancel()

    async def _come_back_for_ever(self) -> None:
        while True:
            async with connect(self._address, source=CROWD, receive_buffer=self._receive_buffer) as peer:
                try:
                    await peer.send(self._opening)
                    await self.stay(peer)
                except (trio.BrokenResourceError, EndOfStreamError):
                    pass  # closed without an answer
            await trio.sleep(self.pause)

    async def stay(self, peer: Peer) -> None:
        """The acts of each attacker after its opening."""
        self.told.append(await peer.response())


async def visit(address: Address, source: str) -> None:
    """Connect, join, publish, leave."""
    async with chatter(address, source=source) as newcomer:
        await newcomer.ask("join", room="lobby")
        assert (await newcomer.ask("publish", room="lobby", text="hello"))["type"] == "ack"
        await newcomer.close()
