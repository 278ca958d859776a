"""`FLUSH`: whether a peer takes what was written to it, in any state.

Owns: the windows, and the judgement at the end of each. May not: write.

A peer is aborted if over a whole window it takes less than `flush_rate` bytes a second, and less than was outstanding
when the window began. Bytes count when the peer's kernel acknowledges them, not when ours accepts them. A shorter
window would be unfair: a receiving kernel opens its window in bursts, on loopback up to half its buffer. A slow but
honest reader sends its pong when it gets there: until all before the ping is acknowledged, its window decides.
"""

from typing import TYPE_CHECKING

from chatserver.net import sockets
from chatserver.net.connection import Backlog, Connection
from chatserver.net.wheel import ticks
from chatserver.reasons import Reason

if TYPE_CHECKING:
    from chatserver.net.connections import Connections

#: Seconds for which a live peer's link may be silent: a train in a tunnel between two underground stations.
MAX_LINK_OUTAGE = 25.0


class FlushJudge:
    def __init__(self, connections: "Connections", *, rate: int, window: float) -> None:
        self._connections = connections
        self._window = ticks(window)
        self._least = int(rate * window)  # bytes that must be acknowledged in a window

    def begin(self, connection: Connection) -> Backlog:
        """Begin a window. It replaces the state's deadline, whose remaining time is kept."""
        wheel = self._connections.wheel
        remaining = max(connection.deadline - wheel.current, 1)
        backlog = connection.backlog = Backlog([], 0, remaining, sockets.outstanding(connection.descriptor))
        wheel.watch(connection, wheel.current + self._window)
        return backlog

    def lift(self, connection: Connection, backlog: Backlog) -> None:
        """End the window, since all is written: the state's deadline goes on with its remaining time."""
        connection.backlog = None
        wheel = self._connections.wheel
        wheel.watch(connection, wheel.current + backlog.remaining)

    def takes_over(self, connection: Connection, *, then: int | None = None) -> bool:
        """Begin a flush window in place of the state's deadline if bytes are unacknowledged; returns whether it did.

        The state's deadline is `then` ticks after the window, by default its whole span.
        """
        if sockets.outstanding(connection.descriptor) == 0:
            return False
        wheel = self._connections.wheel
        self.begin(connection).remaining = wheel.due[connection.state] - wheel.current if then is None else then
        return True

    def judge(self, connection: Connection, backlog: Backlog) -> None:
        """At the end of a window: begin another, return to the state's deadline, or abort."""
        outstanding = sockets.outstanding(connection.descriptor)
        if not backlog.blocked and outstanding == 0:
            self.lift(connection, backlog)
            return
        # acknowledged = written since the window began + outstanding then - outstanding now
        enough = backlog.written + backlog.outstanding - outstanding >= min(self._least, backlog.outstanding)
        if not enough and (backlog.excused or not self._in_backoff(connection)):
            self._connections.close(connection, Reason.FLUSH_DEADLINE, reset=True)
            return
        backlog.excused = not enough
        backlog.written = 0
        backlog.outstanding = outstanding
        wheel = self._connections.wheel
        wheel.watch(connection, wheel.current + self._window)
        if not backlog.blocked:
            # Nothing waits to be written, and its state's deadline is put off once more: its handler may end it.
            self._connections.handlers[connection.state].writable(connection)

    def _in_backoff(self, connection: Connection) -> bool:
        """Whether TCP is in RTO backoff after an outage from which the peer has returned, or may have.

        TCP's next try falls into one more window. Without that window 21 of 25 honest members 600 ms away were aborted.
        """
        outage = sockets.outage(connection.descriptor)
        return outage is not None and outage < MAX_LINK_OUTAGE
