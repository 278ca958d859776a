"""Lines about requests that we could not serve: so many a second of each kind, since a peer may ask for more of them.

Owns: the words. May not: answer. While a disk is full each request of everybody fails, and who has met a bug of ours
may know how to meet it again. What was left out is reported as a number (`Limiter`).
"""

import sys

import structlog

from chatserver.log.interface import LogError
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections

_log = structlog.get_logger("chatserver.edge")


def tell_log_failed(connections: Connections, connection: Connection, error: LogError) -> None:
    """The log could not do what a request needs. Its words may name a room, which is why they are no `reason`."""
    connections.lines.write(
        _log.warning, "log_failed", reason=type(error).__name__, peer=connection.address, detail=str(error)
    )


def tell_fault(connections: Connections, connection: Connection) -> None:
    """A bug of ours in a task, to be called where its exception is caught, that costs the request and no more."""
    connections.lines.write(
        _log.exception, "fault", reason=type(sys.exception()).__name__, peer=connection.address,
        phase=connection.phase.name,
    )  # fmt: skip
