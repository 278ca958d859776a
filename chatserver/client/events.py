"""What a client tells its user: one small class for each thing that can happen.

Owns: the vocabulary between the library and programs on top of it. May not: carry wire details.
"""

import msgspec

from chatserver.client.wire import Connected, GoingAway, Members, Message, PresenceChanged

__all__ = ["Connected", "GoingAway", "Members", "PresenceChanged"]


class Entered(msgspec.Struct, frozen=True):
    """We are in a room; its missed or latest messages come as `Received` right after this."""

    room: str
    members: int
    resumed: bool  # this goes on from messages that we had before


class Received(msgspec.Struct, frozen=True):
    """A message: each exactly once, in the room's order."""

    message: Message
    past: bool  # it was said before we entered or while we were away


class Lost(msgspec.Struct, frozen=True):
    """Messages of a room after what we had are gone for good (retention, or the room began anew)."""

    room: str


class Acknowledged(msgspec.Struct, frozen=True):
    """What we published under `key` is durable."""

    key: str
    room: str
    offset: int


class Refused(msgspec.Struct, frozen=True):
    """What we published under `key` will not be taken, however often we ask."""

    key: str
    code: str
    message: str


class Complaint(msgspec.Struct, frozen=True):
    """The server could not do something else we asked for, such as to enter `room`."""

    room: str | None
    code: str
    message: str


class Reconnecting(msgspec.Struct, frozen=True):
    """No connection; the next attempt is in `delay` seconds."""

    why: str
    delay: float


_Answer = Acknowledged | Refused | Complaint
Event = Connected | Entered | Received | Lost | PresenceChanged | Members | _Answer | GoingAway | Reconnecting
