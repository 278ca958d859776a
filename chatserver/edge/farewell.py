"""Sends connections away when the server stops.

Owns: what the peer of each kind of connection is told. May not: know how long a drain takes; server.py does.
"""

import math

from chatserver.api.origins import OriginPolicy
from chatserver.api.websocket_session import WebSocketSession
from chatserver.chat.member import Member, PollWaiter
from chatserver.chat.room import Room
from chatserver.edge.requests import sent_of
from chatserver.edge.responses import RESTARTING, Exchange, return_after
from chatserver.edge.websocket import WebSocketHandler
from chatserver.net import sockets
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.states import ROWS, Reclaim, State
from chatserver.net.tls_transport import TlsTransport
from chatserver.protocol import sse
from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import origin_in
from chatserver.protocol.response import error_response, retry_after
from chatserver.reasons import ErrorCode, Reason


class Farewell:
    def __init__(self, connections: Connections, policy: OriginPolicy, websockets: WebSocketHandler) -> None:
        self._connections = connections
        self._policy = policy
        self._websockets = websockets

    def send_away(self, connection: Connection) -> None:
        """Answer a held request, close an idle connection, and tell any other peer when to come back."""
        after = return_after()
        self._connections.hurry(connection)
        match connection.context:  # after `hurry`, which may find that the peer is gone
            case WebSocketSession():
                self._websockets.drain(connection, after)
            case PollWaiter():
                self._connections.handlers[connection.state].expired(connection)
            case Exchange() as exchange:
                exchange.keep_alive = False
            case Member():  # a browser reconnects by itself, after the last `retry` that it received
                self._connections.finish(connection, Reason.DRAINING, sse.retry_field(math.ceil(after * 1000)))
            case None | Room() | TlsTransport() if connection.descriptor >= 0:
                self._end_between_requests(connection)

    def _end_between_requests(self, connection: Connection) -> None:
        """End it now, unless a request came in time, to be answered. Half a head holds no stop: nothing of it is done.

        nginx waits for its client_header_timeout; Go's server, and so Caddy, 5 s for a connection's first head.
        """
        if connection.inbox and ROWS[connection.state].reclaim is not Reclaim.ASKING:
            return
        if connection.blocked:
            self._connections.finish(connection, Reason.DRAINING)
        elif sockets.unread(connection.descriptor):
            return
        elif connection.state is State.HEAD and connection.inbox:
            self.cut_short(connection)
        else:
            self._connections.close(connection, Reason.DRAINING)

    def cut_short(self, connection: Connection) -> None:
        """Answer an incomplete request with when to send it again, since the server stops before it is complete."""
        if connection.state in (State.HEAD, State.BODY) and not connection.blocked:
            headers = self._policy.cors(origin_in(sent_of(connection))) + retry_after(return_after())
            wire = error_response(HttpError(ErrorCode.DRAINING, RESTARTING), headers=headers)
            self._connections.finish(connection, Reason.DRAINING, wire)
