"""A listener without a poller: the test calls `accept`.

Owns: the listening socket, peers that knock, and the admission's clock. May not: decide who comes in.
"""

import socket
from typing import Any

from chatserver.net.admission import Admission
from chatserver.net.connection import Connection
from chatserver.net.listener import Listener, bind
from chatserver.reasons import Reason
from tests.support.attended import REFUSAL
from tests.support.parked import Parked


class Door(Parked):
    """Whom it let in, and whom it refused."""

    def __init__(self, *, total: int = 1000, **settings: Any) -> None:
        super().__init__(**{"per_ip": 0, **settings})
        self.socket = bind("127.0.0.1", 0, send_buffer=0)
        self.refused: list[Reason] = []
        self.admission = Admission(self.connections, self.settings, total=total, farewells=[REFUSAL])
        self.listener = Listener(
            self.socket, self.connections, self.admission, refusals=[REFUSAL], refused=self.refused.append
        )  # fmt: skip

    def _closed(self, connection: Connection, reason: Reason) -> None:
        super()._closed(connection, reason)
        self.admission.release(connection.network)

    def knock(self) -> socket.socket:
        peer = socket.create_connection(self.socket.getsockname())
        peer.setblocking(False)
        self.peers.append(peer)
        return peer

    def inside(self) -> list[Connection]:
        """Those who were let in, and have not gone."""
        return [connection for connection in self.connections.table if connection is not None]

    def close(self) -> None:
        self.listener.close()
        super().close()
