"""What each command of a WebSocket does (CONTRACT section 4), in any dialect.

Owns: the meaning of commands. May not: read or write a socket, or know a wire form: a reply is a value, which the
session's dialect puts into words; acknowledgements go to the sink.

    conversation.hear(connection, session, command)

answers with an `Answer` to send, a `Later` to call for one (it has to wait for the log), PAUSE (read no more from this
client until `Sink.resume`), or None (nothing to say yet).
"""

from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import Any, TypeAlias

import msgspec

from chatserver.api import dialect
from chatserver.api.pages import Page
from chatserver.api.publishing import draft_of, log_failure, too_often
from chatserver.api.services import Services
from chatserver.api.session import Waits, WebSocketSession
from chatserver.chat.member import Member
from chatserver.chat.principal import Action
from chatserver.chat.registry import LATEST
from chatserver.chat.room import Room
from chatserver.chat.sink import Sink
from chatserver.log.interface import LogError, Stored
from chatserver.protocol.client_messages import History, Join, Leave, Members, Ping, Publish
from chatserver.protocol.errors import MessageError, MessageId
from chatserver.protocol.validation import Place, parse_cursor
from chatserver.reasons import ErrorCode

#: Publishes of one client that may wait for the log at a time; then it is not read until some are durable.
MAX_IN_FLIGHT = 64


class Wait(Enum):
    """Why there is no reply."""

    PAUSE = auto()


PAUSE = Wait.PAUSE


class Answer(msgspec.Struct, gc=False):
    """A reply for the client; `member` is to be brought up to date right behind it."""

    reply: dialect.Reply
    member: Member | None = None


class Later(msgspec.Struct, gc=False):
    """What to call for an answer. Thousands may wait for their turn: not a coroutine, nor a partial, of 300 bytes."""

    work: Callable[[object, WebSocketSession, Any], Coroutine[Any, Any, Answer]]


Outcome: TypeAlias = Answer | Later | Wait | None


class Conversation:
    """Hears every client's commands; one for the server."""

    def __init__(self, services: Services, sink: Sink) -> None:
        self._services = services
        self._hub = services.hub
        self._pages = services.pages
        self._sink = sink
        self._join_later, self._history_later = Later(self._join_from_log), Later(self._history_from_log)
        self._hear: dict[type, Callable[[object, WebSocketSession, Any], Outcome]] = {
            Publish: self._publish,
            Join: self._join,
            Leave: self._leave,
            History: self._history,
            Members: self._members,
            Ping: lambda connection, session, message: Answer(dialect.Alive(message.id)),
            dialect.Echo: lambda connection, session, message: Answer(dialect.Echoed(message.data)),
        }

    def hear(self, connection: object, session: WebSocketSession, command: dialect.Command) -> Outcome:
        """Do what a command asks. Raises MessageError."""
        return self._hear[type(command)](connection, session, command)

    def _check(self, session: WebSocketSession, action: Action, room: str, id: MessageId) -> None:  # noqa: A002
        if not session.principal.may(action, room):
            raise MessageError(ErrorCode.FORBIDDEN, f"not allowed in {room}", id)

    # -- publish ----------------------------------------------------------------------------------------------------

    def _publish(self, connection: object, session: WebSocketSession, message: Publish) -> Outcome:
        self._check(session, Action.WRITE, message.room, message.id)
        wait = self._services.publish_limit.take(session.principal)
        if wait:
            return Answer(dialect.Refused(message.id, ErrorCode.RATE_LIMITED, too_often(wait), wait))

        def done(result: Stored | LogError) -> None:
            self._sink.guarded(connection, self._acknowledge, session, message.id, result)

        try:
            room = self._hub.publish(draft_of(session.principal, message.room, message.text, message.key), done)
        except LogError as error:
            return Answer(dialect.Refused(message.id, *log_failure(error)))
        session.in_flight += 1
        if room is not None and room.congested:
            session.waits = room
            self._hub.pause(room, connection)
            return PAUSE
        if session.in_flight >= MAX_IN_FLIGHT:
            session.waits = Waits.LOG
            return PAUSE
        return None

    def may_go_on(self, connection: object, session: WebSocketSession) -> bool:
        """Whether what its next message waits for has come."""
        waits = session.waits
        if isinstance(waits, Room):
            return waits.paused is None or connection not in waits.paused
        if waits is Waits.LOG:
            return session.in_flight < MAX_IN_FLIGHT
        return waits is Waits.NOTHING

    def _acknowledge(
        self, connection: object, session: WebSocketSession, id: MessageId, result: Stored | LogError  # noqa: A002
    ) -> None:  # fmt: skip
        session.in_flight -= 1
        if session.waits is Waits.GONE:
            return
        reply: dialect.Reply
        if isinstance(result, LogError):
            reply = dialect.Refused(id, *log_failure(result))
        else:
            reply = dialect.Published(id, result.record)
        for part in session.dialect.reply(reply):
            self._sink.send(connection, part)
        if session.waits is Waits.LOG and session.in_flight == MAX_IN_FLIGHT - 1:
            self._sink.resume(connection)

    # -- join and leave ---------------------------------------------------------------------------------------------

    def _join(self, connection: object, session: WebSocketSession, message: Join) -> Outcome:
        self._check(session, Action.READ, message.room, message.id)
        before = session.find(message.room)
        if before is None and session.members is not None:
            most = self._services.settings.max_rooms_per_connection
            if sum(1 for _ in session.rooms()) >= most:
                raise MessageError(ErrorCode.TOO_MANY_ROOMS, f"a connection may be in {most} rooms", message.id)
        room = self._hub.room(message.room)
        if room is not None:
            if before is None and room.ring is None:
                self._check_empty_rooms(session, message)
            start = self._pages.start(room, _place(message.after), LATEST)
            page = self._pages.after_now(room, start, LATEST)
            if page is not None:
                return self._enter(connection, session, message, room, page)
        return self._join_later

    async def _join_from_log(self, connection: object, session: WebSocketSession, message: Join) -> Answer:
        if session.find(message.room) is None and self._too_many_empty(session):
            head = await self._services.log.head(message.room)
            if head.last == 0:  # looked at here, so that the room is not made for nothing
                self._check_empty_rooms(session, message)
        async with self._hub.using(message.room, session.principal.network) as room:
            start = self._pages.start(room, _place(message.after), LATEST)
            page = self._pages.after_now(room, start, LATEST)
            if page is None:
                page = await self._pages.after_start(room.name, start, LATEST)
            return self._enter(connection, session, message, room, page)

    def _too_many_empty(self, session: WebSocketSession) -> str | None:
        return self._services.refuse_empty_rooms(1 + sum(1 for member in session.rooms() if member.room.ring is None))

    def _check_empty_rooms(self, session: WebSocketSession, message: Join) -> None:
        refusal = self._too_many_empty(session)
        if refusal is not None:
            raise MessageError(ErrorCode.TOO_MANY_ROOMS, refusal, message.id)

    def _enter(
        self, connection: object, session: WebSocketSession, message: Join, room: Room, page: Page
    ) -> Answer:  # fmt: skip
        if session.waits is Waits.GONE:
            raise MessageError(ErrorCode.UNAVAILABLE, "the connection is closed", message.id)
        before = session.find(room.name)
        if before is not None:  # joining again starts anew from the cursor it gives
            session.remove(before)
            self._hub.leave(before)
        member = self._hub.attach(
            room, connection, encoding=session.dialect, principal=session.principal, cursor=page.reaches
        )  # fmt: skip
        session.add(member)
        return Answer(dialect.Joined(message.id, member, page.recovered, page.items), member)

    def _leave(self, connection: object, session: WebSocketSession, message: Leave) -> Outcome:
        member = session.find(message.room)
        if member is None:
            raise MessageError(ErrorCode.NOT_JOINED, f"this connection has not joined {message.room}", message.id)
        session.remove(member)
        self._hub.leave(member)
        return Answer(dialect.Left(message.id, message.room))

    def released(self, connection: object, session: WebSocketSession) -> None:
        """The connection is going: end its memberships, and forget that it publishes."""
        waits, session.waits = session.waits, Waits.GONE
        if isinstance(waits, Room):
            self._hub.forget_publisher(waits, connection)
        for member in session.rooms():
            session.remove(member)
            self._hub.leave(member)

    # -- asking -----------------------------------------------------------------------------------------------------

    def _history(self, connection: object, session: WebSocketSession, message: History) -> Outcome:
        self._check(session, Action.READ, message.room, message.id)
        after, before = _place(message.after), _place(message.before)
        page = self._pages.now(self._hub.room(message.room), after, before, message.limit)
        return self._history_later if page is None else _history(message, page)

    async def _history_from_log(self, connection: object, session: WebSocketSession, message: History) -> Answer:
        after, before = _place(message.after), _place(message.before)
        return _history(message, await self._pages.read(message.room, after, before, message.limit))

    def _members(self, connection: object, session: WebSocketSession, message: Members) -> Outcome:
        self._check(session, Action.READ, message.room, message.id)
        return Answer(dialect.MemberList(message.id, message.room, self._hub.registry.presence(message.room)))


def _history(message: History, page: Page) -> Answer:
    return Answer(dialect.HistoryPage(message.id, message.room, page.reaches, page.recovered, page.items))


def _place(cursor: str | int | None) -> Place | None:
    return None if cursor is None else parse_cursor(cursor)
