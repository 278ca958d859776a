"""Drives HTTP on a connection: requests to answers, answers to bytes, the phases between.

Owns: the order of an exchange, once `intake` has made a request of the bytes. One request at a time: what a client
sends ahead stays in its inbox, and beyond one read of it, in the kernel. May not: know what a path means.

    HEAD -> (BODY) -> handler -> Response            -> KEEPALIVE or CLOSING
                              -> Hold    -> HELD     -> the same, later
                              -> Commit  -> SERVING  -> the same, from the log's callback
                              -> coroutine -> SERVING -> any of these, from its task
                              -> Stream  -> STREAM       -> Upgrade -> OPEN

    KEEPALIVE -> PACED -> KEEPALIVE     asks faster than its budget: not read, and so not answered, for a moment
"""

import math
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import trio

from chatserver.api.answers import Answer, Commit, Hold, Pending, Response, Stream, Upgrade
from chatserver.api.pages import Pages
from chatserver.api.publishing import log_failure
from chatserver.api.request import Request
from chatserver.api.rooms import refusal
from chatserver.api.routes import Routes
from chatserver.chat.hub import Hub
from chatserver.chat.member import Hold as HeldPoll
from chatserver.chat.member import Member
from chatserver.chat.ring import Form
from chatserver.edge.budgets import count, request_budget
from chatserver.edge.exchange import Exchange, PageHold
from chatserver.edge.failures import tell_fault, tell_log_failed
from chatserver.edge.intake import Intake
from chatserver.edge.leaving import return_after
from chatserver.edge.limits import EdgeLimits
from chatserver.edge.tasks import Tasks
from chatserver.log.interface import LogError, Stored
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.phases import Phase
from chatserver.net.unfinished import Unfinished
from chatserver.net.wheel import ticks
from chatserver.protocol import sse
from chatserver.protocol.errors import HttpError, MessageError
from chatserver.protocol.head import Head
from chatserver.protocol.response import error_body, error_response, response_head, with_headers, with_retry_after
from chatserver.reasons import ErrorCode, Reason

#: Seconds told to a client whose request took us too long.
SERVING_RETRY = 2.0
_RESTARTING = "the server is restarting; come back a little later"

#: Phases in which no request is under way, unless some of it stands in the inbox.
_BETWEEN = frozenset((Phase.PROXY, Phase.TLS, Phase.HEAD, Phase.KEEPALIVE, Phase.PACED))
#: Phases in which a request is begun and not complete.
_UNFINISHED = frozenset((Phase.HEAD, Phase.BODY))


class HttpEdge:
    """See the module. All but `_serve` is synchronous."""

    def __init__(
        self, connections: Connections, hub: Hub, routes: Routes, pages: Pages, limits: EdgeLimits, *,
        secret: bytes, tasks: Tasks, unfinished: Unfinished, upgrade: Callable[[Connection, Upgrade], None],
        note: Callable[[Connection, Reason, str], None],
    ) -> None:  # fmt: skip
        self._connections = connections
        self._hub = hub
        self._routes = routes
        self._pages = pages
        self.intake = Intake(connections, limits, unfinished, dispatch=self._dispatch, note=note)
        self._serving_deadline = limits.serving_deadline
        self._budget = request_budget(limits.request_rate)
        self._most_requests = limits.max_requests or sys.maxsize
        self._secret = secret
        self._tasks = tasks
        self.draining = False
        #: told of each request before it is handled; raises HttpError for one that shall not be
        self.settle: Callable[[Connection, Head], None] | None = None
        self._give: dict[type, Callable[[Connection, Exchange, Any], None]] = {
            Response: self._respond,
            Hold: self._hold,
            Stream: self._stream,
            Upgrade: lambda connection, exchange, answer: upgrade(connection, answer),
            Commit: self._commit,
        }

    # -- in ---------------------------------------------------------------------------------------------------------

    def resumed(self, connection: Connection) -> None:
        """A turn for what the inbox holds, after everybody else had theirs."""
        if connection.phase is Phase.KEEPALIVE and not self._connections.blocked(connection):
            self._connections.listen(connection)
            self.intake.begin(connection)

    def early_received(self, connection: Connection, data: bytes) -> None:
        """Bytes while an answer is under way: kept for later, and no more is read."""
        connection.inbox += data
        self._connections.pause(connection)

    # -- requests to answers ----------------------------------------------------------------------------------------

    def _dispatch(self, connection: Connection, head: Head, body: bytes, rest: bytes) -> None:
        connection.inbox = rest
        spent = connection.spent = self._budget.spend(connection.spent, self._connections.wheel.current)
        another = head.keep_alive and not self.draining and count(spent) < self._most_requests
        exchange = Exchange(another, head.method == "HEAD", self._routes.cors(head))
        try:
            if self.settle is not None:
                self.settle(connection, head)
            request = Request(
                head, body, connection.address, self._secret, exchange.keep_alive,
                connection in self._connections.operators,
            )  # fmt: skip
            answer = self._routes.handle(request)
        except (HttpError, MessageError) as error:
            self._refuse_request(connection, exchange, error)
            return
        if isinstance(answer, Coroutine):
            request.shrink()
            connection.session = exchange
            self._connections.enter(connection, Phase.SERVING)
            self._tasks.start(self._serve, connection, exchange, answer, self._latest())
        else:
            self._answer(connection, exchange, answer)

    def _answer(self, connection: Connection, exchange: Exchange, answer: Answer) -> None:
        if self.draining and isinstance(answer, Hold | Stream | Upgrade):
            # It would wait for what we will not see any more, and hold up our end meanwhile.
            exchange.keep_alive = False
            refused = refusal(ErrorCode.DRAINING, _RESTARTING, return_after())
            self._respond(connection, exchange, refused, Reason.DRAINING)
        else:
            self._give[type(answer)](connection, exchange, answer)

    def _latest(self) -> float:
        """Until when an answer that needs the log may take."""
        return trio.current_time() + self._serving_deadline

    async def _serve(self, connection: Connection, exchange: Exchange, pending: Pending, deadline: float) -> None:
        """Wait for an answer that needs the log; the connection is parked in SERVING meanwhile."""
        if connection.session is not exchange:
            pending.close()  # it went while it waited for its turn
            return
        answer: Answer | None = None
        try:
            with trio.move_on_at(deadline):
                answer = await pending
        except (HttpError, MessageError) as error:
            if connection.session is exchange:
                self._refuse_request(connection, exchange, error)
        except LogError as error:
            tell_log_failed(self._connections, connection, error)
            if connection.session is exchange:
                self._respond(connection, exchange, refusal(*log_failure(error)))
        except Exception:  # noqa: BLE001  a fault of ours costs its own request, and nobody else's
            tell_fault(self._connections, connection)
            if connection.session is exchange:
                body = error_body(ErrorCode.INTERNAL, ErrorCode.INTERNAL.sentence)
                self._respond(connection, exchange, Response(500, body))
        else:
            # A fault from here on is not the handler's: the connection may have another session already, and is ended
            # by `guarded`, which gives that back.
            if answer is None:
                self._give_up(connection, exchange)
            elif connection.session is exchange:
                self._answer(connection, exchange, answer)

    def _give_up(self, connection: Connection, exchange: Exchange) -> None:
        if connection.session is exchange:
            exchange.keep_alive = False
            sentence = "the answer took too long; what was asked may have been done"
            late = refusal(ErrorCode.UNAVAILABLE, sentence, SERVING_RETRY)
            self._respond(connection, exchange, late, Reason.SERVING_DEADLINE)

    # -- answers to bytes -------------------------------------------------------------------------------------------

    def _respond(
        self, connection: Connection, exchange: Exchange, answer: Response, reason: Reason = Reason.DONE
    ) -> None:
        parts = answer.parts
        head = response_head(
            answer.status, sum(map(len, parts)), content_type=answer.content_type,
            headers=answer.headers + exchange.headers, keep_alive=exchange.keep_alive,
        )  # fmt: skip
        self._write(connection, exchange, [head] if exchange.head_only else [head, *parts], reason)

    def _refuse_request(self, connection: Connection, exchange: Exchange, error: HttpError | MessageError) -> None:
        """A whole and valid request that cannot be served: the connection lives."""
        self._write(
            connection, exchange,
            [error_response(
                error, headers=exchange.headers, keep_alive=exchange.keep_alive, head_only=exchange.head_only
            )],
        )  # fmt: skip

    def _write(
        self, connection: Connection, exchange: Exchange, parts: list[bytes], reason: Reason = Reason.DONE
    ) -> None:
        connection.session = None
        if self.draining:
            parts = [with_retry_after(b"".join(parts), math.ceil(return_after()))]
        self._connections.send_parts(connection, parts)
        if not exchange.keep_alive:
            self._connections.finish(connection, reason)
            return
        if not connection.alive:
            return
        self._connections.enter(connection, Phase.KEEPALIVE)
        room = exchange.room
        if room is not None and room.congested:
            # It publishes faster than the room can be told: it is read again when the pump has come round.
            room.paused.append(connection)
            self._connections.pause(connection)
        elif not self._connections.blocked(connection):
            self._go_on(connection)

    def drained(self, connection: Connection) -> None:
        """The peer has taken the answer: its next request, then."""
        self._go_on(connection)

    def _go_on(self, connection: Connection) -> None:
        if connection.phase is Phase.KEEPALIVE and self._budget.over(connection.spent, self._connections.wheel.current):
            self._connections.pause(connection)
            self._connections.enter(connection, Phase.PACED)
        elif connection.inbox:
            # It has sent ahead. Its turn comes after everybody else's, and it is not read until then.
            self._connections.again(connection)
            self._connections.pause(connection)
        else:
            self._connections.listen(connection)

    # -- answers that take time -------------------------------------------------------------------------------------

    def _commit(self, connection: Connection, exchange: Exchange, answer: Commit) -> None:
        def done(result: Stored | LogError) -> None:
            if connection.session is exchange:
                self._respond(connection, exchange, answer.render(result))

        connection.session = exchange
        try:
            exchange.room = self._hub.publish(answer.draft, done)
        except LogError as error:
            self._respond(connection, exchange, answer.render(error))
            return
        self._connections.enter(connection, Phase.SERVING)

    def _hold(self, connection: Connection, exchange: Exchange, answer: Hold) -> None:
        facts = (connection, answer.user, answer.limit, answer.many, exchange.keep_alive)
        hold = PageHold(*facts, headers=exchange.headers) if exchange.headers else HeldPoll(*facts)
        connection.session = hold
        self._hub.park(hold, answer.waits)
        self._connections.enter(connection, Phase.HELD, ticks(answer.seconds))
        if connection.inbox:
            self._connections.pause(connection)
        elif not self._connections.blocked(connection):
            self._connections.listen(connection)  # a FIN that came while the room was loaded is to be seen again

    def answer_held(self, hold: HeldPoll) -> None:
        """News for a held poll, or its time is up, or its client has sent FIN: what there is, even if nothing."""
        connection = hold.connection
        assert isinstance(connection, Connection)
        headers = hold.headers if isinstance(hold, PageHold) else ()
        exchange = Exchange(hold.keep_alive and not self.draining, head_only=False, headers=headers)
        if hold.keep_alive and not exchange.keep_alive:
            hold.keep_alive = False
        wire = self._pages.held_wire(hold)
        if wire is not None:
            self._hub.release(hold)
            self._write(connection, exchange, [with_headers(wire, headers) if headers else wire])
            return
        places = hold.places()
        self._hub.release(hold)
        connection.session = exchange
        self._connections.enter(connection, Phase.SERVING)
        pending = self._answer_from_log(places, hold.limit, many=hold.many)
        self._tasks.start(self._serve, connection, exchange, pending, self._latest())

    async def _answer_from_log(self, places: list[tuple[str, int]], limit: int, *, many: bool) -> Answer:
        return Response(200, await self._pages.held_from_log(places, limit, many=many))

    def _stream(self, connection: Connection, exchange: Exchange, answer: Stream) -> None:
        if exchange.head_only:
            exchange.keep_alive = False
            self._write(connection, exchange, [with_headers(sse.HEAD, exchange.headers)])
            return
        member = self._hub.attach(
            answer.room, connection, form=Form.EVENTS, user=answer.user, cursor=answer.after
        )  # fmt: skip
        connection.session = member
        connection.spent = 0  # nothing more can be asked on it
        self._connections.enter(connection, Phase.STREAM)
        self._connections.send(connection, with_headers(answer.preface, exchange.headers))
        if connection.alive:
            self._hub.pump.deliver(member)

    def stream_received(self, connection: Connection, data: bytes) -> None:
        """A client of events has nothing to say after its request."""
        self._connections.pause(connection)

    # -- deadlines --------------------------------------------------------------------------------------------------

    def keepalive_expired(self, connection: Connection) -> None:
        """No further request: nothing to say about that (RFC 9112 section 9.5)."""
        self._connections.close(connection, Reason.KEEPALIVE_DEADLINE)

    def paced_expired(self, connection: Connection) -> None:
        """It may ask again."""
        self._connections.enter(connection, Phase.KEEPALIVE)
        self._go_on(connection)

    def serving_expired(self, connection: Connection) -> None:
        """We are too slow."""
        exchange = connection.session
        assert isinstance(exchange, Exchange), "SERVING is only entered with an exchange"
        self._give_up(connection, exchange)

    def stream_expired(self, connection: Connection) -> None:
        """Time for a heartbeat, unless the peer has not even taken the last one."""
        if self._connections.silent_behind_our_bytes(connection):
            return
        self._connections.send(connection, sse.HEARTBEAT)
        if connection.alive:
            self._connections.enter(connection, Phase.STREAM)

    # -- FIN --------------------------------------------------------------------------------------------------------

    def ended(self, connection: Connection) -> None:
        """The peer has sent FIN: gone, or only done with sending."""
        session = connection.session
        if isinstance(session, HeldPoll):
            # Ambiguous, so what serves both: answered at once, then closed. The slot is free again.
            session.keep_alive = False
            self.answer_held(session)
        elif isinstance(session, Exchange):
            # What it sent ahead of the FIN is still to be answered; the FIN is seen again when it is next read.
            session.keep_alive = session.keep_alive and bool(connection.inbox)
            self._connections.pause(connection)
        else:
            self._connections.close(connection, Reason.PEER_CLOSED)

    def drain(self, connection: Connection) -> None:
        """The server is stopping: answer what can be answered, close what is idle."""
        session = connection.session
        if isinstance(session, HeldPoll):
            session.keep_alive = False
            self.answer_held(session)
        elif isinstance(session, Exchange):
            session.keep_alive = False
        elif isinstance(session, Member):
            connection.session = None
            self._hub.leave(session)
            # A browser comes back by itself, after the time it was told last.
            self._connections.finish(connection, Reason.DRAINING, sse.retry_field(math.ceil(return_after() * 1000)))
        elif self._idle(connection):
            self._connections.close(connection, Reason.DRAINING)

    def cut_short(self, connection: Connection) -> None:
        """The server stops before this request is complete: say so, and when to send it again."""
        if connection.phase in _UNFINISHED and not self._connections.blocked(connection):
            error = HttpError(ErrorCode.DRAINING, _RESTARTING, reason=Reason.DRAINING)
            self.intake.give_up(connection)
            wire = with_retry_after(error_response(error), math.ceil(return_after()))
            self._connections.finish(connection, Reason.DRAINING, wire)

    def _idle(self, connection: Connection) -> bool:
        """Whether it has no request begun and no answer to take."""
        return connection.phase in _BETWEEN and not connection.inbox and not self._connections.blocked(connection)
