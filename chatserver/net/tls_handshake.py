"""The states `TLS_HELLO` and `TLS_HANDSHAKE`: from the first byte to an encrypted connection.

Owns: the handshakes under way. May not: know what plaintext means.

Only a whole ClientHello is given to OpenSSL: until then a peer costs only the bytes it has sent. From then on until its
handshake is over it costs 43 KB, so MAX_HALF_OPEN are under way at most: one more evicts the worst few of them, as
admission ranks them. A hello is the only step that may take longer than half a millisecond, since our signature takes
0.3 to 0.7 ms. So both states are `BULK`: about one step in each round.
"""

import socket
from collections.abc import Callable, Iterable

from chatserver.net import sockets
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.handler import Handler, context_of
from chatserver.net.states import State
from chatserver.net.tls import Received, TlsEngine, TlsError
from chatserver.net.tls_records import REFUSAL, RecordError, hello_is_whole, whole_records
from chatserver.net.tls_transport import TlsTransport
from chatserver.reasons import Reason

#: Handshakes under way at a time: each costs 43 KB of OpenSSL's memory, 11 MB in all (44 MB if each announces a second
#: ClientHello of the largest size, after a HelloRetryRequest). A core begins some 500 a second, so peers up to half a
#: second away all have room. FreeBSD's syncache is bounded in the same way.
MAX_HALF_OPEN = 256
#: Handshakes of crowds that are evicted together for one more: to rank 256 takes 0.1 ms, a quarter of a handshake.
EVICTED_AT_ONCE = 8


class Handshakes(Handler):
    """`TLS_HELLO`: the hello is gathered in the inbox. `TLS_HANDSHAKE`: the context is the future transport."""

    def __init__(
        self, connections: Connections, engine: TlsEngine, *,
        worst_of: Callable[[Iterable[Connection], int], list[Connection]], plain_answer: Callable[[], bytes],
    ) -> None:  # fmt: skip
        super().__init__(connections)
        self.half_open: dict[Connection, None] = {}
        self.completed = 0
        self.engine = engine
        self._budget = connections.input_budget
        self._worst_of = worst_of
        self._plain_answer = plain_answer  # for a peer that speaks plain HTTP to us

    def received(self, connection: Connection, data: bytes) -> None:
        """Bytes of a hello, or records of a handshake and perhaps the first ones after it."""
        try:
            if connection.state is State.TLS_HELLO:
                connection.inbox = data = connection.inbox + data
                if not hello_is_whole(data):
                    if not self._budget.resize(connection, len(data), connection.network):
                        self._fail(connection, "too many ClientHellos are unfinished", REFUSAL, Reason.UNFINISHED_FULL)
                    return
                self._begin(connection)
            self._go_on(connection, context_of(connection, TlsTransport), data)
        except RecordError as error:
            self._fail(connection, str(error), b"")
        except TlsError as error:
            self._fail(connection, str(error), error.reply)

    def _begin(self, connection: Connection) -> None:
        """Begin the handshake of a connection whose ClientHello is complete."""
        self._budget.release(connection)
        connection.inbox = b""
        if len(self.half_open) >= MAX_HALF_OPEN:
            for each in self._worst_of(self.half_open, EVICTED_AT_ONCE):
                self._connections.step(each, self._connections.close, Reason.EVICTED)
        transport = TlsTransport(self.engine, self._budget, self.engine.accept())
        left = max(connection.deadline - self._connections.wheel.current - 1, 0)  # the deadline is not extended
        self.half_open[connection] = None
        self._connections.enter(connection, State.TLS_HANDSHAKE, transport, span=left)

    def _go_on(self, connection: Connection, transport: TlsTransport, data: bytes) -> None:
        sealed = transport.sealed + data
        _, end = whole_records(sealed)
        transport.sealed = sealed[end:]
        if not self._budget.resize(transport, len(transport.sealed), connection.network):
            self._fail(connection, "too many records are unfinished", REFUSAL, Reason.UNFINISHED_FULL)
            return
        if not end:
            return
        done, received = self.engine.handshake(transport.tls, sealed[:end])
        if received.reply:
            self._connections.send(connection, received.reply)
        if done:
            self._secured(connection, transport, received)

    def _secured(self, connection: Connection, transport: TlsTransport, received: Received) -> None:
        if connection.descriptor < 0:
            return
        self.completed += 1
        connection.context = None  # the transport stays: it is not released
        self.half_open.pop(connection, None)
        self._connections.enter(connection, State.HEAD)
        connection.transport = transport
        backlog = connection.backlog
        if backlog is not None:  # its chunks are the end of the handshake, encrypted already
            transport.unsent = b"".join(backlog.chunks)[backlog.position :]
            backlog.chunks.clear()
        if received.ended:
            sockets.shutdown(connection.descriptor, socket.SHUT_RD)
        if received.plaintext:
            self._connections.handlers[connection.state].received(connection, received.plaintext)

    def _fail(self, connection: Connection, message: str, last: bytes, reason: Reason = Reason.TLS_FAILED) -> None:
        """Close a connection whose handshake failed, after `last` (plain HTTP gets an answer in plain HTTP)."""
        if connection.inbox[:1].isalpha():
            last = self._plain_answer()
        self._connections.misbehaved(connection, reason, message)
        self._connections.finish(connection, reason, last)

    def expired(self, connection: Connection) -> None:
        """Close a connection whose handshake is not over in time; no alert is sent."""
        begun = "no whole ClientHello" if connection.state is State.TLS_HELLO else "the handshake was begun"
        self._connections.misbehaved(connection, Reason.TLS_DEADLINE, begun)
        self._connections.close(connection, Reason.TLS_DEADLINE)

    def released(self, connection: Connection, context: object) -> None:
        assert isinstance(context, TlsTransport)
        self.half_open.pop(connection, None)
        context.released()
