"""`chat.v1`: JSON text frames (CONTRACT section 4).

Owns: which encoder of `protocol` says what. May not: decide anything.
"""

from collections.abc import Callable, Sequence
from typing import Any

from chatserver.api.dialect import (
    Alive,
    Command,
    Dialect,
    HistoryPage,
    Joined,
    Left,
    MemberList,
    Published,
    Refused,
    Reply,
)
from chatserver.api.encoder import WireEncoder, faces
from chatserver.chat.principal import Principal
from chatserver.protocol import encoders
from chatserver.protocol.client_messages import decode
from chatserver.protocol.upgrade import SUBPROTOCOL
from chatserver.protocol.validation import MAX_TEXT_BYTES
from chatserver.protocol.websocket import text_frame, text_frame_parts
from chatserver.settings.fields import Settings


class ChatV1(Dialect):
    """See the module."""

    subprotocol = SUBPROTOCOL

    def __init__(self, encoder: WireEncoder, settings: Settings) -> None:
        self._encoder = encoder
        self._ping = settings.ping_interval
        self._limits = _told_limits(settings)
        self._replies: dict[type, Callable[[Any], list[bytes]]] = {
            Joined: self._joined,
            Left: lambda reply: [text_frame(encoders.left(reply.id, reply.room))],
            Published: self._published,
            HistoryPage: self._history,
            MemberList: self._members,
            Alive: lambda reply: [text_frame(encoders.pong(reply.id))],
            Refused: lambda reply: [
                text_frame(encoders.error(reply.id, reply.code, reply.message, reply.retry_after))
            ],
        }  # fmt: skip

    def hello(self, principal: Principal, token: str) -> bytes:
        """Who the client is, and what it may do."""
        face = principal.face
        return text_frame(encoders.hello(token, face.id, face.name, self._ping, self._limits))

    def decode(self, data: str | bytes) -> Command:
        """JSON, checked."""
        return decode(data)

    # -- replies ----------------------------------------------------------------------------------------------------

    def reply(self, reply: Reply) -> list[bytes]:
        """By its type."""
        return self._replies[type(reply)](reply)

    def _joined(self, reply: Joined) -> list[bytes]:
        room = reply.member.room
        cursor = self._encoder.cursor(reply.member.cursor)
        parts = encoders.joined(reply.id, room.name, cursor, reply.recovered, reply.messages, len(room.presence))
        return text_frame_parts(parts)

    def _published(self, reply: Published) -> list[bytes]:
        record = reply.record
        cursor, time = self._encoder.cursor(record.offset), encoders.time_text(record.time)
        return [text_frame(encoders.ack(reply.id, record.room, record.offset, cursor, time))]

    def _history(self, reply: HistoryPage) -> list[bytes]:
        cursor = self._encoder.cursor(reply.reaches)
        return text_frame_parts(encoders.history(reply.id, reply.room, cursor, reply.recovered, reply.messages))

    def _members(self, reply: MemberList) -> list[bytes]:
        users = self._encoder.listing(reply.presence)
        return [text_frame(encoders.members(reply.id, reply.room, users, len(reply.presence)))]

    # -- pushes -----------------------------------------------------------------------------------------------------

    def push(self, message: bytes, room: str, offset: int) -> bytes:
        """A message."""
        return text_frame(encoders.message_push(message))

    def gap(self, room: str, after: int, until: int) -> bytes:
        """This client was too slow."""
        return text_frame(encoders.gap(room, self._encoder.cursor(after), self._encoder.cursor(until)))

    def presence(self, room: str, joined: Sequence[Principal], left: Sequence[Principal], members: int) -> bytes:
        """Who came and went."""
        return text_frame(encoders.presence(room, faces(joined), faces(left), members))

    def goaway(self, reason: str, retry_after: float) -> bytes:
        """Before a planned close."""
        return text_frame(encoders.goaway(reason, retry_after))


def _told_limits(settings: Settings) -> dict[str, int | float]:
    """What `hello` tells a client, so that it need not find out by being refused."""
    return {
        "text_bytes": MAX_TEXT_BYTES,
        "message_bytes": settings.max_message_bytes,
        "rooms": settings.max_rooms_per_connection,
        "publish_rate": settings.publish_rate,
        "message_rate": settings.message_rate,
    }
