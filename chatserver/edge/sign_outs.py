"""Ends the connections of those who have signed out, on every transport.

Owns: the search for them. May not: know who has signed out otherwise than by being told.

One search goes on at a time, in small steps behind everybody's messages; who signs out meanwhile is in the next one.
"""

from chatserver.api.session import WebSocketSession
from chatserver.chat.member import Member, PollWaiter
from chatserver.edge.expulsion import SEARCH_STEP, principal_of
from chatserver.edge.http import HttpExchanges
from chatserver.edge.websocket import WebSocketHandler
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
        self._place: int | None = None  # in the table, of the search that is under way

    def begin(self, number: int) -> None:
        """End what this person has open."""
        self._waiting.add(number)
        if self._place is None:
            self._start()

    def _start(self) -> None:
        self._numbers, self._waiting = self._waiting, set()
        self._place = 0
        self._connections.scheduler.submit(Priority.BULK, self._step, self)

    def _step(self, _: object) -> bool:
        """The next places of the table. True: there are more."""
        table, place = self._connections.table, self._place
        assert place is not None
        self._place = None  # a fault costs the rest of this search, and not the next one
        for connection in table[place : place + SEARCH_STEP]:
            if connection is not None:
                self._look(connection)
        if place + SEARCH_STEP < len(table):
            self._place = place + SEARCH_STEP
            return True
        if self._waiting:
            self._start()
        return False

    def _look(self, connection: Connection) -> None:
        principal = principal_of(connection.context)
        if principal is None or principal.number not in self._numbers:
            return
        if self._connections.step(connection, self._end):
            self._connections.resume(connection, later=True)

    def _end(self, connection: Connection) -> bool:
        """True: another request may be in the inbox."""
        match connection.context:
            case WebSocketSession():
                self._websockets.close(connection, Reason.EXPIRED, Reason.EXPIRED.sentence)
            case PollWaiter() as waiter:
                error = MessageError(ErrorCode.UNAUTHENTICATED, "signed out")
                return self._exchanges.refuse_held(connection, waiter, error)
            case Member():
                self._connections.finish(connection, Reason.EXPIRED)
        return False
