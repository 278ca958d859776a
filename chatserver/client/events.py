"""What a client tells its user besides records: one small class for each thing that can happen.

Owns: the vocabulary between the library and programs on top of it. May not: carry wire details.
"""

from typing import TypeAlias

import msgspec

from chatserver.client.wire import Connected, Deletion, Edit, Expiring, Message, Presence, Reaction, Read, Typing


class Entered(msgspec.Struct, frozen=True, tag_field="type", tag="entered"):
    """We are in a room; what we missed, or the latest messages we asked for, follow."""

    room: str
    members: int | None  # None: this transport does not say
    resumed: bool  # this goes on from messages that we had before
    until: int = 0  # offset of the last record that follows now; messages up to it are as they stand by now


class Gap(msgspec.Struct, frozen=True, tag_field="type", tag="gap"):
    """What followed `after` in a room is gone for good (retention, or the room began anew), up to the next record."""

    room: str
    after: str | None


class Complaint(msgspec.Struct, frozen=True, tag_field="type", tag="complaint"):
    """The server did not let us into `room`, has taken us out of it, or refused what has no answer of its own."""

    room: str | None
    code: str
    message: str


class Postponed(msgspec.Struct, frozen=True, tag_field="type", tag="postponed"):
    """A request of ours is refused for now, and is sent again in `delay` seconds."""

    room: str
    code: str
    message: str
    delay: float


class Reconnecting(msgspec.Struct, frozen=True, tag_field="type", tag="reconnecting"):
    """No connection; the next attempt is in `delay` seconds."""

    why: str
    delay: float


#: What may happen to a room.
RoomEvent: TypeAlias = Message | Edit | Deletion | Reaction | Entered | Gap | Presence | Typing | Read
#: What may happen at all.
Event: TypeAlias = RoomEvent | Connected | Complaint | Postponed | Expiring | Reconnecting
