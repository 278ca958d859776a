"""The end of a connection: `CLOSING` and `LINGERING`.

Owns: what a peer's last bytes, its FIN and the end of its time mean when all is said. May not: decide that it ends.
"""

from chatserver.net.connection import Closing, Connection
from chatserver.net.handler import Handler
from chatserver.net.states import State
from chatserver.reasons import Reason

#: Closes begun in good order: if the peer does not finish them, that is what there is to say of it.
_GOOD_ENDS = frozenset((Reason.DONE, Reason.PEER_CLOSED, Reason.DRAINING))
#: Bytes read and dropped of a peer that goes on sending after its end, until `CLOSING` is over: a whole body of the
#: largest size allowed. Beyond that it is not read, which costs nothing, and it can still read what we said.
LINGER_BYTES = 64 * 1024


class ClosingHandler(Handler):
    """`CLOSING` and `LINGERING`: all is said, or about to be; what comes is dropped, so that no RST destroys it."""

    def received(self, connection: Connection, data: bytes) -> bool:
        """Drop it; so much of it, and no more."""
        closing = _closing(connection)
        closing.dropped += len(data)
        if closing.dropped >= LINGER_BYTES:
            span = max(connection.deadline - self._connections.wheel.current - 1, 0)
            self._connections.enter(connection, State.LINGERING, closing, span=span)
        return False

    def lacking(self, connection: Connection) -> int:
        """As if all that may come were announced: it is dropped, so it may be read in large pieces."""
        return LINGER_BYTES

    def ended(self, connection: Connection) -> None:
        """The peer's FIN, or its reset, which is only how it took the end."""
        self._connections.close(connection, _closing(connection).reason)

    def writable(self, connection: Connection) -> bool:
        """Its last bytes are on their way."""
        self._connections.end_writing(connection)
        return False

    def expired(self, connection: Connection) -> None:
        """What began the close counts, unless that was nothing bad and this is worse."""
        reason = _closing(connection).reason
        self._connections.close(connection, Reason.CLOSE_DEADLINE if reason in _GOOD_ENDS else reason)


def _closing(connection: Connection) -> Closing:
    closing = connection.context
    assert isinstance(closing, Closing), "CLOSING is only entered with its reason"
    return closing
