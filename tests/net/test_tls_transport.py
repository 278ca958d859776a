"""Writing under TLS: what the kernel does not take is kept, once, and in order."""

import gc
import ssl
import sys

import pytest
from chatserver.net.phases import Phase, PhaseLimits
from chatserver.net.secure import RECORD, Secured
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from chatserver.net.connection import Connection
from chatserver.net.connections import Finality
from chatserver.net.readiness import READ, WRITE
from chatserver.reasons import Reason
from tests.support.parked import descriptors, ended, take
from tests.support.sealed import Client, Sealed, sealed

BIG = b"".join(b"%07d\n" % number for number in range(12_000))  # 96 KB in which every place is different
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
#: What a record adds: its header, a nonce in TLS 1.2, the type in 1.3, the tag.
OVERHEAD = 64


def read_all(it: Sealed, client: Client) -> bytes:
    """Let the peer take everything."""
    while any(each is not None and it.connections.blocked(each) for each in it.connections.table):
        client.hear()
        it.turn_over()
    return client.hear()


def phase_of(connection: Connection) -> Phase:
    """Its phase, which mypy believes not to change between two looks at it."""
    return connection.phase


class TestWriting:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_what_fits_is_written_at_once(self, version: ssl.TLSVersion) -> None:
        with sealed() as it:
            connection, client = it.meet(version)
            it.connections.send(connection, b"hello")
            assert client.hear() == b"hello"
            assert connection.backlog is None
            assert it.interest(connection) == READ

    def test_what_does_not_fit_is_kept_and_nothing_is_read_meanwhile(self) -> None:
        with sealed() as it:
            connection, client = it.meet(small=True)
            it.connections.send(connection, BIG)
            assert it.connections.blocked(connection)
            assert it.interest(connection) == WRITE
            assert read_all(it, client) == BIG
            assert it.attendant.of("drained") == [connection]
            assert it.interest(connection) == 0, "whoever is told decides whether to read on"

    def test_a_peer_that_never_reads_costs_one_record(self) -> None:
        """Its rest of a chunk is the shared chunk itself; only the record on its way is its own."""
        with sealed() as it:
            connection, _ = it.meet(small=True)
            it.connections.send(connection, BIG)
            for _ in range(100):
                it.connections.send(connection, BIG)
                it.turn_over()
            assert 0 < len(connection.unsent) <= RECORD + OVERHEAD
            assert connection.backlog is not None
            assert all(chunk is BIG for chunk in connection.backlog.chunks)

    def test_offer_tells_what_was_sealed_and_the_rest_is_the_callers(self) -> None:
        with sealed() as it:
            connection, client = it.meet(small=True)
            taken = it.connections.offer(connection, BIG)
            assert 0 < taken < len(BIG)
            assert it.connections.offer(connection, b"more") == 0
            it.connections.keep(connection, BIG, taken)
            assert read_all(it, client) == BIG

    def test_taken_whole_and_still_blocked(self) -> None:
        """The last record was sealed and did not fit: the caller has nothing to keep, and is told when it is gone."""
        with sealed() as it:
            connection, client = it.meet(small=True)
            size = 0
            while not it.connections.blocked(connection):
                assert it.connections.offer(connection, BIG[size : size + 500]) == 500
                size += 500
            assert connection.unsent
            assert connection.backlog is not None
            assert connection.backlog.chunks == []
            assert it.connections.offer(connection, b"more") == 0
            assert read_all(it, client) == BIG[:size]
            assert it.attendant.of("drained") == [connection]

    def test_offering_to_many_is_offering_to_each(self) -> None:
        with sealed() as it:
            fine, client = it.meet(ssl.TLSVersion.TLSv1_2)
            behind, _ = it.meet(small=True)
            it.connections.send(behind, BIG)
            small, small_client = it.meet(small=True)
            gone, gone_client = it.meet()
            gone_client.socket.close()
            watched, watched_client = it.meet()
            it.connections.keep(watched, b"", 0)
            it.connections.flush(watched)
            data = BIG[:20_000]
            partly = dict(it.connections.offer_each([fine, behind, small, gone, watched], data))
            assert sorted(partly) == [1, 2, 3]
            assert (partly[1], partly[3]) == (0, -1)
            assert client.hear() == watched_client.hear() == data
            small_client.hear()
            it.connections.flush(small)
            assert small_client.hear() == data[: partly[2]]
            assert it.attendant.of("closed") == [gone]

    @pytest.mark.parametrize("how", ["offer", "send", "offer_each", "flush", "finish"])
    def test_an_error_of_sealing_ends_its_own_connection(self, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half a KeyUpdate of one member had OpenSSL refuse to seal; the error left the pump, and ended the process."""
        with sealed() as it, capture_logs() as logs:
            unlucky, deaf = it.meet(small=True)
            other, client = it.meet()
            if how == "flush":
                it.connections.send(unlucky, BIG)

            def fail(data: bytes) -> None:
                error = ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)")
                error.reason = ""
                raise error

            monkeypatch.setattr(unlucky.tls, "write", fail)
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
            assert it.attendant.details("closed") == [Reason.TLS_FAILED]
            assert (unlucky.alive, other.alive, it.connections.faults) == (False, True, 0)
            assert [line["reason"] for line in logs if line["event"] == "misbehaved"] == ["tls-failed"]

    def test_a_peer_that_is_gone_is_closed_by_the_next_write(self) -> None:
        with sealed() as it:
            connection, client = it.meet()
            client.socket.close()
            assert it.connections.offer(connection, b"x") == -1
            it.connections.send(connection, b"y")  # harmless, and not told again
            assert it.attendant.details("closed") == [Reason.PEER_RESET]

    @pytest.mark.parametrize("size", [10, 3 * RECORD])
    def test_a_peer_that_goes_while_it_is_behind(self, size: int) -> None:
        with sealed() as it:
            connection, client = it.meet(small=True)
            it.connections.send(connection, BIG)
            it.connections.send(connection, BIG[:size])
            client.socket.close()
            it.connections.flush(connection)
            assert it.attendant.details("closed") == [Reason.PEER_RESET]
            assert (connection.backlog, connection.tls, connection.unsent) == (None, None, b"")
            assert it.attendant.of("drained") == []

    def test_what_the_kernel_took_is_what_flush_counts(self) -> None:
        with sealed() as it:
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
            it.attendant.on["drained"] = it.connections.listen
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
            assert it.interest(connection) == READ


class TestEnding:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_finish_says_close_notify_behind_the_last_answer(self, version: ssl.TLSVersion) -> None:
        with sealed() as it:
            connection, client = it.meet(version)
            it.connections.finish(connection, Reason.DONE, b"200")
            assert client.hear() == b"200"
            assert client.closed
            assert connection.phase is Phase.CLOSING
            assert connection.tls is None, "13 KB are given back before the peer has closed"

    @pytest.mark.parametrize("before", range(0, 4_000, 101))
    def test_finish_waits_for_a_peer_that_is_behind(self, before: int) -> None:
        """Wherever the kernel's buffer ends: in an answer, in the close_notify, or just before it."""
        with sealed() as it:
            connection, client = it.meet(small=True)
            size = before
            it.connections.send(connection, BIG[:before] or b"x")
            while not it.connections.blocked(connection):
                it.connections.send(connection, BIG[size : size + 301])
                size += 301
            it.connections.finish(connection, Reason.DONE, b"goodbye")
            assert phase_of(connection) is Phase.HEAD, "not yet: FLUSH judges"
            assert read_all(it, client) == (BIG[:size] if before else b"x" + BIG[:size]) + b"goodbye"
            assert client.closed
            assert phase_of(connection) is Phase.CLOSING
            assert it.attendant.of("drained") == [], "nobody shall write behind the end"

    def test_close_says_close_notify_if_it_can(self) -> None:
        with sealed() as it:
            connection, client = it.meet()
            it.connections.close(connection, Reason.KEEPALIVE_DEADLINE)
            client.hear()
            assert client.closed

    def test_nothing_is_said_behind_half_a_record(self) -> None:
        with sealed() as it:
            connection, client = it.meet(small=True)
            it.connections.send(connection, BIG)
            it.connections.close(connection, Reason.EVICTED)
            heard = client.hear()
            assert not client.closed
            assert BIG.startswith(heard)
            assert ended(client.socket)

    def test_an_abort_says_nothing(self) -> None:
        with sealed() as it:
            connection, client = it.meet()
            it.connections.close(connection, Reason.FLUSH_DEADLINE, Finality.ABORT)
            client.hear()
            assert not client.closed

    def test_a_peer_that_never_takes_the_goodbye_is_aborted(self) -> None:
        with sealed(PhaseLimits(flush_window=5.0)) as it:
            connection, _ = it.meet(small=True)
            it.connections.finish(connection, Reason.DONE, BIG)
            it.turn(seconds=5.1)
            assert it.attendant.details("closed") == [Reason.FLUSH_DEADLINE]
            assert not connection.alive

    def test_closing_gives_everything_back(self) -> None:
        """No object is left behind: these structs are not tracked, a cycle would stay for ever."""
        with sealed() as it:
            before = descriptors()
            connection, client = it.meet(small=True)
            it.connections.send(connection, BIG)
            it.connections.close(connection, Reason.DONE)
            client.socket.close()
            assert descriptors() == before
            it.attendant.events.clear()
            gc.disable()
            try:
                assert sys.getrefcount(connection) == 2, "this name and the argument"
            finally:
                gc.enable()
            assert (connection.tls, connection.sealed, connection.unsent) == (None, b"", b"")


def test_a_record_that_is_not_whole_counts_as_unfinished() -> None:
    """The poller reads on at once when there is much of it: a record of 16 KiB is not sixteen turns."""
    connection = Secured(-1, "192.0.2.1", Phase.OPEN, 0, 0, 0, inbox=b"x" * 5, sealed=b"x" * 1000)
    assert connection.unfinished == 1005
