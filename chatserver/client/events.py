"""The events of a client besides records: one small class for each.

Owns: the vocabulary between the library and programs on top of it. May not: carry wire details.
"""

from typing import TypeAlias

import msgspec

from chatserver.client.wire import Connected, Deletion, Edit, Expiring, Message, Presence, Reaction, Read, Typing


class Entered(msgspec.Struct, frozen=True, tag_field="type", tag="entered"):
    """We have joined a room; the missed messages, or the requested latest ones, follow."""

    room: str
    members: int | None  # None: this transport does not tell
    resumed: bool  # it continues from messages that were delivered before
    until: int = 0  # offset of the last record that follows now; messages up to it are in their present state
    cursor: str | None = None  # the place in the room, if no record follows now


class Gap(msgspec.Struct, frozen=True, tag_field="type", tag="gap"):
    """Records of a room after `after`, up to the next record, are gone for good (retention, or a new epoch)."""

    room: str
    after: str | None


class Complaint(msgspec.Struct, frozen=True, tag_field="type", tag="complaint"):
    """The server refused us `room` or has taken us out of it; without a room, a moderator has muted us.

    Also without a room: the refusal of a request that has no answer.
    """

    room: str | None
    code: str
    message: str
    retry_after: float | None = None  # seconds until a ban or mute ends; None: no end, or not known


class Postponed(msgspec.Struct, frozen=True, tag_field="type", tag="postponed"):
    """A request of ours was refused for now, and is sent again in `delay` seconds."""

    room: str
    code: str
    message: str
    delay: float


class Reconnecting(msgspec.Struct, frozen=True, tag_field="type", tag="reconnecting"):
    """No connection; the next attempt is in `delay` seconds."""

    why: str
    delay: float


#: All events: those of a room, then those of the connection.
Event: TypeAlias = (
    Message | Edit | Deletion | Reaction | Entered | Gap | Presence | Typing | Read
    | Connected | Complaint | Postponed | Expiring | Reconnecting
)  # fmt: skip
