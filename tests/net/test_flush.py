"""The `FLUSH` overlay: judged by bytes that the peer acknowledged."""

from typing import NamedTuple

import pytest

from chatserver.net import sockets
from chatserver.net.connection import Connection
from chatserver.net.states import State
from chatserver.net.wheel import ticks
from chatserver.reasons import Reason
from tests.support.parked import Parked, parked, take
from tests.support.troubled import BIG


class Kernel:
    """Stands for `sockets.outstanding`, what the peer has not acknowledged, and for how long TCP has tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        self.latest_try: float | None = None
        monkeypatch.setattr(sockets, "outstanding", lambda descriptor: self.bytes)
        monkeypatch.setattr(sockets, "latest_try", lambda descriptor: self.latest_try)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def watched(it: Parked, state: State = State.HEAD) -> Connection:
    """A connection whose outstanding bytes are watched from now on."""
    connection, _ = it.place(state, small=False)
    assert it.connections.judge.outstanding(connection)
    return connection


class Moment(NamedTuple):
    """What is so at the end of so many seconds: bytes written since the last one, and not acknowledged; TCP's try."""

    seconds: float
    outstanding: int = 100_000
    written: int = 0
    latest_try: float | None = None
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
    # 600 ms away, TCP tries after 24.0 s, when the tunnel is not over, and then only after 49.6. After another tunnel
    # it is heard from, and reads nothing more.
    "it may be back and was not asked": [
        Moment(49.6, latest_try=24.0), Moment(20.0, 80_000),
        Moment(49.6, 80_000, latest_try=24.0), Moment(31.0, 60_000, lives=False),
    ],
    # An attacker acknowledges a byte now and then, so that TCP begins anew.
    "a second window is not followed by a third": [
        Moment(30.5, 97_000, latest_try=3.0), Moment(28.5, 94_100, latest_try=3.0),
        Moment(1.1, 94_000, latest_try=3.0, lives=False),
    ],
    # TCP's try met with an answer just before the window ended: 4,740 bytes came through since.
    "it was heard from a moment ago": [Moment(31.0, 95_260, latest_try=0.0), Moment(30.0, 80_000)],
    "it was asked after the longest outage": [Moment(30.0, latest_try=25.4, lives=False)],
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_who_is_aborted(it: Parked, kernel: Kernel, story: list[Moment]) -> None:
    kernel.bytes = 100_000
    connection, _ = it.connect()
    it.connections.send(connection, BIG)
    assert connection.backlog is not None
    for moment in story:
        connection.backlog.written += moment.written
        kernel.bytes, kernel.latest_try = moment.outstanding, moment.latest_try
        it.turn(seconds=moment.seconds)
        assert it.details("closed") == [Reason.FLUSH_DEADLINE] * (not moment.lives)
        assert connection.blocked is moment.lives


def test_an_honest_slow_reader_survives(it: Parked, kernel: Kernel) -> None:
    """3 KB/s out of a kernel that holds 175 KB: nothing new is written for a minute at a time."""
    kernel.bytes = 175_000
    connection, _ = it.connect()
    it.connections.send(connection, BIG)
    for _ in range(300):
        it.turn(seconds=1.0)
        kernel.bytes -= 3_000
        if kernel.bytes < 20_000:  # there is room: what we hold goes on into the kernel
            assert connection.backlog is not None
            connection.backlog.written += 150_000
            kernel.bytes += 150_000
    assert it.of("closed") == []


@pytest.mark.parametrize("outstanding", [1, 120, 7_000])
def test_few_bytes_are_enough_when_there_are_few(it: Parked, kernel: Kernel, outstanding: int) -> None:
    """A quiet stream: 120 bytes stood there, were acknowledged, and others stand there now."""
    kernel.bytes = outstanding
    connection = watched(it, State.STREAM)
    for _ in range(10):
        assert it.connections.offer(connection, b"x" * outstanding) == outstanding
        take(it.peers[0])
        it.turn(seconds=30.0)
    assert it.of("closed") == []


def test_few_bytes_that_are_never_acknowledged(it: Parked, kernel: Kernel) -> None:
    kernel.bytes = 120
    watched(it)
    it.turn(seconds=30.0)
    assert it.details("closed") == [Reason.FLUSH_DEADLINE]


def test_the_state_beneath_gets_its_remaining_time_back_and_no_more(it: Parked, kernel: Kernel) -> None:
    """Taking everything again and again does not buy time."""
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


def test_a_state_entered_while_behind_begins_when_that_is_over(kernel: Kernel) -> None:
    with parked(keepalive_deadline=7.0) as it:
        connection, peer = it.connect()
        it.connections.send(connection, BIG)
        it.connections.enter(connection, State.KEEPALIVE)
        it.turn(seconds=20.0)
        assert connection.alive, "not KEEPALIVE judges but FLUSH"
        it.drain(connection, peer)
        assert it.turn(seconds=7.0) == []
        assert it.turn(seconds=0.1) == [connection]


def test_a_missing_pong_is_not_judged_behind_our_own_bytes(it: Parked, kernel: Kernel) -> None:
    connection, _ = it.place(State.PINGED)
    kernel.bytes = 50_000
    assert it.turn(seconds=10.1) == [connection], "no pong in time"
    assert it.connections.judge.outstanding(connection)
    for _ in range(5):  # 2 KB/s
        it.turn(seconds=5.0)
        kernel.bytes -= 10_000
    it.turn(seconds=5.0)
    assert connection.backlog is None, "all was acknowledged: now the pong is due"
    assert it.turn(seconds=10.0) == []
    assert it.turn(seconds=0.1) == [connection]


def test_a_byte_from_the_peer_ends_the_watch(it: Parked, kernel: Kernel) -> None:
    kernel.bytes = 50_000
    connection = watched(it, State.PINGED)
    it.connections.enter(connection, State.OPEN)
    assert connection.backlog is None
    assert connection.deadline == it.connections.wheel.due[State.OPEN]


def test_a_watch_may_become_a_backlog(it: Parked, kernel: Kernel) -> None:
    """While we watch silently, more is written and does not fit: one overlay, no byte lost."""
    kernel.bytes = 10
    connection = watched(it, State.PINGED)
    overlay = connection.backlog
    it.connections.send(connection, 10 * BIG)
    assert connection.backlog is overlay
    assert it.drain(connection, it.peers[0]) == 10 * BIG


def test_nothing_outstanding_is_no_reason_to_watch(it: Parked, kernel: Kernel) -> None:
    connection, _ = it.connect()
    assert not it.connections.judge.outstanding(connection)
    assert connection.backlog is None
