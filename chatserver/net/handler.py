"""Handlers of the states: the interface, its defaults, and the context of a connection by its type.

Owns: the interface. May not: know any state. A handler is a singleton that serves all connections in its state; data
of one connection is in its context, or in a table of the handler if only few have it. Every call is synchronous, and
made inside a fault boundary. A handler that leaves work for another step calls `Connections.resume`.
"""

from typing import TYPE_CHECKING, ClassVar, TypeVar

from chatserver.net.connection import Connection
from chatserver.reasons import Reason

if TYPE_CHECKING:
    from chatserver.net.connections import Connections


Context = TypeVar("Context")


def context_of(connection: Connection, kind: type[Context]) -> Context:
    """The context of a connection in a state to which this type is bound."""
    context = connection.context
    assert isinstance(context, kind), f"{connection.state.name} is entered with a {kind.__name__}"
    return context


class Handler:
    """A handler that expects nothing and keeps nothing; override what a state needs."""

    #: Whether a peer that has taken all that was kept is read once before `writable`, which may keep more at once: so
    #: a peer that reads more slowly than we write is heard, too.
    reads_between: ClassVar[bool] = False

    def __init__(self, connections: "Connections") -> None:
        self._connections = connections

    def received(self, connection: Connection, data: bytes) -> None:
        """Bytes arrived."""
        raise AssertionError(f"{connection.state.name} is not read")

    def lacking(self, connection: Connection) -> int:
        """Bytes announced but not yet received; asked only in states whose row has `announces`."""
        return 0

    def ended(self, connection: Connection) -> None:
        """The peer sent FIN."""
        self._connections.close(connection, Reason.PEER_CLOSED)

    def writable(self, connection: Connection) -> None:
        """All kept bytes are written, or a flush window ends without any."""

    def expired(self, connection: Connection) -> None:
        """The deadline of its state has passed."""
        raise AssertionError(f"{connection.state.name} has no handler for its deadline")

    def resumed(self, connection: Connection) -> None:
        """Go on: with input that is here already, or since what it waited for may have come."""

    def faulted(self, connection: Connection) -> None:
        """A step for this connection raised. `finish` it with an error, or do nothing: then it is closed."""

    def released(self, connection: Connection, context: object) -> None:
        """Give back what its context holds: the context is replaced, or the connection closed."""
