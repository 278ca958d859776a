"""Between the poller and whoever attends to plaintext: handshakes, and the opening of what comes.

Owns: the phase `TLS`, the read side of TLS, the turn that each handshake waits for. May not: know what plaintext means.

    poller -> TlsAttendant.received(ciphertext) -> inner.received(plaintext)

A ClientHello is gathered as bytes, and only a whole one is given to OpenSSL: until then a peer has cost what it has
sent. A hello is also the one step that is dear, 0.3 to 0.7 ms for our signature, so hellos wait in a queue, from which
a few are taken in each pass of the loop: a flood of them delays newcomers, and nobody who is in.

From its hello on, and until its handshake is over, a peer costs us 43 KB of OpenSSL's. So only so many are half-way at
a time: one more, and the longest of the most crowded network goes for it.

close_notify is turned into what it stands for, the end of reading on the descriptor: the kernel then reports it as
often as it is asked, as it does for FIN, and whoever looks away meanwhile finds it again.
"""

from collections import Counter, deque
from collections.abc import Callable
from time import perf_counter

import trio

from chatserver.net import sockets
from chatserver.net.admission import network_of
from chatserver.net.connection import Connection
from chatserver.net.connections import Attendant
from chatserver.net.layer import Layer
from chatserver.net.phases import Phase
from chatserver.net.secure import SecureConnections, Secured
from chatserver.net.tls import Received, TlsError
from chatserver.net.tls_records import MAX_RECORD, REFUSAL, RecordError, hello_is_whole, whole_records
from chatserver.reasons import Reason

#: Seconds for which hellos are answered before other tasks run; the last may take it over by 0.7 ms.
HELLO_SECONDS = 0.002
#: Handshakes that are half-way at a time: 11 MB. A core begins some 500 a second, so all of these may be half a second
#: away before one of them is in the way of another. FreeBSD's syncache lets the oldest of a bucket go as well.
MOST_SHAKING = 256
#: Bytes of records without plaintext, in a row, that a peer may send: tickets, key updates and warnings are hundreds of
#: bytes in a day. Each record is work for us, and nothing that any other budget would count.
MAX_BARREN = 2 * MAX_RECORD


class TlsAttendant(Layer):
    """See the module. `run` is a task; all else is synchronous."""

    def __init__(
        self, connections: SecureConnections, inner: Attendant, *,
        note: Callable[[Connection, Reason, str], None], plain_answer: bytes,
    ) -> None:  # fmt: skip
        super().__init__(inner)
        self._connections = connections
        self._engine = connections.engine
        self._note = note
        self._plain_answer = plain_answer  # for who speaks plain HTTP to us
        self._hellos: deque[Secured] = deque()
        self._asked = trio.Event()
        self._shaking: dict[Secured, str] = {}  # those half-way, the longest first, and their networks
        self.handshakes = 0

    # -- handshakes -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Answer hellos, a few in each pass, until cancelled."""
        while True:
            await self._asked.wait()  # lets everybody else run first, even when it is set
            self.answer_some()

    def answer_some(self) -> None:
        """Answer the next few: at least one."""
        until = perf_counter() + HELLO_SECONDS
        while self._hellos:
            connection = self._hellos.popleft()
            if connection.descriptor >= 0:
                self._answer_hello(connection)
            if perf_counter() > until:
                return
        self._asked = trio.Event()

    def _hello_received(self, connection: Secured, data: bytes) -> None:
        hello = connection.sealed + data
        try:
            whole = hello_is_whole(hello)
        except RecordError as error:
            self._failed(connection, str(error), self._plain_answer if hello[:1].isalpha() else b"")
            return
        if not self._connections.gather(connection, hello):
            self._end(connection, Reason.UNFINISHED_FULL, "too many ClientHellos are unfinished", REFUSAL)
        elif whole:
            self._connections.pause(connection)
            self._hellos.append(connection)
            self._asked.set()

    def _answer_hello(self, connection: Secured) -> None:
        try:
            self._shaking[connection] = network_of(connection.address)
            if len(self._shaking) > MOST_SHAKING:
                self._make_room()
            connection.tls = self._engine.accept()
            self._connections.listen(connection)
            self._sealed_received(connection, b"")
        except Exception:  # noqa: BLE001  a fault of ours costs its own connection
            self._connections.fault(connection)

    def _make_room(self) -> None:
        """End the longest of the most crowded network: whoever is alone in one is seldom who floods."""
        [(crowded, _)] = Counter(self._shaking.values()).most_common(1)
        worst = next(each for each, network in self._shaking.items() if network == crowded)
        del self._shaking[worst]
        self._connections.close(worst, Reason.EVICTED)

    # -- what comes -------------------------------------------------------------------------------------------------

    def received(self, connection: Connection, data: bytes) -> None:
        """Ciphertext came."""
        assert isinstance(connection, Secured)
        if connection.phase is Phase.CLOSING:
            self.inner.received(connection, data)
        elif connection.tls is None:
            self._hello_received(connection, data)
        else:
            self._sealed_received(connection, data)

    def lacking(self, connection: Connection) -> int:
        """Unknown: what the layer above lacks is plaintext."""
        return 0

    def _sealed_received(self, connection: Secured, data: bytes) -> None:
        sealed = connection.sealed + data if connection.sealed else data
        try:
            end = whole_records(sealed)
            if not self._connections.gather(connection, sealed[end:]):
                self._end(connection, Reason.UNFINISHED_FULL, "too many records are unfinished", b"")
            elif end:
                self._open(connection, sealed[:end] if connection.sealed else sealed)
        except RecordError as error:
            self._failed(connection, str(error), b"")
        except TlsError as error:
            self._failed(connection, error.message, error.reply)

    def _open(self, connection: Secured, records: bytes) -> None:
        tls = connection.tls
        assert tls is not None
        if connection.phase is Phase.TLS:
            done, received = self._engine.shake(tls, records)
            if done:
                self.handshakes += 1
                self._shaking.pop(connection, None)
                self._connections.enter(connection, Phase.HEAD)
        else:
            received = self._engine.receive(tls, records)
        self._take(connection, received, len(records))

    def _take(self, connection: Secured, received: Received, size: int) -> None:
        if received.reply:
            self._connections.reply(connection, received.reply)
        if received.ended and connection.descriptor >= 0:
            sockets.end_reading(connection.descriptor)
        if received.plaintext:
            connection.barren = 0
            if connection.descriptor >= 0:
                self.inner.received(connection, received.plaintext)
            return
        connection.barren += size
        if connection.barren > MAX_BARREN:
            self._failed(connection, f"{connection.barren:,} bytes of records without any data", b"")

    def _failed(self, connection: Secured, message: str, last: bytes) -> None:
        if connection.phase is not Phase.TLS:
            connection.tls = None  # broken: no close_notify can be said
            if last:
                self._connections.reply(connection, last)
        self._end(connection, Reason.TLS_FAILED, message, last)

    def _end(self, connection: Secured, reason: Reason, message: str, last: bytes) -> None:
        """End it; `last` is for one whose handshake is not over."""
        self._note(connection, reason, message)
        if connection.phase is Phase.TLS:
            self._shaking.pop(connection, None)
            self._connections.turn_away(connection, reason, last)
        else:
            self._connections.close(connection, reason)

    # -- the rest of an attendant -----------------------------------------------------------------------------------

    def ended(self, connection: Connection) -> None:
        """FIN, or a close_notify before it."""
        if connection.phase is Phase.TLS:
            self._connections.close(connection, Reason.PEER_CLOSED)
        else:
            self.inner.ended(connection)

    def expired(self, connection: Connection) -> None:
        """Its deadline has passed."""
        if connection.phase is Phase.TLS:
            assert isinstance(connection, Secured)
            begun = "the handshake was begun" if connection.tls is not None else "no whole ClientHello"
            self._note(connection, Reason.TLS_DEADLINE, begun)
            self._connections.close(connection, Reason.TLS_DEADLINE)
        else:
            self.inner.expired(connection)

    def closed(self, connection: Connection, reason: Reason) -> None:
        """Gone, half-way or not."""
        assert isinstance(connection, Secured)
        self._shaking.pop(connection, None)
        self.inner.closed(connection, reason)

    def faulted(self, connection: Connection) -> None:
        """A bug of ours; there is nobody to excuse it to before the handshake is over."""
        if connection.phase is not Phase.TLS:
            self.inner.faulted(connection)
