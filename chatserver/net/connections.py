"""All connections of the process: writing to them, moving them between states, ending them.

Owns: the table, every descriptor in it, the guarded step that acts on one. May not: wait, or know what bytes mean.

Bytes that the kernel does not take are kept as (chunk, position); until they are written the peer is not read. So a
connection holds at most the rest of one chunk plus the answers to what it had already asked. Every call on a closed
connection is a no-op, and a context that `enter` would have given it is released at once.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from socket import SHUT_WR
from types import NoneType
from typing import Any

import structlog

from chatserver.meters import FairByteBudget
from chatserver.net import sockets
from chatserver.net.closing import ClosingHandler
from chatserver.net.connection import CLOSED, HANGUP, QUEUED, RESUMED, Closing, Connection, TransportError
from chatserver.net.demotion import Demotion
from chatserver.net.faults import Faults
from chatserver.net.flush import FlushJudge
from chatserver.net.handler import Handler
from chatserver.net.readiness import READ, WRITE, Readiness
from chatserver.net.scheduler import Scheduler
from chatserver.net.states import ALLOWED, BULK, ENDING, PRIORITY, ROWS, IllegalMoveError, Reads, State
from chatserver.net.transport import PLAIN
from chatserver.net.wheel import Wheel
from chatserver.observe.logs import Limiter
from chatserver.reasons import DEMOTING_ENDS, Reason
from chatserver.settings.fields import Settings

_log = structlog.get_logger("chatserver.net")
#: `Connection.armed` by state.
_WANTED = tuple({Reads.YES: READ, Reads.NO: 0, Reads.HANGUP: HANGUP}[row.reads] for row in ROWS)
#: The first bytes of an unfinished head, body, message or record, not charged to the budget: enough for a browser's
#: head, a ClientHello, a message of usual length. For 20,000 connections they are 40 MB, on top of the budget.
FREE_INPUT = 2048


class Connections:
    """The table, and everything that can be done to a connection without waiting."""

    def __init__(
        self, readiness: Readiness, settings: Settings, *, now: float, closed: Callable[[Connection, Reason], None],
        is_proxy: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self.table: list[Connection | None] = []
        self.wheel = Wheel(self.table, settings, now=now)
        self.faults = Faults(self)
        self.demotion = Demotion(is_proxy)
        self.scheduler = Scheduler(faulted=self.faults.caught, wake=readiness.wake)
        self.judge = FlushJudge(self, rate=settings.flush_rate, window=settings.flush_window)
        self.input_budget = FairByteBudget(settings.all_unfinished_bytes, free=FREE_INPUT)  # unparsed input of all
        self.held = 0
        self.lines = Limiter()  # for lines that a peer can cause in the error log
        self.operators: set[Connection] = set()  # accepted on the operators' address, see Listener
        self._readiness = readiness
        self._closed = closed
        self.is_proxy = is_proxy  # whether an address is a trusted proxy's
        self.handlers: list[Handler] = [Handler(self)] * len(State)  # by state
        self.context_types: list[type] = [object] * len(State)  # likewise
        for state in ENDING:
            self.bind(state, ClosingHandler(self), Closing)

    def bind(self, state: State, handler: Handler, context: type = NoneType) -> None:
        """Set the two columns that this layer cannot name: a state's handler, and the type of its context."""
        self.handlers[state] = handler
        self.context_types[state] = context

    # -- coming and going -------------------------------------------------------------------------------------------

    def adopt(self, descriptor: int, address: str, state: State) -> Connection:
        """Take over a connected, non-blocking descriptor; its first state begins now."""
        due = self.wheel.due[state]
        connection = Connection(descriptor, address, PLAIN, state, due, armed=READ)
        table = self.table
        if descriptor >= len(table):
            table.extend([None] * (descriptor + 1 - len(table)))
        table[descriptor] = connection
        self.held += 1
        self.wheel.watch(connection, due)
        self.demotion.came(connection)
        try:
            self._readiness.add(descriptor, READ)
        except BaseException:
            self.close(connection, Reason.INTERNAL_ERROR)  # the kernel would never report it
            raise
        return connection

    def close(self, connection: Connection, reason: Reason, *, reset: bool = False) -> None:
        """Close a connection now. All that it holds is released exactly once; closing twice is harmless.

        With `reset` the kernel sends RST and drops unsent bytes: for a peer that does not take them.
        """
        descriptor = connection.descriptor
        if descriptor < 0:
            return
        self.table[descriptor] = None
        self.held -= 1
        self.operators.discard(connection)
        self.demotion.gone(connection)
        try:
            if connection.transport is not PLAIN and not (reset or connection.blocked):
                with suppress(OSError, TransportError):  # not taken: the peer learns of the end by FIN alone
                    connection.transport.finish(connection)
        finally:
            connection.descriptor = CLOSED
            connection.backlog = None
            try:
                self.drop_inbox(connection)
                connection.transport.released()
                context, connection.context = connection.context, None
                if context is not None:
                    self.handlers[connection.state].released(connection, context)
            finally:
                try:
                    self._closed(connection, reason)
                finally:
                    if reset:
                        sockets.abort(descriptor)
                    else:
                        os.close(descriptor)

    def keep_ahead(self, connection: Connection, data: bytes) -> bool:
        """Keep bytes sent ahead of our answer. False: they are dropped, since its network keeps too much."""
        connection.inbox = data
        if data and not self.input_budget.resize(connection, len(data), connection.network):
            self.drop_inbox(connection)
            return False
        return True

    def drop_inbox(self, connection: Connection) -> None:
        connection.inbox = b""
        self.input_budget.release(connection)

    def finish(self, connection: Connection, reason: Reason, data: bytes = b"") -> None:
        """Write the last bytes, send FIN, then read until the peer's FIN or the `CLOSING` deadline.

        Closing at once would answer unread bytes with RST, which can destroy the answer (RFC 9112 section 9.6).
        """
        if connection.state in ENDING:
            return
        if data:
            self.send(connection, data)
        if connection.descriptor < 0:
            return
        self.drop_inbox(connection)
        self.enter(connection, State.CLOSING, Closing(reason))
        if not connection.blocked:
            self.end_writing(connection)

    def end_writing(self, connection: Connection) -> None:
        """Write the transport's goodbye, then FIN."""
        try:
            if not connection.transport.finish(connection):
                self.keep(connection, b"", 0)  # FIN follows when the goodbye is written
                return
        except (OSError, TransportError) as error:
            self.broken(connection, error)
            return
        connection.transport.released()
        connection.transport = PLAIN
        sockets.shutdown(connection.descriptor, SHUT_WR)

    # -- acting on one from outside ---------------------------------------------------------------------------------

    def step(self, connection: Connection, act: Callable[..., Any], *arguments: object) -> bool:
        """Act on a connection from outside its own events, then arm it as its state says. Returns what `act` did.

        An exception in `act` (an answer of the log, a broadcast, a task's end, a drain) ends this connection only.
        """
        if connection.descriptor < 0:
            return False
        try:
            more = bool(act(connection, *arguments))
        except Exception:  # noqa: BLE001
            self.faults.end(connection)
            return False
        self.arm(connection)
        return more

    def misbehaved(self, connection: Connection, reason: Reason, detail: str) -> None:
        """Log that a peer broke a rule, for which its connection ends."""
        if reason in DEMOTING_ENDS:
            self.demotion.demote(connection)
        phase = connection.state.name
        self.lines.write(
            _log.info, "misbehaved", reason=reason.label, peer=connection.address, phase=phase, detail=detail
        )

    def submit(self, step: Callable[[Connection], bool | None], connection: Connection, *, later: bool = False) -> None:
        """Queue a step at the turn of the connection's network; `later`, or if its peer is demoted, in `BULK`.

        A proxy's connections have a turn each: else all people behind it share one until their requests are read.
        """
        priority = PRIORITY[connection.state]
        if later or self.demotion.applies(connection):
            priority = BULK
        turn = connection if self.is_proxy(connection.address) else connection.network
        self.scheduler.submit(priority, step, connection, turn)

    # -- states -----------------------------------------------------------------------------------------------------

    def enter(self, connection: Connection, state: State, context: Any = None, *, span: int | None = None) -> None:
        """Move to a state with its context, and set its deadline: the state's own, or `span` ticks from now.

        A context that is replaced is released first. Raises IllegalMoveError.
        """
        if connection.descriptor < 0:
            if context is not None:
                self.handlers[state].released(connection, context)
            return
        before = connection.state
        if not ALLOWED[before][state]:
            raise IllegalMoveError(f"{before.name} does not lead to {state.name}")
        old = connection.context
        if not isinstance(context, self.context_types[state]):
            raise IllegalMoveError(f"{state.name} does not carry {type(context).__name__}")
        connection.state = state
        if context is not old:
            connection.context = context
            if old is not None:
                self.handlers[before].released(connection, old)
                if connection.descriptor < 0:
                    return
        wheel = self.wheel
        due = wheel.due[state] if span is None else wheel.current + 1 + span
        backlog = connection.backlog
        if backlog is not None:
            if backlog.blocked:
                backlog.remaining = due - wheel.current
                return
            connection.backlog = None
        connection.deadline = due
        entry = wheel.entries[connection.descriptor]
        if entry == 0 or due < entry:
            wheel.watch(connection, due)

    def arm(self, connection: Connection) -> None:
        """Arm a connection: for WRITE while bytes are unsent, otherwise for what its state wants.

        A queued connection is armed after its step; if it was resumed meanwhile, after the step that resumes it.
        """
        armed = connection.armed
        if armed & QUEUED:
            return
        backlog = connection.backlog
        wanted = WRITE if backlog is not None and backlog.blocked else _WANTED[connection.state]
        if wanted != armed and connection.descriptor >= 0:
            if armed == RESUMED:
                self.resume(connection)
                return
            connection.armed = wanted
            if wanted:
                self._readiness.arm(connection.descriptor, wanted & (READ | WRITE))

    def resume(self, connection: Connection, *, later: bool = False) -> None:
        """Schedule its handler's `resumed`; `later`: in `BULK`, for the rest of what a peer sent at once.

        A connection that is queued keeps its place. With an entry for each reason, the queue would grow without end
        beside peers that read slowly and send ahead.
        """
        if connection.descriptor < 0:
            return
        if connection.armed & QUEUED:
            connection.armed |= RESUMED
        else:
            connection.armed = QUEUED
            self.submit(self._resume, connection, later=later)

    def _resume(self, connection: Connection) -> None:
        if connection.descriptor >= 0:
            connection.armed = 0
            self.handlers[connection.state].resumed(connection)
            self.arm(connection)

    # -- writing ----------------------------------------------------------------------------------------------------

    def offer(self, connection: Connection, data: bytes) -> int:
        """Write what the kernel takes now. Returns the bytes taken, 0 if none, -1 if the peer is gone.

        The caller must `keep` the rest of a frame that was begun; `keep(b"", 0)` only asks for `writable`.
        """
        backlog = connection.backlog
        if backlog is not None and backlog.blocked:
            return 0
        try:
            taken = connection.transport.offer(connection, data)
        except BlockingIOError:
            return 0
        except (OSError, TransportError) as error:
            self.step(connection, self.broken, error)  # it may be one of many, so closing it is guarded
            return -1
        except Exception:  # noqa: BLE001
            self.faults.end(connection, excuse=False)  # an error answer would take the path that just failed
            return -1
        unsent = len(connection.transport.unsent)
        if backlog is not None:
            backlog.written += taken - unsent
        if unsent:
            self.keep(connection, b"", 0)
        return taken

    def offer_each(self, connections: list[Connection], data: bytes) -> list[tuple[Connection, int]]:
        """`offer` the same bytes to many. Returns each connection that did not take them all, with `offer`'s result."""
        size = len(data)
        partly = []
        offer, write, plain = self.offer, os.write, PLAIN
        for connection in connections:
            # The usual case of `offer`, inlined: it saves a call for each of a thousand members.
            if connection.backlog is None and connection.transport is plain:
                try:
                    taken = write(connection.descriptor, data)
                except OSError:
                    taken = offer(connection, data)
            else:
                taken = offer(connection, data)
            if taken != size:
                partly.append((connection, taken))
        return partly

    def send(self, connection: Connection, data: bytes) -> None:
        """Write all bytes, now or later. For answers, which are bounded, since a blocked peer is not read."""
        taken = self.offer(connection, data)
        if 0 <= taken < len(data):
            self.keep(connection, data, taken)

    def send_parts(self, connection: Connection, parts: list[bytes]) -> None:
        """`send` parts that are shared with other peers: unsent parts are kept without a copy."""
        data = b"".join(parts)
        taken = self.offer(connection, data)
        if taken == len(data):
            return
        for part in parts:
            self.keep(connection, part, taken)
            taken = max(taken - len(part), 0)

    def keep(self, connection: Connection, chunk: bytes, position: int) -> None:
        """Keep the rest of a chunk, stop reading, and begin a flush window."""
        if connection.descriptor < 0:
            return
        backlog = connection.backlog
        if backlog is None:
            backlog = self.judge.begin(connection)
        if position < len(chunk):
            if not backlog.chunks:
                backlog.position = position
            backlog.chunks.append(chunk)
        backlog.blocked = True
        self.arm(connection)

    def hurry(self, connection: Connection) -> None:
        """The server is stopping: give the kernel what was kept, to be sent after the process has ended."""
        if connection.blocked:
            sockets.take_all(connection.descriptor)
            if self.flush(connection):
                self.handlers[connection.state].writable(connection)

    def flush(self, connection: Connection) -> bool:
        """Write what was kept: the descriptor is writable. Returns whether that was all: `writable` is due then."""
        backlog = connection.backlog
        if backlog is None or not backlog.blocked:
            return False
        try:
            if not connection.transport.flush(connection, backlog):
                return False
        except BlockingIOError:
            return False
        except (OSError, TransportError) as error:
            self.broken(connection, error)
            return False
        self.judge.lift(connection, backlog)
        return True

    def broken(self, connection: Connection, error: OSError | TransportError) -> None:
        """Close a connection whose peer is gone, or whose transport can no longer encrypt or decrypt."""
        reason = Reason.PEER_RESET
        if isinstance(error, TransportError):
            reason = error.reason
            self.misbehaved(connection, reason, str(error))
        self.close(connection, reason)

    def close_all(self, reason: Reason) -> None:
        """Close every connection without waiting. An exception in closing one does not keep the others open."""
        with ExitStack() as stack:
            for connection in filter(None, self.table):
                stack.callback(self.close, connection, reason)
