"""Parked connections from several networks, and the admission that evicts some for others."""

import socket

from chatserver.net.connection import Connection, network_of
from chatserver.net.states import State
from tests.support.parked import Parked


class House(Parked):
    def let_in(
        self, address: str, state: State = State.HEAD, *, sent: bytes = b""
    ) -> tuple[Connection, socket.socket]:  # fmt: skip
        """Admit a connection; with few places left this evicts others."""
        connection, peer = self.place(state, address=address, small=False)
        connection.inbox = sent
        return connection, peer

    def comes(self, address: str) -> bool:
        """Whether room is made for a newcomer from this address."""
        return self.admission.make_room(self.admission._by_network.get(network_of(address), 0))

    def reasons(self) -> list[object]:
        return self.details("closed")
