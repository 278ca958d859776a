"""Requests that write a record: publish, edit, delete, react (docs/protocol.md).

Owns: the meaning of these requests. May not: decide what may happen to a message; the log does, in its commit.
"""

from collections.abc import Callable
from functools import partial

from chatserver.api.answers import Answer, Commit, Response, refusal
from chatserver.api.request import Request, number_in
from chatserver.api.services import Services, not_stored
from chatserver.chat.policy import WRITE
from chatserver.log.interface import LogError, Stored
from chatserver.protocol import encoders
from chatserver.protocol.bodies import decode_delete, decode_edit, decode_publish, decode_react
from chatserver.protocol.client_messages import Change, Publish


class RecordHandlers:
    def __init__(self, services: Services) -> None:
        self._services = services

    def publish(self, request: Request, room: str) -> Answer:
        """`POST /rooms/{room}/messages`: 201 once it is durable."""
        return self._write(request, room, lambda: decode_publish(room, *request.content), 201)

    def edit(self, request: Request, room: str, offset: str) -> Answer:
        """`PATCH /rooms/{room}/messages/{offset}`."""
        return self._write(request, room, lambda: decode_edit(room, number_in(offset), *request.content))

    def delete(self, request: Request, room: str, offset: str) -> Answer:
        """`DELETE /rooms/{room}/messages/{offset}`."""
        return self._write(request, room, lambda: decode_delete(room, number_in(offset), *request.content))

    def react(self, request: Request, room: str, offset: str, emoji: str) -> Answer:
        """`PUT` and `DELETE /rooms/{room}/messages/{offset}/reactions/{emoji}`."""
        on = request.head.method == "PUT"
        return self._write(request, room, lambda: decode_react(room, number_in(offset), emoji, on, *request.content))

    def _write(self, request: Request, room: str, decode: Callable[[], Publish | Change], status: int = 200) -> Answer:
        """Submit a record. The rate is checked before the content."""
        request.parameters()
        self._services.check(request.principal, WRITE, room)
        self._services.count_record(request.principal)
        return Commit(self._services.draft_of(request.principal, decode()), partial(self._stored, status))

    def _stored(self, status: int, result: Stored | LogError) -> Response:
        """The answer to a write: the record's place and author, or why it was not stored."""
        if isinstance(result, LogError):
            return refusal(*not_stored(result))
        record = result.record
        count = None if record.reaction is None else record.reaction.count
        place = record.room, record.offset, self._services.encoder.epoch, record.time
        return Response(status, [encoders.ack_body(*place, record.user_id, record.user_name, count)])
