"""Clients that have vanished without a FIN, and what the kernel knows of the servers' ends of connections.

Owns: the filter that drops what the server sends to a vanished client, and the questions to the kernel, which answers
them on the loopback only. May not: decide when a client vanishes.
"""

from collections import Counter

from loadgen import sockets
from loadgen.client import Client
from loadgen.sockets import SockDiag
from loadgen.target import Target


class Dark:
    """The clients of one engine that have vanished. It must be closed."""

    def __init__(self, target: Target, own_faults: Counter[str]) -> None:
        self.clients: set[Client] = set()
        self._own_faults = own_faults
        self._on_loopback = target.on_loopback
        self._sock_diag = SockDiag()

    def go(self, client: Client) -> None:
        try:
            sockets.deafen(client.fd)
        except PermissionError:
            self._own_faults["vanishing without a FIN needs CAP_NET_ADMIN on this machine"] += 1
        else:
            self.clients.add(client)

    def come_back(self, client: Client) -> None:
        if client in self.clients:
            self.clients.remove(client)
            sockets.undeafen(client.fd)

    def is_forgotten(self, client: Client) -> bool | None:
        return self._sock_diag.closed(client.fd) if self._on_loopback else None

    def written(self, client: Client) -> tuple[int, int] | None:
        return self._sock_diag.written(client.fd) if self._on_loopback else None

    def close(self) -> None:
        self._sock_diag.close()
