"""Drives a WebSocket: bytes to commands, replies to frames; the states `OPEN`, `PINGED`, `MESSAGE`, `REPLYING`.

Owns: the order in which a client's messages are handled, and the close. May not: know what a message means, or its
dialect. Messages are handled one after the other, a few in a step; the rest stays in the inbox (at most one read's
worth) and continues in `BULK`. Each answer and each control frame is counted against the connection's bucket; a publish
that goes to the log is not, since publishes have their own rate, and neither is the pong that answers our ping.

    OPEN <-> PINGED        25 s of silence, then a ping; any byte is an answer
    OPEN <-> MESSAGE       half a frame or message is here; control frames in between are no progress
    any  <-> REPLYING      not read, until our reply, the log or a room allows it, or before a close all is acknowledged
"""

from time import perf_counter
from typing import assert_never

import trio

from chatserver.api.answers import Upgrade
from chatserver.api.conversation import Conversation, Outcome, Reply, ReplyTask, error_reply
from chatserver.api.dialect import Command, echoed_code
from chatserver.api.services import log_failure
from chatserver.api.websocket_session import NOTHING, Ending, Waits, WebSocketSession
from chatserver.chat.hub import Hub
from chatserver.chat.principal import Principal
from chatserver.chat.room import Room
from chatserver.edge.closes import log_failed
from chatserver.edge.tasks import Tasks
from chatserver.fair import STEP
from chatserver.log.interface import LogError
from chatserver.meters import TokenBucket
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.handler import Handler, context_of
from chatserver.net.states import MESSAGE, OPEN, PINGED, REPLYING, TABLE
from chatserver.net.wheel import TICK, ticks
from chatserver.protocol.errors import FrameError, MessageError, too_often
from chatserver.protocol.websocket import (
    EMPTY_PING,
    EMPTY_PONG,
    Binary,
    Close,
    Event,
    FrameLimits,
    Ping,
    Pong,
    Text,
    Violation,
    lacking,
    pong_frame,
    receive,
)
from chatserver.reasons import DEMOTING_REFUSALS, ErrorCode, Reason
from chatserver.settings.fields import Settings

#: Messages handled in one step, or fewer if these have taken STEP: eight joins take four times that. Bytes after them
#: are not parsed yet.
STEP_MESSAGES = 8
#: Seconds by which a message's task gives up before the connection's deadline would close it.
TASK_MARGIN = 1.0
#: Burst of messages, in seconds of the message rate. A client that reconnects joins all its rooms on top of that.
MESSAGE_BURST = 10.0
#: Cost of a refusal and of a control frame, in messages: a bot that sends a quarter too much and ignores refusals is
#: never closed for that; a flood ends after a tenth of the work that reading a whole burst would be.
REFUSAL, CONTROL = 3, 3
#: Seconds before the end of a sign-in at which the client is notified, and again at each deadline from then on.
NOTICE = 30.0
#: Refusals after which a client that ignores them is closed.
REFUSALS = 64
_PONG_BYTES = len(EMPTY_PONG) + 4  # and the masking key, although there is no payload


class WebSocketHandler(Handler):
    """See the module. All but `_reply_later` is synchronous."""

    reads_between = True

    def __init__(
        self, connections: Connections, hub: Hub, conversation: Conversation, settings: Settings, tasks: Tasks,
        refusals: dict[ErrorCode, int],
    ) -> None:  # fmt: skip
        super().__init__(connections)
        self._hub = hub
        self._conversation = conversation
        self._budget = connections.input_budget
        self._tasks = tasks
        self._refusals = refusals
        self._text_only, self._any = (
            FrameLimits(settings.max_message_bytes, settings.max_fragments, binary=binary) for binary in (False, True)
        )
        burst = settings.message_rate * MESSAGE_BURST + settings.max_rooms_per_connection
        self._bucket = TokenBucket(settings.message_rate, burst=burst)
        self._ping_interval = settings.ping_interval
        self._serving_deadline = settings.serving_deadline
        self._replying_ticks = ticks(settings.serving_deadline + TASK_MARGIN)
        self._close_ticks = ticks(settings.close_deadline)
        self._message_deadline = settings.message_deadline
        #: sessions that were notified of the end of this sign-in; kept here, since few are in their last 30 s
        self._notified: dict[WebSocketSession, Principal] = {}

    def open(self, connection: Connection, answer: Upgrade) -> None:
        """Switch the connection to WebSocket; frames may be in its inbox already."""
        connection.rate = 0  # a WebSocket has another bucket
        self._rest(connection, WebSocketSession(answer.principal, answer.dialect), answer.principal.seconds_left)
        self._connections.send(connection, answer.wire)
        if connection.inbox:
            self._connections.resume(connection)  # not in `BULK`, where a new client would wait behind peers that flood

    # -- in ---------------------------------------------------------------------------------------------------------

    def received(self, connection: Connection, data: bytes) -> None:
        session, inbox = context_of(connection, WebSocketSession), connection.inbox
        if len(data) == _PONG_BYTES and connection.state is PINGED and data.startswith(EMPTY_PONG) and not inbox:
            self._rest(connection, session, session.principal.seconds_left)  # an idle peer sends nothing else
            return
        self._take(connection, session, inbox + data if inbox else data)

    def resumed(self, connection: Connection) -> None:
        session = context_of(connection, WebSocketSession)
        if connection.state is REPLYING:
            if not self._conversation.advance(connection, session):
                return  # resumed for an earlier wait; it still has to wait
            if isinstance(session.waits, Ending):
                self._close(connection, session.waits)
                return
            session.waits = NOTHING
            self._connections.enter(connection, OPEN, session)
        if not connection.blocked:
            self._take(connection, session, connection.inbox)

    def _take(self, connection: Connection, session: WebSocketSession, data: bytes) -> None:
        """Handle a step's worth of messages, and enter the state that follows."""
        if session.principal.seconds_left <= 0:
            self._close(connection, Ending(Reason.EXPIRED))
            return
        more = self._handle_messages(connection, session, data)
        if connection.context is not session:
            return
        kept = len(connection.inbox) + (0 if session.assembly is None else len(session.assembly.frames))
        if self._may_keep(connection, kept) and connection.state is not REPLYING:
            self._enter_next(connection, session, kept, more)

    def _handle_messages(self, connection: Connection, session: WebSocketSession, data: bytes) -> bool:
        """Handle messages until one has to wait, and STEP_MESSAGES at most. True: there may be more in the inbox."""
        limits = self._any if session.dialect.binary else self._text_only
        more, until = True, perf_counter() + STEP
        for _ in range(STEP_MESSAGES):
            events, data, session.assembly, more = receive(data, session.assembly, limits)
            connection.inbox = data
            for event in events:
                self._handle_event(connection, session, event)
                if connection.context is not session:
                    return False
            if not more or connection.state is REPLYING or connection.blocked or perf_counter() >= until:
                break
        return more

    def _enter_next(self, connection: Connection, session: WebSocketSession, kept: int, more: bool) -> None:
        """Enter OPEN, or MESSAGE while one is half here (`kept` bytes of it), after a step."""
        left = session.principal.seconds_left
        if connection.blocked:  # `writable` goes on
            # The peer has answered the ping, or a ping of its own that came in two pieces is complete.
            if connection.state is PINGED or (not kept and connection.state is MESSAGE):
                self._rest(connection, session, left)
            return
        if not kept or (more and connection.state is PINGED):  # the rest may wait for longer than a pong may
            if left <= NOTICE and not self._was_notified(session):  # a busy peer may move the deadline for ever
                self._notify(connection, session, left)
            else:
                self._rest(connection, session, left)
        elif not more and connection.state is not MESSAGE:
            span = ticks(left) if left < self._message_deadline else None
            self._connections.enter(connection, MESSAGE, session, span=span)
        if more:
            self._connections.resume(connection, later=True)

    def _may_keep(self, connection: Connection, size: int) -> bool:
        """Charge unfinished input to the budget of all peers. False: its network keeps too much, so it is closed."""
        if not size:
            self._budget.release(connection)
        elif not self._budget.resize(connection, size, connection.network):
            self._violated(connection, FrameError(Reason.UNFINISHED_FULL, "too many messages are unfinished"))
            return False
        return True

    def _rest(self, connection: Connection, session: WebSocketSession, left: float) -> None:
        """Enter OPEN. Its deadline is the next ping, or earlier the notice or end of the sign-in, in `left` seconds."""
        if left >= self._ping_interval + NOTICE:
            self._connections.enter(connection, OPEN, session)
            return
        look = left if self._was_notified(session) else left - NOTICE
        span = ticks(min(self._ping_interval, look))
        self._connections.enter(connection, OPEN, session, span=span)

    def _was_notified(self, session: WebSocketSession) -> bool:
        """A guest has no notice: its time to sign in is shorter than that of a notice."""
        return session.principal.is_guest or self._notified.get(session) is session.principal

    def _notify(self, connection: Connection, session: WebSocketSession, left: float) -> None:
        """Say that the sign-in ends in `left` seconds, and enter OPEN. The send may close the connection."""
        self._notified[session] = session.principal
        self._rest(connection, session, left)
        self._connections.send(connection, session.dialect.expiring(left))

    def _handle_event(self, connection: Connection, session: WebSocketSession, event: Event) -> None:
        match event:
            case Text() | Binary():
                if connection.state is MESSAGE:  # complete; the next message gets its own deadline
                    self._connections.enter(connection, OPEN, session)
                self._handle_message(connection, session, event.data)
            case Pong(count):
                if connection.state is not PINGED or count > 1:
                    self._spend(connection, CONTROL * count)
            case Ping(payload, count):
                self._connections.send(connection, pong_frame(payload))
                self._spend(connection, CONTROL * count)
            case Close(code):
                self._end_in_order(connection, session, Ending(Reason.PEER_CLOSED, "", echoed_code(code)))
            case Violation(error):
                self._violated(connection, error)
            case _:
                assert_never(event)

    def lacking(self, connection: Connection) -> int:
        return lacking(connection.inbox, context_of(connection, WebSocketSession).assembly)

    # -- messages ---------------------------------------------------------------------------------------------------

    def _handle_message(self, connection: Connection, session: WebSocketSession, data: str | bytes) -> None:
        try:
            command = session.dialect.decode(data)
            if self._bucket.over(connection.rate, self._connections.wheel.microseconds):
                outcome: Outcome = self._too_often(connection, session, command)
            else:
                outcome = self._conversation.handle(connection, session, command)
        except MessageError as error:
            if error.code in DEMOTING_REFUSALS:
                self._connections.demotion.demote(connection)
            outcome = error_reply(session, error.id, error.code, error.message, error.wait)
        if isinstance(outcome, Reply):
            self._reply(connection, outcome)
            self._spend(connection, REFUSAL if outcome.limited else 1)
        elif outcome is not None:
            self._spend(connection, 1)
            session.waits = Waits.TASK
            deadline = trio.current_time() + self._serving_deadline
            self._tasks.start(self._reply_later, connection, session, command, outcome, deadline)
        if session.waits is not NOTHING and connection.context is session:
            self._connections.enter(connection, REPLYING, session, span=self._replying_ticks)

    def _too_often(self, connection: Connection, session: WebSocketSession, command: Command) -> Reply:
        wait = self._bucket.wait(connection.rate, self._connections.wheel.microseconds, REFUSAL + 1)
        id_ = getattr(command, "id", None)
        return error_reply(session, id_, ErrorCode.RATE_LIMITED, too_often(wait), wait)

    def _spend(self, connection: Connection, cost: int) -> None:
        """Count an answer or a control frame. A client that ignores REFUSALS refusals is closed."""
        now = self._connections.wheel.microseconds
        connection.rate = self._bucket.spend(connection.rate, now, cost)
        if self._bucket.over(connection.rate, now, patience=REFUSALS * REFUSAL):
            self._violated(connection, FrameError(Reason.FLOOD, Reason.FLOOD.sentence))

    def _reply(self, connection: Connection, reply: Reply) -> None:
        if reply.error is not None:
            self._refusals[reply.error] += 1
        if reply.parts:
            self._connections.send_parts(connection, reply.parts)
        if reply.member is not None:
            self._hub.broadcaster.deliver(reply.member)

    async def _reply_later(
        self, connection: Connection, session: WebSocketSession, command: Command, task: ReplyTask, deadline: float
    ) -> None:
        """Wait for a reply that needs the log; the connection is parked in REPLYING meanwhile."""
        id_ = getattr(command, "id", None)
        reply = error_reply(session, id_, ErrorCode.UNAVAILABLE, "the server could not answer in time", 1.0)
        with trio.move_on_at(deadline):
            try:
                reply = await self._conversation.do(task, connection, session, command)
            except MessageError as error:
                reply = error_reply(session, id_, error.code, error.message, error.wait)
            except LogError as error:
                log_failed(self._connections, connection, error)
                reply = error_reply(session, id_, *log_failure(error))
        self._connections.step(connection, self._replied, session, reply)

    def _replied(self, connection: Connection, session: WebSocketSession, reply: Reply) -> None:
        if connection.context is session:
            if session.waits is Waits.TASK:  # otherwise it is about to be closed
                session.waits = NOTHING
            self._reply(connection, reply)
            self._connections.resume(connection)

    # -- going on ---------------------------------------------------------------------------------------------------

    def writable(self, connection: Connection) -> None:
        """The peer has taken what we wrote: handle some frames of the inbox, then offer messages of its rooms."""
        session = context_of(connection, WebSocketSession)
        if session.principal.seconds_left <= 0:  # a slow reader's deadline stands still for as long as bytes are unsent
            self._close(connection, Ending(Reason.EXPIRED))
            return
        if (connection.inbox or session.assembly is not None) and connection.state is not REPLYING:
            self._take(connection, session, connection.inbox)
            if connection.context is not session or connection.blocked:
                return
        for member in session.rooms():
            self._hub.writable(member)
            if connection.blocked:
                session.make_last(member)  # the other rooms come first next time, however busy this one is
                return

    # -- the end ----------------------------------------------------------------------------------------------------

    def _close(self, connection: Connection, ending: Ending) -> None:
        """Leave the rooms, send a close frame and FIN, and wait in CLOSING for the peer's FIN."""
        dialect, reason = context_of(connection, WebSocketSession).dialect, ending.reason
        text = reason.sentence if ending.text is None else ending.text
        self._connections.finish(connection, reason, dialect.close(reason, text, code=ending.code))

    def _end_in_order(self, connection: Connection, session: WebSocketSession, ending: Ending) -> None:
        """Close once the client's publishes are acknowledged, a `close_deadline` later at most (RFC 6455 5.5.1)."""
        if not session.in_flight:
            self._close(connection, ending)
            return
        if isinstance(session.waits, Room):
            session.waits.forget_publisher(connection)
        session.waits = ending
        self._connections.enter(connection, REPLYING, session, span=self._close_ticks)

    def _violated(self, connection: Connection, error: FrameError) -> None:
        if isinstance(connection.context, WebSocketSession):  # a reply before this may have found the peer gone
            self._connections.misbehaved(connection, error.reason, error.message)
            self._close(connection, Ending(error.reason, error.message))

    def expired(self, connection: Connection) -> None:
        """OPEN: the peer is silent. Else a message, a pong or our reply is late: close, if nobody else is at fault."""
        state, session = connection.state, context_of(connection, WebSocketSession)
        if state is OPEN:
            self._ping(connection, session)
            return
        if isinstance(session.waits, Ending):
            self._close(connection, session.waits)
            return
        if session.principal.seconds_left <= TICK:  # before the rest, by which a reader could put its end off for ever
            self._close(connection, Ending(Reason.EXPIRED))
            return
        if isinstance(session.waits, Room):  # as in `PAUSED`: others may congest the room for as long as they like
            session.waits.forget_publisher(connection)
            self._connections.resume(connection)
            return
        if state is PINGED and self._connections.judge.takes_over(connection):
            return  # bytes before the ping are unacknowledged: its flush window decides
        reason = TABLE[state].expires
        assert reason is not None
        self._connections.misbehaved(connection, reason, reason.sentence)
        self._close(connection, Ending(reason))

    def _ping(self, connection: Connection, session: WebSocketSession) -> None:
        """Send a ping, or a notice about the sign-in; close if that has expired."""
        principal = session.principal
        left = principal.seconds_left
        if left <= 0 or (principal.is_guest and principal.access.closed_to_guests):  # it did not sign in in time
            self._close(connection, Ending(Reason.EXPIRED))
            return
        if left <= NOTICE + 2 * TICK:
            self._notify(connection, session, left)
            return
        if connection.rate:
            connection.rate = self._bucket.at_rest(connection.rate, self._connections.wheel.microseconds)
        self._connections.enter(connection, PINGED, session)
        self._connections.judge.takes_over(connection)  # at the deadline it may have the ping, and not have read it yet
        self._connections.send(connection, EMPTY_PING)  # last, since the send may close the connection

    def drain(self, connection: Connection, retry_after: float) -> None:
        """The server is stopping: say when to come back, and close."""
        session = context_of(connection, WebSocketSession)
        self._connections.send(connection, session.dialect.goaway("restart", retry_after))
        if connection.context is session:  # the send may have found the peer gone
            self._end_in_order(connection, session, Ending(Reason.DRAINING, "the server is restarting"))

    def faulted(self, connection: Connection) -> None:
        """A bug of ours: 1011."""
        self._close(connection, Ending(Reason.INTERNAL_ERROR))

    def released(self, connection: Connection, context: object) -> None:
        assert isinstance(context, WebSocketSession)
        context.assembly = None
        self._notified.pop(context, None)
        self._conversation.released(connection, context)
