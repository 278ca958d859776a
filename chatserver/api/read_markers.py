"""Read markers and typing, over HTTP and WebSocket alike (docs/protocol.md).

Owns: the meaning of these requests and commands. May not: keep a marker (`ReadMarkers` does), or decide who gets the
news (the hub does).
"""

from collections.abc import Mapping
from functools import partial

from chatserver.api.answers import Answer, Later, Queue, Response, given_anyway
from chatserver.api.conversation import SILENT, CommandHandler, Outcome, Reply, json_reply
from chatserver.api.request import Request
from chatserver.api.services import LOG_RETRY, Services, check_signed_in
from chatserver.api.websocket_session import WebSocketSession
from chatserver.chat.policy import READ, WRITE
from chatserver.chat.principal import Principal
from chatserver.log.interface import LogBusy
from chatserver.protocol import encoders
from chatserver.protocol.bodies import decode_read
from chatserver.protocol.client_messages import Read, Typing
from chatserver.protocol.errors import MessageError
from chatserver.protocol.response import json_body
from chatserver.reasons import ErrorCode

_BUSY = "too many read markers wait to be stored; try again"


class ReadMarkerHandlers:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._hub = services.hub
        self._log = services.log
        self._markers = services.markers

    def commands(self) -> Mapping[type, CommandHandler]:
        """The commands for a WebSocket, by type."""
        return {Read: self._handle_read, Typing: self._handle_typing}

    def _handle_read(self, connection: object, session: WebSocketSession, message: Read) -> Outcome:
        self._services.check(session.principal, READ, message.room)
        last = self._known_last(message.room, message.offset)
        return self._mark_read_later if last is None else self._mark(connection, session, message, last)

    async def _mark_read_later(self, connection: object, session: WebSocketSession, message: Read) -> Reply:
        return self._mark(connection, session, message, await self._last(message.room))

    def _mark(self, connection: object, session: WebSocketSession, message: Read, last: int) -> Reply:
        member = session.find(message.room)
        here = None if member is None else connection
        offset = self._move(session.principal, message.room, message.offset, last, here)
        if message.id is None:
            return SILENT
        return json_reply(session, encoders.read(message.room, offset, message.id))

    def _handle_typing(self, connection: object, session: WebSocketSession, message: Typing) -> Outcome:
        self._services.check(session.principal, WRITE, message.room)
        self._type(message.room, session.principal)
        return SILENT

    def put(self, request: Request, name: str) -> Answer:
        """`PUT /rooms/{room}/read`: move the user's read marker."""
        request.parameters()
        self._services.check(request.principal, READ, name)
        offset = decode_read(*request.content)
        last = self._known_last(name, offset)
        if last is None:
            return Later(self._put_later(request.principal, name, offset), given_anyway)
        return self._put(request.principal, name, offset, last)

    async def _put_later(self, principal: Principal, name: str, offset: int) -> Answer:
        return self._put(principal, name, offset, await self._last(name))

    def _put(self, principal: Principal, name: str, offset: int, last: int) -> Answer:
        self._move(principal, name, offset, last)
        return Response(204, [])

    def type(self, request: Request, name: str) -> Response:
        """`POST /rooms/{room}/typing`: show that the user is writing."""
        request.parameters()
        self._services.check(request.principal, WRITE, name)
        self._type(name, request.principal)
        return Response(204, [])

    def _type(self, room: str, principal: Principal) -> None:
        self._hub.housekeeping.types(room, principal)
        if self._hub.cluster is not None:
            self._hub.cluster.types(room, principal)

    def show_unread(self, request: Request) -> Later:
        """`GET /unread`: unread messages in each room in which the user has a marker."""
        request.parameters()
        check_signed_in(request.principal)
        return Later(self._show_later(request.principal), request.check_again, Queue.SCAN)

    async def _show_later(self, principal: Principal) -> Response:
        may_read = partial(self._services.may_read, principal)
        found = await self._markers.unread(principal.author.id, may_read)
        return Response(200, [json_body({"rooms": found})])

    def _known_last(self, name: str, offset: int) -> int | None:
        """The last offset of a room; None if it is not known here, or another process may have written this offset."""
        room = self._hub.registry.room(name)
        return None if room is None or (self._log.shared and offset > room.last) else room.last

    async def _last(self, room: str) -> int:
        """The last offset of a room, which a marker cannot exceed."""
        return (await self._log.head(room)).last

    def _move(self, principal: Principal, room: str, offset: int, last: int, connection: object = None) -> int:
        """Move a marker, at most to the room's last record, and notify the user's other connections.

        Returns its offset. A room without records has no markers. Raises MessageError.
        """
        self._services.count_marker(principal)
        offset = min(offset, last)
        if not last:
            return offset
        try:
            self._markers.move(principal.author.id, room, offset)
        except LogBusy:
            raise MessageError(ErrorCode.UNAVAILABLE, _BUSY, wait=LOG_RETRY) from None
        self._hub.housekeeping.moved(room, principal, offset, connection)
        if self._hub.cluster is not None:
            self._hub.cluster.moved(room, principal, offset)
        return offset
