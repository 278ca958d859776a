"""What lies between the poller and the edge: an attendant around another.

Owns: the passing on. May not: do anything by itself. A layer (TLS, the PROXY header) attends to the phases that are its
own, and overrides no more than it needs. A server without such layers has none in its way.
"""

from chatserver.net.connection import Connection
from chatserver.net.connections import Attendant
from chatserver.reasons import Reason


class Layer:
    """`Attendant` that passes everything on."""

    def __init__(self, inner: Attendant) -> None:
        self.inner = inner

    def received(self, connection: Connection, data: bytes) -> None:
        """Bytes came."""
        self.inner.received(connection, data)

    def lacking(self, connection: Connection) -> int:
        """Bytes it has yet to send."""
        return self.inner.lacking(connection)

    def ended(self, connection: Connection) -> None:
        """FIN."""
        self.inner.ended(connection)

    def drained(self, connection: Connection) -> None:
        """The peer has taken everything."""
        self.inner.drained(connection)

    def expired(self, connection: Connection) -> None:
        """Its deadline has passed."""
        self.inner.expired(connection)

    def resumed(self, connection: Connection) -> None:
        """Its turn has come."""
        self.inner.resumed(connection)

    def faulted(self, connection: Connection) -> None:
        """A bug of ours."""
        self.inner.faulted(connection)

    def closed(self, connection: Connection, reason: Reason) -> None:
        """Gone."""
        self.inner.closed(connection, reason)
