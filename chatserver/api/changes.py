"""Requests that change a message: edit, delete, react (CONTRACT section 8).

Owns: the meaning of these requests. May not: decide what may happen to a message; the log does, in its commit.
"""

from collections.abc import Callable

from chatserver.api.answers import Answer, Commit, Response
from chatserver.api.request import Request
from chatserver.api.rooms import refusal, stored
from chatserver.api.services import Services, change_draft, too_often
from chatserver.chat.principal import Action
from chatserver.log.interface import LogError, Stored
from chatserver.protocol.bodies import decode_edit, decode_key
from chatserver.protocol.client_messages import Change, Delete, Edit, React
from chatserver.protocol.validation import check_emoji, check_offset, check_room
from chatserver.reasons import ErrorCode


class ChangeHandlers:
    """See the module."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def edit(self, request: Request, room: str, offset: str) -> Answer:
        """`PATCH /rooms/{room}/messages/{offset}`."""

        def change(place: int) -> Change:
            body = decode_edit(request.body, request.head.headers.get("content-type"))
            return Edit(room, place, body.text, body.key)

        return self._submit(request, room, offset, change)

    def delete(self, request: Request, room: str, offset: str) -> Answer:
        """`DELETE /rooms/{room}/messages/{offset}`."""
        return self._submit(request, room, offset, lambda place: Delete(room, place, _key(request)))

    def react(self, request: Request, room: str, offset: str, emoji: str) -> Answer:
        """`PUT` and `DELETE /rooms/{room}/messages/{offset}/reactions/{emoji}`."""
        on = request.head.method == "PUT"
        return self._submit(
            request, room, offset, lambda place: React(room, place, check_emoji(emoji), on, _key(request))
        )

    def _submit(self, request: Request, room: str, offset: str, change: Callable[[int], Change]) -> Answer:
        """Submit a change. As for a publish, the rate is checked before the content; slow mode is for messages only."""
        check_room(room)
        request.parameters()
        self._services.check(request.principal, Action.WRITE, room)
        wait = self._services.publish_limit.take(request.principal)
        if wait:
            return refusal(ErrorCode.RATE_LIMITED, too_often(wait), wait)
        place = check_offset(int(offset) if offset.isascii() and offset.isdigit() and len(offset) <= 16 else 0)
        return Commit(change_draft(request.principal, change(place), self._services.settings), self._changed)

    def _changed(self, result: Stored | LogError) -> Response:
        return stored(self._services.encoder, 200, result)


def _key(request: Request) -> str | None:
    return decode_key(request.body, request.head.headers.get("content-type"))
