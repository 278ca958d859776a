"""Ends the connections of users who have signed out, on every transport.

Owns: the search for them. May not: know of sign-outs other than by calls of `begin`.

One search runs at a time, in small steps in `BULK`; users who sign out during it are left for the next search.
"""

from time import perf_counter

from chatserver.api.session import WebSocketSession
from chatserver.chat.member import Member, PollWaiter
from chatserver.edge.enforcement import SEARCH_STEP, principal_of
from chatserver.edge.http import HttpExchanges
from chatserver.edge.websocket import WebSocketHandler
from chatserver.fair import STEP
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.states import Priority
from chatserver.protocol.errors import MessageError
from chatserver.reasons import ErrorCode, Reason


class SignOutSearch:
    """See the module."""

    def __init__(self, connections: Connections, exchanges: HttpExchanges, websockets: WebSocketHandler) -> None:
        self._connections = connections
        self._exchanges = exchanges
        self._websockets = websockets
        self._numbers: set[int] = set()  # of this search
        self._waiting: set[int] = set()  # for the next one
        self._place: int | None = None  # next place in the table, of the search under way

    def begin(self, number: int) -> None:
        """End all connections of this person."""
        self._waiting.add(number)
        if self._place is None:
            self._start()

    def _start(self) -> None:
        self._numbers, self._waiting = self._waiting, set()
        self._place = 0
        self._connections.scheduler.submit(Priority.BULK, self._step, self)

    def _step(self, _: object) -> bool:
        """Search the next places of the table. True: there are more."""
        table, place = self._connections.table, self._place
        assert place is not None
        self._place = None  # an exception ends this search, but not the next one
        end, until = min(place + SEARCH_STEP, len(table)), perf_counter() + STEP
        while place < end:
            connection = table[place]
            place += 1
            if connection is not None and self._ended(connection) and perf_counter() >= until:
                break
        if place < len(table):
            self._place = place
            return True
        if self._waiting:
            self._start()
        return False

    def _ended(self, connection: Connection) -> bool:
        """Whether the connection is of one of these users; if so, it has been ended."""
        principal = principal_of(connection.context)
        if principal is None or principal.number not in self._numbers:
            return False
        if self._connections.step(connection, self._end):
            self._connections.resume(connection, later=True)
        return True

    def _end(self, connection: Connection) -> bool:
        """End a connection. True: another request may be in the inbox."""
        match connection.context:
            case WebSocketSession():
                self._websockets.close(connection, Reason.EXPIRED, Reason.EXPIRED.sentence)
            case PollWaiter() as waiter:
                error = MessageError(ErrorCode.UNAUTHENTICATED, "signed out")
                return self._exchanges.refuse_held(connection, waiter, error)
            case Member():
                self._connections.finish(connection, Reason.EXPIRED)
        return False
