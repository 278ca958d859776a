"""`chat.v1`: JSON text frames (CONTRACT section 4).

Owns: which encoder of `protocol` says what. May not: decide anything.
"""

from collections.abc import Sequence

from chatserver.api import dialect
from chatserver.api.dialect import Joined, Published
from chatserver.api.encoder import WireEncoder, faces
from chatserver.chat.principal import Principal
from chatserver.protocol import encoders
from chatserver.protocol.client_messages import decode
from chatserver.protocol.upgrade import SUBPROTOCOL
from chatserver.protocol.validation import MAX_TEXT_BYTES
from chatserver.protocol.websocket import text_frame, text_frame_parts
from chatserver.settings.fields import Settings


class ChatV1(dialect.Dialect):
    """See the module."""

    subprotocol = SUBPROTOCOL

    def __init__(self, encoder: WireEncoder, settings: Settings) -> None:
        self._encoder = encoder
        self._ping = settings.ping_interval
        self._limits = _told_limits(settings)

    def hello(self, principal: Principal, token: str) -> bytes:
        """Who the client is, and what it may do."""
        face = principal.face
        return text_frame(encoders.hello(token, face.id, face.name, self._ping, self._limits))

    def decode(self, data: str | bytes) -> dialect.Command:
        """JSON, checked."""
        return decode(data)

    def reply(self, reply: dialect.Reply) -> list[bytes]:
        """By its type; those that come most are first, and cost no pattern."""
        cursor = self._encoder.cursor
        if type(reply) is Published:
            record = reply.record
            time = encoders.time_text(record.time)
            return [text_frame(encoders.ack(reply.id, record.room, record.offset, cursor(record.offset), time))]
        if type(reply) is Joined:
            member, room = reply.member, reply.member.room
            after, people = cursor(member.cursor), len(room.presence)
            parts = encoders.joined(reply.id, room.name, after, reply.recovered, reply.messages, people)
            return text_frame_parts(parts)
        match reply:
            case dialect.Refused(id_, code, message, retry_after):
                frame = encoders.error(id_, code, message, retry_after)
            case dialect.HistoryPage(id_, name, reaches, recovered, messages):
                return text_frame_parts(encoders.history(id_, name, cursor(reaches), recovered, messages))
            case dialect.Alive(id_):
                frame = encoders.pong(id_)
            case dialect.Left(id_, name):
                frame = encoders.left(id_, name)
            case dialect.MemberList(id_, name, presence):
                frame = encoders.members(id_, name, self._encoder.listing(presence), len(presence))
            case _:
                raise AssertionError(f"chat.v1 has no {type(reply).__name__}")
        return [text_frame(frame)]

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
