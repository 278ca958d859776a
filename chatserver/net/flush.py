"""`FLUSH`: whether a peer takes what was written to it, in any state.

Owns: the windows, and the judgement at the end of each. May not: write.

A peer that takes less than `flush_rate` bytes a second over a whole window, and not even what was outstanding when the
window began, is aborted. What its kernel acknowledged counts, not what ours accepted: acknowledged = written since the
window began + outstanding then - outstanding now. A shorter window would be unfair: a receiving kernel opens its window
in bursts, on loopback up to half its buffer. A peer from which the kernel cannot have heard, since it has not tried
again, gets a second window.

A missing pong is judged only when nothing of ours stands before the ping: a slow but honest reader answers when it gets
there. Until then its window judges.
"""

from typing import TYPE_CHECKING

from chatserver.net import sockets
from chatserver.net.connection import Backlog, Connection
from chatserver.net.wheel import ticks
from chatserver.reasons import Reason

if TYPE_CHECKING:
    from chatserver.net.connections import Connections

#: Seconds for which a link may be silent and the peer still be there: an underground line between two stations.
MAX_LINK_OUTAGE = 25.0


class FlushJudge:
    """See the module."""

    def __init__(self, connections: "Connections", *, rate: int, window: float) -> None:
        self._connections = connections
        self._window = ticks(window)
        self._least = int(rate * window)  # bytes that must be acknowledged in a window

    def begin(self, connection: Connection) -> Backlog:
        """A window over the connection's state, which keeps the time it had left."""
        wheel = self._connections.wheel
        remaining = max(connection.deadline - wheel.current, 1)
        backlog = connection.backlog = Backlog([], 0, remaining, sockets.outstanding(connection.descriptor))
        wheel.watch(connection, wheel.current + self._window)
        return backlog

    def lift(self, connection: Connection, backlog: Backlog) -> None:
        """Everything is on its way: back to the state beneath."""
        connection.backlog = None
        wheel = self._connections.wheel
        wheel.watch(connection, wheel.current + backlog.remaining)

    def outstanding(self, connection: Connection) -> bool:
        """Whether bytes of ours stand unacknowledged, and are watched from now on instead of the state's deadline."""
        if sockets.outstanding(connection.descriptor) == 0:
            return False
        wheel = self._connections.wheel
        self.begin(connection).remaining = wheel.due[connection.state] - wheel.current
        return True

    def judge(self, connection: Connection, backlog: Backlog) -> None:
        """A window is over: another one, back to the state beneath, or the end."""
        outstanding = sockets.outstanding(connection.descriptor)
        if not backlog.blocked and outstanding == 0:
            self.lift(connection, backlog)
            return
        enough = backlog.written + backlog.outstanding - outstanding >= min(self._least, backlog.outstanding)
        if not enough and (backlog.excused or not self._in_backoff(connection)):
            self._connections.close(connection, Reason.FLUSH_DEADLINE, reset=True)
            return
        backlog.excused = not enough
        backlog.written = 0
        backlog.outstanding = outstanding
        wheel = self._connections.wheel
        wheel.watch(connection, wheel.current + self._window)

    def _in_backoff(self, connection: Connection) -> bool:
        """Whether it may be back from an outage, and TCP has not tried since, or was answered too late in the window.

        The next try falls into one more window. Without it 21 of 25 honest members 600 ms away were aborted.
        """
        tried = sockets.latest_try(connection.descriptor)
        return tried is not None and tried < MAX_LINK_OUTAGE
