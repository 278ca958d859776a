"""Drives a WebSocket: bytes to messages, replies to frames, the phases between.

Owns: the order in which a client's messages are attended to, and the close. May not: know what a message means.

Messages are attended to one after the other, eight in one go, then everybody else has a turn. While more peers are
ready than a pass attends to, it is what a tenth of a millisecond allows, so that no message stands behind eight
of each of a thousand, and nobody has to wait for a turn who has sent two while the loop was late. While one waits
for the log, or the client is ahead of it or of a room, or has not taken our replies, the others stay in the session's
queue or as bytes (at most one read's worth) and nothing is read.

What we answer, and each control frame, is counted against the connection's budget; a publish that goes to the log is
not, since that has a rate of its own. The pong that answers our ping is free.

    OPEN <-> PINGED       25 s of silence, then a ping; any byte is an answer
    OPEN <-> MESSAGE      half a frame or message is here; control frames in between are no progress
    any  <-> SERVING      not read, because of us
"""

from collections.abc import Callable
from time import perf_counter
from typing import assert_never

import trio

from chatserver.api.answers import Upgrade
from chatserver.api.conversation import Conversation, Later, Outcome, Reply, Wait
from chatserver.api.publishing import log_failure, too_often
from chatserver.api.session import Session, Waiting
from chatserver.chat.hub import Hub
from chatserver.edge.budgets import CONTROL, REFUSAL, message_budget
from chatserver.edge.failures import tell_fault, tell_log_failed
from chatserver.edge.limits import EdgeLimits
from chatserver.edge.tasks import Tasks
from chatserver.log.interface import LogError
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.phases import Phase
from chatserver.net.unfinished import Unfinished
from chatserver.net.wheel import ticks
from chatserver.protocol import encoders
from chatserver.protocol.client_messages import ClientMessage, decode
from chatserver.protocol.errors import FrameError, MessageError
from chatserver.protocol.websocket import (
    Binary,
    Close,
    Event,
    Ping,
    Pong,
    Text,
    Violation,
    binary_frame,
    close_frame,
    ping_frame,
    pong_frame,
    receive,
    text_frame,
    text_frame_parts,
)
from chatserver.reasons import CloseCode, ErrorCode, Reason

#: Seconds by which a message's task gives up before the connection's SERVING deadline would close it.
TASK_MARGIN = 1.0

#: Seconds for the messages of one peer in a crowd: two or three publishes, or one that is long.
CROWDED_SECONDS = 0.0001

_RESUMED = frozenset((Waiting.ROOM, Waiting.TURN))
_PING = ping_frame()


class WebSocketEdge:
    """See the module. All but `_wait_for` is synchronous."""

    def __init__(
        self, connections: Connections, hub: Hub, conversation: Conversation, limits: EdgeLimits, *,
        tasks: Tasks, unfinished: Unfinished, note: Callable[[Connection, Reason, str], None],
    ) -> None:  # fmt: skip
        self._connections = connections
        self._hub = hub
        self._conversation = conversation
        self._limits = limits
        self._tasks = tasks
        self._unfinished = unfinished
        self._note = note
        self._budget = message_budget(limits.message_rate, rooms=limits.max_rooms)
        self._waits = self._wait_for  # one bound method for all who wait for a task
        self._serving_ticks = ticks(limits.serving_deadline + TASK_MARGIN)

    def open(self, connection: Connection, answer: Upgrade) -> None:
        """The request was an upgrade: from now on the connection speaks frames."""
        session = Session(connection, answer.user, echo=answer.echo)
        inbox, connection.inbox = connection.inbox, b""
        connection.session = session
        connection.spent = 0  # it has another budget now
        self._connections.enter(connection, Phase.OPEN)
        wire = answer.wire
        if not session.echo:
            wire += text_frame(self._conversation.hello(session, answer.token))
        self._connections.send(connection, wire)
        if not connection.alive:
            return
        if inbox:  # frames sent right behind the handshake, before our 101: allowed, and not lost
            self.received(connection, inbox)
        elif not self._connections.blocked(connection):
            self._connections.listen(connection)

    # -- in ---------------------------------------------------------------------------------------------------------

    def received(self, connection: Connection, data: bytes) -> None:
        """Bytes in OPEN, PINGED or MESSAGE."""
        session = connection.session
        assert isinstance(session, Session)
        inbox = connection.inbox
        if self._connections.crowded:
            session.fluent = False  # a few messages, and who has sent more waits for its turn with the others
        self._take(connection, session, inbox + data if inbox else data)

    def _take(self, connection: Connection, session: Session, data: bytes) -> None:
        """Attend to these bytes, and count what is left of them."""
        self._unpack(connection, session, data)
        if connection.session is session and (connection.inbox or session.assembly or session.counted):
            kept = len(connection.inbox) + (len(session.assembly.frames) if session.assembly else 0)
            if not self._unfinished.fits(session, kept):
                self._violated(connection, FrameError(Reason.UNFINISHED_FULL, "too many messages are unfinished"))

    def _unpack(self, connection: Connection, session: Session, data: bytes) -> None:
        """Attend to the frames in these bytes, a turn's worth."""
        limits = self._limits.echo_frames if session.echo else self._limits.frames
        until = perf_counter() + CROWDED_SECONDS
        while True:
            turn = limits.turn if session.fluent else 1
            events, connection.inbox, session.assembly, more = receive(data, session.assembly, limits, turn)
            if events:
                self._attend(connection, session, events)
                if connection.session is not session or session.queue is not None:
                    return
            if session.fluent or not more:
                break
            data = connection.inbox
            crowded = self._connections.crowded
            if crowded and perf_counter() < until:
                continue
            session.fluent = True
            if crowded:
                break
        if more:
            self._wait_for_turn(connection, session)
        else:
            self._settle(connection, session)

    def _wait_for_turn(self, connection: Connection, session: Session) -> None:
        """It has sent more than is attended to in one go: everybody else first, and it is not read meanwhile."""
        session.waiting = Waiting.TURN
        self._connections.pause(connection)
        if connection.phase is not Phase.MESSAGE:  # the deadline of an unfinished message stands
            self._connections.enter(connection, Phase.SERVING, self._serving_ticks)
        self._connections.again(connection)

    def _settle(self, connection: Connection, session: Session) -> None:
        """Choose the phase after everything that could be attended to has been."""
        if connection.inbox or session.assembly is not None:
            if connection.phase is not Phase.MESSAGE:
                self._connections.enter(connection, Phase.MESSAGE)
        else:
            self._connections.enter(connection, Phase.OPEN)
        if not self._connections.blocked(connection):
            self._connections.listen(connection)

    def _attend(self, connection: Connection, session: Session, events: list[Event]) -> None:
        """Attend to events until one makes the others wait."""
        for index, event in enumerate(events, start=1):
            match event:
                case Text(data):
                    self._whole(connection)
                    self._hear(connection, session, data)
                case Pong():
                    if connection.phase is not Phase.PINGED:
                        self._spend(connection, CONTROL)
                case Ping(payload):
                    if not self._over(connection):
                        self._connections.send(connection, pong_frame(payload))
                    self._spend(connection, CONTROL)
                case Binary(data):
                    self._whole(connection)
                    self._connections.send(connection, binary_frame(data))
                case Close(code):
                    self.close(connection, Reason.PEER_CLOSED, code=_echoed(code))
                case Violation(error):
                    self._violated(connection, error)
                case _:
                    assert_never(event)
            if connection.session is not session:
                return
            if session.waiting or self._connections.blocked(connection):
                self._queue(connection, session, events[index:])
                return

    def _whole(self, connection: Connection) -> None:
        """A message is whole, and its deadline over. The next one has its own, however long our answer has to wait."""
        if connection.phase is Phase.MESSAGE:
            self._connections.enter(connection, Phase.OPEN)

    def _queue(self, connection: Connection, session: Session, events: list[Event]) -> None:
        session.queue = events
        if session.waiting:
            self._connections.pause(connection)
            if connection.phase is not Phase.SERVING:
                self._connections.enter(connection, Phase.SERVING, self._serving_ticks)

    def _go_on(self, connection: Connection, session: Session) -> None:
        """Attend to what is queued, then to what came behind it, then read again."""
        session.waiting = Waiting.NOTHING
        if self._connections.blocked(connection):
            session.queue = session.queue or []  # `drained` goes on with it
            return
        events, session.queue = session.queue or [], None
        self._attend(connection, session, events)
        if connection.session is not session or session.queue is not None:
            return
        inbox, connection.inbox = connection.inbox, b""
        if connection.phase is Phase.SERVING:
            # Left first: SERVING has no right to these bytes. Whatever made it wait was a whole message.
            self._connections.enter(connection, Phase.OPEN)
        self._take(connection, session, inbox)

    # -- messages ---------------------------------------------------------------------------------------------------

    def _hear(self, connection: Connection, session: Session, data: str) -> None:
        if session.echo:
            self._connections.send(connection, text_frame(data.encode()))
            return
        try:
            message = decode(data)
            if self._over(connection):
                outcome: Outcome = self._too_often(connection, message)
            else:
                outcome = self._conversation.hear(session, message, connection.address)
        except MessageError as error:
            self._connections.send(connection, text_frame(encoders.error(error.id, error.code, error.message)))
            self._spend(connection)
            return
        match outcome:
            case Reply():
                self._reply(connection, outcome)
                self._spend(connection, REFUSAL if outcome.refusal else 1)
            case Wait.PAUSE:
                session.waiting = Waiting.ROOM
            case None:
                pass
            case _:
                self._spend(connection)
                session.waiting = Waiting.TASK
                deadline = trio.current_time() + self._limits.serving_deadline
                session.fluent = False
                self._tasks.start(self._waits, connection, session, message, outcome, deadline)

    def _too_often(self, connection: Connection, message: ClientMessage) -> Reply:
        wait = self._budget.wait(connection.spent, self._connections.wheel.current)
        return Reply(encoders.error(message.id, ErrorCode.RATE_LIMITED, too_often(wait), wait), refusal=True)

    def _over(self, connection: Connection) -> bool:
        return connection.spent > 0 and self._budget.over(connection.spent, self._connections.wheel.current)

    def _spend(self, connection: Connection, cost: int = 1) -> None:
        """Count an answer or a control frame; whoever goes on after many refusals is closed."""
        tick = self._connections.wheel.current
        connection.spent = self._budget.spend(connection.spent, tick, cost)
        if self._budget.flooded(connection.spent, tick) and connection.alive:
            self._violated(connection, FrameError(Reason.FLOOD, "too many frames, and no end of them"))

    def _reply(self, connection: Connection, reply: Reply) -> None:
        payload = reply.payload
        if isinstance(payload, bytes):
            self._connections.send(connection, text_frame(payload))
        else:
            self._connections.send_parts(connection, text_frame_parts(payload))
        if reply.joined is not None and connection.alive:
            self._hub.pump.deliver(reply.joined)

    async def _wait_for(
        self, connection: Connection, session: Session, message: ClientMessage, later: Later, deadline: float
    ) -> None:
        """Wait for a reply that needs the log; the connection is parked in SERVING meanwhile."""
        if connection.session is not session:
            return  # it went while it waited for its turn
        reply = Reply(encoders.error(message.id, ErrorCode.UNAVAILABLE, "the server could not answer in time", 1.0))
        try:
            with trio.move_on_at(deadline):
                reply = await later.work(session, message, later.rest)
        except MessageError as error:
            reply = Reply(encoders.error(message.id, error.code, error.message))
        except LogError as error:
            tell_log_failed(self._connections, connection, error)
            reply = Reply(encoders.error(message.id, *log_failure(error)))
        except Exception:  # noqa: BLE001  a fault of ours costs its own message, and nobody else's
            tell_fault(self._connections, connection)
            reply = Reply(encoders.error(message.id, ErrorCode.INTERNAL, ErrorCode.INTERNAL.sentence))
        if connection.session is session:
            self._reply(connection, reply)
        if connection.session is session:
            self._go_on(connection, session)
        elif reply.joined is not None:
            self._hub.leave(reply.joined)  # it went while we read

    # -- going on ---------------------------------------------------------------------------------------------------

    def resumed(self, connection: Connection) -> None:
        """Its turn; or the log or a room has caught up with what it published."""
        session = connection.session
        if isinstance(session, Session) and session.waiting in _RESUMED:
            self._go_on(connection, session)

    def drained(self, connection: Connection) -> None:
        """The peer has taken what we wrote: what its rooms have for it, then what it had asked."""
        session = connection.session
        assert isinstance(session, Session)
        for member in session.rooms():
            self._hub.drained(member)
            if connection.session is not session or self._connections.blocked(connection):
                return
        if not session.waiting:
            self._go_on(connection, session)

    # -- deadlines --------------------------------------------------------------------------------------------------

    def open_expired(self, connection: Connection) -> None:
        """Silence: ask whether it is there."""
        connection.spent = self._budget.settled(connection.spent, self._connections.wheel.current)
        self._connections.send(connection, _PING)
        if connection.alive:
            self._connections.enter(connection, Phase.PINGED)

    def pinged_expired(self, connection: Connection) -> None:
        """No answer; judged only when nothing of ours stands before the ping."""
        if not self._connections.silent_behind_our_bytes(connection):
            self._expire(connection, Reason.PONG_DEADLINE)

    def message_expired(self, connection: Connection) -> None:
        """The frame or message was begun too long ago."""
        self._expire(connection, Reason.MESSAGE_DEADLINE)

    def serving_expired(self, connection: Connection) -> None:
        """We could not attend to it in time."""
        self._expire(connection, Reason.SERVING_DEADLINE)

    def _expire(self, connection: Connection, reason: Reason) -> None:
        self._note(connection, reason, reason.sentence)
        self.close(connection, reason, text=reason.sentence)

    # -- closing ----------------------------------------------------------------------------------------------------

    def _violated(self, connection: Connection, error: FrameError) -> None:
        self._note(connection, error.reason, error.message)
        self.close(connection, error.reason, text=error.message)

    def close(self, connection: Connection, reason: Reason, *, code: int | None = None, text: str = "") -> None:
        """Leave the rooms, send a close frame and FIN, and wait for the peer's, but not for long."""
        self.release(connection)
        frame = close_frame(reason.close_code.value if code is None else code, text)
        self._connections.finish(connection, reason, frame)

    def drain(self, connection: Connection, retry_after: float) -> None:
        """The server is stopping: say when to come back, and close."""
        goaway = text_frame(encoders.goaway("restart", retry_after))
        self.release(connection)
        frame = close_frame(Reason.DRAINING.close_code.value, "the server is restarting")
        self._connections.finish(connection, Reason.DRAINING, goaway + frame)

    def ended(self, connection: Connection) -> None:
        """FIN without a close frame: gone (RFC 6455 section 7.1.5 calls it 1006)."""
        self._connections.close(connection, Reason.PEER_CLOSED)

    def release(self, connection: Connection) -> None:
        """End its memberships; its session is no more."""
        session = connection.session
        if isinstance(session, Session):
            connection.session = None
            session.waiting = Waiting.GONE
            self._unfinished.gone(session)
            self._conversation.leave_all(session)
            session.queue = None


def _echoed(code: int) -> int:
    """The code of our answer to a close frame; 1005 stands for none, and may not be sent."""
    return CloseCode.NORMAL.value if code == 1005 else code
