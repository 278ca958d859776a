"""`chat.v1`: JSON text frames (docs/protocol.md).

Owns: which encoder of `protocol` serves which message. May not: decide anything.
"""

from collections.abc import Sequence

from chatserver.api.dialect import Command, Dialect
from chatserver.api.encoder import WireEncoder, expiry_text, faces
from chatserver.api.pages import Page
from chatserver.chat.member import Member
from chatserver.chat.presence import Presence
from chatserver.chat.principal import Principal
from chatserver.log.interface import Record
from chatserver.protocol import encoders
from chatserver.protocol.client_messages import decode
from chatserver.protocol.errors import MessageId
from chatserver.protocol.upgrade import SUBPROTOCOL
from chatserver.protocol.validation import MAX_TEXT_BYTES
from chatserver.protocol.websocket import text_frame, text_frame_parts
from chatserver.reasons import ErrorCode
from chatserver.settings.fields import Settings


class ChatV1(Dialect):
    subprotocol = SUBPROTOCOL

    def __init__(self, encoder: WireEncoder, settings: Settings) -> None:
        self._encoder = encoder
        self._hello_end = encoders.hello_end(settings.ping_interval, _told_limits(settings))

    def hello(self, principal: Principal, token: str) -> bytes:
        return text_frame(encoders.hello(token, principal.face, self._hello_end))

    def decode(self, data: str | bytes) -> Command:
        return decode(data)

    def joined(self, id_: MessageId, member: Member, page: Page) -> list[bytes]:
        room, cursor = member.room, self._encoder.cursor(page.reaches)
        parts = encoders.joined(id_, room.name, cursor, page.recovered, page.items, len(room.presence))
        return text_frame_parts(parts)

    def left(self, id_: MessageId, room: str) -> bytes:
        return text_frame(encoders.left(id_, room))

    def ack(self, id_: MessageId, record: Record) -> bytes:
        count = None if record.reaction is None else record.reaction.count
        return text_frame(encoders.ack(id_, record.room, record.offset, self._encoder.epoch, record.time, count))

    def history(self, id_: MessageId, room: str, page: Page) -> list[bytes]:
        cursor = self._encoder.cursor(page.reaches)
        return text_frame_parts(encoders.history(id_, room, cursor, page.recovered, page.items))

    def members(self, id_: MessageId, room: str, presence: Presence) -> bytes:
        return text_frame(encoders.members(id_, room, self._encoder.listing(presence), len(presence)))

    def reply(self, json: bytes) -> bytes:
        return text_frame(json)

    def authenticated(self, id_: MessageId, principal: Principal) -> bytes:
        return text_frame(encoders.authenticated(id_, principal.face, expiry_text(principal)))

    def expiring(self, seconds: float) -> bytes:
        return text_frame(encoders.expiring(seconds))

    def pong(self, id_: MessageId) -> bytes:
        return text_frame(encoders.pong(id_))

    def refused(self, id_: MessageId, code: ErrorCode, message: str, retry_after: float | None = None) -> bytes:
        return text_frame(encoders.error(id_, code, message, retry_after))

    def moderated(self, left: str, message: str, retry_after: float | None) -> bytes:
        return text_frame(encoders.error(None, ErrorCode.FORBIDDEN, message, retry_after, room=left))

    def push(self, message: bytes, room: str, offset: int) -> bytes:
        return text_frame(encoders.message_push(message))

    def gap(self, room: str, after: int, until: int) -> bytes:
        return text_frame(encoders.gap(room, self._encoder.cursor(after), self._encoder.cursor(until)))

    def presence(self, room: str, joined: Sequence[Principal], left: Sequence[Principal], members: int) -> bytes:
        return text_frame(encoders.presence(room, faces(joined), faces(left), members))

    def typing(self, room: str, who: Principal) -> bytes:
        return text_frame(encoders.typing(room, who.face))

    def read(self, room: str, offset: int) -> bytes:
        return text_frame(encoders.read(room, offset))

    def goaway(self, reason: str, retry_after: float) -> bytes:
        return text_frame(encoders.goaway(reason, retry_after))


def _told_limits(settings: Settings) -> dict[str, int | float]:
    """The limits in `hello`, so that a client need not learn them by being refused."""
    return {
        "text_bytes": MAX_TEXT_BYTES,
        "message_bytes": settings.max_message_bytes,
        "rooms": settings.max_rooms_per_connection,
        "publish_rate": settings.publish_rate,
        "message_rate": settings.message_rate,
    }
