"""What a client tells its user: one small class for each thing that can happen.

Owns: the vocabulary between the library and programs on top of it. May not: carry wire details.
"""

from dataclasses import dataclass

from chatserver.client.wire import Message, User


@dataclass(frozen=True, slots=True)
class Connected:
    """The server greeted us; `user` is who we are to it."""

    user: User


@dataclass(frozen=True, slots=True)
class Entered:
    """We are in a room; its missed or latest messages come as `Received` right after this."""

    room: str
    members: int
    resumed: bool
    """True when this goes on from messages that we had before."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message: each exactly once, in the room's order."""

    message: Message
    past: bool
    """True for what was said before we entered or while we were away."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Messages of a room after what we had are gone for good (retention, or the room began anew)."""

    room: str


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """People came to a room or left it."""

    room: str
    joined: tuple[User, ...]
    left: tuple[User, ...]
    members: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What we published under `key` is durable."""

    key: str
    room: str
    offset: int


@dataclass(frozen=True, slots=True)
class Refused:
    """What we published under `key` will not be taken, however often we ask."""

    key: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """The server could not do something else we asked for, such as to enter `room`."""

    room: str | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class GoingAway:
    """The server said that it will close this connection."""

    reason: str
    retry_after: float


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """No connection; the next attempt is in `delay` seconds."""

    why: str
    delay: float


Event = (
    Connected
    | Entered
    | Received
    | Lost
    | PresenceChanged
    | Acknowledged
    | Refused
    | Complaint
    | GoingAway
    | Reconnecting
)
