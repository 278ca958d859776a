"""Writing under TLS: what the kernel does not take is kept, once, and in order; and the end."""

import gc
import ssl
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net.readiness import READ
from chatserver.net.states import State
from chatserver.net.tls_transport import RECORD
from chatserver.net.transport import PLAIN
from chatserver.reasons import Reason
from tests.support.parked import descriptors, ended, take
from tests.support.sealed import Client, Sealed, sealed, transport_of
from tests.support.troubled import BIG, state_of

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
#: What a record adds: its header, a nonce in TLS 1.2, the type in 1.3, the tag.
OVERHEAD = 64


class Failing:
    """OpenSSL that waits for the rest of a handshake message that the peer has begun."""

    def write(self, data: bytes) -> None:
        error = ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)")
        error.reason = ""
        raise error

    def unwrap(self) -> None:
        raise ssl.SSLError("not now")


def read_all(it: Sealed, client: Client) -> bytes:
    """Let the peer take everything."""
    while any(each is not None and each.blocked for each in it.connections.table):
        client.hear()
        it.turn_over()
    return client.hear()


@pytest.fixture
def it() -> Iterator[Sealed]:
    with sealed() as made:
        yield made


class TestWriting:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_what_fits_is_written_at_once(self, it: Sealed, version: ssl.TLSVersion) -> None:
        connection, client = it.meet(version)
        it.connections.send(connection, b"hello")
        assert client.hear() == b"hello"
        assert connection.backlog is None
        assert it.armed(connection) == READ

    def test_a_peer_that_never_reads_costs_one_record(self, it: Sealed) -> None:
        """Its rest of a chunk is the shared chunk itself; only the record on its way is its own."""
        connection, _ = it.meet(small=True)
        it.connections.send(connection, BIG)
        for _ in range(100):
            it.connections.send(connection, BIG)
            it.turn_over()
        assert 0 < len(connection.transport.unsent) <= RECORD + OVERHEAD
        assert connection.backlog is not None
        assert all(chunk is BIG for chunk in connection.backlog.chunks)

    def test_taken_whole_and_still_blocked(self, it: Sealed) -> None:
        """The last record was sealed and did not fit: the caller has nothing to keep, and is told when it is gone."""
        connection, client = it.meet(small=True)
        size = 0
        while not connection.blocked:
            assert it.connections.offer(connection, BIG[size : size + 500]) == 500
            size += 500
        assert connection.transport.unsent
        assert connection.backlog is not None
        assert connection.backlog.chunks == []
        assert it.connections.offer(connection, b"more") == 0
        assert read_all(it, client) == BIG[:size]
        assert it.of("writable") == [connection]

    def test_offering_to_many_is_offering_to_each(self, it: Sealed) -> None:
        fine, client = it.meet(ssl.TLSVersion.TLSv1_2)
        behind, _ = it.meet(small=True)
        it.connections.send(behind, BIG)
        small, small_client = it.meet(small=True)
        gone, gone_client = it.meet()
        watched, watched_client = it.meet()
        it.connections.keep(watched, b"", 0)
        it.connections.flush(watched)
        gone_client.socket.close()
        data = BIG[:20_000]
        partly = dict(it.connections.offer_each([fine, behind, small, gone, watched], data))
        assert sorted(partly) == [1, 2, 3]
        assert (partly[1], partly[3]) == (0, -1)
        assert client.hear() == watched_client.hear() == data
        small_client.hear()
        it.connections.flush(small)
        assert small_client.hear() == data[: partly[2]]
        assert it.of("closed") == [gone]

    @pytest.mark.parametrize("how", ["offer", "send", "offer_each", "flush", "finish"])
    def test_an_error_of_sealing_ends_its_own_connection(self, it: Sealed, how: str) -> None:
        """Half a KeyUpdate of one member had OpenSSL refuse to seal; the error left the pump, and ended the process."""
        unlucky, deaf = it.meet(small=True)
        other, client = it.meet()
        if how == "flush":
            it.connections.send(unlucky, BIG)

        transport_of(unlucky).tls = Failing()  # type: ignore[assignment]
        if how == "offer":
            assert it.connections.offer(unlucky, b"hello") == -1
        elif how == "send":
            it.connections.send(unlucky, b"hello")
        elif how == "offer_each":
            assert it.connections.offer_each([unlucky, other], b"hello") == [(0, -1)]
            assert client.hear() == b"hello"
        elif how == "flush":
            take(deaf.socket)
            it.connections.flush(unlucky)
        else:
            it.connections.finish(unlucky, Reason.DRAINING, b"last words")
        assert it.details("closed") == [Reason.TLS_FAILED]
        assert (unlucky.alive, other.alive, it.connections.faults.count) == (False, True, 0)
        assert [reason for reason, _ in it.notes] == [Reason.TLS_FAILED]

    def test_a_peer_that_is_gone_is_closed_by_the_next_write(self, it: Sealed) -> None:
        connection, client = it.meet()
        client.socket.close()
        assert it.connections.offer(connection, b"x") == -1
        it.connections.send(connection, b"y")  # harmless, and not told again
        assert it.details("closed") == [Reason.PEER_RESET]

    @pytest.mark.parametrize("size", [10, 3 * RECORD])
    def test_a_peer_that_goes_while_it_is_behind(self, it: Sealed, size: int) -> None:
        connection, client = it.meet(small=True)
        it.connections.send(connection, BIG)
        it.connections.send(connection, BIG[:size])
        client.socket.close()
        it.connections.flush(connection)
        assert it.details("closed") == [Reason.PEER_RESET]
        assert (connection.backlog, connection.transport.unsent) == (None, b"")
        assert it.of("writable") == []

    def test_what_the_kernel_took_is_what_flush_counts(self, it: Sealed) -> None:
        connection, client = it.meet(small=True)
        it.connections.send(connection, BIG)
        assert connection.backlog is not None
        before = connection.backlog.written
        heard = len(client.hear())
        it.connections.flush(connection)
        on_the_way = len(client.hear()) - heard
        written = connection.backlog.written - before
        assert on_the_way <= written <= on_the_way + 2 * (RECORD + OVERHEAD), "sealed bytes, and of them the taken"
        assert written > 0

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("send"), st.integers(1, 9_000)),
                st.tuples(st.just("take"), st.integers(1, 20_000)),
                st.tuples(st.just("offer"), st.integers(1, 9_000)),
            ),
            max_size=40,
        ),
        st.sampled_from(VERSIONS),
    )
    def test_each_byte_once_and_in_order(self, acts: list[tuple[str, int]], version: ssl.TLSVersion) -> None:
        """Whatever the peer takes, whenever: what arrives is what was sent, without holes or repeats."""
        with sealed() as it:
            connection, client = it.meet(version, small=True)
            sent = bytearray()
            for act, size in acts:
                data = BIG[len(sent) % 80_000 :][:size]
                if act == "send":
                    it.connections.send(connection, data)
                    sent += data
                elif act == "offer":
                    taken = it.connections.offer(connection, data)
                    sent += data[:taken]
                    if 0 < taken < size:
                        it.connections.keep(connection, data, taken)
                        sent += data[taken:]
                else:
                    client.hear(size)
                it.turn_over()
            assert read_all(it, client) == sent
            assert connection.backlog is None
            it.turn_over()
            assert it.armed(connection) == READ


class TestEnding:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_finish_says_close_notify_behind_the_last_answer(self, it: Sealed, version: ssl.TLSVersion) -> None:
        connection, client = it.meet(version)
        it.connections.finish(connection, Reason.DONE, b"200")
        assert client.hear() == b"200"
        assert client.closed
        assert connection.state is State.CLOSING
        assert connection.transport is PLAIN, "13 KB are given back before the peer has closed"

    @pytest.mark.parametrize("before", range(0, 4_000, 101))
    def test_finish_waits_for_a_peer_that_is_behind(self, it: Sealed, before: int) -> None:
        """Wherever the kernel's buffer ends: in an answer, in the close_notify, or just before it."""
        connection, client = it.meet(small=True)
        size = before
        it.connections.send(connection, BIG[:before] or b"x")
        while not connection.blocked:
            it.connections.send(connection, BIG[size : size + 301])
            size += 301
        it.connections.finish(connection, Reason.DONE, b"goodbye")
        assert state_of(connection) is State.CLOSING
        assert read_all(it, client) == (BIG[:size] if before else b"x" + BIG[:size]) + b"goodbye"
        assert client.closed
        assert state_of(connection) is State.CLOSING
        assert it.of("writable") == [], "nobody shall write behind the end"

    def test_close_says_close_notify_if_it_can(self, it: Sealed) -> None:
        connection, client = it.meet()
        it.connections.close(connection, Reason.KEEPALIVE_DEADLINE)
        client.hear()
        assert client.closed

    def test_nothing_is_said_behind_half_a_record(self, it: Sealed) -> None:
        connection, client = it.meet(small=True)
        it.connections.send(connection, BIG)
        it.connections.close(connection, Reason.EVICTED)
        heard = client.hear()
        assert not client.closed
        assert BIG.startswith(heard)
        assert ended(client.socket)

    def test_an_abort_says_nothing(self, it: Sealed) -> None:
        connection, client = it.meet()
        it.connections.abort(connection, Reason.FLUSH_DEADLINE)
        client.hear()
        assert not client.closed

    def test_closing_gives_everything_back(self, it: Sealed) -> None:
        """No object is left behind: these structs are not tracked, a cycle would stay for ever."""
        before = descriptors()
        connection, client = it.meet(small=True)
        it.connections.send(connection, BIG)
        it.connections.close(connection, Reason.DONE)
        client.socket.close()
        assert descriptors() == before
        it.recorder.events.clear()
        gc.disable()
        try:
            assert sys.getrefcount(connection) == 2, "this name and the argument"
        finally:
            gc.enable()
        assert (transport_of(connection).sealed, connection.transport.unsent) == (b"", b"")
        assert it.budget.used == 0


def test_what_a_record_lacks_is_read_at_once(it: Sealed) -> None:
    """A record of 16 KiB is not sixteen turns: its header says how long it is."""
    connection, client = it.meet()
    record = client.seal(bytes(15_000))
    client.socket.send(record[:4])
    it.turn_over()
    assert transport_of(connection).lacking(connection) == 0, "not even its length is here"
    client.socket.send(record[4:1000])
    it.turn_over()
    assert transport_of(connection).lacking(connection) == len(record) - 1000
    client.socket.send(record[1000:])
    it.turn_over()
    assert it.details("received") == [bytes(15_000)]
    assert transport_of(connection).lacking(connection) == 0
