"""Answers to bytes, and what a connection does after each: it closes, pauses, or waits for its next request.

Owns: `Exchange`, a request under way; the pace of requests on a connection; what answers say while the server stops.
May not: make an answer; edge/http.py has that done.
"""

import math
import random
from collections.abc import Callable

import msgspec

from chatserver.api.answers import Answer, Response
from chatserver.chat.member import PollWaiter
from chatserver.chat.room import Room
from chatserver.edge.proxied import ForwardedFor
from chatserver.edge.requests import date_now
from chatserver.meters import TokenBucket
from chatserver.net import sockets
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.states import KEEPALIVE, State
from chatserver.protocol.errors import Headers, HttpError, MessageError
from chatserver.protocol.response import error_response, response_head, retry_after, with_retry_after
from chatserver.reasons import DEMOTING_REFUSALS, ErrorCode, Reason
from chatserver.settings.fields import Settings

#: Burst of requests, in seconds of the request rate: a page with its files, a few pages of history.
REQUEST_BURST = 2.0
#: Seconds that a restart takes at least, and the window after that over which returning clients are spread.
RETURN_AFTER, RETURN_WINDOW = 1.0, 5.0
#: Retry-After of refusals, seconds: spread, so that peers refused together do not return together.
REFUSAL_RETRIES = range(2, 10)
RESTARTING = "the server is restarting; come back a little later"


def return_after() -> float:
    """Seconds to wait: at random in the window, so that clients do not all return at once."""
    return RETURN_AFTER + RETURN_WINDOW * random.random()  # noqa: S311  no secret


class Exchange(msgspec.Struct, gc=False, eq=False):
    """A request that is being answered; the context of `SERVING`."""

    keep_alive: bool
    head_only: bool
    headers: Headers = ()  # added to any answer
    room: Room | None = None  # the room that it published into
    go_on: Callable[[], Answer] | None = None  # makes the answer in the next step


class Responder:
    """See the module. `draining`: the server is stopping."""

    def __init__(
        self, connections: Connections, settings: Settings, forwarded: ForwardedFor | None,
        refusals: dict[ErrorCode, int],
    ) -> None:  # fmt: skip
        self.draining = False
        self._bucket = TokenBucket(settings.request_rate, burst=settings.request_rate * REQUEST_BURST)
        self._connections = connections
        self._forwarded = forwarded
        self._refusals = refusals

    def count(self, connection: Connection) -> None:
        """Count a request against the rate of its connection."""
        connection.rate = self._bucket.spend(connection.rate, self._connections.wheel.microseconds)

    def respond(
        self, connection: Connection, exchange: Exchange, answer: Response, reason: Reason = Reason.DONE
    ) -> None:
        if answer.error is not None:
            self._refusals[answer.error] += 1
        parts = answer.body
        head = response_head(
            answer.status, sum(map(len, parts)), content_type=answer.content_type,
            headers=answer.headers + exchange.headers, keep_alive=exchange.keep_alive, date=date_now(),
        )  # fmt: skip
        self.send(connection, exchange, [head] if exchange.head_only else [head, *parts], reason)

    def refuse(self, connection: Connection, exchange: Exchange, error: HttpError | MessageError) -> None:
        """Refuse a whole and valid request that cannot be served; the connection stays open."""
        self._refusals[error.code] += 1
        if error.code in DEMOTING_REFUSALS:
            self._connections.demotion.demote(connection)
        wire = error_response(
            error, headers=exchange.headers, keep_alive=exchange.keep_alive, head_only=exchange.head_only,
            date=date_now(),
        )  # fmt: skip
        self.send(connection, exchange, [wire])

    def exchange_of(self, waiter: PollWaiter) -> Exchange:
        """The exchange of a poll that was held."""
        return Exchange(waiter.keep_alive and not self.draining, head_only=False, headers=waiter.headers)

    def send(
        self, connection: Connection, exchange: Exchange, parts: list[bytes], reason: Reason = Reason.DONE
    ) -> None:
        """Send the bytes of a whole answer, and enter the state that follows. `reason`: of the end, if it is that."""
        if self.draining:
            parts = [with_retry_after(b"".join(parts), math.ceil(return_after()))]
        self._connections.send_parts(connection, parts)
        if not exchange.keep_alive:
            self._connections.finish(connection, reason)
            return
        room = exchange.room
        if room is not None and room.congested:
            room.pause(connection)
            self._connections.enter(connection, State.PAUSED, room)
            return
        self._connections.enter(connection, KEEPALIVE)
        self.go_on(connection)

    def go_on(self, connection: Connection) -> None:
        """In KEEPALIVE: throttle a connection whose requests come too fast; else its next one may be in the inbox."""
        if self._bucket.over(connection.rate, self._connections.wheel.microseconds):
            self._connections.enter(connection, State.THROTTLED)
        elif not connection.blocked:
            if self._forwarded is not None:
                self._forwarded.answered(connection)
            if connection.inbox:
                self._connections.resume(connection, later=True)

    def idle(self, connection: Connection) -> None:
        """Its bytes begin no request. A drain that waited for them waits no longer."""
        if self.draining and not sockets.unread(connection.descriptor):
            self._connections.close(connection, Reason.DRAINING)


def refusals_of_newcomers() -> list[bytes]:
    """Complete answers of refusal, made once: refusing a connection must cost less than opening one."""
    sentence = "the server, or this network, holds as many connections as it may; come back later"
    error = HttpError(ErrorCode.FULL, sentence)
    return [error_response(error, headers=retry_after(seconds)) for seconds in REFUSAL_RETRIES]


def plain_http_on_tls() -> bytes:
    """The answer to plain HTTP on a TLS port, such as a browser at http:// gets; nginx gives one too."""
    sentence = "this port speaks TLS: the address begins with https:// or wss://"
    return error_response(HttpError(ErrorCode.BAD_REQUEST, sentence), date=date_now())
