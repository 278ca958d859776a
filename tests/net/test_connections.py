"""Writing without waiting: each byte once and in order, whatever the peer takes. Its end: test_ends.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net.connection import CLOSED
from chatserver.net.readiness import READ, WRITE
from chatserver.net.states import State
from chatserver.reasons import Reason
from tests.support.parked import Parked, ended, parked, take
from tests.support.troubled import BIG, BrokenTransport, fail


class TestWriting:
    def test_what_fits_is_written_at_once(self, it: Parked) -> None:
        connection, peer = it.connect()
        it.connections.send(connection, b"hello")
        assert take(peer) == b"hello"
        assert connection.backlog is None
        assert it.armed(connection) == READ

    def test_what_does_not_fit_is_kept_and_nothing_is_read_meanwhile(self, it: Parked) -> None:
        connection, peer = it.connect()
        it.connections.send(connection, BIG)
        assert connection.blocked
        assert it.armed(connection) == WRITE
        assert it.drain(connection, peer) == BIG
        assert it.of("writable") == [connection]
        it.turn_over()
        assert it.armed(connection) == READ, "its state decides whether it is read on"

    def test_offer_takes_nothing_from_a_peer_that_is_behind(self, it: Parked) -> None:
        connection, _ = it.connect()
        it.connections.send(connection, BIG)
        assert it.connections.offer(connection, b"more") == 0

    @pytest.mark.parametrize("event", ["released", "closed"])
    def test_a_fault_in_offering_to_one_of_many_costs_that_one(self, it: Parked, event: str) -> None:
        """A room's pass is under way: those behind it are offered the message all the same."""
        first, peer = it.connect(small=False)
        unlucky, gone = it.place(State.OPEN, object())
        last, friend = it.connect(small=False)
        gone.close()
        it.recorder.on[event] = fail
        assert it.connections.offer_each([first, unlucky, last], b"hello") == [(1, -1)]
        assert take(peer) == take(friend) == b"hello"
        assert (unlucky.descriptor, it.connections.faults.count, it.connections.held) == (CLOSED, 1, 2)

    def test_a_fault_in_writing_ends_the_connection_without_an_excuse(self, it: Parked) -> None:
        """The excuse would be written by what has just failed."""
        connection, peer = it.connect()
        connection.transport = BrokenTransport()
        it.recorder.on["faulted"] = lambda each: it.connections.finish(each, Reason.INTERNAL_ERROR, b"sorry")
        it.connections.send(connection, b"hello")
        assert it.details("closed") == [Reason.INTERNAL_ERROR]
        assert (it.connections.faults.count, it.of("faulted")) == (1, [])
        assert ended(peer)

    def test_offering_to_many_is_offering_to_each(self, it: Parked) -> None:
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
        assert it.of("closed") == [gone]

    def test_a_rest_is_the_shared_chunk_and_not_a_copy(self, it: Parked) -> None:
        connection, _ = it.connect()
        it.connections.send(connection, BIG)
        assert connection.backlog is not None
        assert connection.backlog.chunks[0] is BIG

    def test_the_rest_of_parts_is_the_shared_ones_and_not_copies(self, it: Parked) -> None:
        connection, peer = it.connect()
        parts = [b"head", *(BIG[start : start + 9_000] for start in range(0, 90_000, 9_000)), b"end"]
        it.connections.send_parts(connection, parts)
        assert connection.backlog is not None
        kept = connection.backlog.chunks
        assert 0 < len(kept) < len(parts)
        assert all(one is another for one, another in zip(kept, parts[-len(kept) :], strict=True))
        assert it.drain(connection, peer) == b"".join(parts)

    def test_parts_go_out_in_one_write(self, it: Parked) -> None:
        connection, peer = it.connect()
        it.connections.send_parts(connection, [b"a", b",", b"b"])
        assert take(peer) == b"a,b"
        assert connection.backlog is None
        peer.close()
        it.connections.send_parts(connection, [b"a", b"b"])
        assert it.details("closed") == [Reason.PEER_RESET]

    def test_keeping_nothing_asks_to_be_told_of_room(self, it: Parked) -> None:
        connection, _ = it.connect()
        it.connections.keep(connection, b"", 0)
        assert it.armed(connection) == WRITE
        it.connections.flush(connection)
        assert it.of("writable") == [connection]

    def test_a_peer_that_is_gone_is_closed_by_the_next_write(self, it: Parked) -> None:
        connection, peer = it.connect()
        peer.close()
        assert it.connections.offer(connection, b"x") == -1
        assert it.details("closed") == [Reason.PEER_RESET]
        it.connections.send(connection, b"y")  # harmless, and not told again
        assert it.details("closed") == [Reason.PEER_RESET]

    def test_a_peer_that_goes_while_it_is_behind(self, it: Parked) -> None:
        connection, peer = it.connect()
        it.connections.send(connection, BIG)
        peer.close()
        it.connections.flush(connection)
        assert it.details("closed") == [Reason.PEER_RESET]
        assert connection.backlog is None
        assert it.of("writable") == []

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
                if connection.blocked:
                    it.connections.flush(connection)
            while connection.blocked:
                received += take(peer)
                it.connections.flush(connection)
            assert received + take(peer) == sent
            assert connection.backlog is None
            it.turn_over()
            assert it.armed(connection) == READ
