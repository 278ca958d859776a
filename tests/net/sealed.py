"""Parked connections under TLS, and a client over OpenSSL's memory buffers, which can act in any order.

Owns: both ends. May not: know HTTP.

    with sealed() as it:
        connection, client = it.meet()          after the handshake
        client.send(b"hello")
        it.turn_over()
        assert it.details("received") == [b"hello"]
"""

import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from chatserver.net.connection import Connection
from chatserver.net.states import State
from chatserver.net.tls import TlsEngine, load_context
from chatserver.net.tls_handshake import Handshakes
from chatserver.net.tls_transport import TlsTransport
from chatserver.reasons import Reason
from tests.support.certificates import BareClient, certificate, trusting_any
from tests.support.parked import Parked, parked, take

PLAIN_ANSWER = b"this is TLS"
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
#: Bytes of unfinished hellos and records of all peers: one and a half of the largest record.
MOST_UNFINISHED = 24 * 1024
#: Attempts until an expected event counts as missing.
LOOKS = 100_000


@cache
def server_context() -> ssl.SSLContext:
    """One context for all tests, since making a key takes longer than most of them."""
    with tempfile.TemporaryDirectory() as folder:
        return load_context(*certificate(Path(folder)))


class Client(BareClient):
    """A TLS client with a non-blocking socket."""

    def __init__(self, peer: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(context)
        self.socket = peer
        self.heard = b""  # plaintext
        self.closed = False  # whether a close_notify came

    def shake(self, send: Callable[[bytes], object] | None = None) -> bool:
        """Read and continue the handshake; whether it is complete."""
        self._hear()
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            (send or self.socket.send)(self.outgoing.read())
        return True

    def send(self, data: bytes) -> None:
        self.socket.send(self.seal(data))

    def hear(self, most: int = 1 << 20) -> bytes:
        """Read at most `most` bytes. Returns all plaintext so far."""
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
                self.incoming.write(data)
                most -= len(data)
        except BlockingIOError:
            pass


class PlainClient:
    """The same without TLS."""

    def __init__(self, peer: socket.socket) -> None:
        self.socket = peer
        self.heard = b""

    def hear(self, most: int = 1 << 20) -> bytes:
        """Read at most `most` bytes. Returns all bytes so far."""
        self.heard += take(self.socket, most)
        return self.heard


class Sealed(Parked):
    """Parked connections that begin with a TLS handshake."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.engine = TlsEngine(server_context())
        self.budget = self.connections.input_budget
        self.budget.most = MOST_UNFINISHED
        self.handshakes = Handshakes(
            self.connections, self.engine, worst_of=self.admission.worst_of, plain_answer=lambda: PLAIN_ANSWER
        )  # fmt: skip
        self.connections.bind(State.TLS_HELLO, self.handshakes)
        self.connections.bind(State.TLS_HANDSHAKE, self.handshakes, TlsTransport)
        self.first = lambda address: State.TLS_HELLO
        self.notes: list[tuple[Reason, str]] = []
        self.connections.misbehaved = self._note  # type: ignore[method-assign]

    def _note(self, connection: Connection, reason: Reason, detail: str) -> None:
        self.notes.append((reason, detail))

    def dial(
        self, version: ssl.TLSVersion | None = None, *, small: bool = False, address: str = "192.0.2.1"
    ) -> tuple[Connection, Client]:  # fmt: skip
        """Both ends of a new connection."""
        connection, peer = self.connect(small=small, address=address)
        return connection, Client(peer, trusting_any(version))

    def dial_tcp(self, version: ssl.TLSVersion | None = None) -> tuple[Connection, Client]:
        """The same over TCP, where shutdown differs from a socket pair's."""
        connection, peer = self.connect_tcp()
        return connection, Client(peer, trusting_any(version))

    def shake(self, connection: Connection, client: Client) -> None:
        """Complete the handshake of both ends."""
        client.socket.send(client.step())
        self.until(lambda: connection.state is not State.TLS_HELLO)
        while not client.shake():
            self.turn_over()
        self.until(lambda: connection.state is State.HEAD)
        client.hear()

    def meet(self, version: ssl.TLSVersion | None = None, *, small: bool = False) -> tuple[Connection, Client]:
        """Both ends of a connection after the handshake."""
        connection, client = self.dial(version, small=small)
        self.shake(connection, client)
        return connection, client

    def until(self, condition: Callable[[], object]) -> None:
        """Turn over until a condition holds."""
        for _ in range(LOOKS):
            if condition():
                return
            self.turn_over()
        raise AssertionError("the condition did not become true")


def read_all(it: Parked, client: Client | PlainClient) -> bytes:
    """Let the peer read until no connection is blocked."""
    while any(each is not None and each.blocked for each in it.connections.table):
        client.hear()
        it.turn_over()
    return client.hear()


def transport_of(connection: Connection) -> TlsTransport:
    assert isinstance(connection.transport, TlsTransport)
    return connection.transport


@contextmanager
def sealed(**settings: Any) -> Iterator[Sealed]:
    made = Sealed(**settings)
    try:
        yield made
    finally:
        made.close()


class Either(NamedTuple):
    """Connections of one kind, and a function that makes one."""

    it: Parked
    meet: Callable[..., tuple[Connection, Client | PlainClient]]  # with a small buffer of the kernel's, or not


#: Kinds of connections.
KINDS = ("plain", *(version.name for version in VERSIONS))


@contextmanager
def either(kind: str) -> Iterator[Either]:
    """Connections with TLS of a version, or without TLS."""
    if kind != "plain":
        with sealed() as it:
            yield Either(it, partial(it.meet, ssl.TLSVersion[kind]))
        return
    with parked() as plain:

        def meet(*, small: bool = False) -> tuple[Connection, PlainClient]:
            connection, peer = plain.connect(small=small)
            return connection, PlainClient(peer)

        yield Either(plain, meet)
