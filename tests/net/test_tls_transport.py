"""Connections under TLS: bytes that the kernel does not take are kept once, records become plaintext, and closes.

Behaviour that is the same without TLS: test_connections.py, test_ends.py.
"""

import socket
import ssl
from collections import Counter
from dataclasses import replace
from unittest import mock
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net.connection import Connection
from chatserver.net.connections import FREE_INPUT
from chatserver.net.poller import READ_BYTES, READ_MOST_BYTES
from chatserver.net.readiness import WRITE
from chatserver.net.states import State
from chatserver.net.tls import Received
from chatserver.net.tls_records import MAX_HELLO, REFUSAL
from chatserver.net.tls_transport import MAX_EMPTY_RECORDS, RECORD
from chatserver.net.transport import PLAIN
from chatserver.reasons import Reason
from tests.net.sealed import VERSIONS, Client, Sealed, read_all, sealed, transport_of
from tests.support.parked import ended, take
from tests.support.troubled import BIG, state_of

#: What a record adds: its header, a nonce in TLS 1.2, the type in 1.3, the tag.
OVERHEAD = 64
TOO_LONG = b"\x17\x03\x03\xff\xff"
#: Most of a hello and of a record; the budget for incomplete input holds one and a half of the largest records.
HALF_HELLO = b"\x16\x03\x01\x1f\xff\x01\x00\x1f\xfb" + bytes(7_000)
HALF_RECORD = b"\x17\x03\x03\x40\x10" + bytes(15_000)


# -- writing ----------------------------------------------------------------------------------------------------------


def test_a_peer_that_never_reads_costs_one_record(tls: Sealed) -> None:
    """The rest of its chunk is the shared chunk itself; only the current record is its own."""
    connection, _ = tls.meet(small=True)
    for _ in range(100):
        tls.connections.send(connection, BIG)
        tls.turn_over()
    assert 0 < len(connection.transport.unsent) <= RECORD + OVERHEAD
    assert connection.backlog is not None
    assert all(chunk is BIG for chunk in connection.backlog.chunks)


def test_parts_that_are_kept_are_sealed_together(tls: Sealed) -> None:
    """A page has a part for each message, and one for each comma: they were a record and a write each."""
    connection, client = tls.meet(small=True)
    tls.connections.send(connection, BIG)
    parts = [b"m" * 150, b","] * 200
    tls.connections.send_parts(connection, parts)
    engine = transport_of(connection).engine
    with mock.patch.object(engine, "seal", wraps=engine.seal) as seal:
        assert read_all(tls, client) == BIG + b"".join(parts)
    assert seal.call_count <= 1 + (len(BIG) + 200 * 151) // RECORD


def test_an_offer_taken_whole_may_leave_the_connection_blocked(tls: Sealed) -> None:
    """The last record is sealed and does not fit: the caller keeps nothing, and is told when it is sent."""
    connection, client = tls.meet(small=True)
    size = 0
    while not connection.blocked:
        assert tls.connections.offer(connection, BIG[size : size + 500]) == 500
        size += 500
    assert connection.transport.unsent
    assert connection.backlog is not None
    assert connection.backlog.chunks == []
    assert tls.connections.offer(connection, b"more") == 0
    assert read_all(tls, client) == BIG[:size]
    assert tls.of("writable") == [connection]


class Failing:
    """An OpenSSL connection that waits for the rest of a handshake message."""

    def write(self, data: bytes) -> None:
        error = ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)")
        error.reason = ""
        raise error

    def unwrap(self) -> None:
        raise ssl.SSLError("not now")


@pytest.mark.parametrize("how", ["offer", "send", "offer_each", "flush", "finish"])
def test_an_error_of_encryption_closes_only_its_connection(tls: Sealed, how: str) -> None:
    """OpenSSL refuses to encrypt after half a KeyUpdate by the peer; the error must not leave the poller."""
    unlucky, deaf = tls.meet(small=True)
    other, client = tls.meet()
    if how == "flush":
        tls.connections.send(unlucky, BIG)
    transport_of(unlucky).tls = Failing()  # type: ignore[assignment]
    if how == "offer":
        assert tls.connections.offer(unlucky, b"hello") == -1
    elif how == "send":
        tls.connections.send(unlucky, b"hello")
    elif how == "offer_each":
        assert tls.connections.offer_each([unlucky, other], b"hello") == [(unlucky, -1)]
        assert client.hear() == b"hello"
    elif how == "flush":
        take(deaf.socket)
        tls.connections.flush(unlucky)
    else:
        tls.connections.finish(unlucky, Reason.DRAINING, b"last words")
    assert tls.details("closed") == [Reason.TLS_FAILED]
    assert (unlucky.alive, other.alive) == (False, True)
    assert [reason for reason, _ in tls.notes] == [Reason.TLS_FAILED]


def test_flush_counts_the_bytes_that_the_kernel_took(tls: Sealed) -> None:
    connection, client = tls.meet(small=True)
    tls.connections.send(connection, BIG)
    assert connection.backlog is not None
    before, heard = connection.backlog.written, len(client.hear())
    tls.connections.flush(connection)
    on_the_way = len(client.hear()) - heard
    written = connection.backlog.written - before
    assert 0 < on_the_way <= written <= on_the_way + 2 * (RECORD + OVERHEAD), "encrypted bytes that the kernel took"


def test_an_offer_counts_the_bytes_that_the_kernel_took(tls: Sealed) -> None:
    """The rest of the last record was counted twice, and a peer that took nothing passed one more flush window."""
    connection, client = tls.meet(small=True)
    backlog = tls.connections.judge.begin(connection)
    tls.connections.offer(connection, BIG)
    assert connection.blocked
    on_the_way = client.socket.recv(1 << 20)
    assert backlog.written <= len(on_the_way)


# -- reading ----------------------------------------------------------------------------------------------------------


def test_an_answer_to_a_record_that_the_kernel_does_not_take_is_kept(tls: Sealed) -> None:
    """OpenSSL answers an update of the peer's key by itself."""
    connection, client = tls.meet(small=True)
    with mock.patch.object(transport_of(connection).engine, "receive", return_value=Received(b"", 1, BIG, ended=False)):
        client.send(b"x")
        tls.turn_over()
    assert (connection.blocked, tls.armed(connection)) == (True, WRITE)


def test_a_peer_that_is_gone_when_its_record_is_answered_has_reset(tls: Sealed) -> None:
    _, client = tls.meet()
    with mock.patch("chatserver.net.tls_transport.TlsTransport.open", side_effect=BrokenPipeError):
        client.send(b"x")
        tls.turn_over()
    assert tls.details("closed") == [Reason.PEER_RESET]


@given(st.lists(st.binary(min_size=1, max_size=20_000), max_size=5), st.integers(1, 40_000))
def test_the_plaintext_is_the_same_however_records_are_cut(texts: list[bytes], cut: int) -> None:
    """However the stream is cut into reads, the plaintext is the same and nothing is left over."""
    with sealed() as it:
        connection, client = it.meet()
        wire = b"".join(client.seal(text) for text in texts)
        for at in range(0, len(wire), cut):
            client.socket.send(wire[at : at + cut])
            it.turn_over()
        assert b"".join(map(bytes, it.details("received"))) == b"".join(texts)  # type: ignore[arg-type]
        assert (transport_of(connection).sealed, it.budget.used) == (b"", 0)


def test_the_rest_of_a_record_is_read_at_once(tls: Sealed) -> None:
    """The header gives the length, so a record of 16 KiB does not take sixteen steps."""
    connection, client = tls.meet()
    record = client.seal(bytes(15_000))
    for start, end, lacks, kept in (
        (0, 4, 0, 0),
        (4, 5, len(record) - 5, 0),
        (5, 5_000, len(record) - 5_000, 5_000 - FREE_INPUT),
        (5_000, len(record), 0, 0),
    ):
        client.socket.send(record[start:end])
        tls.turn_over()
        assert (transport_of(connection).lacking(), tls.budget.used) == (lacks, kept)
    assert tls.details("received") == [bytes(15_000)]


def test_many_records_are_many_steps_however_much_is_announced(tls: Sealed) -> None:
    """In one step, 16 KiB of key updates in a body of that announced length would take 24 ms in OpenSSL."""
    _, client = tls.meet()
    tls.handler.lacks = READ_MOST_BYTES
    client.socket.send(b"".join(client.seal(b"x") for _ in range(500)))
    tls.turn_over()
    received = [len(bytes(each)) for each in tls.details("received")]  # type: ignore[call-overload]
    assert sum(received) == 500
    assert max(received) * len(client.seal(b"x")) <= 2 * READ_BYTES


def test_a_bad_record_ends_it(tls: Sealed) -> None:
    connection, client = tls.meet()
    tls.connections.enter(connection, State.KEEPALIVE, "kept")
    record = bytearray(client.seal(b"hello"))
    record[-1] ^= 1
    client.socket.send(record)
    tls.turn_over()
    assert tls.details("closed") == [Reason.TLS_FAILED]
    with pytest.raises(ssl.SSLError, match=r"(?i)alert bad record mac"):
        client.hear()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_record_that_is_too_long_gets_an_alert_at_its_header(tls: Sealed, version: ssl.TLSVersion) -> None:
    (_, client), (_, halfway) = tls.meet(version), tls.dial(version)
    halfway.socket.send(halfway.step())
    tls.turn_over()
    for each in (client, halfway):
        each.socket.send(TOO_LONG)
        tls.turn_over()
        with pytest.raises(ssl.SSLError, match=r"(?i)alert record overflow"):
            each.hear()
    words = "packet length too long" if ssl.OPENSSL_VERSION_INFO < (3, 2) else "record layer failure"
    assert tls.notes == [(Reason.TLS_FAILED, words)] * 2


def test_a_bad_record_during_a_backlog(tls: Sealed) -> None:
    """The peer is read only when it has taken the backlog; then its bad record closes the connection."""
    connection, client = tls.meet(small=True)
    tls.connections.send(connection, bytes(100_000))
    client.socket.send(TOO_LONG)
    tls.turn_over()
    assert tls.details("closed") == []
    with pytest.raises(ssl.SSLError, match=r"(?i)alert record overflow"):
        read_all(tls, client)
    assert tls.details("closed") == [Reason.TLS_FAILED]


def test_records_without_data_are_bounded(tls: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key updates, warnings and empty records, however much data is between them.

    Python's client sends none, so a faked `receive` says of every second record that it is one.
    """
    connection, client = tls.meet()
    receive = tls.engine.receive
    monkeypatch.setattr(
        tls.engine, "receive", lambda tls, records: replace(receive(tls, records), plaintext=b"x", holding=1)
    )
    transport_of(connection).empty = MAX_EMPTY_RECORDS - 2
    for _ in range(3):
        assert connection.alive
        client.socket.send(client.seal(b"x") + client.seal(b"x"))
        tls.turn_over()
    assert tls.details("closed") == [Reason.TLS_FAILED]
    assert "without any data" in tls.notes[0][1]


# -- the budget of incomplete input: the second is refused, and each end releases its charge --------------------------


def test_too_many_hellos(tls: Sealed) -> None:
    tls.budget.most = MAX_HELLO
    (first, one), (second, two), (_, small) = tls.dial(), tls.dial(), tls.dial()
    one.socket.send(HALF_HELLO)
    small.socket.send(small.step()[:-1])
    tls.turn_over()
    assert tls.budget.used == len(HALF_HELLO) - FREE_INPUT, "small input is not charged"
    two.socket.send(HALF_HELLO)
    tls.turn_over()
    assert take(two.socket) == REFUSAL
    assert state_of(second) is State.CLOSING
    assert tls.notes == [(Reason.UNFINISHED_FULL, "too many ClientHellos are unfinished")]
    assert (len(first.inbox), tls.budget.used) == (len(HALF_HELLO), len(HALF_HELLO) - FREE_INPUT)
    one.socket.close()
    two.socket.close()
    tls.turn_over()
    assert Counter(tls.details("closed")) == {Reason.PEER_CLOSED: 1, Reason.UNFINISHED_FULL: 1}
    assert tls.budget.used == 0


def test_too_many_records(tls: Sealed) -> None:
    (first, one), (_, two), (_, small) = tls.meet(), tls.meet(), tls.meet()
    for client in (one, two):
        client.socket.send(HALF_RECORD)
        tls.turn_over()
    assert tls.details("closed") == [Reason.UNFINISHED_FULL]
    two.hear()
    assert two.closed, "a close_notify announces the close"
    record = small.seal(b"hello")
    for part in (record[:9], record[9:]):
        small.socket.send(part)
        tls.turn_over()
    assert tls.details("received") == [b"hello"]
    assert tls.budget.used == len(HALF_RECORD) - FREE_INPUT
    tls.connections.finish(first, Reason.DONE)
    assert (first.transport is PLAIN, tls.budget.used) == (True, 0), "the transport and its charge are released"


def test_too_many_records_of_a_handshake(tls: Sealed) -> None:
    (_, one), (second, two) = tls.meet(), tls.dial()
    one.socket.send(HALF_RECORD)
    two.socket.send(two.step())
    tls.turn_over()
    assert state_of(second) is State.TLS_HANDSHAKE
    two.socket.send(HALF_RECORD)
    tls.turn_over()
    assert take(two.socket).endswith(REFUSAL)
    assert [reason for reason, _ in tls.notes] == [Reason.UNFINISHED_FULL]
    assert tls.budget.used == len(HALF_RECORD) - FREE_INPUT
    assert not tls.handshakes.half_open


# -- our end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_finish_sends_close_notify_after_the_last_answer(tls: Sealed, version: ssl.TLSVersion) -> None:
    connection, client = tls.meet(version)
    tls.connections.finish(connection, Reason.DONE, b"200")
    assert client.hear() == b"200"
    assert client.closed
    assert connection.state is State.CLOSING
    assert connection.transport is PLAIN, "13 KB are released before the peer has closed"


@pytest.mark.parametrize(
    ("error", "closed"), [(BlockingIOError, []), (BrokenPipeError, [Reason.PEER_RESET])], ids=["not now", "gone"]
)
def test_finish_with_a_kernel_that_takes_nothing(
    tls: Sealed, monkeypatch: pytest.MonkeyPatch, error: type[OSError], closed: list[Reason]
) -> None:
    connection, client = tls.meet()
    with monkeypatch.context() as patch:
        patch.setattr("os.write", Mock(side_effect=error))
        tls.connections.finish(connection, Reason.DONE)
    assert tls.details("closed") == closed
    tls.turn_over()
    client.hear()
    assert client.closed is (not closed)
    assert ended(client.socket)


@pytest.mark.parametrize("reset", [False, True])
def test_close_sends_close_notify_unless_it_is_a_reset(tls: Sealed, reset: bool) -> None:
    connection, client = tls.meet()
    tls.connections.close(connection, Reason.KEEPALIVE_DEADLINE, reset=reset)
    client.hear()
    assert client.closed is not reset


def test_after_half_a_record_no_close_notify_is_sent(tls: Sealed) -> None:
    connection, client = tls.meet(small=True)
    tls.connections.send(connection, BIG)
    client.hear()  # the kernel has room for the rest of the record
    tls.connections.close(connection, Reason.EVICTED)
    assert BIG.startswith(client.hear())
    assert not client.closed
    assert ended(client.socket)


# -- the peer's end, on real TCP: shutdown means something else on a socket pair --------------------------------------


@pytest.fixture
def met(tls: Sealed) -> tuple[Connection, Client]:
    connection, client = tls.dial_tcp()
    tls.shake(connection, client)
    # The handler stops reading at the end of the stream; otherwise it is called again and again.
    tls.recorder.on["ended"] = lambda each: tls.connections.enter(each, State.SERVING, object())
    return connection, client


def test_close_notify_is_the_end(tls: Sealed, met: tuple[Connection, Client]) -> None:
    connection, client = met
    client.socket.send(client.seal(b"last words") + client.goodbye())
    tls.until(lambda: tls.of("ended"))
    assert tls.details("received") == [b"last words"]
    assert tls.of("ended") == [connection]
    tls.connections.send(connection, b"the answer")
    tls.until(lambda: client.hear() == b"the answer")


def test_close_notify_is_answered_before_a_close(tls: Sealed, met: tuple[Connection, Client]) -> None:
    """RFC 8446 section 6.1. A client that waits for ours would report a truncated stream."""
    _, client = met
    tls.recorder.on["ended"] = lambda each: tls.connections.close(each, Reason.PEER_CLOSED)
    client.socket.send(client.goodbye())
    tls.until(lambda: tls.of("closed"))
    client.incoming.write(take(client.socket))
    client.tls.unwrap()  # raises if there is no close_notify


def test_bytes_after_close_notify_are_ignored(tls: Sealed, met: tuple[Connection, Client]) -> None:
    connection, client = met
    record = b"\x17\x03\x03\x00\x20" + bytes(32)
    client.socket.send(client.goodbye() + record)
    tls.until(lambda: tls.of("ended"))
    client.socket.send(record)
    tls.turn_over()
    assert (tls.of("received"), connection.alive) == ([], True)


def test_fin_without_close_notify_is_the_end_as_well(tls: Sealed, met: tuple[Connection, Client]) -> None:
    connection, client = met
    client.socket.shutdown(socket.SHUT_WR)
    tls.until(lambda: tls.of("ended"))
    assert tls.of("ended")[0] is connection
