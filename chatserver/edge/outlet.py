"""What chat sees of the connections: `chat.member.Outlet` over `net.connections`.

Owns: the one place where chat's opaque connection is a `Connection` again. May not: add a call on the hot path; the
methods *are* those of `Connections`.
"""

from collections.abc import Callable
from typing import cast

from chatserver.chat.member import Hold, Outlet
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections


class ConnectionOutlet:
    """Made before the edge; `answer_with` is set once the edge exists."""

    def __init__(self, connections: Connections) -> None:
        self.offer = connections.offer
        self.offer_each = connections.offer_each
        self.keep = connections.keep
        self.send = connections.send
        self.blocked = connections.blocked
        self.resume = connections.again
        self.fault = connections.fault
        self._connections = connections
        self.answer_with: Callable[[Hold], None] = _not_yet

    def answer(self, hold: Hold, *, herd: bool) -> None:
        """News for a held poll. A fault of ours in answering it must not end the pump."""
        connection = cast(Connection, hold.connection)
        try:
            self.answer_with(hold)
            if herd:
                self._connections.defer(connection)
        except Exception:  # noqa: BLE001
            self._connections.fault(connection)

    def crowded(self) -> bool:
        """Whether more peers wait to be attended to than can be in one pass."""
        return self._connections.crowded

    def as_outlet(self) -> Outlet:
        """The same as chat types it: a connection is any object there, always one of ours here."""
        return cast(Outlet, self)


def _not_yet(hold: Hold) -> None:
    raise AssertionError("a poll was answered before the edge was built")
