"""Handshakes in their states, plaintext to the one behind, and the end in each of its forms."""

import dataclasses
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net.connection import Connection
from chatserver.net.states import TABLE, State
from chatserver.net.tls import Received
from chatserver.net.tls_records import REFUSAL
from chatserver.net.tls_transport import MAX_EMPTY_RECORDS
from chatserver.net.transport import PLAIN
from chatserver.reasons import Reason
from tests.support.parked import ended, take
from tests.support.sealed import PLAIN_ANSWER, Client, Sealed, sealed, transport_of

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def state_of(connection: Connection) -> State:
    """Its state, which mypy believes not to change between two looks at it."""
    return connection.state


class TestHandshake:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_it_ends_in_head(self, version: ssl.TLSVersion) -> None:
        with sealed() as it:
            connection, client = it.meet(version)
            client.send(b"hello")
            it.turn_over()
            assert it.details("received") == [b"hello"]
            assert it.handshakes.completed == 1
            assert client.tls.version() == version.name.replace("_", ".")
            assert transport_of(connection).sealed == b""

    @pytest.mark.parametrize("version", VERSIONS)
    def test_byte_by_byte(self, version: ssl.TLSVersion) -> None:
        """Each flight and then a request, a byte at a time: the same end, and only whole records reach OpenSSL."""

        def drip(flight: bytes) -> None:
            for byte in flight:
                client.socket.send(bytes((byte,)))
                it.turn_over()

        with sealed() as it:
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

    def test_whoever_speaks_plain_http_is_told_so_in_plain(self) -> None:
        with sealed() as it:
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

    @pytest.mark.parametrize("data", [b"\x00", b"\x80\x2e\x01\x03\x01", b"\x16\x03\x01\xff\xff", b"\x16\x02"])
    def test_bytes_that_are_no_hello(self, data: bytes) -> None:
        with sealed() as it:
            connection, client = it.dial()
            client.socket.send(data)
            it.turn_over()
            assert (take(client.socket), state_of(connection)) == (b"", State.CLOSING)
            assert [reason for reason, _ in it.notes] == [Reason.TLS_FAILED]

    def test_no_version_in_common_is_an_alert_that_can_be_read(self) -> None:
        with sealed() as it:
            it.engine.context.minimum_version = ssl.TLSVersion.TLSv1_3
            try:
                _, client = it.dial(ssl.TLSVersion.TLSv1_2)
                client.socket.send(client.hello())
                it.turn_over()
                with pytest.raises(ssl.SSLError, match=r"(?i)alert protocol version"):
                    client.shake()
                assert it.notes == [(Reason.TLS_FAILED, "unsupported protocol")]
            finally:
                it.engine.context.minimum_version = ssl.TLSVersion.TLSv1_2

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_client_that_does_not_trust_us(self, version: ssl.TLSVersion) -> None:
        with sealed() as it:
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

    def test_a_broken_finish_is_a_failure(self) -> None:
        with sealed() as it:
            connection, client = it.dial(ssl.TLSVersion.TLSv1_3)
            client.socket.send(client.hello())
            it.turn_over()
            client.socket.send(b"\x14\x03\x03\x00\x01\x01" + b"\x17\x03\x03\x00\x30" + bytes(48))
            it.turn_over()
            assert state_of(connection) is State.CLOSING
            assert [reason for reason, _ in it.notes] == [Reason.TLS_FAILED]

    def test_fin_without_a_word_is_no_fault(self) -> None:
        with sealed() as it:
            _, client = it.dial()
            client.socket.close()
            it.turn_over()
            assert it.details("closed") == [Reason.PEER_CLOSED]
            assert it.notes == []

    def test_a_hello_waits_for_its_turn_among_those_who_are_new(self) -> None:
        with sealed() as it:
            connection, client = it.dial()
            client.socket.send(client.hello())
            it.poller._gather()
            assert it.connections.scheduler.statistics() == {"established": 0, "new": 1, "bulk": 0}
            it.connections.close(connection, Reason.PEER_RESET)
            it.run_rounds()
            assert not it.handshakes.half_open, "and costs nothing more when it has gone meanwhile"

    def test_only_so_many_are_half_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One more, and the longest of the most crowded network goes for it; a peer that is alone stays."""
        row = dataclasses.replace(TABLE[State.TLS_HANDSHAKE], most=3)
        monkeypatch.setitem(TABLE, State.TLS_HANDSHAKE, row)
        with sealed() as it:
            addresses = ["192.0.2.1", "198.51.100.1", "192.0.2.1", "192.0.2.1", "192.0.2.1"]
            met = [it.dial(address=address) for address in addresses]
            for address in addresses:
                assert it.admission.admit(address) is None
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

    def test_whoever_fails_is_not_half_way(self) -> None:
        with sealed() as it:
            connection, client = it.dial()
            client.socket.send(client.hello())
            it.turn_over()
            assert list(it.handshakes.half_open) == [connection]
            client.socket.send(b"\x17\x03\x03\xff\xff")
            it.turn_over()
            assert state_of(connection) is State.CLOSING
            assert not it.handshakes.half_open

    def test_a_fault_of_ours_costs_its_own_connection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with sealed() as it:
            victim, client = it.dial()
            bystander, other = it.dial()
            client.socket.send(client.hello())
            accept = it.engine.accept
            monkeypatch.setattr(it.engine, "accept", lambda: 1 / 0)
            it.turn_over()
            monkeypatch.setattr(it.engine, "accept", accept)
            it.shake(bystander, other)
            assert it.of("closed") == [victim]
            assert it.details("closed") == [Reason.INTERNAL_ERROR]
            assert it.of("faulted") == [], "there is nobody to excuse it to"
            assert not it.handshakes.half_open


class TestReading:
    def test_many_records_are_one_event(self) -> None:
        with sealed() as it:
            _, client = it.meet()
            client.socket.send(client.seal(b"one") + client.seal(b"two") + client.seal(b"three")[:-1])
            it.turn_over()
            assert it.details("received") == [b"onetwo"]

    @given(st.lists(st.binary(min_size=1, max_size=20_000), max_size=5), st.integers(1, 40_000))
    def test_cut_anywhere(self, texts: list[bytes], cut: int) -> None:
        """However the stream is cut into reads, the same plaintext comes out, and nothing is left over."""
        with sealed() as it:
            connection, client = it.meet()
            wire = b"".join(client.seal(text) for text in texts)
            for at in range(0, len(wire), cut):
                client.socket.send(wire[at : at + cut])
                it.turn_over()
            assert b"".join(map(bytes, it.details("received"))) == b"".join(texts)  # type: ignore[arg-type]
            assert transport_of(connection).sealed == b""

    def test_a_bad_record_ends_it(self) -> None:
        with sealed() as it:
            connection, client = it.meet()
            it.connections.enter(connection, State.KEEPALIVE, "kept")
            record = bytearray(client.seal(b"hello"))
            record[-1] ^= 1
            client.socket.send(record)
            it.turn_over()
            assert it.details("closed") == [Reason.TLS_FAILED]
            with pytest.raises(ssl.SSLError, match=r"(?i)alert bad record mac"):
                client.hear()

    def test_a_record_too_long_ends_it(self) -> None:
        with sealed() as it:
            _, client = it.meet()
            client.socket.send(b"\x17\x03\x03\xff\xff")
            it.turn_over()
            assert it.details("closed") == [Reason.TLS_FAILED]

    def test_a_bad_record_while_we_are_behind(self) -> None:
        """It is not read until it has taken what we wrote; then its record is its end."""
        with sealed() as it:
            connection, client = it.meet(small=True)
            it.connections.send(connection, bytes(100_000))
            client.socket.send(b"\x17\x03\x03\xff\xff")
            it.turn_over()
            assert it.details("closed") == []
            while connection.blocked:
                client.hear()
                it.turn_over()
            assert it.details("closed") == [Reason.TLS_FAILED]

    def test_records_without_data_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Key updates, warnings, empty records: Python's client sends none, so the engine says that they came."""
        with sealed() as it:
            connection, client = it.meet()
            monkeypatch.setattr(it.engine, "receive", lambda tls, records: Received(b"", b"", ended=False))
            sent = 0
            while connection.alive:
                assert sent <= MAX_EMPTY_RECORDS
                client.send(bytes(8_000))
                it.turn_over()
                sent += 8_000
            assert sent > MAX_EMPTY_RECORDS - 16_000
            assert it.details("closed") == [Reason.TLS_FAILED]
            assert "without any data" in it.notes[0][1]

    def test_data_makes_up_for_records_without(self) -> None:
        with sealed() as it:
            connection, client = it.meet()
            transport_of(connection).empty = MAX_EMPTY_RECORDS
            client.send(b"x")
            it.turn_over()
            assert transport_of(connection).empty == 0


class TestTooMuchUnfinished:
    """The bound on all of it is one of the largest and a half: the second is refused, and the count ends with each."""

    HELLO = b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb" + bytes(15_000)
    RECORD = b"\x17\x03\x03\x40\x10" + bytes(15_000)

    def test_hellos(self) -> None:
        with sealed() as it:
            (first, one), (second, two), (_, small) = it.dial(), it.dial(), it.dial()
            one.socket.send(self.HELLO)
            small.socket.send(small.hello()[:-1])
            it.turn_over()
            assert it.budget.used == len(self.HELLO)
            two.socket.send(self.HELLO)
            it.turn_over()
            assert take(two.socket) == REFUSAL
            assert state_of(second) is State.CLOSING
            assert it.notes == [(Reason.UNFINISHED_FULL, "too many ClientHellos are unfinished")]
            assert it.budget.used == len(first.inbox) == len(self.HELLO)
            one.socket.close()
            two.socket.close()
            it.turn_over()
            assert it.details("closed") == [Reason.PEER_CLOSED, Reason.UNFINISHED_FULL]
            assert it.budget.used == 0

    def test_records(self) -> None:
        with sealed() as it:
            (first, one), (_, two), (_, small) = it.meet(), it.meet(), it.meet()
            one.socket.send(self.RECORD)
            it.turn_over()
            two.socket.send(self.RECORD)
            it.turn_over()
            assert it.details("closed") == [Reason.UNFINISHED_FULL]
            two.hear()
            assert two.closed, "a close_notify says that it is no accident"
            record = small.seal(b"hello")
            for part in (record[:9], record[9:]):
                small.socket.send(part)
                it.turn_over()
            assert it.details("received") == [b"hello"], "who sends little is not whom this is for"
            assert it.budget.used == len(self.RECORD)
            it.connections.finish(first, Reason.DONE)
            assert (first.transport is PLAIN, it.budget.used) == (True, 0), "nothing more is opened"

    def test_records_of_a_handshake(self) -> None:
        with sealed() as it:
            (_, one), (second, two) = it.meet(), it.dial()
            one.socket.send(self.RECORD)
            two.socket.send(two.hello())
            it.turn_over()
            assert state_of(second) is State.TLS_HANDSHAKE
            take(two.socket)
            two.socket.send(self.RECORD)
            it.turn_over()
            assert take(two.socket).endswith(REFUSAL)
            assert [reason for reason, _ in it.notes] == [Reason.UNFINISHED_FULL]
            assert it.budget.used == len(self.RECORD)
            assert not it.handshakes.half_open

    def test_a_record_that_becomes_whole_is_not_counted_any_more(self) -> None:
        with sealed() as it:
            _, client = it.meet()
            text = bytes(10_000)
            record = client.seal(text)
            for start, end in ((0, 5_000), (5_000, 9_000)):
                client.socket.send(record[start:end])
                it.turn_over()
                assert it.budget.used == end
            client.socket.send(record[9_000:])
            it.turn_over()
            assert it.details("received") == [text]
            assert it.budget.used == 0


class TestEnd:
    """On real TCP: what shutdown means for a socket pair is not what it means there."""

    def meet(self, it: Sealed) -> tuple[Connection, Client]:
        connection, client = it.dial_tcp()
        it.shake(connection, client)
        # What is told of the end stops reading: it would be told again and again.
        it.recorder.on["ended"] = lambda each: it.connections.enter(each, State.SERVING, object())
        return connection, client

    def test_close_notify_is_the_end(self) -> None:
        with sealed() as it:
            connection, client = self.meet(it)
            client.socket.send(client.seal(b"last words") + client.goodbye())
            it.until(lambda: it.of("ended"))
            assert it.details("received") == [b"last words"]
            assert it.of("ended") == [connection]
            it.connections.send(connection, b"the answer")
            it.until(lambda: client.hear() == b"the answer")

    def test_what_comes_behind_close_notify_is_nothing(self) -> None:
        with sealed() as it:
            connection, client = self.meet(it)
            record = b"\x17\x03\x03\x00\x20" + bytes(32)
            client.socket.send(client.goodbye() + record)
            it.until(lambda: it.of("ended"))
            client.socket.send(record)
            it.turn_over()
            assert it.of("received") == []
            assert connection.alive

    def test_fin_without_close_notify_is_the_end_as_well(self) -> None:
        with sealed() as it:
            connection, client = self.meet(it)
            client.socket.shutdown(socket.SHUT_WR)
            it.until(lambda: it.of("ended"))
            assert it.of("ended")[0] is connection
