"""Drives HTTP on a connection: requests to answers, answers to bytes, the states between.

Owns: the order of an exchange, once edge/requests.py has made a request of the bytes. One request at a time: what a
client sends ahead stays in its inbox, and beyond one read of it, in the kernel. May not: know what a path means.

    HEAD -> (BODY) -> handler -> Response            -> KEEPALIVE or CLOSING
                              -> Hold    -> HELD     -> the same, later
                              -> Commit  -> SERVING  -> the same, from the log's callback
                              -> coroutine -> SERVING -> any of these, from its task
                              -> Stream  -> STREAM       -> Upgrade -> OPEN

    KEEPALIVE -> THROTTLED -> KEEPALIVE     asks faster than it may: not read, and so not answered, for a moment
    KEEPALIVE -> PAUSED -> KEEPALIVE        publishes faster than the room's members can be told
"""

import math
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec
import trio

from chatserver.api.answers import Answer, Commit, Hold, Pending, Response, Slow, Stream, Upgrade
from chatserver.api.identities import Identities
from chatserver.api.pages import Pages, Start
from chatserver.api.request import Request
from chatserver.api.rooms import refusal
from chatserver.api.routes import Routes
from chatserver.api.services import log_failure
from chatserver.chat.hub import Hub
from chatserver.chat.member import PollWaiter
from chatserver.chat.room import Room
from chatserver.edge.closes import CloseStats
from chatserver.edge.tasks import Tasks
from chatserver.log.interface import LogError, Stored
from chatserver.meters import TokenBucket
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.states import State
from chatserver.net.wheel import TICK_MICROSECONDS, ticks
from chatserver.protocol import sse
from chatserver.protocol.errors import HttpError, MessageError
from chatserver.protocol.head import Head
from chatserver.protocol.response import error_response, response_head, with_headers, with_retry_after
from chatserver.reasons import ErrorCode, Reason
from chatserver.settings.fields import Settings

#: Seconds told to a client whose request took us too long.
SERVING_RETRY = 2.0
#: Seconds' worth of requests that may come at once: a page with its files, a few pages of history.
REQUEST_BURST = 2.0
#: Seconds that a restart takes at least, and over which clients are asked to come back after that.
RETURN_AFTER, RETURN_WINDOW = 1.0, 5.0
_RESTARTING = "the server is restarting; come back a little later"


def return_after(share: float | None = None) -> float:
    """Seconds to wait: somewhere in the window by chance, or for `share` (0 to 1) of those who leave before."""
    return RETURN_AFTER + RETURN_WINDOW * (random.random() if share is None else share)  # noqa: S311  no secret


class Exchange(msgspec.Struct, gc=False, eq=False):
    """`SERVING` carries it: a request that is being answered."""

    keep_alive: bool
    head_only: bool
    headers: tuple[tuple[str, str], ...] = ()  # of any answer to it, besides the answer's own
    room: Room | None = None  # the one it published into


class PageWaiter(PollWaiter, kw_only=True, gc=False, eq=False):
    """A held poll of a page of an allowed origin, whose answer needs more headers; any other does without the field."""

    headers: tuple[tuple[str, str], ...] = ()


class HttpExchanges:
    """See the module. All but `_serve` is synchronous."""

    def __init__(
        self, connections: Connections, hub: Hub, routes: Routes, pages: Pages, settings: Settings, *,
        identities: Identities, tasks: Tasks, slow_tasks: Tasks, stats: CloseStats,
        upgrade: Callable[[Connection, Upgrade], bool], forwarded: Callable[[Connection, Head], None] | None,
        vouched: Callable[[Connection], bool] | None = None,
    ) -> None:  # fmt: skip
        self._connections = connections
        self._hub = hub
        self._routes = routes
        self._pages = pages
        self._serving_deadline = settings.serving_deadline
        self._bucket = TokenBucket(settings.request_rate, burst=settings.request_rate * REQUEST_BURST)
        self._identities = identities
        self._tasks = tasks
        self._stats = stats
        self._vouched = vouched
        self.draining = False
        self.forwarded = forwarded  # told of each request before it is handled; may raise HttpError
        self._give: dict[type, Callable[[Connection, Exchange, Any], bool]] = {
            Response: self.respond,
            Hold: self._hold,
            Stream: self._stream,
            Upgrade: lambda connection, exchange, answer: upgrade(connection, answer),
            Commit: self._commit,
            Slow: lambda connection, exchange, answer: self._wait_for(connection, exchange, answer.pending, slow_tasks),
        }

    # -- requests to answers ----------------------------------------------------------------------------------------

    def dispatch(self, connection: Connection, head: Head, body: bytes, rest: bytes) -> bool:
        """A whole request. True: another one may be in the inbox."""
        connection.rate = self._bucket.spend(connection.rate, self._now())
        another = head.keep_alive and not self.draining
        if not self._connections.keep_ahead(connection, rest):
            another = False
        exchange = Exchange(another, head.method == "HEAD", self._routes.cors(head))
        try:
            if self.forwarded is not None:
                self.forwarded(connection, head)
            vouched = self._vouched is not None and self._vouched(connection)
            by_operator = connection in self._connections.operators
            request = Request(
                head, body, connection.address, connection.network, self._identities, by_operator, vouched
            )
            answer = self._routes.handle(request)
            if isinstance(answer, Coroutine):
                _shrink(request, answer)
        except (HttpError, MessageError) as error:
            return self._refuse_request(connection, exchange, error)
        if isinstance(answer, Coroutine):
            return self._wait_for(connection, exchange, answer, self._tasks)
        return self._answer(connection, exchange, answer)

    def _now(self) -> int:
        return self._connections.wheel.current * TICK_MICROSECONDS

    def _answer(self, connection: Connection, exchange: Exchange, answer: Answer) -> bool:
        if self.draining and isinstance(answer, Hold | Stream | Upgrade):
            # It would wait for what we will not see any more, and hold up our end meanwhile.
            exchange.keep_alive = False
            refused = refusal(ErrorCode.DRAINING, _RESTARTING, return_after())
            return self.respond(connection, exchange, refused, Reason.DRAINING)
        return self._give[type(answer)](connection, exchange, answer)

    def _wait_for(self, connection: Connection, exchange: Exchange, pending: Pending, tasks: Tasks) -> bool:
        self._connections.enter(connection, State.SERVING, exchange)
        deadline = trio.current_time() + self._serving_deadline
        tasks.start(self._serve, connection, exchange, pending, deadline)
        return False

    async def _serve(self, connection: Connection, exchange: Exchange, pending: Pending, deadline: float) -> None:
        """Wait for an answer that needs the log; the connection is parked in SERVING meanwhile."""
        if connection.context is not exchange:
            pending.close()  # it went while it waited for its turn
            return
        result: Answer | HttpError | MessageError | LogError | None = None
        with trio.move_on_at(deadline):
            try:
                result = await pending
            except (HttpError, MessageError, LogError) as error:
                result = error
        self._connections.step(connection, self._answered, exchange, result)

    def _answered(
        self, connection: Connection, exchange: Exchange, result: Answer | HttpError | MessageError | LogError | None
    ) -> None:
        if isinstance(result, LogError):
            self._stats.log_failed(connection, result)
            result = refusal(*log_failure(result))
        if connection.context is not exchange:
            return  # it went while we read
        if result is None:
            more = self.give_up(connection, exchange)
        elif isinstance(result, HttpError | MessageError):
            more = self._refuse_request(connection, exchange, result)
        else:
            more = self._answer(connection, exchange, result)
        if more:
            self._connections.resume(connection, later=True)

    def give_up(self, connection: Connection, exchange: Exchange) -> bool:
        """We are too slow."""
        exchange.keep_alive = False
        sentence = "the answer took too long; what was asked may have been done"
        late = refusal(ErrorCode.UNAVAILABLE, sentence, SERVING_RETRY)
        return self.respond(connection, exchange, late, Reason.SERVING_DEADLINE)

    # -- answers to bytes -------------------------------------------------------------------------------------------

    def respond(
        self, connection: Connection, exchange: Exchange, answer: Response, reason: Reason = Reason.DONE
    ) -> bool:
        """Send a whole answer. True: another request may be in the inbox."""
        parts = answer.body
        head = response_head(
            answer.status, sum(map(len, parts)), content_type=answer.content_type,
            headers=answer.headers + exchange.headers, keep_alive=exchange.keep_alive,
        )  # fmt: skip
        return self._write(connection, exchange, [head] if exchange.head_only else [head, *parts], reason)

    def _refuse_request(self, connection: Connection, exchange: Exchange, error: HttpError | MessageError) -> bool:
        """A whole and valid request that cannot be served: the connection lives."""
        wire = error_response(
            error, headers=exchange.headers, keep_alive=exchange.keep_alive, head_only=exchange.head_only
        )
        return self._write(connection, exchange, [wire])

    def _write(
        self, connection: Connection, exchange: Exchange, parts: list[bytes], reason: Reason = Reason.DONE
    ) -> bool:
        if self.draining:
            parts = [with_retry_after(b"".join(parts), math.ceil(return_after()))]
        self._connections.send_parts(connection, parts)
        if not exchange.keep_alive:
            self._connections.finish(connection, reason)
            return False
        self._connections.enter(connection, State.KEEPALIVE)
        room = exchange.room
        if room is not None and room.congested and connection.alive:
            self._hub.pause(room, connection)
            self._connections.enter(connection, State.PAUSED, room)
            return False
        return self.go_on(connection)

    def go_on(self, connection: Connection) -> bool:
        """In KEEPALIVE: the next request, or a moment's wait. True: it may be in the inbox."""
        if connection.rate and self._bucket.over(connection.rate, self._now()):
            self._connections.enter(connection, State.THROTTLED)
            return False
        return bool(connection.inbox) and not connection.blocked

    # -- answers that take time -------------------------------------------------------------------------------------

    def _commit(self, connection: Connection, exchange: Exchange, answer: Commit) -> bool:
        def done(result: Stored | LogError) -> None:
            self._connections.step(connection, self._committed, exchange, answer, result)

        self._connections.enter(connection, State.SERVING, exchange)
        try:
            exchange.room = self._hub.publish(answer.draft, done)
        except LogError as error:
            return self.respond(connection, exchange, answer.render(error))
        return False

    def _committed(self, connection: Connection, exchange: Exchange, answer: Commit, result: Stored | LogError) -> None:
        if connection.context is exchange and self.respond(connection, exchange, answer.render(result)):
            self._connections.resume(connection, later=True)

    def _hold(self, connection: Connection, exchange: Exchange, answer: Hold) -> bool:
        make = partial(PageWaiter, headers=exchange.headers) if exchange.headers else PollWaiter
        waiter = make(
            connection=connection, principal=answer.principal, limit=answer.limit, many=answer.many,
            keep_alive=exchange.keep_alive, messages_only=answer.messages_only,
        )  # fmt: skip
        # First the state, which releases what it carries: a fault in parking leaves nobody waiting in a room.
        self._connections.enter(connection, State.HELD, waiter, span=ticks(answer.seconds))
        self._hub.park(waiter, answer.waits)
        # A poll behind which another request stands is answered at once: a held one is read only to see its FIN.
        return self.answer_held(connection, waiter) if connection.inbox else False

    def answer_held(self, connection: Connection, waiter: PollWaiter) -> bool:
        """News for a held poll, or its time is up, or its client has sent FIN: what there is, even if nothing.

        True: another request may be in the inbox.
        """
        waiter.keep_alive = waiter.keep_alive and not self.draining
        headers = waiter.headers if isinstance(waiter, PageWaiter) else ()
        exchange = Exchange(waiter.keep_alive, head_only=False, headers=headers)
        wire = self._pages.held_wire(waiter)
        if wire is not None:
            return self._write(connection, exchange, [with_headers(wire, headers) if headers else wire])
        places = [(room.name, after) for room, after in waiter.places()]
        pending = self._answer_from_log(
            places, waiter.limit, many=waiter.many, messages_only=waiter.messages_only
        )  # fmt: skip
        return self._wait_for(connection, exchange, pending, self._tasks)

    def refuse_held(self, connection: Connection, waiter: PollWaiter, error: MessageError) -> bool:
        """A held poll that may not wait any more. True: another request may be in the inbox."""
        headers = waiter.headers if isinstance(waiter, PageWaiter) else ()
        exchange = Exchange(waiter.keep_alive and not self.draining, head_only=False, headers=headers)
        return self._refuse_request(connection, exchange, error)

    async def _answer_from_log(
        self, places: list[tuple[str, int]], limit: int, *, many: bool, messages_only: bool
    ) -> Answer:  # fmt: skip
        starts = [(room, Start(after, recovered=True)) for room, after in places]
        pages = self._pages.several(starts, limit, many=many, messages_only=messages_only)
        return Response(200, await pages)

    def _stream(self, connection: Connection, exchange: Exchange, answer: Stream) -> bool:
        if exchange.head_only:
            exchange.keep_alive = False
            return self._write(connection, exchange, [with_headers(sse.HEAD, exchange.headers)])
        encoding = self._pages.message_events if answer.messages_only else self._pages.events
        member = self._hub.attach(
            answer.room, connection, encoding=encoding, principal=answer.principal, cursor=answer.after
        )  # fmt: skip
        self._connections.drop_inbox(connection)
        connection.rate = 0  # nothing more can be asked on it
        self._connections.enter(connection, State.STREAM, member)
        self._connections.send(connection, with_headers(answer.preface, exchange.headers))
        self._hub.deliver(member)
        return False


def _shrink(request: Request, pending: Pending) -> None:
    """Keep little of a request while it waits. Raises HttpError if it turns out now that it comes from nobody."""
    try:
        request.shrink()
    except (HttpError, MessageError):
        pending.close()
        raise
