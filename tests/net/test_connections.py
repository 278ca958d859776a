"""Writing without waiting, the end of a connection, and the FLUSH overlay."""

import gc
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from chatserver.net import sockets
from chatserver.net.connection import CLOSED, Connection
from chatserver.net.connections import Connections, Finality
from chatserver.net.phases import Phase, PhaseLimits
from chatserver.net.readiness import READ, WRITE
from chatserver.reasons import Reason
from tests.support.parked import descriptors, ended, parked, take

BIG = b"".join(b"%07d\n" % number for number in range(12_000))  # 96 KB in which every place is different


def phase_of(connection: Connection) -> Phase:
    """Its phase, which mypy believes not to change between two looks at it."""
    return connection.phase


class TestWriting:
    def test_what_fits_is_written_at_once(self) -> None:
        with parked() as it:
            connection, peer = it.connect()
            it.connections.send(connection, b"hello")
            assert take(peer) == b"hello"
            assert connection.backlog is None
            assert it.interest(connection) == READ

    def test_what_does_not_fit_is_kept_and_nothing_is_read_meanwhile(self) -> None:
        with parked() as it:
            connection, peer = it.connect()
            it.connections.send(connection, BIG)
            assert it.connections.blocked(connection)
            assert it.interest(connection) == WRITE
            received = bytearray()
            while it.connections.blocked(connection):
                received += take(peer)
                it.connections.flush(connection)
            assert received + take(peer) == BIG
            assert it.attendant.of("drained") == [connection]
            assert it.interest(connection) == 0, "whoever is told decides whether to read on"

    def test_offer_takes_nothing_from_whoever_is_behind(self) -> None:
        with parked() as it:
            connection, _ = it.connect()
            it.connections.send(connection, BIG)
            assert it.connections.offer(connection, b"more") == 0

    def test_nothing_is_asked_of_a_closed_descriptor(self) -> None:
        """A publisher that had reset was still in the list of those its room had paused: asking the kernel how much of
        its answer was unsent raised out of the pump, and ended the process.
        """
        with parked() as it:
            connection, _ = it.connect()
            it.connections.enter(connection, Phase.KEEPALIVE)
            it.connections.close(connection, Reason.PEER_RESET)
            it.connections.again(connection)
            it.connections.read_again(connection)
            it.connections.keep(connection, b"rest", 0)
            it.connections.finish(connection, Reason.DONE, b"last words")
            assert not it.connections.silent_behind_our_bytes(connection)
            assert (connection.backlog, len(it.connections.pending), len(it.connections.insatiable)) == (None, 0, 0)
            assert it.attendant.details("closed") == [Reason.PEER_RESET]

    def test_a_fault_in_offering_to_one_of_many_costs_that_one(self) -> None:
        def fail(connection: Connection) -> None:
            raise RuntimeError("planted")

        with parked() as it:
            first, peer = it.connect(small=False)
            unlucky, gone = it.connect()
            last, friend = it.connect(small=False)
            gone.close()
            it.attendant.on["closed"] = fail
            assert it.connections.offer_each([first, unlucky, last], b"hello") == [(1, -1)]
            assert take(peer) == take(friend) == b"hello"
            assert (unlucky.descriptor, it.connections.faults, it.connections.held) == (CLOSED, 1, 2)

    def test_a_fault_that_is_nobodys_costs_one_call(self) -> None:
        def fail() -> None:
            raise RuntimeError("planted")

        with parked() as it, capture_logs() as logs:
            connection, _ = it.connect()
            it.connections.attempt(fail)
            assert [(line["event"], line["reason"]) for line in logs] == [("fault", "RuntimeError")]
            assert (it.connections.faults, connection.alive) == (1, True)

    def test_offering_to_many_is_offering_to_each(self) -> None:
        with parked() as it:
            fine, peer = it.connect(small=False)
            behind, _ = it.connect()
            it.connections.send(behind, BIG)
            small, small_peer = it.connect()
            gone, gone_peer = it.connect()
            gone_peer.close()
            watched, watched_peer = it.connect(small=False)
            it.connections.keep(watched, b"", 0)
            it.connections.flush(watched)
            data = BIG[:20_000]
            partly = dict(it.connections.offer_each([fine, behind, small, gone, watched], data))
            assert sorted(partly) == [1, 2, 3]
            assert (partly[1], partly[3]) == (0, -1)
            assert take(small_peer) == data[: partly[2]]
            assert take(peer) == take(watched_peer) == data
            assert it.attendant.of("closed") == [gone]

    def test_a_rest_is_the_shared_chunk_and_not_a_copy(self) -> None:
        with parked() as it:
            connection, _ = it.connect()
            it.connections.send(connection, BIG)
            assert connection.backlog is not None
            assert connection.backlog.chunks[0] is BIG

    def test_the_rest_of_parts_is_the_shared_ones_and_not_copies(self) -> None:
        with parked() as it:
            connection, peer = it.connect()
            parts = [b"head", *(BIG[start : start + 9_000] for start in range(0, 90_000, 9_000)), b"end"]
            it.connections.send_parts(connection, parts)
            assert connection.backlog is not None
            kept = connection.backlog.chunks
            assert 0 < len(kept) < len(parts)
            assert all(one is another for one, another in zip(kept, parts[-len(kept) :], strict=True))
            received = bytearray()
            while it.connections.blocked(connection):
                received += take(peer)
                it.connections.flush(connection)
            assert received + take(peer) == b"".join(parts)

    def test_parts_go_out_in_one_write(self) -> None:
        with parked() as it:
            connection, peer = it.connect()
            it.connections.send_parts(connection, [b"a", b",", b"b"])
            assert take(peer) == b"a,b"
            assert connection.backlog is None
            peer.close()
            it.connections.send_parts(connection, [b"a", b"b"])
            assert it.attendant.details("closed") == [Reason.PEER_RESET]

    def test_keeping_nothing_asks_to_be_told_of_room(self) -> None:
        with parked() as it:
            connection, _ = it.connect()
            it.connections.keep(connection, b"", 0)
            assert it.interest(connection) == WRITE
            it.connections.flush(connection)
            assert it.attendant.of("drained") == [connection]

    def test_a_peer_that_is_gone_is_closed_by_the_next_write(self) -> None:
        with parked() as it:
            connection, peer = it.connect()
            peer.close()
            assert it.connections.offer(connection, b"x") == -1
            assert it.attendant.details("closed") == [Reason.PEER_RESET]
            it.connections.send(connection, b"y")  # harmless, and not told again
            assert it.attendant.details("closed") == [Reason.PEER_RESET]

    def test_a_peer_that_goes_while_it_is_behind(self) -> None:
        with parked() as it:
            connection, peer = it.connect()
            it.connections.send(connection, BIG)
            peer.close()
            it.connections.flush(connection)
            assert it.attendant.details("closed") == [Reason.PEER_RESET]
            assert connection.backlog is None
            assert it.attendant.of("drained") == []

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("send"), st.integers(1, 9_000)),
                st.tuples(st.just("take"), st.integers(1, 20_000)),
                st.tuples(st.just("offer"), st.integers(1, 9_000)),
                st.tuples(st.just("parts"), st.integers(1, 9_000)),
            ),
            max_size=40,
        )
    )
    def test_each_byte_once_and_in_order(self, acts: list[tuple[str, int]]) -> None:
        """Whatever the peer takes, whenever: what arrives is what was sent, without holes or repeats."""
        with parked() as it:
            connection, peer = it.connect()
            it.attendant.on["drained"] = it.connections.listen
            sent, received = bytearray(), bytearray()
            for act, size in acts:
                data = BIG[len(sent) % 80_000 :][:size]
                if act == "send":
                    it.connections.send(connection, data)
                    sent += data
                elif act == "parts":
                    it.connections.send_parts(connection, [data[at : at + 70] for at in range(0, size, 70)])
                    sent += data
                elif act == "offer":
                    taken = it.connections.offer(connection, data)
                    sent += data[:taken]
                    if 0 < taken < size:
                        it.connections.keep(connection, data, taken)
                        sent += data[taken:]
                else:
                    received += take(peer, size)
                if it.connections.blocked(connection):
                    it.connections.flush(connection)
            while it.connections.blocked(connection):
                received += take(peer)
                it.connections.flush(connection)
            assert received + take(peer) == sent
            assert connection.backlog is None
            assert it.interest(connection) == READ


class TestEnding:
    def test_closing_gives_everything_back_once(self) -> None:
        with parked() as it:
            before = descriptors()
            connection, peer = it.connect()
            descriptor = connection.descriptor
            connection.session = object()
            it.connections.close(connection, Reason.DONE)
            it.connections.close(connection, Reason.PEER_RESET)
            assert it.attendant.details("closed") == [Reason.DONE]
            assert (connection.descriptor, connection.alive, connection.session) == (CLOSED, False, None)
            assert it.connections.table[descriptor] is None
            assert it.connections.held == 0
            assert ended(peer)
            peer.close()
            assert descriptors() == before

    def test_the_session_is_there_for_the_attendant(self) -> None:
        with parked() as it:
            connection, _ = it.connect()
            connection.session = "kept"
            seen = []
            it.attendant.on["closed"] = lambda gone: seen.append(gone.session)
            it.connections.close(connection, Reason.DONE)
            assert seen == ["kept"]

    def test_an_attendant_that_fails_does_not_keep_the_descriptor(self) -> None:
        with parked() as it:
            connection, peer = it.connect()

            def fail(gone: Connection) -> None:
                raise RuntimeError("a bug of ours")

            it.attendant.on["closed"] = fail
            with pytest.raises(RuntimeError):
                it.connections.close(connection, Reason.DONE)
            assert ended(peer)
            assert connection.session is None

    def test_one_failure_does_not_keep_the_others_open(self) -> None:
        with parked() as it:
            peers = [it.connect()[1] for _ in range(3)]

            def fail(gone: Connection) -> None:
                raise RuntimeError("a bug of ours")

            it.attendant.on["closed"] = fail
            with pytest.raises(RuntimeError):
                it.connections.close_all(Reason.DRAINING)
            assert it.connections.held == 0
            assert all(ended(peer) for peer in peers)

    def test_finish_lets_the_peer_read_the_last_answer(self) -> None:
        with parked() as it:
            connection, peer = it.connect()
            peer.send(b"not read by us")
            it.connections.finish(connection, Reason.BAD_REQUEST, b"400")
            assert take(peer) == b"400"
            assert ended(peer)
            assert connection.phase is Phase.CLOSING
            assert it.interest(connection) == READ, "its bytes are read, so that no RST overtakes the answer"
            it.connections.closing_ended(connection)
            assert it.attendant.details("closed") == [Reason.BAD_REQUEST]

    def test_finish_waits_for_a_peer_that_is_behind(self) -> None:
        with parked() as it:
            connection, peer = it.connect()
            it.connections.send(connection, BIG)
            it.connections.finish(connection, Reason.DONE, b"goodbye")
            assert phase_of(connection) is Phase.HEAD, "not yet: FLUSH judges"
            received = bytearray()
            while it.connections.blocked(connection):
                received += take(peer)
                it.connections.flush(connection)
            received += take(peer)
            assert received == BIG + b"goodbye"
            assert ended(peer)
            assert phase_of(connection) is Phase.CLOSING
            assert it.attendant.of("drained") == [], "nobody shall write behind the end"

    def test_closing_has_a_deadline(self) -> None:
        with parked() as it:
            connection, _ = it.connect()
            it.connections.finish(connection, Reason.DONE, b"200")
            assert it.turn(seconds=2.0) == []
            assert it.turn(seconds=0.1) == [connection]

    def test_a_peer_that_never_takes_the_goodbye_is_aborted(self) -> None:
        with parked(PhaseLimits(flush_window=5.0)) as it:
            connection, _ = it.connect()
            it.connections.finish(connection, Reason.DONE, BIG)
            it.turn(seconds=5.1)
            assert it.attendant.details("closed") == [Reason.FLUSH_DEADLINE]

    def test_closed_is_freed_without_the_collector(self) -> None:
        """These structs are not tracked: a cycle would stay for ever, and `gc` would not tell."""
        with parked() as it:
            connection, _ = it.connect()
            it.connections.send(connection, BIG)
            it.connections.close(connection, Reason.DONE, Finality.ABORT)
            it.attendant.events.clear()
            gc.disable()
            try:
                assert sys.getrefcount(connection) == 2, "this name and the argument"
            finally:
                gc.enable()

    def test_the_wheel_keeps_no_object(self) -> None:
        with parked() as it:
            connection, _ = it.connect()
            before = sys.getrefcount(connection)
            for _ in range(100):
                it.connections.enter(connection, Phase.KEEPALIVE)
                it.connections.enter(connection, Phase.HEAD)
            assert sys.getrefcount(connection) == before

    def test_numbers_are_reused_and_objects_are_not(self) -> None:
        with parked() as it:
            first, _ = it.connect()
            number = first.descriptor
            it.connections.close(first, Reason.DONE)
            second, peer = it.connect()
            assert second.descriptor == number, "the kernel gives the lowest free number"
            it.connections.send(first, b"for the one that is gone")
            it.connections.listen(first)
            it.connections.pause(first)
            assert take(peer) == b""
            assert it.interest(second) == READ


class TestTurns:
    @pytest.mark.parametrize("ask", [Connections.again, Connections.read_again])
    def test_who_is_still_being_sent_its_last_answer_has_its_turn_then(
        self, ask: Callable[[Connections, Connection], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One with a tiny window that asks for a hundred pages at once has no other made while two are unsent."""
        unsent = 7_680
        told: list[int] = []
        monkeypatch.setattr(sockets, "unsent", lambda descriptor: unsent)
        monkeypatch.setattr(sockets, "writable_when_sent", told.append)
        with parked() as it:
            connection, _ = it.connect()
            it.connections.enter(connection, Phase.KEEPALIVE)
            ask(it.connections, connection)
            assert not it.connections.insatiable
            assert told == [connection.descriptor]
            assert it.interest(connection) == WRITE
            it.connections.flush(connection)
            assert it.attendant.of("drained") == [connection]
            unsent = 7_679  # less than it must take in a flush window: there would be too little to judge it by
            ask(it.connections, connection)
            assert list(it.connections.insatiable) == [connection]
            assert not it.connections.blocked(connection)

    def test_a_websocket_does_not_wait_for_what_others_have_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sockets, "unsent", lambda descriptor: 7_680)
        with parked() as it:
            connection, _ = it.connect()
            connection.phase = Phase.OPEN
            it.connections.read_again(connection)
            assert list(it.connections.insatiable) == [connection]
            assert not it.connections.blocked(connection)
