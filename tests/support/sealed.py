"""Parked connections under TLS, and a client made of OpenSSL's own pieces, so that it can do anything in any order.

Owns: both ends. May not: know HTTP.

    with sealed() as it:
        connection, client = it.meet()          after the handshake
        client.send(b"hello")
        it.turn_over()
        assert it.attendant.details("received") == [b"hello"]
"""

import os
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from chatserver.net.connection import Connection
from chatserver.net.phases import Phase, PhaseLimits
from chatserver.net.readiness import READ, WRITE
from chatserver.net.secure import SecureConnections, Secured
from chatserver.net.tls import TlsEngine, load_context
from chatserver.net.tls_attendant import TlsAttendant
from chatserver.net.unfinished import Unfinished
from chatserver.reasons import Reason
from tests.support.certificates import NAMES, certificate, trusting_any
from tests.support.parked import Parked

PLAIN_ANSWER = b"this is TLS"
#: Bytes of hellos and records that all peers may have unfinished: one of the largest size, and a half.
MOST_UNFINISHED = 24 * 1024


@cache
def server_context() -> ssl.SSLContext:
    """One for all tests: making a key takes longer than most of them."""
    with tempfile.TemporaryDirectory() as folder:
        return load_context(*certificate(Path(folder)))


class Client:
    """The other end: a non-blocking socket, and TLS that runs only when it is told to."""

    def __init__(self, peer: socket.socket, context: ssl.SSLContext) -> None:
        self.socket = peer
        self.heard = b""  # plaintext
        self.closed = False  # whether a close_notify came
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=NAMES[0])

    def hello(self) -> bytes:
        """The first flight, not yet sent."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._outgoing.read()
        raise AssertionError("a handshake without a server")

    def shake(self, send: Callable[[bytes], object] | None = None) -> bool:
        """Take what came and go on; whether the handshake is over."""
        self._hear()
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            (send or self.socket.send)(self._outgoing.read())
        return True

    def seal(self, data: bytes) -> bytes:
        """Records that hold this, not yet sent."""
        self.tls.write(data)
        return self._outgoing.read()

    def send(self, data: bytes) -> None:
        self.socket.send(self.seal(data))

    def goodbye(self) -> bytes:
        """Our close_notify, not yet sent."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()

    def hear(self, most: int = 1 << 20) -> bytes:
        """All plaintext so far, with what is in at most so many more bytes of ciphertext."""
        self._hear(most)
        try:
            while not self.closed:
                data = self.tls.read(1 << 14)
                self.heard += data
                self.closed = not data
        except ssl.SSLWantReadError:
            pass
        return self.heard

    def _hear(self, most: int = 1 << 20) -> None:
        try:
            while most > 0:
                data = self.socket.recv(min(most, 65_536))
                if not data:
                    break
                self._incoming.write(data)
                most -= len(data)
        except BlockingIOError:
            pass


class Sealed(Parked):
    """`SecureConnections` under a `TlsAttendant`: the test plays poller and clock."""

    def __init__(self, limits: PhaseLimits | None = None) -> None:
        super().__init__(limits)
        self.engine = TlsEngine(server_context())
        self.unfinished = Unfinished(MOST_UNFINISHED)
        secure = SecureConnections(
            self.readiness, limits or PhaseLimits(), self.engine, self.unfinished, now=0.0
        )  # fmt: skip
        self.connections = secure
        self.notes: list[tuple[Reason, str]] = []
        self.layer = TlsAttendant(
            secure, self.attendant, note=lambda connection, reason, detail: self.notes.append((reason, detail)),
            plain_answer=PLAIN_ANSWER,
        )  # fmt: skip
        secure.attendant = self.layer

    def dial(self, version: ssl.TLSVersion | None = None, *, small: bool = False) -> tuple[Secured, Client]:
        """Two ends that have said nothing yet."""
        connection, peer = self.connect(small=small)
        assert isinstance(connection, Secured)
        return connection, Client(peer, trusting_any(version))

    def meet(self, version: ssl.TLSVersion | None = None, *, small: bool = False) -> tuple[Secured, Client]:
        """Two ends after the handshake."""
        connection, client = self.dial(version, small=small)
        client.socket.send(client.hello())
        self.turn_over()
        while not client.shake():
            self.turn_over()
        self.turn_over()
        assert connection.phase is Phase.HEAD
        client.hear()
        return connection, client

    def turn_over(self) -> None:
        """A pass of the poller over everybody, and one over the hellos."""
        for connection in self.connections.table:
            if connection is not None and connection.interest & WRITE:
                self.connections.flush(connection)
            if connection is not None and connection.interest & READ:
                self.read(connection)
        self.layer.answer_some()

    def read(self, connection: Connection) -> None:
        """One read, as the poller does it."""
        try:
            data = os.read(connection.descriptor, 16_384)
        except BlockingIOError:
            return
        except OSError:
            self.connections.close(connection, Reason.PEER_RESET)
            return
        if data:
            self.layer.received(connection, data)
        elif connection.phase is Phase.CLOSING:
            self.connections.closing_ended(connection)
        else:
            self.layer.ended(connection)


@contextmanager
def sealed(limits: PhaseLimits | None = None) -> Iterator[Sealed]:
    """A `Sealed` that is gone afterwards."""
    made = Sealed(limits)
    try:
        yield made
    finally:
        made.close()
