"""Messages as bytes, for the rooms' rings.

Owns: the epoch that makes an offset a cursor. May not: decide who gets what.
"""

from collections.abc import Iterable, Sequence

from chatserver.chat.identity import guest
from chatserver.chat.presence import Presence
from chatserver.chat.ring import Form
from chatserver.log.interface import Record
from chatserver.protocol import encoders, sse
from chatserver.protocol.websocket import text_frame


class WireEncoder:
    """`chat.ring.Encoder` over `protocol`. The epoch is known once the log is open."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch

    def cursor(self, offset: int) -> str:
        """An offset as clients see it."""
        return f"{self.epoch}-{offset}"

    def message(self, record: Record) -> bytes:
        """The JSON of a message."""
        return encoders.message_json(
            record.room, record.offset, self.epoch, record.user_id, record.user_name, record.text, record.time
        )

    def push(self, form: Form, record_json: bytes, room: str, offset: int) -> bytes:
        """That JSON as a frame or an event."""
        if form is Form.FRAMES:
            return text_frame(encoders.message_push(record_json))
        return sse.event(self.cursor(offset), record_json)

    def gap(self, form: Form, room: str, after: int, until: int) -> bytes:
        """The notice of a gap."""
        notice = encoders.gap(room, self.cursor(after), self.cursor(until))
        if form is Form.FRAMES:
            return text_frame(notice)
        return sse.event(self.cursor(until), notice, "gap")

    def presence(self, room: str, joined: Sequence[int], left: Sequence[int], members: int) -> bytes:
        """A frame that tells who came and went."""
        return text_frame(encoders.presence(room, _faces(joined), _faces(left), members))

    def listing(self, presence: Presence) -> bytes:
        """Who is there, some hundreds at most, as JSON."""
        if presence.listing is None:
            presence.listing = encoders.user_list(_faces(presence.users()))
        return presence.listing


def _faces(users: Iterable[int]) -> list[tuple[str, str]]:
    return [(user.id, user.name) for user in map(guest, users)]
