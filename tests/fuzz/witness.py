"""A healthy member of the lobby in the fuzz world.

Owns: its connection, and what it has received. May not: judge more than that its connection stays open.
"""

import trio

from tests.fuzz.grammar import FRAMES, LOBBY
from tests.fuzz.hearing import Hearing
from tests.fuzz.puppet import acknowledge
from tests.support.peers import Address, Peer, connect, say, upgrade

#: The neighbour's address, which no other peer has.
NEIGHBOUR = "127.0.3.1"


class Neighbour:
    """A healthy member of the lobby with its own address; the server never closes its connection."""

    def __init__(self) -> None:
        self.hearing = Hearing()
        self.joined = trio.Event()
        self.may_go = False
        self._leaving = trio.Event()
        self._socket: trio.socket.SocketType | None = None

    @property
    def here(self) -> bool:
        return self._socket is not None

    def acknowledge(self) -> None:
        if self._socket is not None:
            acknowledge(self._socket)

    def leave(self) -> None:
        self.may_go = True
        self._leaving.set()

    async def _say_goodbye(self, peer: Peer) -> None:
        await self._leaving.wait()
        await peer.send(FRAMES["close"])

    async def live(self, address: Address) -> None:
        """Follow the lobby until it leaves or the server drains."""
        async with connect(address, source=NEIGHBOUR) as peer, trio.open_nursery() as nursery:
            self._socket = peer.transport.socket
            await peer.send(upgrade() + say(type="join", id=1, room=LOBBY))
            nursery.start_soon(self._say_goodbye, peer)
            while self.hearing.close_code is None:
                data = await peer.stream.receive_some(65_536)
                assert data, "the neighbour's connection was closed"
                self.hearing.hear(bytes(data))
                replies, self.hearing.replies = self.hearing.replies, b""
                if replies:
                    await peer.stream.send_all(replies)
                if LOBBY in self.hearing.reached:
                    self.joined.set()
            nursery.cancel_scope.cancel()
        self._socket = None
        assert self.may_go, f"the neighbour was sent away with {self.hearing.close_code}"
        assert self.hearing.close_code == (1000 if self._leaving.is_set() else 1012)
