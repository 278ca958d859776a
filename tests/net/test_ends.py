"""The end of a connection, what it releases, and the boundary around each step for it."""

import gc
import sys
from contextlib import nullcontext

import pytest
from structlog.testing import capture_logs

from chatserver.net.closing import LINGER_BYTES
from chatserver.net.connection import CLOSED, Connection
from chatserver.net.readiness import READ
from chatserver.net.states import State
from chatserver.reasons import Reason
from tests.net.sealed import KINDS, Client, Either, read_all
from tests.support.parked import Parked, descriptors, ended, parked, take
from tests.support.troubled import BIG, fail, is_alive, state_of


class TestEnding:
    def test_closing_releases_everything_once(self, both: Either) -> None:
        """The garbage collector does not track these structs: it would neither free a cycle nor report it."""
        it, meet = both
        before = descriptors()
        connection, client = meet(small=True)
        descriptor = connection.descriptor
        connection.context = object()
        it.connections.send(connection, BIG)
        it.connections.close(connection, Reason.DONE)
        it.connections.close(connection, Reason.PEER_RESET)
        assert it.details("closed") == [Reason.DONE]
        assert (connection.descriptor, connection.alive, connection.context) == (CLOSED, False, None)
        assert (connection.backlog, connection.transport.unsent, it.connections.input_budget.used) == (None, b"", 0)
        assert (it.connections.table[descriptor], it.connections.held) == (None, 0)
        client.hear()
        assert ended(client.socket)
        client.socket.close()
        assert descriptors() == before
        it.recorder.events.clear()
        alone = object()
        gc.disable()
        try:
            assert sys.getrefcount(connection) == sys.getrefcount(alone), "only this function has it"
        finally:
            gc.enable()

    @pytest.mark.parametrize("reset", [False, True])
    def test_a_close_sends_fin_or_rst_and_gives_the_descriptor_back(self, it: Parked, reset: bool) -> None:
        connection, peer = it.connect_tcp()
        before = descriptors()
        it.connections.close(connection, Reason.DONE, reset=reset)
        assert descriptors() == before - 1
        peer.setblocking(True)
        with pytest.raises(ConnectionResetError) if reset else nullcontext():
            assert peer.recv(1) == b""

    def test_one_failure_does_not_keep_the_others_open(self, it: Parked) -> None:
        peers = [it.connect()[1] for _ in range(3)]
        it.recorder.on["closed"] = fail
        with pytest.raises(RuntimeError):
            it.connections.close_all(Reason.DRAINING)
        assert it.connections.held == 0
        assert all(ended(peer) for peer in peers)

    def test_finish_lets_the_peer_read_the_last_answer(self, it: Parked) -> None:
        connection, peer = it.connect()
        peer.send(b"not read by us")
        it.connections.finish(connection, Reason.BAD_REQUEST, b"400")
        assert take(peer) == b"400"
        assert ended(peer)
        assert connection.state is State.CLOSING
        it.turn_over()
        assert it.of("received") == [], "received bytes are dropped, so that no RST overtakes the answer"
        peer.close()
        it.turn_over()
        assert it.details("closed") == [Reason.BAD_REQUEST]

    @pytest.mark.parametrize("both", KINDS, indirect=True)
    def test_finish_waits_for_a_peer_that_is_behind(self, both: Either) -> None:
        """Wherever the kernel's buffer ends: in an answer, in the close_notify of TLS, or just before it."""
        it, meet = both
        for before in range(1, 4_000, 201):
            connection, client = meet(small=True)
            it.connections.send(connection, BIG[:before])
            size = before
            while not connection.blocked:
                it.connections.send(connection, BIG[size : size + 301])
                size += 301
            it.connections.finish(connection, Reason.DONE, b"goodbye")
            it.connections.finish(connection, Reason.FLOOD, b"again")
            assert read_all(it, client) == BIG[:size] + b"goodbye"
            assert ended(client.socket)
            assert not isinstance(client, Client) or client.closed
            assert state_of(connection) is State.CLOSING
            assert it.of("writable") == [], "nothing may be written after the end"

    @pytest.mark.parametrize(
        ("reason", "counts"), [(Reason.DONE, Reason.CLOSE_DEADLINE), (Reason.HEAD_DEADLINE, Reason.HEAD_DEADLINE)]
    )
    def test_closing_has_a_deadline_and_the_worse_reason_counts(
        self, it: Parked, reason: Reason, counts: Reason
    ) -> None:
        connection, _ = it.connect()
        it.connections.finish(connection, reason, b"200")
        it.turn(seconds=2.0)
        assert is_alive(connection)
        it.turn(seconds=0.2)
        assert it.details("closed") == [counts]

    def test_of_a_peer_that_goes_on_sending_linger_bytes_are_read(self, it: Parked) -> None:
        """The deadline of the peer does not move, and it can still read the answer."""
        connection, peer = it.connect(small=False)
        it.connections.finish(connection, Reason.BODY_DEADLINE, b"408")
        due = connection.deadline
        it.turn(seconds=0.3)
        sent = 0
        while state_of(connection) is State.CLOSING:
            sent += peer.send(bytes(8192))
            it.turn_over()
        assert LINGER_BYTES <= sent <= 2 * LINGER_BYTES
        assert (state_of(connection), it.armed(connection)) == (State.LINGERING, 0)
        assert connection.deadline == due
        assert take(peer) == b"408"
        it.turn(seconds=2.3)
        assert it.details("closed") == [Reason.BODY_DEADLINE]

    def test_a_peer_that_never_reads_the_last_answer_is_aborted(self) -> None:
        with parked(flush_window=5.0) as it:
            connection, _ = it.connect()
            it.connections.finish(connection, Reason.DONE, BIG)
            it.turn(seconds=5.1)
            assert it.details("closed") == [Reason.FLUSH_DEADLINE]

    def test_a_closed_connection_cannot_reach_the_next_owner_of_its_descriptor(self, it: Parked) -> None:
        """Descriptor numbers are reused, connection objects are not."""
        first, _ = it.connect()
        number = first.descriptor
        it.connections.close(first, Reason.DONE)
        second, peer = it.connect()
        assert second.descriptor == number, "the kernel gives the lowest free number"
        peer.send(b"x")
        before = it.armed(second), second.deadline, second.state
        it.connections.send(first, b"for the closed connection")
        it.connections.send_parts(first, [b"for", b"it"])
        assert it.connections.offer(first, b"x") == -1
        assert it.connections.offer_each([first], b"x") == [(first, -1)]
        it.connections.keep(first, b"x", 0)
        it.connections.flush(first)
        it.connections.arm(first)
        it.connections.resume(first)
        it.poller.expire(first)
        it.connections.finish(first, Reason.FLOOD, b"x")
        it.connections.close(first, Reason.FLOOD, reset=True)
        assert not it.connections.step(first, fail)
        it.run_rounds()
        assert take(peer) == b""
        assert it.details("closed") == [Reason.DONE]
        assert (it.armed(second), second.deadline, second.state) == before

    def test_queued_steps_of_a_closed_connection_do_not_run(self) -> None:
        """A read, a write, an expiry and a resume were queued; then the descriptor has a new owner."""
        with parked(head_deadline=1.0) as it:
            reading, peer = it.connect()
            peer.send(b"x")
            writing, _ = it.connect()
            it.connections.keep(writing, b"y", 0)
            it.poller._gather()
            old = [reading, writing, *(it.connect()[0] for _ in range(2))]
            it.poller.expire(old[2])
            it.connections.resume(old[3])
            for connection in old:
                it.connections.close(connection, Reason.DONE)
            heirs = [it.connect() for _ in old]
            it.run_rounds()
            assert {event for event, _, _ in it.recorder.events} == {"closed"}
            assert all(heir.alive and take(peer) == b"" for heir, peer in heirs)


class TestBoundary:
    def test_a_step_arms_the_connection_as_its_state_says(self, it: Parked) -> None:
        connection, _ = it.place(State.SERVING, object())
        assert it.armed(connection) == 0
        assert it.connections.step(connection, lambda each, value: value, 7), "the step's answer is returned"
        assert not it.connections.step(connection, lambda each: it.connections.enter(each, State.KEEPALIVE))
        assert it.armed(connection) == READ

    @pytest.mark.parametrize(("end", "counts"), [("finish", Reason.INTERNAL_ERROR), ("close", Reason.DONE)])
    def test_a_fault_after_the_end_has_no_error_answer(self, it: Parked, end: str, counts: Reason) -> None:
        it.faults = 1
        connection, _ = it.connect()

        def end_and_fail(each: Connection) -> None:
            getattr(it.connections, end)(each, Reason.DONE)
            fail(each)

        it.connections.step(connection, end_and_fail)
        assert it.details("closed") == [counts]
        assert it.of("faulted") == []

    @pytest.mark.parametrize("event", ["faulted", "released", "closed"])
    def test_a_second_fault_while_a_fault_is_handled_costs_no_more(self, it: Parked, event: str) -> None:
        """The error answer and the release may fail as well: the descriptor is released all the same."""
        before = descriptors()
        connection, peer = it.connect()
        connection.context = object()
        it.recorder.on[event] = fail
        with capture_logs() as logs:
            it.connections.step(connection, fail)
        assert [line["event"] for line in logs] == ["fault", "fault_in_close"]
        assert ended(peer)
        assert (connection.alive, connection.context) == (False, None)
        it.faults = 1
        assert it.details("closed") == [Reason.INTERNAL_ERROR], "the place is released as well"
        peer.close()
        assert descriptors() == before
