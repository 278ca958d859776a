"""chat.v1 over WebSocket: what each message of a client does (CONTRACT section 4).

Owns: the meaning of the messages. May not: read or write a socket; a reply is returned, an ack goes to the outlet.

    conversation.hear(session, message, address)

answers with a `Reply` to send, what to call for one (it has to wait for the log), `Wait.PAUSE` (read no more from this
client until `Outlet.resume`), or None (nothing to say yet).
"""

from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import Any, TypeAlias

import msgspec

from chatserver.api.pages import Page
from chatserver.api.publishing import draft_of, log_failure, too_often, wait_for_rate
from chatserver.api.services import Services
from chatserver.api.session import Session, Waiting
from chatserver.api.unwritten import LOOK_UP_LATER, LOOK_UP_RETRY, UNWRITTEN_SHARE
from chatserver.chat.cursor import Place
from chatserver.chat.identity import guest
from chatserver.chat.member import Member, Outlet
from chatserver.chat.registry import LATEST
from chatserver.chat.ring import Form
from chatserver.chat.room import Room
from chatserver.log.interface import LogError, Stored
from chatserver.protocol import encoders
from chatserver.protocol.client_messages import ClientMessage, History, Join, Leave, Members, Ping, Publish
from chatserver.protocol.cursors import parse_cursor
from chatserver.protocol.errors import MessageError, MessageId
from chatserver.protocol.websocket import text_frame
from chatserver.reasons import ErrorCode

#: Publishes of one client that may wait for the log at a time; then it is not read until some are durable.
MAX_IN_FLIGHT = 64


class Wait(Enum):
    """Why there is no reply."""

    PAUSE = auto()


class Reply(msgspec.Struct, gc=False):
    """A message for the client; `joined` is to be brought up to date right behind it."""

    payload: bytes | list[bytes]  # whole, or in parts that others have as well
    joined: Member | None = None
    refusal: bool = False  # it says that the client asks too often


class Later(msgspec.Struct, gc=False):
    """What to call for a reply, with the session and the message. Thousands may wait for their turn: not a coroutine,
    nor a partial, of 300 bytes.
    """

    work: Callable[[Session, Any, Any], Coroutine[Any, Any, Reply]]
    rest: object  # what it needs besides


Outcome: TypeAlias = Reply | Later | Wait | None


class Conversation:
    """Hears every client's messages; one for the server."""

    def __init__(self, services: Services, outlet: Outlet) -> None:
        self._services = services
        self._hub = services.hub
        self._outlet = outlet
        self._joins = self._join_later  # one bound method for all who wait for a room
        self._hear: dict[type, Callable[[Session, Any], Outcome]] = {
            Join: self._join,
            Leave: self._leave,
            History: self._history,
            Members: self._members,
            Ping: self._ping,
        }

    def hello(self, session: Session, token: str) -> bytes:
        """The first message to a client."""
        face = guest(session.user)
        return encoders.hello(token, face.id, face.name, self._services.ping_interval, self._services.limits)

    def hear(self, session: Session, message: ClientMessage, address: str) -> Outcome:
        """Do what a message asks that came from an address. Raises MessageError."""
        if type(message) is Publish:
            return self._publish(session, message, address)
        return self._hear[type(message)](session, message)

    # -- publish ----------------------------------------------------------------------------------------------------

    def _publish(self, session: Session, message: Publish, address: str) -> Outcome:
        wait = wait_for_rate(self._services, session.user, address)
        if wait:
            return Reply(encoders.error(message.id, ErrorCode.RATE_LIMITED, too_often(wait), wait), refusal=True)

        def done(result: Stored | LogError) -> None:
            session.in_flight -= 1
            if session.waiting is Waiting.GONE:
                return
            self._outlet.send(session.connection, text_frame(self._acknowledge(message.id, result)))
            if session.in_flight == MAX_IN_FLIGHT - 1:
                self._outlet.resume(session.connection)

        try:
            room = self._hub.publish(draft_of(session.user, message.room, message.text, message.key), done)
        except LogError as error:
            return Reply(encoders.error(message.id, *log_failure(error)))
        session.in_flight += 1
        if room is not None and room.congested:
            room.paused.append(session.connection)
            return Wait.PAUSE
        return Wait.PAUSE if session.in_flight >= MAX_IN_FLIGHT else None

    def _acknowledge(self, id: MessageId, result: Stored | LogError) -> bytes:  # noqa: A002  the wire's word
        if isinstance(result, LogError):
            return encoders.error(id, *log_failure(result))
        record = result.record
        cursor = self._services.encoder.cursor(record.offset)
        return encoders.ack(id, record.room, record.offset, cursor, encoders.time_text(record.time))

    # -- join and leave ---------------------------------------------------------------------------------------------

    def _join(self, session: Session, message: Join) -> Outcome:
        before = session.find(message.room)
        if before is None and sum(1 for _ in session.rooms()) >= self._services.max_rooms:
            most = self._services.max_rooms
            raise MessageError(ErrorCode.TOO_MANY_ROOMS, f"a connection may be in {most} rooms", message.id)
        place = _place(message.after)
        room = self._hub.room(message.room)
        if room is not None:
            if before is None and room.last == 0:
                self._check_share(session, message)
            start = self._services.pages.start(room, place, LATEST)
            page = self._services.pages.after_now(room, start, LATEST)
            if page is not None:
                return self._enter(session, message, room, page)
        elif before is None and self._services.crowded() and self._has_its_share(session):
            error = encoders.error(message.id, ErrorCode.RATE_LIMITED, LOOK_UP_LATER, LOOK_UP_RETRY)
            return Reply(error, refusal=True)
        return Later(self._joins, place)

    async def _join_later(self, session: Session, message: Join, place: Place | None) -> Reply:
        pages = self._services.pages
        if session.find(message.room) is None and self._has_its_share(session):
            head = await self._services.log.head(message.room)
            if head.last == 0:  # looked at here, so that it is not made for nothing
                self._check_share(session, message)
        async with self._hub.using(message.room) as room:
            start = pages.start(room, place, LATEST)
            page = pages.after_now(room, start, LATEST) or await pages.after_start(room.name, start, LATEST)
            reply = self._enter(session, message, room, page)
        self._hub.settle(room)
        return reply

    def _has_its_share(self, session: Session) -> bool:
        """Whether there are many rooms in which nothing was ever said, and this client is in as many as it may."""
        share = self._services.unwritten
        return share.limited and not share.allows(1 + sum(1 for member in session.rooms() if member.room.last == 0))

    def _check_share(self, session: Session, message: Join) -> None:
        if self._has_its_share(session):
            reason = (
                f"this connection is in {UNWRITTEN_SHARE} rooms in which nobody has written, and the server has many"
                " of those: write in one, or leave one"
            )
            raise MessageError(ErrorCode.TOO_MANY_ROOMS, reason, message.id)

    def _enter(self, session: Session, message: Join, room: Room, page: Page) -> Reply:
        before = session.find(room.name)
        if before is not None:  # joining again starts anew from the cursor it gives
            session.remove(before)
            self._hub.leave(before)
        member = self._hub.attach(room, session.connection, form=Form.FRAMES, user=session.user, cursor=page.reaches)
        session.add(member)
        cursor = self._services.encoder.cursor(page.reaches)
        count = len(room.presence)
        return Reply(encoders.joined(message.id, room.name, cursor, page.recovered, page.items, count), member)

    def _leave(self, session: Session, message: Leave) -> Outcome:
        member = session.find(message.room)
        if member is None:
            raise MessageError(ErrorCode.NOT_JOINED, f"this connection has not joined {message.room}", message.id)
        session.remove(member)
        self._hub.leave(member)
        return Reply(encoders.left(message.id, message.room))

    def leave_all(self, session: Session) -> None:
        """The connection is going: end its memberships."""
        for member in session.rooms():
            session.remove(member)
            self._hub.leave(member)

    # -- asking -----------------------------------------------------------------------------------------------------

    def _history(self, session: Session, message: History) -> Outcome:
        room = self._hub.room(message.room)
        pages = self._services.pages
        before, after = _place(message.before), _place(message.after)
        if before is not None and after is not None:
            raise MessageError(ErrorCode.BAD_FIELD, "before and after cannot be given together", message.id)
        if room is not None:
            if before is not None:
                page = pages.before_now(room, before, message.limit)
            else:
                page = pages.after_now(room, pages.start(room, after, message.limit), message.limit)
            if page is not None:
                return self._history_reply(message, page)
        return Later(self._history_later, (before, after))

    async def _history_later(
        self, session: Session, message: History, places: tuple[Place | None, Place | None]
    ) -> Reply:
        before, after = places
        pages = self._services.pages
        if before is not None:
            page = await pages.before(message.room, before, message.limit)
        else:
            page = await pages.after(message.room, after, message.limit)
        return self._history_reply(message, page)

    def _history_reply(self, message: History, page: Page) -> Reply:
        cursor = self._services.encoder.cursor(page.reaches)
        return Reply(encoders.history(message.id, message.room, cursor, page.recovered, page.items))

    def _members(self, session: Session, message: Members) -> Outcome:
        presence = self._hub.registry.presence(message.room)
        users = self._services.encoder.listing(presence)
        return Reply(encoders.members(message.id, message.room, users, len(presence)))

    def _ping(self, session: Session, message: Ping) -> Outcome:
        return Reply(encoders.pong(message.id))


def _place(cursor: str | int | None) -> Place | None:
    return None if cursor is None else Place(*parse_cursor(cursor))
