"""All connections of the process: writing to them, moving them between phases, ending them.

Owns: the table, every descriptor in it, the `FLUSH` overlay. May not: wait, or know what the bytes mean.

Every call here is synchronous and never blocks: what the kernel does not take is remembered as (chunk, position) and
written when the descriptor becomes writable. While anything is remembered, the peer is not read: it owes us first.
So a connection holds at most the rest of one chunk plus the answers to what it had already asked.

`FLUSH` counts bytes that the peer's kernel acknowledged, not bytes that ours accepted: acknowledged = written since
the window began + outstanding then - outstanding now. A peer that takes less than `flush_rate` bytes a second over a
whole window, and not even what was outstanding when the window began, is aborted. A shorter window would be unfair: a
receiving kernel opens its window in bursts, on loopback up to half its buffer. A peer from which the kernel cannot have
heard, since it has not tried again, gets a second window.
"""

import os
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from enum import IntEnum
from functools import partial
from typing import Protocol

import structlog
import trio

from chatserver.net import sockets
from chatserver.net.connection import BEHIND, CLOSED, Backlog, Connection
from chatserver.net.phases import ALLOWED, SETTLES, IllegalMoveError, Phase, PhaseLimits
from chatserver.net.readiness import LATER, READ, TURN, WRITE, Readiness
from chatserver.net.wheel import Wheel, ticks
from chatserver.observe.logs import Limiter
from chatserver.reasons import Reason

_write = os.write
_log = structlog.get_logger("chatserver.net")
#: Closes begun in good order: if the peer does not finish them, that is what there is to say of it.
_GOOD_ENDS = frozenset((Reason.DONE, Reason.PEER_CLOSED, Reason.DRAINING))
#: Phases of a WebSocket, whose client speaks when it likes; in `SERVING` nobody else has a turn. Requests sent ahead
#: are no browser's.
_CONVERSING = frozenset((Phase.OPEN, Phase.PINGED, Phase.MESSAGE, Phase.SERVING))
#: Chunks written in one call: a page of messages has a hundred, with its commas.
FLUSH_CHUNKS = 128
#: Seconds for which a link may be silent and the peer still be there: an underground line between two stations.
LONGEST_TUNNEL = 25.0


class Attendant(Protocol):
    """Who is told what happened to a connection. Every call is synchronous; none may raise."""

    def received(self, connection: Connection, data: bytes) -> None:
        """Bytes came."""

    def lacking(self, connection: Connection) -> int:
        """How many bytes it has yet to send of what it is half-way through; 0 if that cannot be told."""

    def ended(self, connection: Connection) -> None:
        """The peer sent FIN."""

    def drained(self, connection: Connection) -> None:
        """All that was kept has been written; reading is still off: call `listen`, or go on with the inbox."""

    def expired(self, connection: Connection) -> None:
        """The deadline of its phase has passed."""

    def resumed(self, connection: Connection) -> None:
        """It asked by `Connections.again` to be attended to in the next pass."""

    def faulted(self, connection: Connection) -> None:
        """A bug of ours in attending to it: `finish` it with an excuse, or do nothing, and it is closed."""

    def closed(self, connection: Connection, reason: Reason) -> None:
        """It is gone. `session` is still there, for the last time."""


class Finality(IntEnum):
    """How a descriptor is given back."""

    CLOSE = 0  # the kernel goes on sending what it holds
    ABORT = 1  # RST, and the kernel drops it


class Connections:
    """The table and everything that can be done to a connection without waiting."""

    #: what is made of a new peer, and the phase in which it begins; another layer beneath HTTP has its own
    kind: type[Connection] = Connection
    first = Phase.HEAD

    def __init__(self, readiness: Readiness, limits: PhaseLimits, *, now: float) -> None:
        self.table: list[Connection | None] = []
        self.wheel = Wheel(self.table, limits, now=now)
        self.attendant: Attendant | None = None
        self.pending: deque[Connection] = deque()  # members to be attended to again, after everybody else, see `again`
        self.insatiable: deque[Connection] = deque()  # the same of all who have not been seen to have enough
        self.asked = trio.Event()  # set while there are any
        self.crowded = False  # whether more who are in are ready than were attended to in the last pass
        self.held = 0
        self.faults = 0  # bugs of ours that ended a connection
        self.lines = Limiter()  # for whatever a peer can have written to our log
        self.operators: set[Connection] = set()  # those accepted where operators look, see Listener
        self.speakers: Callable[[str], bool] | None = None  # who begins with a PROXY header; None: nobody
        self._readiness = readiness
        self._window = ticks(limits.flush_window)
        self._floor = int(limits.flush_rate * limits.flush_window)

    # -- coming and going -------------------------------------------------------------------------------------------

    def adopt(self, descriptor: int, address: str) -> Connection:
        """Take over a connected, non-blocking descriptor; its first phase begins now."""
        phase = self.first
        if self.speakers is not None and self.speakers(address):
            phase = Phase.PROXY
        due = self.wheel.due[phase]
        connection = self.kind(descriptor, address, phase, due, 0, READ | LATER | BEHIND)
        table = self.table
        if descriptor >= len(table):
            table.extend([None] * (descriptor + 1 - len(table) + 256))
        table[descriptor] = connection
        self.held += 1
        self.wheel.watch(connection, due)
        self._readiness.add(descriptor, READ | LATER)
        return connection

    def close(self, connection: Connection, reason: Reason, finality: Finality = Finality.CLOSE) -> None:
        """End it now. Told to the attendant exactly once; closing twice is harmless."""
        descriptor = connection.descriptor
        if descriptor < 0:
            return
        self.table[descriptor] = None
        self.held -= 1
        self.operators.discard(connection)
        connection.descriptor = CLOSED
        connection.backlog = None
        connection.inbox = b""
        try:
            if self.attendant is not None:
                self.attendant.closed(connection, reason)
        finally:
            connection.session = None
            if finality is Finality.ABORT:
                sockets.abort(descriptor)
            else:
                os.close(descriptor)

    def fault(self, connection: Connection) -> None:
        """A bug of ours, to be called where its exception is caught: it costs this connection and nobody else's."""
        self.faults += 1
        self._tell(connection, "fault")
        for end in (self._excuse, partial(self.close, reason=Reason.INTERNAL_ERROR)):
            try:
                end(connection)
            except Exception:  # noqa: BLE001
                # Whatever broke may break its end as well. `close` takes the descriptor all the same; the others live.
                self._tell(connection, "fault_in_close")
            else:
                return

    def _tell(self, connection: Connection, event: str) -> None:
        bug = type(sys.exception()).__name__
        self.lines.write(_log.exception, event, reason=bug, peer=connection.address, phase=connection.phase.name)

    def _excuse(self, connection: Connection) -> None:
        """End it with a word of ours, if the attendant has one; a fault while it was ending anyway just ends it."""
        if self.attendant is not None and connection.alive and connection.phase is not Phase.CLOSING:
            self.attendant.faulted(connection)
        backlog = connection.backlog
        if connection.phase is not Phase.CLOSING and (backlog is None or backlog.last is None):
            self.close(connection, Reason.INTERNAL_ERROR)

    def finish(self, connection: Connection, reason: Reason, data: bytes = b"") -> None:
        """Write the last bytes, send FIN, then read until the peer's FIN or the `CLOSING` deadline.

        The caller has taken its `session` off the connection.

        Closing at once would answer unread bytes with RST, which can destroy the answer in the peer's buffer
        (RFC 9112 section 9.6).
        """
        if data:
            self.send(connection, data)
        if connection.descriptor < 0:
            return
        backlog = connection.backlog
        if backlog is not None and connection.interest & WRITE:
            backlog.last = reason
            return
        self._begin_closing(connection, reason)

    def turn_away(self, connection: Connection, reason: Reason, last: bytes) -> None:
        """`finish` one that has not come as far as speaking its own protocol: `last` goes out as it is."""
        self.finish(connection, reason, last)

    def _begin_closing(self, connection: Connection, reason: Reason) -> None:
        sockets.end_writing(connection.descriptor)
        connection.backlog = None
        connection.inbox = b""
        connection.session = reason  # nothing else is left of it: it is read until its end, then counted
        connection.spent = 0
        self.enter(connection, Phase.CLOSING)
        self._interest(connection, connection.interest & LATER | READ)  # whatever turn it had to wait for

    def closing_ended(self, connection: Connection) -> None:
        """The peer's FIN came: the close is complete."""
        reason = connection.session
        assert isinstance(reason, Reason), "CLOSING is only entered with its reason"
        self.close(connection, reason)

    def closing_expired(self, connection: Connection) -> None:
        """`CLOSING` ran out. What began the close counts, unless that was nothing bad and this is worse."""
        reason = connection.session
        assert isinstance(reason, Reason), "CLOSING is only entered with its reason"
        self.close(connection, Reason.CLOSE_DEADLINE if reason in _GOOD_ENDS else reason)

    # -- phases -----------------------------------------------------------------------------------------------------

    def enter(self, connection: Connection, phase: Phase, span: int | None = None) -> None:
        """Move to a phase and set its deadline: the default, or `span` ticks from now."""
        if not ALLOWED[connection.phase][phase]:
            raise IllegalMoveError(f"{connection.phase.name} does not lead to {phase.name}")
        if connection.interest & LATER and SETTLES[connection.phase][phase]:
            self._interest(connection, connection.interest & ~LATER)
        connection.phase = phase
        wheel = self.wheel
        due = wheel.due[phase] if span is None else wheel.current + 1 + span
        backlog = connection.backlog
        if backlog is not None:
            if connection.interest & WRITE:
                backlog.remaining = due - wheel.current
                return
            connection.backlog = None
        connection.deadline = due
        entry = connection.entry
        if entry == 0 or due < entry:
            wheel.watch(connection, due)

    # -- reading ----------------------------------------------------------------------------------------------------

    def listen(self, connection: Connection) -> None:
        """Read from it again."""
        self._interest(connection, connection.interest | READ)

    def pause(self, connection: Connection) -> None:
        """Do not read from it. A reset is still noticed."""
        self._interest(connection, connection.interest & ~READ)

    def defer(self, connection: Connection) -> None:
        """It is one of many who will all come back at once: others come first, until it has been answered again."""
        self._interest(connection, connection.interest | LATER)

    def again(self, connection: Connection) -> None:
        """Attend to it once more, when everybody else had a turn: it has bytes in its inbox already.

        Members come first who had caught up before. One that had sent three messages while the loop was late by a tenth
        of a second would else stand behind 8,000 who flood, for 7 s in which it sends seventy.
        """
        self._line_up(connection, BEHIND)

    def read_again(self, connection: Connection) -> None:
        """The same for one that has sent more than was read; whether it has is not asked of the kernel until then."""
        self._line_up(connection, TURN | BEHIND)

    def _line_up(self, connection: Connection, interest: int) -> None:
        if connection.phase is Phase.KEEPALIVE and sockets.unsent(connection.descriptor) >= self._floor:
            # Of 2,500 that asked for a hundred pages and read none, each would have another turn, and 16 KiB of the
            # kernel's: the next request waits until the answers before it are under way. Not for less than must be
            # taken in a flush window: whoever takes that little, and then has the next, would be held for ever. A
            # WebSocket's does not wait: whatever stands before it there, others have said.
            sockets.writable_when_sent(connection.descriptor)
            self.keep(connection, b"", 0)
            return
        first = connection.phase in _CONVERSING and not connection.interest & BEHIND
        (self.pending if first else self.insatiable).append(connection)
        self._interest(connection, connection.interest | interest)
        self.asked.set()

    def caught_up(self, connection: Connection) -> None:
        """The kernel has nothing more of what it sent, and tells when it has; maybe we have."""
        more = connection.unfinished or not connection.interest & READ
        self._interest(connection, connection.interest & ~(TURN if more else TURN | BEHIND))

    def _interest(self, connection: Connection, interest: int) -> None:
        if connection.descriptor >= 0 and interest != connection.interest:
            asked, before = interest & ~BEHIND, connection.interest & ~BEHIND
            if asked != before:
                self._readiness.change(connection.descriptor, asked, before)
            connection.interest = interest

    # -- writing ----------------------------------------------------------------------------------------------------

    def offer(self, connection: Connection, data: bytes) -> int:
        """Write what the kernel takes now: how many bytes it took, 0 if it is behind, -1 if the peer is gone.

        The caller must `keep` the rest of a frame of which a part was taken, and `keep` nothing (position 0 of an
        empty chunk) to be told by `drained` when there is room again.
        """
        backlog = connection.backlog
        if backlog is not None and connection.interest & WRITE:
            return 0
        try:
            taken = _write(connection.descriptor, data)
        except BlockingIOError:
            return 0
        except OSError:
            self.close(connection, Reason.PEER_RESET)
            return -1
        if backlog is not None:
            backlog.written += taken
        return taken

    def offer_each(self, connections: list[Connection], data: bytes) -> list[tuple[int, int]]:
        """`offer` the same bytes to many: index and result of each that did not take them all."""
        size = len(data)
        write = _write
        partly = []
        for index, connection in enumerate(connections):
            if connection.backlog is None:
                try:
                    taken = write(connection.descriptor, data)
                except BlockingIOError:
                    taken = 0
                except OSError:
                    self.close(connection, Reason.PEER_RESET)
                    taken = -1
            else:
                taken = self.offer(connection, data)
            if taken != size:
                partly.append((index, taken))
        return partly

    def send(self, connection: Connection, data: bytes) -> None:
        """Write all of it, now or as the peer takes it. For answers; their number is bounded by not reading on."""
        taken = self.offer(connection, data)
        if 0 <= taken < len(data):
            self.keep(connection, data, taken)

    def send_parts(self, connection: Connection, parts: list[bytes]) -> None:
        """The same in parts that others have as well, so that whoever does not take them keeps no copy."""
        taken = self.offer(connection, b"".join(parts))
        if taken < 0:
            return
        for part in parts:
            if taken < len(part):
                self.keep(connection, part, taken)
            taken = max(taken - len(part), 0)

    def keep(self, connection: Connection, chunk: bytes, position: int) -> None:
        """Remember the rest of a chunk, stop reading, and let `FLUSH` judge."""
        backlog = connection.backlog
        if backlog is None:
            backlog = self._overlay(connection)
        if position < len(chunk):
            if not backlog.chunks:
                backlog.position = position
            backlog.chunks.append(chunk)
        self._interest(connection, connection.interest & (LATER | BEHIND) | WRITE)

    def blocked(self, connection: Connection) -> bool:
        """Whether it has not taken what we wrote."""
        return connection.interest & WRITE != 0

    def flush(self, connection: Connection) -> None:
        """It is writable: go on where it stopped."""
        backlog = connection.backlog
        assert backlog is not None, "WRITE is only asked for together with a backlog"
        chunks = backlog.chunks
        while chunks:
            rest: list[bytes | memoryview] = [memoryview(chunks[0])[backlog.position :], *chunks[1:FLUSH_CHUNKS]]
            try:
                taken = os.writev(connection.descriptor, rest)
            except BlockingIOError:
                return
            except OSError:
                self.close(connection, Reason.PEER_RESET)
                return
            backlog.written += taken
            backlog.position += taken
            whole = 0
            while whole < len(chunks) and backlog.position >= len(chunks[whole]):
                backlog.position -= len(chunks[whole])
                whole += 1
            del chunks[:whole]
            if whole < len(rest):
                return
        self._flushed(connection, backlog)

    def _flushed(self, connection: Connection, backlog: Backlog) -> None:
        self._lift(connection, backlog)
        if backlog.last is not None:
            self._begin_closing(connection, backlog.last)
        elif self.attendant is not None:
            self.attendant.drained(connection)

    # -- the FLUSH overlay ------------------------------------------------------------------------------------------

    def _overlay(self, connection: Connection) -> Backlog:
        wheel = self.wheel
        remaining = max(connection.deadline - wheel.current, 1)
        backlog = Backlog([], 0, remaining, sockets.outstanding(connection.descriptor))
        connection.backlog = backlog
        wheel.watch(connection, wheel.current + self._window)
        return backlog

    def _lift(self, connection: Connection, backlog: Backlog) -> None:
        connection.backlog = None
        self._interest(connection, connection.interest & ~WRITE)
        self.wheel.watch(connection, self.wheel.current + backlog.remaining)

    def silent_behind_our_bytes(self, connection: Connection) -> bool:
        """Before a missing pong is judged: whether bytes of ours stand unacknowledged, and then watch those instead.

        A ping queues behind everything written before it; a slow but honest reader answers when it gets there.
        """
        if sockets.outstanding(connection.descriptor) == 0:
            return False
        self._overlay(connection).remaining = self.wheel.due[connection.phase] - self.wheel.current
        return True

    def judge(self, connection: Connection, backlog: Backlog) -> None:
        """A flush window is over: another one, back to the phase beneath, or the end."""
        outstanding = sockets.outstanding(connection.descriptor)
        if not connection.interest & WRITE and outstanding == 0:
            self._lift(connection, backlog)
            return
        enough = backlog.written + backlog.outstanding - outstanding >= min(self._floor, backlog.outstanding)
        if not enough and (backlog.excused or not self._unheard(connection)):
            self.close(connection, Reason.FLUSH_DEADLINE, Finality.ABORT)
            return
        backlog.excused = not enough
        backlog.written = 0
        backlog.outstanding = outstanding
        self.wheel.watch(connection, self.wheel.current + self._window)

    def _unheard(self, connection: Connection) -> bool:
        """Whether it may be back out of a tunnel, and TCP has not tried since.

        Or has just been heard from, too late to take enough. It gets one more window then, in which the next try falls.
        With a round trip of 600 ms, 21 of 25 honest members were aborted that had been silent for 25 s and back for 10.
        """
        tried = sockets.latest_try(connection.descriptor)
        return tried is not None and tried < LONGEST_TUNNEL

    def close_all(self, reason: Reason) -> None:
        """End everything, without waiting for anybody. A fault in telling of one does not keep the others open."""
        with ExitStack() as stack:
            for connection in self.table:
                if connection is not None:
                    stack.callback(self.close, connection, reason)
