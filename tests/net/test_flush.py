"""The `FLUSH` overlay: slow readers are judged by the bytes that they acknowledged."""

from typing import NamedTuple

import pytest

from chatserver.net import sockets
from chatserver.net.connection import Connection
from chatserver.net.readiness import READ
from chatserver.net.states import State
from chatserver.net.wheel import ticks
from chatserver.reasons import Reason
from tests.support.parked import Parked, parked, take
from tests.support.troubled import BIG


class Kernel:
    """Replaces `sockets.outstanding` (bytes not acknowledged) and the length of an outage."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        self.outage: float | None = None
        monkeypatch.setattr(sockets, "outstanding", lambda descriptor: self.bytes)
        monkeypatch.setattr(sockets, "outage", lambda descriptor: self.outage)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def watched(it: Parked, state: State = State.HEAD) -> Connection:
    """A connection whose outstanding bytes are watched from now on."""
    connection, _ = it.place(state, small=False)
    assert it.connections.judge.takes_over(connection)
    return connection


class Moment(NamedTuple):
    """State after `seconds`: bytes not acknowledged, bytes written since the last moment, outage."""

    seconds: float
    outstanding: int = 100_000
    written: int = 0
    outage: float | None = None
    lives: bool = True


#: Windows of 30 s, 256 B/s: 7,680 acknowledged bytes a window. 100,000 are outstanding when each begins.
STORIES = {
    "it never reads": [Moment(29.9), Moment(0.2, lives=False)],
    "it pauses for a little less than a window": [Moment(28.0), Moment(30.0, 92_000)],
    "it takes one byte too few": [Moment(30.0, 92_321, lives=False)],
    "it takes enough": [Moment(30.0, 92_320)],
    "only our kernel took bytes": [Moment(30.0, 150_000, written=50_000, lives=False)],
    "what it took in one window does not count in the next": [Moment(30.0, written=50_000), Moment(30.0, lives=False)],
    "it acknowledges all, and what we hold is not lost": [Moment(30.0, 0)],
    # To a peer 600 ms away TCP tries after 24.0 s, during the outage, and next after 49.6 s. After a second
    # outage the peer acknowledges, and then reads nothing more.
    "it may be back and was not asked": [
        Moment(49.6, outage=24.0), Moment(20.0, 80_000),
        Moment(49.6, 80_000, outage=24.0), Moment(31.0, 60_000, lives=False),
    ],
    # An attacker acknowledges a byte now and then, so that TCP's retransmission timer restarts.
    "a second window is not followed by a third": [
        Moment(30.5, 97_000, outage=3.0), Moment(28.5, 94_100, outage=3.0),
        Moment(1.1, 94_000, outage=3.0, lives=False),
    ],
    # TCP's try was answered just before the window ended; 4,740 bytes are acknowledged since.
    "it was heard from a moment ago": [Moment(31.0, 95_260, outage=0.0), Moment(30.0, 80_000)],
    "it is silent, and was asked after the longest outage": [Moment(30.0, outage=25.4, lives=False)],
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_which_peers_are_aborted(it: Parked, kernel: Kernel, story: list[Moment]) -> None:
    kernel.bytes = 100_000
    connection, _ = it.connect()
    it.connections.send(connection, BIG)
    assert connection.backlog is not None
    for moment in story:
        connection.backlog.written += moment.written
        kernel.bytes, kernel.outage = moment.outstanding, moment.outage
        it.turn(seconds=moment.seconds)
        assert it.details("closed") == [Reason.FLUSH_DEADLINE] * (not moment.lives)
        assert connection.blocked is moment.lives
        assert it.connections.wheel.statistics()["entries"] == moment.lives


@pytest.mark.parametrize("outstanding", [1, 120, 7_000])
def test_few_bytes_are_enough_when_there_are_few(it: Parked, kernel: Kernel, outstanding: int) -> None:
    """On a quiet stream 120 bytes are acknowledged and replaced by 120 others."""
    kernel.bytes = outstanding
    connection = watched(it, State.STREAM)
    for _ in range(10):
        assert it.connections.offer(connection, b"x" * outstanding) == outstanding
        take(it.peers[0])
        it.turn(seconds=30.0)
    assert it.of("closed") == []
    assert it.of("writable") == 10 * [connection], "the deadline of its state is put off, and its handler is asked"


def test_few_bytes_that_are_never_acknowledged(it: Parked, kernel: Kernel) -> None:
    kernel.bytes = 120
    watched(it)
    it.turn(seconds=30.0)
    assert it.details("closed") == [Reason.FLUSH_DEADLINE]


def test_a_peer_that_takes_too_little_is_reset(it: Parked, kernel: Kernel) -> None:
    """Otherwise the kernel would go on offering it what was written."""
    kernel.bytes = 100_000
    connection, peer = it.connect_tcp()
    it.connections.send(connection, b"x" * 10_000_000)
    it.turn(seconds=30.0)
    assert it.details("closed") == [Reason.FLUSH_DEADLINE]
    with pytest.raises(ConnectionResetError):
        take(peer)


@pytest.mark.parametrize("state", [State.KEEPALIVE, State.MESSAGE])
def test_a_peer_that_took_enough_in_one_window_is_judged_by_the_next_one_too(
    it: Parked, kernel: Kernel, state: State
) -> None:
    """These states do not look for unacknowledged bytes: it could read no more, and keep them for a minute."""
    kernel.bytes = 100_000
    connection = watched(it, state)
    kernel.bytes = 50_000
    it.turn(seconds=30.0)
    assert connection.backlog is not None
    it.turn(seconds=30.0)
    assert it.details("closed") == [Reason.FLUSH_DEADLINE]


def test_after_flush_the_state_has_its_remaining_time(it: Parked, kernel: Kernel) -> None:
    """A peer that empties the backlog again and again gains no time."""
    connection, peer = it.connect()
    it.turn(seconds=4.0)  # 6 of 10 s remain
    it.connections.send(connection, BIG)
    it.turn(seconds=20.0)
    it.drain(connection, peer)
    for _ in range(5):
        it.connections.send(connection, BIG)
        it.drain(connection, peer)
    assert connection.deadline == it.connections.wheel.current + ticks(6.0) + 1
    assert it.turn(seconds=6.0) == []
    assert it.turn(seconds=0.1) == [connection]


def test_the_deadline_of_a_state_entered_during_flush_begins_after_it(kernel: Kernel) -> None:
    with parked(keepalive_deadline=7.0) as it:
        connection, peer = it.connect()
        it.connections.send(connection, BIG)
        it.turn(seconds=1.0)
        it.connections.enter(connection, State.KEEPALIVE)
        it.turn(seconds=20.0)
        assert connection.alive, "FLUSH's deadline applies, not KEEPALIVE's"
        it.drain(connection, peer)
        assert it.turn(seconds=7.0) == []
        assert it.turn(seconds=0.1) == [connection]


def test_a_pong_is_not_overdue_while_bytes_are_outstanding(it: Parked, kernel: Kernel) -> None:
    connection, _ = it.place(State.PINGED)
    kernel.bytes = 50_000
    assert it.turn(seconds=10.1) == [connection], "no pong in time"
    assert it.connections.judge.takes_over(connection)
    for _ in range(5):  # 2 KB/s
        it.turn(seconds=5.0)
        kernel.bytes -= 10_000
        it.connections.step(connection, lambda each: None)
        assert it.armed(connection) == READ, "it is read meanwhile"
    it.turn(seconds=5.0)
    assert connection.backlog is None, "all bytes are acknowledged, so the pong is due"
    assert it.turn(seconds=10.0) == []
    assert it.turn(seconds=0.1) == [connection]


def test_a_byte_from_the_peer_ends_the_watch_of_outstanding_bytes(it: Parked, kernel: Kernel) -> None:
    kernel.bytes = 50_000
    connection = watched(it, State.PINGED)
    it.connections.enter(connection, State.OPEN)
    assert connection.backlog is None
    assert connection.deadline == it.connections.wheel.due[State.OPEN]


def test_a_watch_may_become_a_backlog(it: Parked, kernel: Kernel) -> None:
    """While outstanding bytes are watched, a write does not fit: one overlay, and no byte is lost."""
    kernel.bytes = 10
    connection = watched(it, State.PINGED)
    overlay = connection.backlog
    it.connections.send(connection, 10 * BIG)
    assert connection.backlog is overlay
    assert it.drain(connection, it.peers[0]) == 10 * BIG
