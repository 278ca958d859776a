"""Messages as bytes: the JSON that every transport shares, and server-sent events.

Owns: the epoch that turns an offset into a cursor. May not: decide who gets what.
"""

import math
import time
from collections.abc import Iterable, Sequence

import msgspec

from chatserver.chat.presence import Presence
from chatserver.chat.principal import Principal, User
from chatserver.chat.ring import Encoding
from chatserver.log.interface import EDIT, MessageState, Record
from chatserver.protocol import encoders, record_json, sse
from chatserver.reasons import ErrorCode


class WireEncoder:
    """The `chat.ring.MessageEncoder` of a server. The epoch is known once the log is open."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.events = Events(self)
        self.message_events = MessageEvents(self)

    def cursor(self, offset: int) -> str:
        """An offset as clients see it."""
        return f"{self.epoch}-{offset}"

    def message(self, record: Record) -> bytes:
        if record.kind:
            return self._change(record)
        message = record_json.message_json(
            record.room, record.offset, self.epoch, record.user_id, record.user_name, record.text, record.time
        )
        return self._with_state(message, record) if record.target or record.mentions or record.state else message

    def restated(self, message: bytes, record: Record) -> bytes:
        """The JSON of a message with the present state of its record, whose text is the same."""
        return self._with_state(record_json.without_state(message), record)

    def _with_state(self, message: bytes, record: Record) -> bytes:
        state = record.state or MessageState()
        return record_json.with_state(
            message, reply_to=record.target, mentions=record.mentions, edited=state.edited, deleted=state.deleted,
            reactions=state.reactions,
        )  # fmt: skip

    def emptied(self, edit: bytes) -> bytes:
        """The JSON of an edit without its text."""
        return record_json.without_text(edit)

    def _change(self, record: Record) -> bytes:
        """The JSON of a record other than a message."""
        place = record.room, record.offset, self.cursor(record.offset), record.target
        by = encoders.User(record.user_id, record.user_name), encoders.time_text(record.time)
        change: record_json.Edit | record_json.Delete | record_json.Reaction
        if record.kind is EDIT:
            change = record_json.Edit("edit", *place, record.text, *by)
        elif record.reaction is None:
            change = record_json.Delete("delete", *place, *by)
        else:
            emoji, on, count = record.reaction.emoji, record.reaction.on, record.reaction.count
            change = record_json.Reaction("reaction", *place, emoji, on, count, *by)
        return msgspec.json.encode(change)

    def listing(self, presence: Presence) -> bytes:
        """The members of a room as JSON, up to some hundreds: 0.3 ms for 500 guests, and then kept."""
        if presence.listing is None:
            presence.listing = msgspec.json.encode(faces(presence.people()))
        return presence.listing


class Events(Encoding):
    """Server-sent events. Only records have an id, since a browser resumes from the last id."""

    def __init__(self, encoder: WireEncoder) -> None:
        self._encoder = encoder

    def push(self, message: bytes, room: str, offset: int) -> bytes:
        """A record, in an event named after its type."""
        return sse.event(self._encoder.cursor(offset), message, record_json.kind_of(message))

    def gap(self, room: str, after: int, until: int) -> bytes:
        cursor = self._encoder.cursor
        return sse.event(cursor(until), encoders.gap(room, cursor(after), cursor(until)), "gap")

    def presence(self, room: str, joined: Sequence[Principal], left: Sequence[Principal], members: int) -> bytes:
        return sse.notice("presence", encoders.presence(room, faces(joined), faces(left), members))

    def typing(self, room: str, who: Principal) -> bytes:
        return sse.notice("typing", encoders.typing(room, who.face))

    def read(self, room: str, offset: int) -> bytes:
        return sse.notice("read", encoders.read(room, offset))

    def moderated(self, left: str, message: str, retry_after: float | None) -> bytes:
        """A mute, or the stream's last event. Neither is named `error`, the browsers' event for a failed connection."""
        name = "expelled" if left else "muted"
        return sse.notice(name, encoders.error(None, ErrorCode.FORBIDDEN, message, retry_after, room=left))


class MessageEvents(Events):
    """Server-sent events of messages alone. Other records only move the id, which causes no event in the page."""

    def push(self, message: bytes, room: str, offset: int) -> bytes:
        if record_json.is_message(message):
            return super().push(message, room, offset)
        return sse.id_field(self._encoder.cursor(offset)) + b"\n"


def faces(people: Iterable[Principal]) -> list[User]:
    return [person.face for person in people]


def expiry_text(principal: Principal) -> str | None:
    """When the sign-in expires, in the format for clients; None: never."""
    left = principal.seconds_left
    return None if left == math.inf else encoders.time_text(round((left + time.time()) * 1000))
