"""What attends to a connection in a state: the interface, and what most handlers do alike.

Owns: the shape. May not: know any state's business. Handlers are shared, stateless singletons: what they need of a
connection is its context. Every call is synchronous, and made inside a fault boundary.
"""

from typing import TYPE_CHECKING

from chatserver.net.connection import Connection
from chatserver.reasons import Reason

if TYPE_CHECKING:
    from chatserver.net.connections import Connections


class Handler:
    """A handler that expects nothing and keeps nothing; override what a state needs."""

    def __init__(self, connections: "Connections") -> None:
        self._connections = connections

    def received(self, connection: Connection, data: bytes) -> bool:
        """Bytes came. True: there is more to do with what is here already, in another step (`resumed`)."""
        raise AssertionError(f"{connection.state.name} is not read")

    def lacking(self, connection: Connection) -> int:
        """Bytes that what is under way has announced and not brought; asked in states that announce."""
        return 0

    def ended(self, connection: Connection) -> None:
        """The peer sent FIN."""
        self._connections.close(connection, Reason.PEER_CLOSED)

    def writable(self, connection: Connection) -> bool:
        """All that was kept has been written. True as of `received`."""
        return False

    def expired(self, connection: Connection) -> None:
        """The deadline of its state has passed."""
        raise AssertionError(f"nobody attends to the end of {connection.state.name}")

    def resumed(self, connection: Connection) -> bool:
        """Go on with what is here already. True: in yet another step."""
        return False

    def faulted(self, connection: Connection) -> None:
        """A bug of ours in attending to it: `finish` it with an excuse, or do nothing, and it is closed."""

    def released(self, connection: Connection, context: object) -> None:
        """Its context goes, because another takes its place or the connection is closed: give back what it holds."""
