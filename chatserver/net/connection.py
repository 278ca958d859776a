"""One peer, parked: the descriptor it owns, the phase it is in, and what has not been parsed or taken yet.

Owns: the two structs. May not: do anything; `Connections` does.

Both are `msgspec.Struct(gc=False)`: the collector never visits them, so 15,000 of them do not make a collection one
microsecond longer. The price is that a cycle through them is never found. There are two, session to member and back
to the connection, and `Connections.close` together with `Attendant.closed` cuts both: nothing else may add one.
A descriptor number stands instead of a socket object: that saves 100 bytes and one tracked object each. Numbers are
reused by the kernel, so liveness is asked of the object (`descriptor >= 0`), never of the number.
"""

import msgspec

from chatserver.net.phases import Phase
from chatserver.reasons import Reason

#: `Connection.descriptor` once it is closed.
CLOSED = -1
#: Part of `Connection.interest` that the kernel is not told of: it has not been seen yet to have nothing more to read,
#: or not since it asked for a turn.
BEHIND = 0x80


class Backlog(msgspec.Struct, gc=False):
    """The `FLUSH` overlay: what the kernel would not take, and how far the peer has come since the window began."""

    chunks: list[bytes]  # whole encoded frames or answers, shared with everybody else who lacks them
    position: int  # bytes of chunks[0] already written
    remaining: int  # ticks the phase beneath had left
    outstanding: int  # bytes in the kernel's send queue when the window began
    written: int = 0  # bytes given to the kernel since then
    last: Reason | None = None  # finish the connection once the chunks are gone, for this reason
    excused: bool = False  # it took nothing in the last window, and TCP had not tried for long enough to tell why


class Connection(msgspec.Struct, gc=False, eq=False):
    """A peer. Hashable by identity; about 100 bytes."""

    descriptor: int
    address: str
    phase: Phase
    deadline: int  # tick of the wheel
    entry: int  # tick of its earliest entry in the wheel, 0 when it has none
    interest: int  # what the poller reports: readiness.READ, WRITE; and BEHIND
    inbox: bytes = b""  # received, not yet parsed; bounded by the limits of what is being parsed
    backlog: Backlog | None = None
    session: object = None  # what the attendant keeps of the request or the WebSocket; the Reason while CLOSING
    spent: int = 0  # what it has used of its budgets (edge/budgets.py); bytes read and dropped while CLOSING

    @property
    def alive(self) -> bool:
        """Whether it still owns a descriptor."""
        return self.descriptor >= 0

    @property
    def unfinished(self) -> int:
        """Bytes that were received of something that is not whole."""
        return len(self.inbox)
