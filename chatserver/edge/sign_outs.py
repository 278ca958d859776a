"""Ends the connections of users who have signed out, on every transport.

Owns: the search for them. May not: know of sign-outs other than by calls of `begin`.

One search runs at a time, in small steps in `BULK`; users who sign out during it are left for the next search.
"""

from collections.abc import Iterator
from functools import partial

from chatserver.api.session import WebSocketSession
from chatserver.chat.member import Member, PollWaiter
from chatserver.chat.principal import Principal
from chatserver.edge.enforcement import search
from chatserver.edge.http import HttpExchanges
from chatserver.edge.websocket import WebSocketHandler
from chatserver.fair import LongWork
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.states import Priority
from chatserver.protocol.errors import MessageError
from chatserver.reasons import ErrorCode, Reason


class SignOutSearch:
    """See the module."""

    def __init__(self, connections: Connections, exchanges: HttpExchanges, websockets: WebSocketHandler) -> None:
        self._connections = connections
        self._run = LongWork(self._search, partial(connections.scheduler.submit, Priority.BULK), self)
        self._exchanges = exchanges
        self._websockets = websockets
        self._numbers: set[int] = set()  # of this search
        self._waiting: set[int] = set()  # for the next one

    def begin(self, number: int) -> None:
        """End all connections of this person."""
        self._waiting.add(number)
        self._run.begin()

    def _search(self) -> Iterator[None]:
        while self._waiting:
            self._numbers, self._waiting = self._waiting, set()
            yield from search(self._connections, self._concerns, self._end)

    def _concerns(self, principal: Principal) -> bool:
        return principal.number in self._numbers

    def _end(self, connection: Connection) -> None:
        """End a connection, or refuse what it waits for."""
        match connection.context:
            case WebSocketSession():
                self._websockets.close(connection, Reason.EXPIRED, Reason.EXPIRED.sentence)
            case PollWaiter() as waiter:
                error = MessageError(ErrorCode.UNAUTHENTICATED, "signed out")
                self._exchanges.refuse_held(connection, waiter, error)
            case Member():
                self._connections.finish(connection, Reason.EXPIRED)
