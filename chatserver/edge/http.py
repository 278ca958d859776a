"""Drives HTTP on a connection: from requests to answers, and the states between.

Owns: the order of an exchange, from the request that edge/requests.py has parsed to the answer that edge/responses.py
sends. One request at a time: bytes sent ahead stay in the inbox, and those beyond one read in the kernel. May not: know
what a path means.

    HEAD -> (BODY) -> handler -> Response            -> KEEPALIVE or CLOSING
                              -> Hold    -> HELD     -> the same, later
                              -> Commit  -> SERVING  -> the same, from the log's callback
                              -> Later   -> SERVING  -> any of these, from its task
                              -> Next    -> SERVING  -> any of these, in the next step
                              -> Stream  -> STREAM       -> Upgrade -> OPEN

    KEEPALIVE -> THROTTLED -> KEEPALIVE     requests come too fast: not read, and so not answered, for a moment
    SERVING -> PAUSED -> KEEPALIVE          publishes faster than the broadcast reaches the room's members
"""

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import trio

from chatserver.api.answers import Answer, Commit, Hold, Later, Next, Queue, Response, Stream, Upgrade, refusal
from chatserver.api.identities import Identities
from chatserver.api.origins import OriginPolicy
from chatserver.api.request import Request
from chatserver.api.routes import Routes
from chatserver.api.services import log_failure
from chatserver.chat.hub import Hub
from chatserver.chat.member import Member, PollWaiter
from chatserver.edge.closes import log_failed
from chatserver.edge.proxied import ForwardedFor
from chatserver.edge.requests import HttpHandler, date_now, too_many_unfinished
from chatserver.edge.responses import RESTARTING, Exchange, Responder, return_after
from chatserver.edge.tasks import Tasks
from chatserver.log.interface import LogError, Stored
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.handler import context_of
from chatserver.net.states import SERVING, State
from chatserver.net.transport import PLAIN
from chatserver.net.wheel import ticks
from chatserver.protocol import sse
from chatserver.protocol.errors import HttpError, MessageError
from chatserver.protocol.head import Head
from chatserver.protocol.proxy import is_over_tls
from chatserver.protocol.response import header_lines
from chatserver.reasons import ErrorCode, Reason
from chatserver.settings.fields import Settings

#: Retry-After (s) for a client whose request took us too long.
SERVING_RETRY = 2.0
#: Answers that wait, for which most of the request is dropped.
_UNFINISHED = (Later, Next)


class HttpExchanges(HttpHandler):
    """See the module; the handler of `SERVING`, whose context is the exchange. All but `_serve` is synchronous."""

    def __init__(
        self, connections: Connections, hub: Hub, routes: Routes, settings: Settings, *,
        responder: Responder, identities: Identities, tasks: Mapping[Queue, Tasks],
        upgrade: Callable[[Connection, Upgrade], None], policy: OriginPolicy, forwarded: ForwardedFor | None,
    ) -> None:  # fmt: skip
        super().__init__(connections)
        self._hub = hub
        self._routes = routes
        self._policy = policy
        self._serving_deadline = settings.serving_deadline
        self._heartbeat_interval = settings.heartbeat_interval
        self._responder = responder
        self._identities = identities
        self._tasks = tasks
        self._forwarded = forwarded
        self._give: dict[type, Callable[[Connection, Exchange, Any], None]] = {
            Response: responder.respond,
            Hold: self._hold,
            Stream: self._stream,
            Upgrade: lambda connection, exchange, answer: upgrade(connection, answer),
            Commit: self._commit,
            Later: self._wait_for,
            Next: self._schedule,
        }

    # -- requests to answers ----------------------------------------------------------------------------------------

    def dispatch(self, connection: Connection, head: Head, body: bytes, rest: bytes) -> None:
        self._responder.count(connection)
        kept = self._connections.keep_ahead(connection, rest)
        another = kept and head.keep_alive and not self._responder.draining
        if self._forwarded is not None and "upgrade" in head.headers:
            another = False  # a proxy may take it for a tunnel, whatever we answer, and no longer set its fields
        exchange = Exchange(another, head.method == "HEAD", self._policy.cors(head.headers.get("origin")))
        try:
            vouched = self._forwarded is not None and self._forwarded.apply(connection, head)
            secure = connection.transport is not PLAIN or (vouched and is_over_tls(head))
            by_operator = connection in self._connections.operators
            request = Request(
                head, body, connection.address, connection.network, self._identities, by_operator, vouched, secure
            )
            answer = self._routes.handle(request)
            if type(answer) in _UNFINISHED:
                _shrink(request, answer)
            if not kept and isinstance(answer, Upgrade):  # its frames would begin anywhere
                raise too_many_unfinished()
        except (HttpError, MessageError) as error:
            self._responder.refuse(connection, exchange, error)
        except Exception:
            self._connections.enter(connection, SERVING, exchange)  # a page of an allowed origin may read the 500
            raise
        else:
            self._answer(connection, exchange, answer)

    def _answer(self, connection: Connection, exchange: Exchange, answer: Answer) -> None:
        if self._responder.draining and isinstance(answer, Stream | Upgrade):
            refused = refusal(ErrorCode.DRAINING, RESTARTING, return_after())
            self._responder.respond(connection, exchange, refused, Reason.DRAINING)
        else:
            self._give[type(answer)](connection, exchange, answer)

    def _schedule(self, connection: Connection, exchange: Exchange, answer: Next) -> None:
        exchange.go_on = answer.go_on
        self._connections.enter(connection, SERVING, exchange)
        self._connections.resume(connection)

    def resumed(self, connection: Connection) -> None:
        """Take the next step towards an answer, if there is one."""
        exchange = context_of(connection, Exchange)
        go_on, exchange.go_on = exchange.go_on, None
        if go_on is None:
            return
        try:
            self._answer(connection, exchange, go_on())
        except (HttpError, MessageError) as error:
            self._responder.refuse(connection, exchange, error)

    def _wait_for(self, connection: Connection, exchange: Exchange, answer: Later) -> None:
        self._connections.enter(connection, SERVING, exchange)
        deadline = trio.current_time() + self._serving_deadline
        tasks = self._tasks[answer.queue]
        tasks.start(self._serve, connection, exchange, answer.pending, answer.check, deadline)

    async def _serve(
        self, connection: Connection, exchange: Exchange, pending: Coroutine[Any, Any, Answer],
        check: Callable[[], object], deadline: float,
    ) -> None:  # fmt: skip
        """Wait for an answer that needs the log; the connection is parked in SERVING meanwhile."""
        result: Answer | HttpError | MessageError | LogError | None = None
        with trio.move_on_at(deadline):
            try:
                result = await pending
                check()  # the user may have lost the right to this answer
            except (HttpError, MessageError, LogError) as error:
                result = error
        self._connections.step(connection, self._answered, exchange, result)

    def _answered(
        self, connection: Connection, exchange: Exchange, result: Answer | HttpError | MessageError | LogError | None
    ) -> None:
        if isinstance(result, LogError):
            log_failed(self._connections, connection, result)
            result = refusal(*log_failure(result))
        if connection.context is not exchange:
            return  # the connection ended while the log was read
        if result is None:
            self.expired(connection)
        elif isinstance(result, HttpError | MessageError):
            self._responder.refuse(connection, exchange, result)
        else:
            self._answer(connection, exchange, result)

    def expired(self, connection: Connection) -> None:
        """Answer 503 and close, since our answer took too long."""
        exchange = context_of(connection, Exchange)
        exchange.keep_alive = False
        sentence = "the answer took too long; the request may have been carried out"
        late = refusal(ErrorCode.UNAVAILABLE, sentence, SERVING_RETRY)
        self._responder.respond(connection, exchange, late, Reason.SERVING_DEADLINE)

    # -- answers that take time -------------------------------------------------------------------------------------

    def _commit(self, connection: Connection, exchange: Exchange, answer: Commit) -> None:
        done = partial(self._connections.step, connection, self._committed, exchange, answer)
        self._connections.enter(connection, SERVING, exchange)
        try:
            exchange.room = self._hub.publish(answer.draft, done)
        except LogError as error:
            self._responder.respond(connection, exchange, answer.render(error))

    def _committed(self, connection: Connection, exchange: Exchange, answer: Commit, result: Stored | LogError) -> None:
        if connection.context is exchange:
            self._responder.respond(connection, exchange, answer.render(result))

    def _hold(self, connection: Connection, exchange: Exchange, answer: Hold) -> None:
        waiter = PollWaiter(
            connection=connection, principal=answer.principal, wanted=answer.wanted,
            keep_alive=exchange.keep_alive, headers=exchange.headers,
        )  # fmt: skip
        # Enter the state first, since leaving it releases the waiter: if `park` raises, no waiter is left in a room.
        self._connections.enter(connection, State.HELD, waiter, span=ticks(answer.seconds))
        self._hub.park(waiter, answer.waits)
        # At once if another request follows, as a held connection is read only to see its FIN; and in a drain, whose
        # client then asks the next worker, where a refusal would look like a failure.
        if connection.inbox or self._responder.draining:
            self.answer_held(connection, waiter)

    def answer_held(self, connection: Connection, waiter: PollWaiter) -> None:
        """Answer a held poll with the messages there are, even none: on news, at its deadline, or on FIN."""
        self._answer(connection, self._responder.exchange_of(waiter), self._routes.polls.answer_held(waiter))

    def _stream(self, connection: Connection, exchange: Exchange, answer: Stream) -> None:
        head = sse.head(date_now() + header_lines(exchange.headers))
        if exchange.head_only:
            exchange.keep_alive = False
            self._responder.send(connection, exchange, [head])
            return
        member = self._hub.attach(
            answer.room, connection, encoding=answer.encoding, principal=answer.principal, cursor=answer.after
        )
        self._connections.drop_inbox(connection)
        connection.rate = 0  # an event stream has another bucket
        self.stream_on(connection, member)
        self._connections.send(connection, head + answer.preface)
        self._hub.broadcaster.deliver(member)

    def stream_on(self, connection: Connection, member: Member) -> None:
        """Enter STREAM until the next heartbeat or, if that is earlier, the end of the sign-in."""
        left = member.room.members[member].seconds_left
        span = ticks(left) if left < self._heartbeat_interval else None
        self._connections.enter(connection, State.STREAM, member, span=span)


def _shrink(request: Request, answer: Answer) -> None:
    """Drop most of a request while it waits. Raises if its principal, found only now, is not valid."""
    try:
        request.shrink()
    except (HttpError, MessageError):
        if isinstance(answer, Later):
            answer.pending.close()
        raise
