"""Parked connections from several networks, and the gate that ends some of them for others.

Owns: that. May not: come in by itself; a test lets in.
"""

import socket

from chatserver.net.admission import Admission
from chatserver.net.connection import Connection, network_of
from chatserver.net.states import State
from chatserver.reasons import Reason
from tests.support.parked import Parked

FAREWELL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n"


class House(Parked):
    """Parked connections from several networks, and the gate."""

    def __init__(self, total: int = 1000) -> None:
        super().__init__(per_ip=0)
        self.admission = Admission(self.connections, self.settings, total=total, farewells=[FAREWELL])

    def _closed(self, connection: Connection, reason: Reason) -> None:
        super()._closed(connection, reason)
        self.admission.release(connection.network)

    def let_in(
        self, address: str, state: State = State.HEAD, *, sent: bytes = b""
    ) -> tuple[Connection, socket.socket]:  # fmt: skip
        """A connection that was admitted; `admit` must not be short of places, or it reclaims."""
        self.admission._by_network[network_of(address)] = self.admission._by_network.get(network_of(address), 0) + 1
        self.admission.held += 1
        connection, peer = self.place(state, address=address, small=False)
        connection.inbox = sent
        return connection, peer

    def comes(self, address: str) -> bool:
        """Whether room is made for a newcomer from there."""
        return self.admission._make_room(self.admission._by_network.get(network_of(address), 0))

    def reasons(self) -> list[object]:
        return self.details("closed")
