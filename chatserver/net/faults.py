"""The fault boundary: a bug of ours costs what it broke, and nobody else.

Owns: the count of such bugs, their lines in the error log, the end of the connection that one broke. May not: raise.
Every method is called where the exception is being handled.
"""

import sys
from functools import partial
from typing import TYPE_CHECKING

import structlog

from chatserver.net.connection import Connection
from chatserver.net.states import ENDING, State
from chatserver.reasons import Reason

if TYPE_CHECKING:
    from chatserver.net.connections import Connections

_log = structlog.get_logger("chatserver.net")


class Faults:
    """What was raised and should not have been."""

    def __init__(self, connections: "Connections") -> None:
        self.count = 0  # bugs of ours that ended a connection, a room's pass or a housekeeping round
        self._connections = connections

    def caught(self, item: object) -> None:
        """The step of an item of the scheduler has raised: a connection is ended, anything else goes on."""
        if isinstance(item, Connection):
            self.end(item)
        else:
            self.count += 1
            bug = type(sys.exception()).__name__
            self._connections.lines.write(_log.exception, "fault", reason=bug, item=type(item).__name__)

    def end(self, connection: Connection, *, excuse: bool = True) -> None:
        """End the connection; with an excuse to the peer, unless the excuse would be written by what has failed."""
        self.count += 1
        self._tell(connection, "fault")
        close = partial(self._connections.close, reason=Reason.INTERNAL_ERROR)
        for end in (self._excuse, close) if excuse else (close,):
            try:
                end(connection)
            except Exception:  # noqa: BLE001
                # What broke may break its end as well. `close` takes the descriptor all the same; the others live.
                self._tell(connection, "fault_in_close")
            else:
                return

    def _tell(self, connection: Connection, event: str) -> None:
        bug = type(sys.exception()).__name__
        self._connections.lines.write(
            _log.exception, event, reason=bug, peer=connection.address, phase=connection.state.name
        )

    def _excuse(self, connection: Connection) -> None:
        """End it with a word of ours, if its handler has one; a fault while it was ending anyway just ends it."""
        connections = self._connections
        if connection.descriptor >= 0 and connection.state not in ENDING:
            connections.handler(connection).faulted(connection)
            if connection.state is State.CLOSING:
                connections.arm(connection)
                return
        connections.close(connection, Reason.INTERNAL_ERROR)
