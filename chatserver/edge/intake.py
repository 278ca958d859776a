"""From bytes to requests: the first half of an HTTP exchange.

Owns: the phases HEAD and BODY, what is refused before there is a request, the two 408s. May not: know what is asked,
or how it is answered; `dispatch` does.
"""

import random
from collections.abc import Callable
from typing import TypeAlias

from chatserver.edge.exchange import LongHead, Upload
from chatserver.edge.limits import EdgeLimits
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.phases import Phase
from chatserver.net.unfinished import SMALL, Keeper, Unfinished
from chatserver.net.wheel import TICK, ticks
from chatserver.protocol.body import body_reader
from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import BodyKind, Head, find_head_end, parse_head
from chatserver.protocol.response import CONTINUE, error_response
from chatserver.reasons import ErrorCode, Reason

Dispatch: TypeAlias = Callable[[Connection, Head, bytes, bytes], None]
"""What is done with a request: its head, its body, and what came behind it."""

#: Seconds after which to send it again: about as long as an unfinished request lives, and spread.
RETRIES = range(5, 15)


class Intake:
    """See the module. Synchronous throughout."""

    def __init__(
        self, connections: Connections, limits: EdgeLimits, unfinished: Unfinished, *, dispatch: Dispatch,
        note: Callable[[Connection, Reason, str], None],
    ) -> None:  # fmt: skip
        self._connections = connections
        self._limits = limits
        self._dispatch = dispatch
        self._note = note
        self.unfinished = unfinished
        self._body_ticks = ticks(limits.body_deadline)
        self._body_ticks_max = ticks(limits.body_deadline_max)

    def head_received(self, connection: Connection, data: bytes) -> None:
        """Bytes in HEAD or KEEPALIVE."""
        inbox = connection.inbox
        self._begin(connection, inbox + data if inbox else data, len(inbox))

    def begin(self, connection: Connection) -> None:
        """A request for which the inbox may hold everything already: it was sent ahead."""
        self._begin(connection, connection.inbox, 0)

    def _begin(self, connection: Connection, buffer: bytes, searched: int) -> None:
        try:
            end = find_head_end(buffer, searched, self._limits.head)
            if not end:
                self._wait_for_head(connection, buffer)
                return
            if connection.session is not None:
                self.give_up(connection)
            head = parse_head(buffer[:end], self._limits.head)
            if head.body is BodyKind.NONE:
                self._dispatch(connection, head, b"", buffer[end:])
            else:
                self._begin_body(connection, head, buffer[:end], buffer[end:])
        except HttpError as error:
            self.refuse(connection, error)

    def _wait_for_head(self, connection: Connection, buffer: bytes) -> None:
        connection.inbox = buffer
        if len(buffer) > SMALL:
            if connection.session is None:
                connection.session = LongHead()
            assert isinstance(connection.session, LongHead), "nothing else is under way before a request"
            self._keep(connection.session, len(buffer))
        if buffer and connection.phase is not Phase.HEAD:
            self._connections.enter(connection, Phase.HEAD)

    def _keep(self, keeper: Keeper, kept: int) -> None:
        """Count it. Raises HttpError if that is too much, with what all others keep."""
        if not self.unfinished.fits(keeper, kept):
            raise HttpError(
                ErrorCode.UNAVAILABLE,
                "too many requests are unfinished; nothing of this one was stored, send it again",
                reason=Reason.UNFINISHED_FULL,
                headers=(("Retry-After", str(random.choice(RETRIES))),),  # noqa: S311  jitter, not secrecy
            )

    def _begin_body(self, connection: Connection, head: Head, raw: bytes, rest: bytes) -> None:
        body = body_reader(head, self._limits.body)
        body.receive(rest)
        if body.complete:
            self._dispatch(connection, head, body.body, body.rest)
            return
        connection.inbox = b""
        connection.session = upload = Upload(raw, body, self._connections.wheel.current)
        self._keep(upload, len(upload.head) + upload.body.kept)
        if head.expects_continue and not rest:
            self._connections.send(connection, CONTINUE)
        if connection.alive:
            self._connections.enter(connection, Phase.BODY, self._body_ticks)

    def body_received(self, connection: Connection, data: bytes) -> None:
        """Bytes in BODY."""
        upload = connection.session
        assert isinstance(upload, Upload), "BODY is only entered with an upload"
        try:
            upload.body.receive(data)
            if upload.body.complete:
                self.unfinished.gone(upload)
                head = parse_head(upload.head, self._limits.head)
                self._dispatch(connection, head, upload.body.body, upload.body.rest)
                return
            self._keep(upload, len(upload.head) + upload.body.kept)
        except HttpError as error:
            self.refuse(connection, error)
            return
        # The one deadline that progress extends: by a second for each KiB that came, up to its cap.
        earned = int(upload.body.received / self._limits.body_rate / TICK)
        span = min(self._body_ticks + earned, self._body_ticks_max)
        left = upload.started + span - self._connections.wheel.current
        if left > 0:
            self._connections.enter(connection, Phase.BODY, left)
        else:  # entered once more, it would have another tick, and then another
            self.body_expired(connection)

    def refuse(self, connection: Connection, error: HttpError) -> None:
        """Bytes that are no valid request: where the next one would begin is unknown, so the connection ends."""
        self.give_up(connection)
        self._note(connection, error.reason, error.message)
        self._connections.finish(connection, error.reason, error_response(error))

    def give_up(self, connection: Connection) -> None:
        """Take a request that was not whole off its connection: it is by now, or will never be."""
        if isinstance(connection.session, Upload | LongHead):
            self.unfinished.gone(connection.session)
        connection.session = None

    def head_expired(self, connection: Connection) -> None:
        """408 if a request had begun; to a peer that never said a word there is nothing to answer."""
        if not connection.inbox:
            self._note(connection, Reason.HEAD_DEADLINE, "no request")
            self._connections.close(connection, Reason.HEAD_DEADLINE)
            return
        self._time_out(connection, Reason.HEAD_DEADLINE, "the request head was not complete in time")

    def body_expired(self, connection: Connection) -> None:
        """408."""
        self._time_out(connection, Reason.BODY_DEADLINE, "the request body came too slowly")

    def _time_out(self, connection: Connection, reason: Reason, message: str) -> None:
        self.refuse(connection, HttpError(ErrorCode.TIMEOUT, message, reason=reason))
