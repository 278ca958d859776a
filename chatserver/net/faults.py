"""The fault boundary: an unexpected exception ends the connection that it concerns, and no other.

Owns: the count of such bugs, their lines in the error log, the end of that connection. May not: raise.
Every method is called inside the `except` block.
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
    def __init__(self, connections: "Connections") -> None:
        self.count = 0  # bugs of ours that ended a connection, a room's pass or a housekeeping round
        self._connections = connections

    def caught(self, item: object) -> None:
        """A step has raised: end its item if that is a connection, otherwise only log the bug."""
        if isinstance(item, Connection):
            self.end(item)
        else:
            self.count += 1
            bug = type(sys.exception()).__name__
            self._connections.lines.write(_log.exception, "fault", reason=bug, item=type(item).__name__)

    def end(self, connection: Connection, *, excuse: bool = True) -> None:
        """End the connection. The peer is sent an error, unless the code that would send it has just failed."""
        self.count += 1
        self._tell(connection, "fault")
        close = partial(self._connections.close, reason=Reason.INTERNAL_ERROR)
        for end in (self._excuse, close) if excuse else (close,):
            try:
                end(connection)
            except Exception:  # noqa: BLE001
                # The same bug may break the close too. `close` gives the descriptor back even then.
                self._tell(connection, "fault_in_close")
            else:
                return

    def _tell(self, connection: Connection, event: str) -> None:
        bug = type(sys.exception()).__name__
        self._connections.lines.write(
            _log.exception, event, reason=bug, peer=connection.address, phase=connection.state.name
        )

    def _excuse(self, connection: Connection) -> None:
        """End a connection with an error from its handler, if it has one; close it if it was ending already."""
        connections = self._connections
        if connection.descriptor >= 0 and connection.state not in ENDING:
            connections.handlers[connection.state].faulted(connection)
            if connection.state is State.CLOSING:
                connections.arm(connection)
                return
        connections.close(connection, Reason.INTERNAL_ERROR)
