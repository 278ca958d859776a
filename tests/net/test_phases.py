"""Every phase by phase move is in the table or refused; entering is setting the deadline."""

import itertools

import pytest

from chatserver.net.connection import Connection
from chatserver.net.phases import ALLOWED, RULES, SETTLES, IllegalMoveError, Phase, PhaseLimits
from chatserver.net.readiness import LATER, READ, WRITE
from chatserver.net.wheel import AT_REST, TICK, TOGETHER, ticks
from chatserver.reasons import Reason
from tests.support.parked import Parked, parked, take

MOVES = list(itertools.product(Phase, Phase))

#: What the table must say whatever else it says: written down again, so that an edit of the table is a decision.
NEVER_LEADS_TO = {
    Phase.CLOSING: set(Phase),  # nothing comes after the end
    Phase.OPEN: {Phase.HEAD, Phase.BODY, Phase.KEEPALIVE, Phase.HELD, Phase.STREAM},  # a WebSocket stays one
    Phase.PINGED: {Phase.HEAD, Phase.BODY, Phase.KEEPALIVE, Phase.HELD, Phase.STREAM},
    Phase.MESSAGE: {Phase.HEAD, Phase.BODY, Phase.KEEPALIVE, Phase.HELD, Phase.STREAM, Phase.PINGED},
    Phase.STREAM: {Phase.HEAD, Phase.BODY, Phase.KEEPALIVE, Phase.HELD, Phase.OPEN, Phase.SERVING},
    Phase.HELD: {Phase.HEAD, Phase.BODY, Phase.OPEN, Phase.STREAM},
    Phase.PACED: set(Phase) - {Phase.KEEPALIVE, Phase.CLOSING},  # nobody is served out of turn
}


def test_every_phase_has_a_row_and_a_limit() -> None:
    assert set(RULES) == set(Phase)
    assert len(PhaseLimits().seconds()) == len(Phase)
    assert all(seconds > 0 for seconds in PhaseLimits().seconds()), "no phase is without an end by default"


def test_every_phase_can_end() -> None:
    assert all(Phase.CLOSING in RULES[phase].then for phase in Phase if phase is not Phase.CLOSING)


@pytest.mark.parametrize(("old", "never"), NEVER_LEADS_TO.items(), ids=str)
def test_what_never_follows(old: Phase, never: set[Phase]) -> None:
    assert not RULES[old].then & never


def test_whoever_waits_for_the_peer_is_closed_for_a_reason() -> None:
    # Only phases that wait for *us*, for news or for its own turn end without a fault.
    blameless = {phase for phase in Phase if RULES[phase].expiry is None}
    assert blameless == {Phase.HELD, Phase.STREAM, Phase.OPEN, Phase.PACED}


def test_a_newcomer_settles_once_it_was_answered() -> None:
    settled = {phase for phase in Phase if any(SETTLES[old][phase] for old in Phase)}
    assert settled == {Phase.KEEPALIVE, Phase.SERVING, Phase.HELD, Phase.STREAM, Phase.OPEN}
    assert not SETTLES[Phase.HEAD][Phase.OPEN], "a WebSocket has a join to do yet"


def test_settling_is_part_of_the_move_and_lasts() -> None:
    with parked() as it:
        connection, _ = it.connect()
        assert connection.interest & LATER
        it.connections.enter(connection, Phase.OPEN)
        assert connection.interest & LATER
        it.connections.enter(connection, Phase.OPEN)
        assert not connection.interest & LATER
        it.connections.keep(connection, b"x", 0)
        assert it.interest(connection) == WRITE
        assert not connection.interest & LATER


def test_whoever_is_deferred_comes_first_again_when_it_was_answered() -> None:
    with parked() as it:
        connection, _ = it.connect()
        it.connections.enter(connection, Phase.KEEPALIVE)
        it.connections.defer(connection)
        assert connection.interest & LATER
        assert it.interest(connection) == READ
        it.connections.enter(connection, Phase.HELD)
        assert not connection.interest & LATER
        it.connections.close(connection, Reason.DONE)
        it.connections.defer(connection)  # gone is gone


def test_whoever_is_behind_is_a_newcomer_still() -> None:
    with parked() as it:
        connection, _ = it.connect()
        it.connections.keep(connection, b"x", 0)
        assert connection.interest & LATER
        assert it.interest(connection) == WRITE


def at(parked: Parked, phase: Phase) -> Connection:
    connection, _ = parked.connect()
    connection.phase = phase
    return connection


@pytest.mark.parametrize(("old", "new"), MOVES, ids=lambda phase: phase.name)
def test_every_move_is_in_the_table_or_refused(old: Phase, new: Phase) -> None:
    with parked() as it:
        connection = at(it, old)
        before = connection.deadline
        assert ALLOWED[old][new] == (new in RULES[old].then)
        if not ALLOWED[old][new]:
            with pytest.raises(IllegalMoveError, match=f"{old.name} does not lead to {new.name}"):
                it.connections.enter(connection, new)
            assert (connection.phase, connection.deadline) == (old, before), "a refused move has no effect"
            return
        it.turn(seconds=1.0)
        it.connections.enter(connection, new)
        assert connection.phase is new
        seconds = getattr(PhaseLimits(), new.name.lower())
        put_off = connection.deadline - (it.connections.wheel.current + 1 + ticks(seconds))
        assert 0 <= put_off < TOGETHER if new in AT_REST else put_off == 0
        assert 0 < connection.entry <= connection.deadline, "and the wheel will look at it by then"


@pytest.mark.parametrize("phase", [phase for phase in Phase if RULES[phase].total])
def test_progress_never_extends_a_total_deadline(phase: Phase) -> None:
    """Reading, writing, pausing, listening, bytes in the inbox: only `enter` moves the deadline."""
    with parked() as it:
        connection, peer = it.connect()
        connection.phase = Phase.SERVING
        if ALLOWED[Phase.SERVING][phase]:
            it.connections.enter(connection, phase)
        else:
            connection.phase = phase
        due = connection.deadline
        for _ in range(20):
            it.turn(seconds=0.1)
            peer.send(b"x")
            connection.inbox += b"x"
            it.connections.pause(connection)
            it.connections.listen(connection)
            it.connections.send(connection, b"y")
            it.connections.again(connection)
            assert take(peer) == b"y"
        assert connection.deadline == due


def test_a_slow_head_is_over_when_its_total_is_over() -> None:
    with parked(PhaseLimits(head=3.0)) as it:
        connection, peer = it.connect()
        for _ in range(29):
            peer.send(b"x")
            connection.inbox += b"x"
            assert it.turn(seconds=TICK) == []
        assert it.turn(seconds=2 * TICK) == [connection]


def test_a_phase_without_a_limit_has_no_end_of_its_own() -> None:
    with parked(PhaseLimits(head=1.0, held=0.0)) as it:
        connection, _ = it.connect()
        it.connections.enter(connection, Phase.HELD)
        assert it.turn(seconds=600.0) == []
        assert connection.entry == 0
        assert it.connections.wheel.statistics() == {"entries": 0, "slots": 0}
        it.connections.enter(connection, Phase.KEEPALIVE)
        assert it.turn(seconds=61.0) == [connection], "the next phase has one again"


def test_a_span_of_its_own() -> None:
    with parked() as it:
        connection, _ = it.connect()
        it.connections.enter(connection, Phase.HELD, ticks(2.5))
        assert it.turn(seconds=2.5) == []
        assert it.turn(seconds=0.1) == [connection]


def test_reasons_of_expiry_are_each_their_own() -> None:
    expiries = [RULES[phase].expiry for phase in Phase if RULES[phase].expiry]
    assert len(expiries) == len(set(expiries))
    assert all(isinstance(expiry, Reason) for expiry in expiries)
