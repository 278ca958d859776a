"""The `FLUSH` overlay: judged by bytes that the peer acknowledged."""

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


class TestFlush:
    """30 s windows, 256 B/s: 7,680 acknowledged bytes a window, or all there was when it began."""

    def behind(self, it: Parked, kernel: Kernel, outstanding: int) -> Connection:
        connection, _ = it.connect()
        it.connections.send(connection, BIG)
        kernel.bytes = outstanding
        assert connection.backlog is not None
        connection.backlog.outstanding = outstanding
        return connection

    def test_a_peer_that_never_reads_is_aborted_after_one_window(self, it: Parked, kernel: Kernel) -> None:
        self.behind(it, kernel, 100_000)
        it.turn(seconds=29.9)
        assert it.of("closed") == []
        it.turn(seconds=0.2)
        assert it.details("closed") == [Reason.FLUSH_DEADLINE]

    def test_an_honest_slow_reader_survives(self, it: Parked, kernel: Kernel) -> None:
        """3 KB/s out of a kernel that holds 175 KB: nothing new is written for a minute at a time."""
        connection = self.behind(it, kernel, 175_000)
        for _ in range(300):
            it.turn(seconds=1.0)
            kernel.bytes -= 3_000
            if kernel.bytes < 20_000:  # there is room: what we hold goes on into the kernel
                assert connection.backlog is not None
                connection.backlog.written += 150_000
                kernel.bytes += 150_000
        assert it.of("closed") == []

    def test_a_pause_of_a_window_less_a_little_is_survived(self, it: Parked, kernel: Kernel) -> None:
        self.behind(it, kernel, 100_000)
        it.turn(seconds=28.0)
        kernel.bytes -= 8_000
        it.turn(seconds=30.0)
        assert it.of("closed") == []

    @pytest.mark.parametrize(("acknowledged", "lives"), [(7_679, False), (7_680, True)])
    def test_the_floor(self, it: Parked, kernel: Kernel, acknowledged: int, lives: bool) -> None:
        connection = self.behind(it, kernel, 100_000)
        kernel.bytes -= acknowledged
        it.turn(seconds=30.0)
        assert connection.alive is lives

    def test_bytes_that_only_our_kernel_took_do_not_count(self, it: Parked, kernel: Kernel) -> None:
        connection = self.behind(it, kernel, 10_000)
        assert connection.backlog is not None
        connection.backlog.written += 50_000
        kernel.bytes += 50_000
        it.turn(seconds=30.0)
        assert it.details("closed") == [Reason.FLUSH_DEADLINE]

    def test_a_peer_that_may_be_back_and_was_not_asked_gets_a_second_window(self, it: Parked, kernel: Kernel) -> None:
        """600 ms away: TCP tries after 24.0 s, when the tunnel is not over, and then only after 49.6."""
        connection = self.behind(it, kernel, 100_000)
        kernel.latest_try = 24.0
        it.turn(seconds=49.6)
        kernel.bytes, kernel.latest_try = 80_000, None
        it.turn(seconds=20.0)
        assert connection.alive
        kernel.latest_try = 24.0  # another tunnel
        it.turn(seconds=49.6)
        kernel.bytes, kernel.latest_try = 60_000, None
        it.turn(seconds=31.0)
        assert it.details("closed") == [Reason.FLUSH_DEADLINE], "heard from, and it read nothing more"

    def test_a_second_window_is_not_followed_by_a_third(self, it: Parked, kernel: Kernel) -> None:
        """An attacker that acknowledges a byte now and then, so that TCP begins anew."""
        self.behind(it, kernel, 100_000)
        kernel.latest_try = 3.0
        for _ in range(59):
            it.turn(seconds=1.0)
            kernel.bytes -= 100
        assert it.of("closed") == []
        it.turn(seconds=1.1)
        assert it.details("closed") == [Reason.FLUSH_DEADLINE]

    def test_a_peer_that_was_heard_from_a_moment_ago_gets_a_second_window(self, it: Parked, kernel: Kernel) -> None:
        """TCP's try met with an answer just before the window ended: 4,740 bytes came through since."""
        connection = self.behind(it, kernel, 100_000)
        kernel.bytes, kernel.latest_try = 95_260, 0.0
        it.turn(seconds=31.0)
        kernel.bytes, kernel.latest_try = 80_000, None
        it.turn(seconds=30.0)
        assert connection.alive

    def test_a_peer_that_was_asked_after_the_longest_outage_is_gone(self, it: Parked, kernel: Kernel) -> None:
        self.behind(it, kernel, 100_000)
        kernel.latest_try = 25.4
        it.turn(seconds=30.0)
        assert it.details("closed") == [Reason.FLUSH_DEADLINE]

    @pytest.mark.parametrize("outstanding", [1, 120, 7_000])
    def test_few_bytes_are_enough_when_there_are_few(self, it: Parked, kernel: Kernel, outstanding: int) -> None:
        """A quiet stream: 120 bytes stood there, were acknowledged, and others stand there now."""
        connection, peer = it.connect(small=False)
        it.connections.enter(connection, State.STREAM)
        kernel.bytes = outstanding
        assert it.connections.judge.outstanding(connection)
        for _ in range(10):
            it.connections.send(connection, b"x" * outstanding)
            assert len(take(peer)) == outstanding
            it.turn(seconds=30.0)
        assert it.of("closed") == []

    def test_few_bytes_that_are_never_acknowledged(self, it: Parked, kernel: Kernel) -> None:
        connection, _ = it.connect()
        kernel.bytes = 120
        assert it.connections.judge.outstanding(connection)
        it.turn(seconds=30.0)
        assert it.details("closed") == [Reason.FLUSH_DEADLINE]

    def test_the_state_beneath_gets_its_remaining_time_back(self, it: Parked, kernel: Kernel) -> None:
        connection, peer = it.connect()
        it.turn(seconds=4.0)  # 6 of 10 s remain
        it.connections.send(connection, BIG)
        it.turn(seconds=20.0)
        while connection.blocked:
            take(peer)
            it.connections.flush(connection)
        assert connection.deadline == it.connections.wheel.current + ticks(6.0) + 1
        assert it.turn(seconds=6.0) == []
        assert it.turn(seconds=0.1) == [connection]

    def test_taking_everything_again_and_again_does_not_buy_time(self, it: Parked, kernel: Kernel) -> None:
        connection, peer = it.connect()
        it.turn(seconds=9.0)
        for _ in range(5):
            it.connections.send(connection, BIG)
            while connection.blocked:
                take(peer)
                it.connections.flush(connection)
        assert connection.deadline == it.connections.wheel.current + ticks(1.0) + 1

    def test_a_state_entered_while_behind_begins_when_that_is_over(self, kernel: Kernel) -> None:
        with parked(keepalive_deadline=7.0) as it:
            connection, peer = it.connect()
            it.connections.send(connection, BIG)
            it.connections.enter(connection, State.KEEPALIVE)
            it.turn(seconds=20.0)
            assert connection.alive, "not KEEPALIVE judges but FLUSH"
            while connection.blocked:
                take(peer)
                it.connections.flush(connection)
            assert it.turn(seconds=7.0) == []
            assert it.turn(seconds=0.1) == [connection]

    def test_a_missing_pong_is_not_judged_behind_our_own_bytes(self, it: Parked, kernel: Kernel) -> None:
        connection, _ = it.connect()
        connection.state = State.OPEN
        it.connections.enter(connection, State.PINGED)
        kernel.bytes = 50_000
        assert it.turn(seconds=10.1) == [connection], "no pong in time"
        assert it.connections.judge.outstanding(connection)
        for _ in range(5):  # 2 KB/s
            it.turn(seconds=5.0)
            kernel.bytes -= 10_000
        assert kernel.bytes == 0
        it.turn(seconds=5.0)
        assert not connection.blocked
        assert connection.backlog is None, "all was acknowledged: now the pong is due"
        assert it.turn(seconds=10.0) == []
        assert it.turn(seconds=0.1) == [connection]

    def test_a_byte_from_the_peer_ends_the_watch(self, it: Parked, kernel: Kernel) -> None:
        connection, _ = it.connect()
        connection.state = State.PINGED
        kernel.bytes = 50_000
        assert it.connections.judge.outstanding(connection)
        it.connections.enter(connection, State.OPEN)
        assert connection.backlog is None
        assert connection.deadline == it.connections.wheel.due[State.OPEN]

    def test_a_watch_may_become_a_backlog(self, it: Parked, kernel: Kernel) -> None:
        """While we watch silently, more is written and does not fit: one overlay, no byte lost."""
        connection, peer = it.connect()
        connection.state = State.PINGED
        kernel.bytes = 10
        assert it.connections.judge.outstanding(connection)
        overlay = connection.backlog
        it.connections.send(connection, BIG)
        assert connection.backlog is overlay
        received = bytearray()
        while connection.blocked:
            received += take(peer)
            it.connections.flush(connection)
        assert received + take(peer) == BIG

    def test_nothing_outstanding_is_no_reason_to_watch(self, it: Parked, kernel: Kernel) -> None:
        connection, _ = it.connect()
        assert not it.connections.judge.outstanding(connection)
        assert connection.backlog is None
