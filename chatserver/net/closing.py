"""The end of a connection: `CLOSING` and `LINGERING`.

Owns: what a peer's bytes, its FIN and its deadline mean once we have nothing more to say. May not: decide to close.
"""

from chatserver.net.connection import Closing, Connection
from chatserver.net.handler import Handler, context_of
from chatserver.net.states import State
from chatserver.reasons import Reason

#: Orderly closes: if the peer does not finish one in time, it counts as CLOSE_DEADLINE instead.
_GOOD_ENDS = frozenset((Reason.DONE, Reason.PEER_CLOSED, Reason.DRAINING))
#: Bytes that are read and dropped if a peer goes on sending during `CLOSING`: a whole body of the default
#: --max-body-bytes. Beyond that the peer is not read, which costs nothing, and it can still read our last bytes.
LINGER_BYTES = 64 * 1024


class ClosingHandler(Handler):
    """`CLOSING` and `LINGERING`: input is read and dropped, since unread input would cause an RST.

    That RST could destroy our last bytes on their way.
    """

    def received(self, connection: Connection, data: bytes) -> None:
        """Drop input up to LINGER_BYTES; then stop reading."""
        closing = context_of(connection, Closing)
        closing.dropped += len(data)
        if closing.dropped >= LINGER_BYTES:
            span = max(connection.deadline - self._connections.wheel.current - 1, 0)
            self._connections.enter(connection, State.LINGERING, closing, span=span)

    def lacking(self, connection: Connection) -> int:
        """Large, so that input is read in large pieces: it is dropped anyway."""
        return LINGER_BYTES

    def ended(self, connection: Connection) -> None:
        """The peer's FIN or reset: the close is over, for the reason that began it."""
        self._connections.close(connection, context_of(connection, Closing).reason)

    def writable(self, connection: Connection) -> None:
        self._connections.end_writing(connection)

    def expired(self, connection: Connection) -> None:
        """The reason that began the close counts, unless the close was orderly."""
        reason = context_of(connection, Closing).reason
        self._connections.close(connection, Reason.CLOSE_DEADLINE if reason in _GOOD_ENDS else reason)
