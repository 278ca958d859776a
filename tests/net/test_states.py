"""The table of states: every move is in it or refused, every row has a handler, and its columns are obeyed."""

import socket

import pytest

from chatserver.net.connection import Closing
from chatserver.net.states import ALLOWED, PRIORITY, READS, TABLE, IllegalMoveError, Priority, Reads, State
from chatserver.net.wheel import COARSE_FROM, COARSE_TICKS, TICK, spans
from chatserver.reasons import Reason
from chatserver.settings.fields import Settings
from tests.support.parked import Parked, next_tick, parked, reset, take

ENDS = {State.CLOSING, State.LINGERING}
# -- the rows ---------------------------------------------------------------------------------------------------------


def test_every_state_has_a_row_a_deadline_and_a_way_to_close() -> None:
    assert list(TABLE) == list(State)
    assert all(0 < span < 1 << 20 for span in spans(Settings())), "by default every state has a deadline"
    assert {state for state in State if not ALLOWED[state][State.CLOSING]} == ENDS


# -- moves ------------------------------------------------------------------------------------------------------------


def test_every_move_is_in_the_table_or_refused() -> None:
    for old in State:
        with parked() as it:
            for new in State:
                move(it, old, new)


def move(it: Parked, old: State, new: State) -> None:
    context = Closing(Reason.DONE)
    connection, _ = it.place(old)
    before = connection.deadline
    if not ALLOWED[old][new]:
        with pytest.raises(IllegalMoveError, match=f"{old.name} does not lead to {new.name}"):
            it.connections.enter(connection, new, context)
        assert (connection.state, connection.deadline, connection.context) == (old, before, None)
        return
    it.connections.wheel.advance(next_tick(it.connections.wheel))
    it.connections.enter(connection, new, context)
    assert connection.state is new
    assert connection.context is context
    span = spans(it.settings)[new]
    put_off = connection.deadline - (it.connections.wheel.current + 1 + span)
    together = TABLE[new].at_rest and span >= COARSE_FROM
    assert 0 <= put_off < COARSE_TICKS if together else put_off == 0
    assert 0 < it.connections.wheel.entries[connection.descriptor] <= connection.deadline, "the wheel checks it by then"


@pytest.mark.parametrize("state", sorted(set(State) - ENDS))
def test_every_event_reaches_the_handler_of_its_state_in_its_class(it: Parked, state: State) -> None:
    connection, peer = it.place(state)
    peer.send(b"x")
    it.poller._gather()
    waiting = it.connections.scheduler.statistics()
    assert waiting == {each.name.lower(): int(READS[state] and each is PRIORITY[state]) for each in Priority}
    it.turn_over()
    assert it.details("received") == ([b"x"] if READS[state] else [])
    it.connections.keep(connection, b"y", 0)
    it.turn_over()
    assert it.of("writable") == [connection]
    it.connections.resume(connection)
    it.run_rounds()
    assert it.of("resumed") == [connection]
    it.connections.wheel.watch(connection, it.connections.wheel.current)
    it.poller.expire(connection)
    it.run_rounds()
    assert it.details("expired") == [state]
    it.recorder.on["ended"] = lambda gone: it.connections.close(gone, Reason.PEER_CLOSED)
    peer.shutdown(socket.SHUT_WR)
    it.turn_over()
    assert bool(it.of("ended")) == READS[state], "a FIN is read like bytes"


def test_deadlines_of_many_networks_pass_beside_networks_that_flood(it: Parked) -> None:
    """All expiries in the turns of one network would be ever later: 2,000 networks that flood leave it one a second."""
    order: list[object] = []

    def note(item: object) -> bool:
        order.append(item)
        return False

    it.recorder.on["expired"] = note
    placed = [it.place(State.HELD, address=f"198.51.100.{number}")[0] for number in range(10)]
    for number in range(200):
        it.connections.scheduler.submit(Priority.NORMAL, note, "flood", f"192.0.2.{number % 20}")
    for connection in placed:
        it.connections.wheel.watch(connection, it.connections.wheel.current)
        it.poller.expire(connection)
    it.run_rounds()
    assert order[40:] == ["flood"] * 170


# -- enter ------------------------------------------------------------------------------------------------------------


class Kept:
    """A context."""


class Other:
    """A context of another state."""


@pytest.mark.parametrize("context", [None, Other()])
def test_a_context_of_another_type_is_refused(it: Parked, context: object) -> None:
    """A context kept from the state before is checked as well."""
    it.connections.bind(State.OPEN, it.handler, Kept)
    connection, _ = it.place(State.HEAD, context)
    with pytest.raises(IllegalMoveError, match="OPEN does not carry"):
        it.connections.enter(connection, State.OPEN, context)
    assert (connection.state, connection.context) == (State.HEAD, context), "a refused move has no effect"


def test_a_context_is_released_once_by_the_handler_of_its_state(it: Parked) -> None:
    first, second = Kept(), Other()
    connection, _ = it.connect()
    it.connections.enter(connection, State.OPEN, first)
    it.connections.enter(connection, State.PINGED, first)
    it.connections.enter(connection, State.OPEN, first)
    assert it.of("released") == [], "the context is still in use"
    it.connections.enter(connection, State.MESSAGE, second)
    assert it.details("released") == [first]
    assert connection.deadline == it.connections.wheel.due[State.MESSAGE]
    it.connections.finish(connection, Reason.DONE)
    it.connections.close(connection, Reason.DONE)
    assert it.details("released") == [first, second]


def test_a_context_given_to_a_closed_connection_is_released_at_once(it: Parked) -> None:
    connection, _ = it.connect()
    it.connections.close(connection, Reason.PEER_RESET)
    late = Kept()
    it.connections.enter(connection, State.OPEN, late)
    it.connections.enter(connection, State.KEEPALIVE)
    assert it.details("released") == [late]
    assert (connection.context, connection.state) == (None, State.HEAD)
    assert it.connections.wheel.statistics()["entries"] == 1, "only the old entry, which has no effect"


def test_a_release_that_closes_is_the_end_of_the_move(it: Parked) -> None:
    connection, _ = it.connect()
    it.connections.enter(connection, State.OPEN, Kept())
    it.recorder.on["released"] = lambda gone: it.connections.close(gone, Reason.FLOOD)
    due = connection.deadline
    it.connections.enter(connection, State.MESSAGE, Other())
    assert it.details("closed") == [Reason.FLOOD]
    assert (connection.context, connection.deadline) == (None, due)
    assert len(it.of("released")) == 2


# -- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(set(State) - ENDS))
def test_progress_never_moves_a_deadline(it: Parked, state: State) -> None:
    """Only `enter` moves a deadline; reads, writes, resumes and bytes in the inbox do not."""
    connection, peer = it.place(state)
    it.recorder.on["received"] = lambda connection: it.connections.send(connection, b"y")
    due = connection.deadline
    for _ in range(min(20, spans(it.settings)[state] - 1)):
        it.turn(seconds=TICK)
        if connection.deadline <= it.connections.wheel.current + 1:
            break
        peer.send(b"x")
        connection.inbox += b"x"
        it.turn_over()
        it.connections.resume(connection)
        it.run_rounds()
        take(peer)
    assert connection.deadline == due


def test_a_queued_expiry_is_void_after_a_move() -> None:
    with parked(head_deadline=1.0) as it:
        connection, _ = it.connect()
        for _ in range(11):
            it.now = next_tick(it.connections.wheel)
            for expired in it.connections.wheel.turn(it.now):
                it.poller.expire(expired)
        it.connections.enter(connection, State.KEEPALIVE)
        it.run_rounds()
        assert it.of("expired") == []
        assert it.turn(seconds=it.settings.keepalive_deadline + 1.0) == [connection], "the new deadline holds"


# -- reads and priority -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(State))
def test_a_reset_is_noticed_in_the_states_that_the_table_says(it: Parked, state: State) -> None:
    connection, peer = it.connect_tcp()
    connection.state = state
    connection.context = Closing(Reason.DONE) if state in ENDS else Kept()
    it.connections.arm(connection)
    reset(peer)
    for _ in range(1000):
        it.turn_over()
    noticed = Reason.DONE if state is State.CLOSING else Reason.PEER_RESET
    assert it.details("closed") == ([] if TABLE[state].reads is Reads.NO else [noticed])
