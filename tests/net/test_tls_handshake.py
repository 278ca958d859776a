"""Handshakes in their two states. What comes behind them: test_tls_reading.py."""

import dataclasses
import ssl
from collections.abc import Iterator

import pytest

from chatserver.net.states import TABLE, State
from chatserver.reasons import Reason
from tests.support.parked import ended, take
from tests.support.sealed import PLAIN_ANSWER, Client, Sealed, sealed, transport_of
from tests.support.troubled import state_of

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def it() -> Iterator[Sealed]:
    with sealed() as made:
        yield made


class TestHandshake:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_it_ends_in_head(self, it: Sealed, version: ssl.TLSVersion) -> None:
        connection, client = it.meet(version)
        client.send(b"hello")
        it.turn_over()
        assert it.details("received") == [b"hello"]
        assert it.handshakes.completed == 1
        assert client.tls.version() == version.name.replace("_", ".")
        assert transport_of(connection).sealed == b""

    @pytest.mark.parametrize("version", VERSIONS)
    def test_byte_by_byte(self, it: Sealed, version: ssl.TLSVersion) -> None:
        """Each flight and then a request, a byte at a time: the same end, and only whole records reach OpenSSL."""

        def drip(flight: bytes) -> None:
            for byte in flight:
                client.socket.send(bytes((byte,)))
                it.turn_over()

        connection, client = it.dial(version)
        hello = client.hello()
        drip(hello[:-1])
        assert state_of(connection) is State.TLS_HELLO, "before its last byte a peer costs what it has sent"
        drip(hello[-1:])
        while not client.shake(drip):
            pass
        record = client.seal(b"hello")
        drip(record[:-1])
        assert it.details("received") == []
        drip(record[-1:])
        assert it.details("received") == [b"hello"]

    def test_the_deadline_is_total_and_the_head_has_its_own(self) -> None:
        with sealed(tls_deadline=3.0, head_deadline=5.0) as it:
            connection, client = it.dial()
            hello = client.hello()
            for byte in hello[:28]:
                client.socket.send(bytes((byte,)))
                it.turn_over()
                it.turn(seconds=0.1)
            assert it.notes == []
            it.turn(seconds=0.4)
            assert it.notes == [(Reason.TLS_DEADLINE, "no whole ClientHello")]
            assert ended(client.socket)
            connection, client = it.meet()
            assert it.turn(seconds=4.9) == []
            assert it.turn(seconds=0.3) == [connection]
            assert it.details("expired") == [State.HEAD], "that one is the edge's to answer"

    def test_a_hello_and_then_nothing(self) -> None:
        """The time that began with the first byte goes on."""
        with sealed(tls_deadline=3.0) as it:
            connection, client = it.dial()
            it.turn(seconds=2.0)
            client.socket.send(client.hello())
            it.turn_over()
            assert state_of(connection) is State.TLS_HANDSHAKE
            it.turn(seconds=1.2)
            assert it.notes == [(Reason.TLS_DEADLINE, "the handshake was begun")]
            assert it.details("closed") == [Reason.TLS_DEADLINE]
            assert (len(it.handshakes.half_open), it.budget.used) == (0, 0)

    def test_a_client_that_speaks_plain_http_is_told_so_in_plain(self, it: Sealed) -> None:
        connection, client = it.dial()
        client.socket.send(b"GET / HTTP/1.1\r\n")
        it.turn_over()
        assert take(client.socket) == PLAIN_ANSWER
        assert state_of(connection) is State.CLOSING
        client.socket.send(b"Host: x\r\n\r\n")
        it.turn_over()
        client.socket.close()
        it.turn_over()
        assert it.details("closed") == [Reason.TLS_FAILED]

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_client_that_does_not_trust_us(self, it: Sealed, version: ssl.TLSVersion) -> None:
        connection, client = it.dial()
        stranger = ssl.create_default_context()
        stranger.maximum_version = version
        client = Client(client.socket, stranger)
        client.socket.send(client.hello())
        it.turn_over()
        with pytest.raises(ssl.SSLCertVerificationError):
            client.shake()
        it.turn_over()
        assert state_of(connection) is State.CLOSING
        assert it.notes == [(Reason.TLS_FAILED, "tlsv1 alert unknown ca")]

    def test_fin_without_a_word_is_no_fault(self, it: Sealed) -> None:
        _, client = it.dial()
        client.socket.close()
        it.turn_over()
        assert it.details("closed") == [Reason.PEER_CLOSED]
        assert it.notes == []

    def test_a_hello_waits_for_its_turn_among_newcomers(self, it: Sealed) -> None:
        connection, client = it.dial()
        client.socket.send(client.hello())
        it.poller._gather()
        assert it.connections.scheduler.statistics() == {"established": 0, "new": 1, "bulk": 0}
        it.connections.close(connection, Reason.PEER_RESET)
        it.run_rounds()
        assert not it.handshakes.half_open, "and costs nothing more when it has gone meanwhile"

    def test_only_so_many_are_half_way(self, it: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
        """One more, and the longest of the most crowded network goes for it; a peer that is alone stays."""
        row = dataclasses.replace(TABLE[State.TLS_HANDSHAKE], most=3)
        monkeypatch.setitem(TABLE, State.TLS_HANDSHAKE, row)
        addresses = ["192.0.2.1", "198.51.100.1", "192.0.2.1", "192.0.2.1", "192.0.2.1"]
        met = [it.dial(address=address) for address in addresses]
        (first, _), (_, lone_client), (second, _), (third, _), (newest, _) = met
        for _, client in met:
            client.socket.send(client.hello())
            it.turn_over()
            it.turn(seconds=0.1)
        assert [each.alive for each, _ in met] == [False, True, False, True, True]
        assert it.of("closed") == [first, second]
        assert it.details("closed") == [Reason.EVICTED] * 2
        while not lone_client.shake():
            it.turn_over()
        it.turn_over()
        assert list(it.handshakes.half_open) == [third, newest], "who is through is not half-way"
        for _, client in met:
            client.socket.close()
        it.turn_over()
        assert not it.handshakes.half_open

    def test_a_failed_handshake_is_not_half_open(self, it: Sealed) -> None:
        connection, client = it.dial()
        client.socket.send(client.hello())
        it.turn_over()
        assert list(it.handshakes.half_open) == [connection]
        client.socket.send(b"\x17\x03\x03\xff\xff")
        it.turn_over()
        assert state_of(connection) is State.CLOSING
        assert not it.handshakes.half_open
