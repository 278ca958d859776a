"""Event streams: the messages of a room as they come (docs/protocol.md).

Owns: where a stream begins. May not: see a socket; the room's broadcast continues it.
"""

from functools import partial

from chatserver.api.answers import Answer, Later, Stream
from chatserver.api.request import Request
from chatserver.api.services import Services
from chatserver.chat.policy import READ
from chatserver.chat.principal import Principal
from chatserver.chat.ring import Encoding
from chatserver.chat.room import Room
from chatserver.protocol import sse
from chatserver.protocol.validation import Cursor, parse_cursor

#: Milliseconds that a browser of server-sent events waits before it reconnects.
RECONNECT_MS = 2_000


class StreamHandlers:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._hub = services.hub
        self._pages = services.pages
        self._encoder = services.encoder

    def events(self, request: Request, name: str) -> Answer:
        """`GET /rooms/{room}/events`: from the cursor on, or from now."""
        parameters = request.parameters("after", "kinds")
        encoding = self._encoder.message_events if parameters.messages_only() else self._encoder.events
        last_id = request.head.headers.get("last-event-id")
        after = parameters.cursor("after") if not last_id else parse_cursor(last_id)
        principal = request.principal  # first: it raises for another site's page, for which no room is loaded
        self._services.check(principal, READ, name)
        room = self._hub.registry.room(name)
        if room is None or self._pages.is_ahead(room, after):
            later = self._stream_later(principal, name, after, encoding)
            return Later(later, partial(self._services.check_reader_again, request, name))
        return self._stream(room, principal, after, encoding)

    async def _stream_later(self, principal: Principal, name: str, after: Cursor | None, encoding: Encoding) -> Answer:
        async with self._hub.registry.using(name, principal.network) as room:
            if after is not None and self._pages.is_ahead(room, after):
                await self._hub.follower.reach(room, after.offset)
            return self._stream(room, principal, after, encoding)

    def _stream(self, room: Room, principal: Principal, after: Cursor | None, encoding: Encoding) -> Stream:
        start = self._pages.start(room, after, 0)
        preface = sse.retry_field(RECONNECT_MS)
        if after is None:  # an event with an id at once: a browser that is cut off before the first record resumes here
            preface += sse.id_field(self._encoder.cursor(start.offset))
            preface += encoding.presence(room.name, (), (), len(room.presence))
        if not start.recovered:
            missed_from = 0  # all of it, for a place of another epoch or after the end: it is no place in this log
            if after is not None and self._pages.is_ours(after) and after.offset < start.offset:
                missed_from = after.offset
            preface += encoding.gap(room.name, missed_from, start.offset)
        return Stream(room, start.offset, principal, preface, encoding)
