"""Why connections ended: counted always, written to the log at a bounded rate. Likewise what the message log failed.

Owns: the counts by reason, and those of refusals by error code. May not: end or refuse anything.
"""

import structlog

from chatserver.log.interface import LogError
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.reasons import ErrorCode, Reason

_log = structlog.get_logger("chatserver.edge")
#: Ends that are decided below the edge, where no line is logged.
_UNSEEN = frozenset((Reason.FLUSH_DEADLINE, Reason.EVICTED))


class CloseStats:
    def __init__(self, connections: Connections) -> None:
        self.closes: dict[Reason, int] = dict.fromkeys(Reason, 0)
        self.refusals: dict[ErrorCode, int] = dict.fromkeys(ErrorCode, 0)  # of whole requests and of commands
        self._connections = connections

    def closed(self, connection: Connection, reason: Reason) -> None:
        """Count a connection that has ended."""
        self.closes[reason] += 1
        if reason in _UNSEEN:
            self._connections.misbehaved(connection, reason, reason.sentence)

    def refused(self, reason: Reason, address: str) -> None:
        """Count and log a peer that was not admitted."""
        self.closes[reason] += 1
        self.tell_refused(reason, address)

    def tell_refused(self, reason: Reason, address: str) -> None:
        """Log a peer that was not admitted; the end of its connection is counted elsewhere."""
        self._connections.lines.write(_log.warning, "refused", reason=reason.label, peer=address)


def publish_failed(connections: Connections, error: LogError) -> None:
    """Log that the message log did not take a message: when a disk is full, that is every message."""
    connections.lines.write(_log.warning, "publish_failed", reason=type(error).__name__, detail=str(error))


def log_failed(connections: Connections, connection: Connection, error: LogError) -> None:
    """Log that the message log failed a request. The error text may name a room, so it is not the `reason`."""
    connections.lines.write(
        _log.warning, "log_failed", reason=type(error).__name__, peer=connection.address, detail=str(error)
    )
