"""A listener without a poller: the test calls `accept`.

Owns: the listening socket, and peers that knock. May not: decide; `make_room` is the test's.
"""

import socket
from collections.abc import Callable

from chatserver.net.admission import Admission
from chatserver.net.connections import Connections
from chatserver.net.listener import Gate, Listener, bind
from chatserver.net.phases import PhaseLimits
from chatserver.reasons import Reason
from tests.support.attended import REFUSAL
from tests.support.parked import FakeReadiness


class Door:
    """What it was asked, and whom it refused."""

    def __init__(self, *, total: int = 1000, per_address: int = 0) -> None:
        self.socket = bind("127.0.0.1", 0, send_buffer=0)
        self.connections = Connections(FakeReadiness(), PhaseLimits(), now=0.0)
        self.refused: list[Reason] = []
        self.admission = Admission(total=total, per_address=per_address)
        self.asked: list[str | None] = []  # for whom room was to be made
        self.make_room: Callable[[str | None], bool] = lambda address: False
        gate = Gate(self.admission.admit, self._make_room, [REFUSAL], self.refused.append)
        self.listener = Listener(self.socket, self.connections, gate)
        self.peers: list[socket.socket] = []

    def knock(self) -> socket.socket:
        peer = socket.create_connection(self.socket.getsockname())
        peer.setblocking(False)
        self.peers.append(peer)
        return peer

    def _make_room(self, address: str | None) -> bool:
        self.asked.append(address)
        return self.make_room(address)

    def close(self) -> None:
        self.listener.close()
        self.connections.close_all(Reason.DRAINING)
        for peer in self.peers:
            peer.close()
