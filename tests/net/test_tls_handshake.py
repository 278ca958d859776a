"""TLS handshakes in their two states. The connection afterwards: test_tls_transport.py."""

import ssl
from unittest.mock import Mock

import pytest

from chatserver.net import tls_handshake
from chatserver.net.connection import Connection
from chatserver.net.states import State
from chatserver.reasons import Reason
from tests.net.sealed import VERSIONS, Client, Sealed, sealed
from tests.support.troubled import state_of


@pytest.mark.parametrize("version", VERSIONS)
def test_byte_by_byte(tls: Sealed, version: ssl.TLSVersion) -> None:
    """The handshake and a request work a byte at a time, and only whole records reach OpenSSL."""

    def drip(flight: bytes) -> None:
        for byte in flight:
            client.socket.send(bytes((byte,)))
            tls.turn_over()

    tls.budget._free = 0
    connection, client = tls.dial(version)
    hello = client.step()
    drip(hello[:-1])
    assert tls.budget.used == len(hello) - 1
    assert state_of(connection) is State.TLS_HELLO, "an incomplete hello must not reach OpenSSL"
    drip(hello[-1:])
    while not client.shake(drip):
        pass
    assert (tls.budget.used, tls.handshakes.half_open, tls.handshakes.completed) == (0, {}, 1)
    assert client.tls.version() == version.name.replace("_", ".")
    record = client.seal(b"hello")
    drip(record[:-1])
    assert tls.details("received") == []
    drip(record[-1:])
    assert tls.details("received") == [b"hello"]


@pytest.fixture
def met(tls: Sealed) -> tuple[Connection, Client, bytes]:
    """Both ends when the client has not sent its Finished yet, and that."""
    connection, client = tls.dial_tcp(ssl.TLSVersion.TLSv1_3)
    client.socket.send(client.step())
    tls.until(lambda: connection.state is State.TLS_HANDSHAKE)
    flight: list[bytes] = []
    tls.until(lambda: client.shake(flight.append))
    return connection, client, b"".join(flight)


def test_data_that_arrives_with_the_finished_is_not_lost(tls: Sealed, met: tuple[Connection, Client, bytes]) -> None:
    _, client, finished = met
    first, second = client.seal(b"first"), client.seal(b"second")
    client.socket.send(finished + first + second[:9])
    tls.until(lambda: tls.of("received"))
    client.socket.send(second[9:] + client.goodbye())
    tls.recorder.on["ended"] = lambda each: tls.connections.close(each, Reason.PEER_CLOSED)
    tls.until(lambda: tls.of("closed"))
    assert tls.details("received") == [b"first", b"second"]


def test_an_end_that_arrives_with_the_finished(tls: Sealed, met: tuple[Connection, Client, bytes]) -> None:
    _, client, finished = met
    client.socket.send(finished + client.seal(b"last words") + client.goodbye())
    tls.recorder.on["ended"] = lambda each: tls.connections.close(each, Reason.PEER_CLOSED)
    tls.until(lambda: tls.of("closed"))
    assert tls.details("received") == [b"last words"]


def test_a_kernel_without_memory_for_the_end_of_the_handshake(
    tls: Sealed, met: tuple[Connection, Client, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was encrypted by the handshake is sent later, and not encrypted again."""
    connection, client, finished = met
    client.socket.send(finished)
    with monkeypatch.context() as patch:
        for write in ("os.write", "chatserver.net.transport._write"):
            patch.setattr(write, Mock(side_effect=BlockingIOError))
        while connection.state is not State.HEAD:
            tls.poller._gather()
            tls.connections.scheduler.round()
    assert connection.blocked
    tls.connections.send(connection, b"hello")
    tls.until(lambda: client.hear() == b"hello")


def test_a_peer_that_is_gone_when_its_handshake_is_over(
    tls: Sealed, met: tuple[Connection, Client, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ticket finds it gone: its request is not served, and the handshake does not count."""
    _, client, finished = met
    for write in ("os.write", "chatserver.net.transport._write"):
        monkeypatch.setattr(write, Mock(side_effect=BrokenPipeError))
    client.socket.send(finished + client.seal(b"request"))
    tls.until(lambda: tls.of("closed"))
    assert (tls.details("closed"), tls.details("received")) == ([Reason.PEER_RESET], [])
    assert (tls.handshakes.half_open, tls.handshakes.completed) == ({}, 0)


def test_a_hello_and_then_nothing() -> None:
    """The deadline is one for the hello and the rest of the handshake."""
    with sealed(tls_deadline=3.0) as it:
        connection, client = it.dial()
        due = connection.deadline
        it.turn(seconds=2.0)
        client.socket.send(client.step())
        it.turn_over()
        assert (state_of(connection), connection.deadline) == (State.TLS_HANDSHAKE, due)
        it.turn(seconds=1.2)
        assert it.notes == [(Reason.TLS_DEADLINE, "the handshake was begun")]
        assert it.details("closed") == [Reason.TLS_DEADLINE]
        assert (len(it.handshakes.half_open), it.budget.used) == (0, 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_does_not_trust_us(tls: Sealed, version: ssl.TLSVersion) -> None:
    connection, client = tls.dial()
    stranger = ssl.create_default_context()
    stranger.maximum_version = version
    client = Client(client.socket, stranger)
    client.socket.send(client.step())
    tls.turn_over()
    with pytest.raises(ssl.SSLCertVerificationError):
        client.shake()
    tls.turn_over()
    assert state_of(connection) is State.CLOSING
    assert tls.notes == [(Reason.TLS_FAILED, "tlsv1 alert unknown ca")]


@pytest.mark.parametrize("at_once", [1, 2])
def test_half_open_handshakes_are_limited(tls: Sealed, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Over the limit the oldest of the most crowded network are evicted; a peer alone in its network stays."""
    monkeypatch.setattr(tls_handshake, "MAX_HALF_OPEN", 3)
    monkeypatch.setattr(tls_handshake, "EVICTED_AT_ONCE", at_once)
    rank = Mock(wraps=tls.admission.worst_of)
    monkeypatch.setattr(tls.handshakes, "_worst_of", rank)
    addresses = ["192.0.2.1", "198.51.100.1", "192.0.2.1", "192.0.2.1", "192.0.2.1"]
    met = [tls.dial(address=address) for address in addresses]
    (first, _), (_, lone_client), (second, _), (third, _), (newest, _) = met
    for _, client in met:
        client.socket.send(client.step())
        tls.turn_over()
        tls.turn(seconds=0.4)
    assert [each.alive for each, _ in met] == [False, True, False, True, True]
    assert tls.of("closed") == [first, second]
    assert tls.details("closed") == [Reason.EVICTED] * 2
    assert rank.call_count == 2 / at_once, "each time the oldest are evicted together"
    while not lone_client.shake():
        tls.turn_over()
    tls.turn_over()
    assert list(tls.handshakes.half_open) == [third, newest], "a finished handshake is not half-open"
    for _, client in met:
        client.socket.close()
    tls.turn_over()
    assert not tls.handshakes.half_open
