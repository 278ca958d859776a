"""The states in which an HTTP connection waits after its request: `THROTTLED`, `PAUSED`, `HELD`, `STREAM`.

Owns: the meaning of a peer's bytes, its FIN and its deadline there. May not: make or send an answer.
"""

from chatserver.chat.hub import Hub
from chatserver.chat.member import Member, PollWaiter
from chatserver.chat.room import Room
from chatserver.edge.http import HttpExchanges
from chatserver.edge.requests import HttpHandler
from chatserver.edge.responses import Responder
from chatserver.meters import TokenBucket
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.handler import context_of
from chatserver.net.states import State
from chatserver.protocol import sse
from chatserver.reasons import Reason

#: Bytes that the client of an event stream may send after its request, and one more each second. It has no need to;
#: beyond them the stream ends.
MAX_STREAM_BYTES = 64 * 1024


class ThrottledHandler(HttpHandler):
    """`THROTTLED`: no context; the peer is not read."""

    def __init__(self, connections: Connections, responder: Responder) -> None:
        super().__init__(connections)
        self._responder = responder

    def resumed(self, connection: Connection) -> None:
        self._connections.enter(connection, State.KEEPALIVE)
        self._responder.go_on(connection)

    expired = resumed  # the pause is over


class PausedHandler(ThrottledHandler):
    """`PAUSED`: the context is the room; the publisher is resumed once its members have been offered the messages."""

    def released(self, connection: Connection, context: object) -> None:
        """The publisher no longer waits for the room."""
        assert isinstance(context, Room)
        context.forget_publisher(connection)


class ReceiverHandler(HttpHandler):
    """The base of the handlers of receivers: held polls and event streams."""

    def __init__(self, connections: Connections, exchanges: HttpExchanges, hub: Hub) -> None:
        super().__init__(connections)
        self._exchanges = exchanges
        self._hub = hub


class HeldHandler(ReceiverHandler):
    """`HELD`: the context is the poll."""

    def received(self, connection: Connection, data: bytes) -> None:
        """The next request was sent ahead: answer the poll at once."""
        waiter = context_of(connection, PollWaiter)
        if not self._connections.keep_ahead(connection, data):
            waiter.keep_alive = False
        self._exchanges.answer_held(connection, waiter)

    def ended(self, connection: Connection) -> None:
        """The peer is gone, or has only shut down its sending side. In both cases: answer at once, then close."""
        waiter = context_of(connection, PollWaiter)
        waiter.keep_alive = False
        self._exchanges.answer_held(connection, waiter)

    def expired(self, connection: Connection) -> None:
        """Answer: there is news, or the time of the poll is over."""
        self._exchanges.answer_held(connection, context_of(connection, PollWaiter))

    def released(self, connection: Connection, context: object) -> None:
        assert isinstance(context, PollWaiter)
        self._hub.release(context)


class StreamHandler(ReceiverHandler):
    """`STREAM`: the context is the member."""

    _bucket = TokenBucket(1, burst=MAX_STREAM_BYTES)

    def received(self, connection: Connection, data: bytes) -> None:
        """Read and drop bytes after the request, so that the FIN behind them is seen."""
        now = self._connections.wheel.microseconds
        connection.rate = self._bucket.spend(connection.rate, now, len(data))
        if self._bucket.over(connection.rate, now):
            self._connections.misbehaved(connection, Reason.FLOOD, "bytes behind the request of an event stream")
            self._connections.close(connection, Reason.FLOOD)

    def writable(self, connection: Connection) -> None:
        """The peer has taken the kept bytes: offer the messages that the member still lacks."""
        member = context_of(connection, Member)
        if not self._has_ended(connection, member):
            self._hub.writable(member)

    def _has_ended(self, connection: Connection, member: Member) -> bool:
        """End the stream if the sign-in of its user has expired; returns whether it has."""
        if member.room.members[member].seconds_left > 0:
            return False
        self._connections.finish(connection, Reason.EXPIRED)
        return True

    def expired(self, connection: Connection) -> None:
        """Time for a heartbeat; the next one may come at the end of a flush window, if that is later."""
        member = context_of(connection, Member)
        if self._has_ended(connection, member):
            return
        self._exchanges.stream_on(connection, member)
        self._connections.judge.takes_over(connection, then=1)  # the peer may be gone: do not send to it for ever
        self._connections.send(connection, sse.HEARTBEAT)  # last, since the send may close the connection

    def faulted(self, connection: Connection) -> None:
        """A bug of ours: the stream ends, and its client reconnects."""
        self._connections.finish(connection, Reason.INTERNAL_ERROR)

    def released(self, connection: Connection, context: object) -> None:
        assert isinstance(context, Member)
        self._hub.lost(context)
