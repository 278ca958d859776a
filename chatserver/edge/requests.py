"""From bytes to requests: the handlers of `HEAD`, `KEEPALIVE` and `BODY`.

Owns: refusals of bytes that are no valid request, the two 408s, and the `Date` of answers, since protocol/ reads no
clock. May not: know what a request means, or how it is answered; `dispatch` does.
"""

import random
from collections.abc import Callable
from time import time
from typing import TypeAlias

import msgspec

from chatserver.api.origins import OriginPolicy
from chatserver.edge.proxied import ForwardedFor
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.handler import Handler, context_of
from chatserver.net.states import State
from chatserver.net.wheel import TICK, ticks
from chatserver.protocol.body import Body, BodyLimits, body_reader
from chatserver.protocol.errors import Headers, HttpError
from chatserver.protocol.head import NO_BODY, Head, HeadLimits, find_head_end, origin_in, parse_head
from chatserver.protocol.response import CONTINUE, date_line, error_response
from chatserver.reasons import ErrorCode, Reason
from chatserver.settings.fields import Settings

#: Handles a request: its head, its body, and the bytes received after it.
Dispatch: TypeAlias = Callable[[Connection, Head, bytes, bytes], None]
#: Told of a connection whose bytes begin no request.
OnIdle: TypeAlias = Callable[[Connection], None]

#: Retry-After (s), of which one is chosen at random: about as long as an unfinished request lives.
RETRIES = range(5, 15)
#: Bytes of a body that extend its deadline by a second: Apache 500, Kestrel 240.
BODY_RATE = 1024


def date_now() -> bytes:
    """The header line for an answer that is made now."""
    return date_line(int(time()))


def too_many_unfinished() -> HttpError:
    """The refusal of a request of which something cannot be kept, since its network keeps too much."""
    return HttpError(
        ErrorCode.UNAVAILABLE,
        "too many requests are unfinished; nothing of this one was stored, send it again",
        reason=Reason.UNFINISHED_FULL,
        headers=(("Retry-After", str(random.choice(RETRIES))),),  # noqa: S311  jitter, not secrecy
    )


class HttpHandler(Handler):
    """The base of the handlers of states in which a peer waits for an answer."""

    def faulted(self, connection: Connection) -> None:
        """A bug of ours: 500."""
        headers: Headers = getattr(connection.context, "headers", ())  # those of its page's origin
        error = HttpError(ErrorCode.INTERNAL, ErrorCode.INTERNAL.sentence)
        self._connections.finish(connection, Reason.INTERNAL_ERROR, error_response(error, headers=headers))


class RequestHandler(HttpHandler):
    """`HEAD` and `KEEPALIVE`: a request head, gathered in the inbox."""

    def __init__(
        self, connections: Connections, settings: Settings, dispatch: Dispatch, on_idle: OnIdle,
        policy: OriginPolicy, forwarded: ForwardedFor | None,
    ) -> None:  # fmt: skip
        super().__init__(connections)
        self._dispatch = dispatch
        self._on_idle = on_idle
        self._policy = policy
        self._forwarded = forwarded
        self._budget = connections.input_budget
        self._head_limits = HeadLimits(max_bytes=settings.max_head_bytes, max_fields=settings.max_head_fields)
        self._body_limits = BodyLimits(max_bytes=settings.max_body_bytes)
        self._body_ticks = ticks(settings.body_deadline)
        self._body_ticks_max = ticks(settings.body_deadline_max)

    def received(self, connection: Connection, data: bytes) -> None:
        inbox = connection.inbox
        self._begin(connection, inbox + data if inbox else data, len(inbox))

    def resumed(self, connection: Connection) -> None:
        """Parse the inbox, which may hold a whole request that was sent ahead."""
        if not connection.blocked:
            self._begin(connection, connection.inbox, 0)

    def writable(self, connection: Connection) -> None:
        """The peer has taken the answer; its next request may be in the inbox."""
        if self._forwarded is not None and connection.state is State.KEEPALIVE:
            self._forwarded.answered(connection)
        if connection.inbox:
            self._connections.resume(connection)

    def _begin(self, connection: Connection, buffer: bytes, searched: int) -> None:
        try:
            end = find_head_end(buffer, searched, self._head_limits)
            if not end:
                self._wait_for_head(connection, buffer)
                return
            self._budget.release(connection)
            head = parse_head(buffer[:end], self._head_limits)
            if head.body is NO_BODY:
                self._dispatch(connection, head, b"", buffer[end:])
            else:
                self._begin_body(connection, head, buffer[:end], buffer[end:])
        except HttpError as error:
            self.refuse(connection, error, buffer)

    def _wait_for_head(self, connection: Connection, buffer: bytes) -> None:
        if buffer.endswith(b"\n") and not buffer.strip():
            buffer = b""  # blank lines begin no request; some clients end a body with one
        connection.inbox = buffer
        self._keep(connection, connection, len(buffer))
        if not buffer:
            self._on_idle(connection)
        elif connection.state is not State.HEAD:
            self._connections.enter(connection, State.HEAD)

    def _keep(self, connection: Connection, holder: object, size: int) -> None:
        """Charge unfinished input to the budget of all peers. Raises HttpError if its network keeps too much."""
        if not self._budget.resize(holder, size, connection.network):
            raise too_many_unfinished()

    def _begin_body(self, connection: Connection, head: Head, raw: bytes, rest: bytes) -> None:
        try:
            body = body_reader(head, self._body_limits)
            body.receive(rest)
        except HttpError:
            self._claim(connection, head)
            raise
        if body.complete:
            self._dispatch(connection, head, body.body, body.rest)
            return
        self._claim(connection, head)
        connection.inbox = b""
        upload = Upload(raw, body, self._connections.wheel.current)
        self._connections.enter(connection, State.BODY, upload, span=self._body_ticks)
        self._keep(connection, upload, len(upload.head) + body.kept)
        if head.expects_continue and not rest:
            self._connections.send(connection, CONTINUE)

    def _claim(self, connection: Connection, head: Head) -> None:
        """From now on what happens on a proxy's connection is its client's doing."""
        if self._forwarded is not None:
            self._forwarded.claim(connection, head)

    def refuse(self, connection: Connection, error: HttpError, sent: bytes) -> None:
        """Answer bytes that are no valid request, and close: where the next one would begin is unknown.

        `sent` is the head, valid or not: a page of an allowed origin may read why, or would take it for an outage.
        """
        self._connections.misbehaved(connection, error.reason, error.message)
        headers = self._policy.cors(origin_in(sent))
        self._connections.finish(connection, error.reason, error_response(error, headers=headers, date=date_now()))

    def expired(self, connection: Connection) -> None:
        """408 if a request had begun; a peer that sent nothing gets no answer (RFC 9112, 9.5)."""
        if connection.state is State.KEEPALIVE:
            self._connections.close(connection, Reason.KEEPALIVE_DEADLINE)
        elif not connection.inbox.strip():  # half a blank line begins none either
            self._connections.misbehaved(connection, Reason.HEAD_DEADLINE, "no request")
            self._connections.close(connection, Reason.HEAD_DEADLINE)
        else:
            message = "the request head was not complete in time"
            error = HttpError(ErrorCode.TIMEOUT, message, reason=Reason.HEAD_DEADLINE)
            self.refuse(connection, error, connection.inbox)


class Upload(msgspec.Struct, gc=False, eq=False):
    """A request whose body is incomplete; the context of `BODY`.

    The head is kept as bytes and parsed again at the end: a parsed head is six times as large, and an attacker may have
    8,000 slow bodies here.
    """

    head: bytes
    body: Body
    started: int  # tick


def sent_of(connection: Connection) -> bytes:
    """What has arrived of the head of its incomplete request."""
    context = connection.context
    return context.head if isinstance(context, Upload) else connection.inbox


class BodyHandler(RequestHandler):
    """`BODY`: the context is the upload."""

    def received(self, connection: Connection, data: bytes) -> None:
        upload = context_of(connection, Upload)
        try:
            upload.body.receive(data)
            if upload.body.complete:
                head = parse_head(upload.head, self._head_limits)
                self._dispatch(connection, head, upload.body.body, upload.body.rest)
                return
            self._keep(connection, upload, len(upload.head) + upload.body.kept)
        except HttpError as error:
            self.refuse(connection, error, upload.head)
            return
        # The only deadline that progress extends: by a second for each KiB received, up to its cap.
        earned = int(upload.body.received / BODY_RATE / TICK)
        span = min(self._body_ticks + earned, self._body_ticks_max)
        left = upload.started + span - self._connections.wheel.current
        if left > 0:  # else it is due: to enter again would grant one more tick each time
            self._connections.enter(connection, State.BODY, upload, span=left)

    def lacking(self, connection: Connection) -> int:
        """Bytes of `Content-Length` that have not arrived."""
        return context_of(connection, Upload).body.lacking

    def expired(self, connection: Connection) -> None:
        error = HttpError(ErrorCode.TIMEOUT, "the request body came too slowly", reason=Reason.BODY_DEADLINE)
        self.refuse(connection, error, context_of(connection, Upload).head)

    def released(self, connection: Connection, context: object) -> None:
        """The body is complete, refused or given up."""
        self._budget.release(context)
