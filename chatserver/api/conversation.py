"""The commands of a WebSocket (docs/protocol.md), in any dialect.

Owns: the meaning of commands. May not: read or write a socket, or know a frame: the session's dialect makes those of
replies, which are given to it as JSON; acknowledgements go to the sink.

    conversation.handle(connection, session, command)

returns a `Reply` to send, a `ReplyTask` for `do` (it needs the log), or None, when there is nothing to send yet. If
`session.waits` is set then, nothing is to be read either until `Sink.resume`.
"""

from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias, get_args

import msgspec

from chatserver.api.dialect import Command, Echo
from chatserver.api.encoder import expiry_text
from chatserver.api.pages import Page
from chatserver.api.pipelines.join import JOINED, JoinPipeline
from chatserver.api.services import Services, check_signed_in, not_stored
from chatserver.api.tokens import RefusedError
from chatserver.api.websocket_session import GONE, LOG, NOTHING, Ending, WebSocketSession
from chatserver.chat.member import Member, Source, Wanted
from chatserver.chat.policy import READ, WRITE
from chatserver.chat.principal import Principal
from chatserver.chat.registry import LATEST
from chatserver.chat.room import Room
from chatserver.chat.sink import Sink
from chatserver.fair import do_step
from chatserver.log.interface import LogError, Stored
from chatserver.log.sanctions import EVERYWHERE
from chatserver.protocol import encoders
from chatserver.protocol.client_messages import Auth, Change, History, Join, Leave, Members, Ping, Publish
from chatserver.protocol.errors import MessageError, MessageId
from chatserver.protocol.validation import optional_cursor
from chatserver.reasons import ErrorCode

#: Publishes of one client that may wait for the log; at this number it is not read until some are durable.
MAX_IN_FLIGHT = 64


class Reply(msgspec.Struct, gc=False):
    """A frame for the client, in parts; `member` gets the news of its room right after it."""

    parts: list[bytes]
    member: Member | None = None
    error: ErrorCode | None = None  # of a refusal
    limited: bool = False  # a refusal by a rate limit


#: Nothing to send.
SILENT = Reply([])


def json_reply(session: WebSocketSession, json: bytes) -> Reply:
    """A short reply, given as the JSON of chat.v1."""
    return Reply([session.dialect.reply(json)])


def error_reply(
    session: WebSocketSession, id_: MessageId, code: ErrorCode, message: str, wait: float | None = None
) -> Reply:
    """A refusal of a command, with the reason; the connection stays."""
    refused = session.dialect.refused(id_, code, message, wait)
    return Reply([refused], error=code, limited=code is ErrorCode.RATE_LIMITED)


#: Called in a task, with the connection, the session and the command, which names a room to be read. Thousands may be
#: queued, and a coroutine or a partial would cost 300 bytes each.
ReplyTask: TypeAlias = Callable[[object, WebSocketSession, Any], Coroutine[Any, Any, Reply]]
Outcome: TypeAlias = Reply | ReplyTask | None
#: Handles one kind of command.
CommandHandler: TypeAlias = Callable[[object, WebSocketSession, Any], Outcome]


class Conversation:
    """Handles every client's commands; one for the server."""

    def __init__(self, services: Services, sink: Sink, commands: Mapping[type, CommandHandler] = {}) -> None:
        self._services = services
        self._hub = services.hub
        self._pages = services.pages
        self._encoder = services.encoder
        self._join_room = JoinPipeline(services.hub, services.pages)
        self._check = services.check
        self._sink = sink
        self._handlers: dict[type, CommandHandler] = {
            **dict.fromkeys((Publish, *get_args(Change)), self._submit),
            Join: self._join,
            Leave: self._leave,
            History: self._history,
            Members: self._members,
            Auth: self._authenticate,
            Ping: lambda connection, session, message: json_reply(session, encoders.pong(message.id)),
            Echo: lambda connection, session, message: Reply([message.frame]),
            **commands,
        }

    def handle(self, connection: object, session: WebSocketSession, command: Command) -> Outcome:
        """Carry out a command. Raises MessageError, with the id of the command."""
        try:
            return self._handlers[type(command)](connection, session, command)
        except MessageError as error:
            error.id = getattr(command, "id", None)
            raise

    async def do(self, task: ReplyTask, connection: object, session: WebSocketSession, command: Any) -> Reply:
        """Do what needs the log. Raises MessageError, also if the user was banned from the room meanwhile."""
        reply = await task(connection, session, command)
        self._check(session.principal, READ, command.room)
        return reply

    def _submit(self, connection: object, session: WebSocketSession, message: Publish | Change) -> Outcome:
        """Hand a record to the log: a message, or a change to one."""
        self._check(session.principal, WRITE, message.room)
        self._services.count_record(session.principal)
        draft = self._services.draft_of(session.principal, message)
        done = partial(self._sink.step, connection, self._acknowledge, session, message.id)
        try:
            room = self._hub.publish(draft, done)
        except LogError as error:
            return error_reply(session, message.id, *not_stored(error))
        session.in_flight += 1
        if room is not None and room.congested:
            session.waits = room
            room.pause(connection)
        elif session.in_flight >= MAX_IN_FLIGHT:
            session.waits = LOG
        return None

    def advance(self, connection: object, session: WebSocketSession) -> bool:
        """Do the next step of what a session waits for. Returns whether its next message need not wait any longer."""
        waits = session.waits
        if isinstance(waits, Room):
            return not waits.is_paused(connection)
        if waits is LOG:
            return session.in_flight < MAX_IN_FLIGHT
        if isinstance(waits, Ending):
            return not session.in_flight
        if isinstance(waits, Iterator):
            more = do_step(waits)
            if more:
                self._sink.resume(connection)
            return not more and session.waits is waits  # its last send may have found the peer gone
        return waits is NOTHING

    def _acknowledge(
        self, connection: object, session: WebSocketSession, id_: MessageId, result: Stored | LogError
    ) -> None:
        session.in_flight -= 1
        if session.waits is GONE:
            return
        dialect = session.dialect
        if isinstance(result, LogError):
            code, sentence, wait = not_stored(result)
            self._services.refusals[code] += 1
            self._sink.send(connection, dialect.refused(id_, code, sentence, wait))
        else:
            record = result.record
            count = None if record.reaction is None else record.reaction.count
            epoch = self._encoder.epoch
            answer = dialect.reply(encoders.ack(id_, record.room, record.offset, epoch, record.time, count))
            member = session.find(record.room)
            if member is not None and not self._sink.blocked(connection):  # one write fewer, of two in a room of one
                answer += self._hub.broadcaster.take_last(member)
            self._sink.send(connection, answer)
        waits = session.waits
        if waits is NOTHING:
            return
        if isinstance(waits, Ending) or (waits is LOG and session.in_flight == MAX_IN_FLIGHT - 1):
            self._sink.resume(connection)

    def _join(self, connection: object, session: WebSocketSession, message: Join) -> Outcome:
        self._check(session.principal, READ, message.room)
        is_first = session.members is None  # one room is always allowed, and most connections are in one
        most = self._services.settings.max_rooms_per_connection
        if not is_first and sum(1 for _ in session.rooms()) >= most and session.find(message.room) is None:
            raise MessageError(ErrorCode.TOO_MANY_ROOMS, f"a connection may be in {most} rooms")
        room = self._hub.registry.room(message.room)
        if room is not None:
            if room.ring is None and not is_first:
                self._check_empty_rooms(session, room.name)
            after = optional_cursor(message.after)
            start = self._pages.start(room, after, LATEST)
            page = None if self._pages.is_ahead(room, after) else self._pages.after_now(room, start, JOINED)
            if page is not None:
                return self._enter(connection, session, message, room, page)
        return self._join_from_log

    async def _join_from_log(self, connection: object, session: WebSocketSession, message: Join) -> Reply:
        try:
            self._check_empty_rooms(session, message.room)
        except MessageError:  # checked before the room is made
            if (await self._services.log.head(message.room)).last == 0:
                raise

        def enter(room: Room, page: Page) -> Reply:
            self._check(session.principal, READ, message.room)  # again, after the wait
            return self._enter(connection, session, message, room, page)

        after = optional_cursor(message.after)
        return await self._join_room.join(message.room, session.principal.network, after, enter)

    def _check_empty_rooms(self, session: WebSocketSession, name: str) -> None:
        """Refuse a room without messages to a connection that is in too many others."""
        others = sum(1 for member in session.rooms() if member.room.ring is None and member.room.name != name)
        self._services.check_empty_rooms(others + 1)

    def _enter(self, connection: object, session: WebSocketSession, message: Join, room: Room, page: Page) -> Reply:
        if session.waits is GONE:
            raise MessageError(ErrorCode.UNAVAILABLE, "the connection is closed")
        before = session.find(room.name)
        member = self._hub.attach(
            room, connection, encoding=session.dialect, principal=session.principal, cursor=page.reaches
        )
        session.add(member)
        if before is not None:  # joining again starts anew; left last, so that for the others the user never left
            session.remove(before)
            self._hub.leave(before)
        cursor = self._encoder.cursor(page.reaches)
        json = encoders.joined(message.id, room.name, cursor, page.recovered, page.items, len(room.presence))
        return Reply(session.dialect.long_reply(json), member)

    def _leave(self, connection: object, session: WebSocketSession, message: Leave) -> Outcome:
        member = session.find(message.room)
        if member is None:
            raise MessageError(ErrorCode.NOT_JOINED, f"this connection has not joined {message.room}")
        session.remove(member)
        self._hub.leave(member)
        return json_reply(session, encoders.left(message.id, message.room))

    def released(self, connection: object, session: WebSocketSession) -> None:
        """Called when the connection closes: end its memberships, and its wait for a room that it publishes to."""
        waits, session.waits = session.waits, GONE
        if isinstance(waits, Room):
            waits.forget_publisher(connection)
        for member in session.rooms():
            session.remove(member)
            self._hub.lost(member)

    def _history(self, connection: object, session: WebSocketSession, message: History) -> Outcome:
        self._check(session.principal, READ, message.room)
        after, before = optional_cursor(message.after), optional_cursor(message.before)
        page = self._pages.now(self._hub.registry.room(message.room), after, before, Wanted(message.limit))
        if page is None:
            return self._history_from_log
        return self._page(session, message, page)

    async def _history_from_log(self, connection: object, session: WebSocketSession, message: History) -> Reply:
        after, before = optional_cursor(message.after), optional_cursor(message.before)
        page = await self._pages.read(message.room, after, before, Wanted(message.limit))
        return self._page(session, message, page)

    def _page(self, session: WebSocketSession, message: History, page: Page) -> Reply:
        json = encoders.history(
            message.id, message.room, self._encoder.cursor(page.reaches), page.recovered, page.items
        )
        return Reply(session.dialect.long_reply(json))

    def _members(self, connection: object, session: WebSocketSession, message: Members) -> Outcome:
        self._check(session.principal, READ, message.room)
        presence = self._hub.registry.presence(message.room)
        listing = self._encoder.listing(presence)
        json = encoders.members(message.id, message.room, listing, len(presence))
        return Reply(session.dialect.long_reply(json))

    def _authenticate(self, connection: object, session: WebSocketSession, message: Auth) -> Outcome:
        before = session.principal
        try:
            principal = self._services.identities.by_token(message.token, before.network).principal
            check_signed_in(principal)
            self._services.check_sanctions(principal, READ, EVERYWHERE)
        except RefusedError as error:  # counts against the rate limit, since verifying costs as much as three pings
            refused = session.dialect.refused(message.id, error.code, error.message, error.wait)
            return Reply([refused], error=error.code, limited=True)
        session.principal = principal
        if session.members is not None and _in_rooms(before) != _in_rooms(principal):
            session.waits = self._change_members(connection, session)
            self._sink.resume(connection)
        return json_reply(session, encoders.authenticated(message.id, principal.face, expiry_text(principal)))

    def _change_members(self, connection: object, session: WebSocketSession) -> Iterator[None]:
        """Give each membership of a WebSocket its new principal, or end it where that principal may not read."""
        principal = session.principal
        for member in list(session.rooms()):
            if member.source is Source.NOTHING:
                continue  # a ban has ended it meanwhile
            if self._services.may_read(principal, member.room.name):
                self._hub.change_principal(member, principal)
            else:
                session.remove(member)
                self._hub.leave(member)
                self._sink.send(connection, session.dialect.reply(encoders.left(None, member.room.name)))
            yield


def _in_rooms(principal: Principal) -> tuple[object, ...]:
    """What rooms know of a principal: equal before and after a sign-in that is only extended."""
    return principal.number, principal.label, principal.rights
