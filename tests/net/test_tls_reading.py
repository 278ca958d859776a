"""Reading under TLS: records to plaintext, what is not whole of them, and the end in each of its forms."""

import socket
import ssl
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net.connection import Connection
from chatserver.net.states import State
from chatserver.net.tls import Received
from chatserver.net.tls_records import REFUSAL
from chatserver.net.tls_transport import MAX_EMPTY_RECORDS
from chatserver.net.transport import PLAIN
from chatserver.reasons import Reason
from tests.support.parked import take
from tests.support.sealed import Client, Sealed, sealed, transport_of
from tests.support.troubled import state_of

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def it() -> Iterator[Sealed]:
    with sealed() as made:
        yield made


class TestReading:
    def test_many_records_are_one_event(self, it: Sealed) -> None:
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

    def test_a_bad_record_ends_it(self, it: Sealed) -> None:
        connection, client = it.meet()
        it.connections.enter(connection, State.KEEPALIVE, "kept")
        record = bytearray(client.seal(b"hello"))
        record[-1] ^= 1
        client.socket.send(record)
        it.turn_over()
        assert it.details("closed") == [Reason.TLS_FAILED]
        with pytest.raises(ssl.SSLError, match=r"(?i)alert bad record mac"):
            client.hear()

    def test_a_record_too_long_ends_it(self, it: Sealed) -> None:
        _, client = it.meet()
        client.socket.send(b"\x17\x03\x03\xff\xff")
        it.turn_over()
        assert it.details("closed") == [Reason.TLS_FAILED]

    def test_a_bad_record_while_we_are_behind(self, it: Sealed) -> None:
        """It is not read until it has taken what we wrote; then its record is its end."""
        connection, client = it.meet(small=True)
        it.connections.send(connection, bytes(100_000))
        client.socket.send(b"\x17\x03\x03\xff\xff")
        it.turn_over()
        assert it.details("closed") == []
        while connection.blocked:
            client.hear()
            it.turn_over()
        assert it.details("closed") == [Reason.TLS_FAILED]

    def test_records_without_data_are_bounded(self, it: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
        """Key updates, warnings, empty records: Python's client sends none, so the engine says that they came."""
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

    def test_data_makes_up_for_records_without(self, it: Sealed) -> None:
        connection, client = it.meet()
        transport_of(connection).empty = MAX_EMPTY_RECORDS
        client.send(b"x")
        it.turn_over()
        assert transport_of(connection).empty == 0


class TestTooMuchUnfinished:
    """The bound on all of it is one of the largest and a half: the second is refused, and the count ends with each."""

    HELLO = b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb" + bytes(15_000)
    RECORD = b"\x17\x03\x03\x40\x10" + bytes(15_000)

    def test_hellos(self, it: Sealed) -> None:
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

    def test_records(self, it: Sealed) -> None:
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

    def test_records_of_a_handshake(self, it: Sealed) -> None:
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

    def test_a_record_that_becomes_whole_is_not_counted_any_more(self, it: Sealed) -> None:
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

    def test_close_notify_is_the_end(self, it: Sealed) -> None:
        connection, client = self.meet(it)
        client.socket.send(client.seal(b"last words") + client.goodbye())
        it.until(lambda: it.of("ended"))
        assert it.details("received") == [b"last words"]
        assert it.of("ended") == [connection]
        it.connections.send(connection, b"the answer")
        it.until(lambda: client.hear() == b"the answer")

    def test_what_comes_behind_close_notify_is_nothing(self, it: Sealed) -> None:
        connection, client = self.meet(it)
        record = b"\x17\x03\x03\x00\x20" + bytes(32)
        client.socket.send(client.goodbye() + record)
        it.until(lambda: it.of("ended"))
        client.socket.send(record)
        it.turn_over()
        assert it.of("received") == []
        assert connection.alive

    def test_fin_without_close_notify_is_the_end_as_well(self, it: Sealed) -> None:
        connection, client = self.meet(it)
        client.socket.shutdown(socket.SHUT_WR)
        it.until(lambda: it.of("ended"))
        assert it.of("ended")[0] is connection
