"""What the server sends and what we send: `chat.v1`, seen from the client.

Owns: the shapes of frames. May not: import the server's own types; a client that shared them could not
notice when the server stops speaking the contract. Unknown types and fields are ignored, so that an older
client gets on with a newer server.
"""

from typing import Any, get_args

import msgspec


class ProtocolError(Exception):
    """The server sent something that is not `chat.v1`."""


class User(msgspec.Struct, frozen=True):
    """Who said it."""

    id: str
    name: str


class Message(msgspec.Struct, frozen=True):
    """One message of a room. `offset` counts from 1 without holes, `cursor` is what to resume after."""

    room: str
    offset: int
    cursor: str
    user: User
    time: str
    text: str = ""


class Connected(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """The server greeted us; `user` is who we are to it."""

    user: User


class History(msgspec.Struct, frozen=True, tag_field="type", tag="history"):
    """Answer to `history`."""

    id: int
    cursor: str
    recovered: bool
    messages: list[Message]


class Joined(History, frozen=True, tag="joined"):
    """Answer to `join`: the messages missed, or the latest."""

    members: int = 0


class Left(msgspec.Struct, frozen=True, tag_field="type", tag="left"):
    """Answer to `leave`."""

    id: int


class Members(msgspec.Struct, frozen=True, tag_field="type", tag="members"):
    """Answer to `members`: who is in a room, `count` in all, though not all may be named."""

    id: int
    room: str
    members: tuple[User, ...]
    count: int


class Ack(msgspec.Struct, frozen=True, tag_field="type", tag="ack"):
    """Answer to `publish`: the message is durable."""

    id: int
    room: str
    offset: int


class Pushed(Message, frozen=True, tag_field="type", tag="message"):
    """A message as it happens."""


class PresenceChanged(msgspec.Struct, frozen=True, tag_field="type", tag="presence"):
    """People came to a room or left it."""

    room: str
    joined: tuple[User, ...] = ()
    left: tuple[User, ...] = ()
    members: int = 0


class Gap(msgspec.Struct, frozen=True, tag_field="type", tag="gap"):
    """The server skipped ahead, since we were too slow; what lies between is in the history."""

    room: str
    after: str
    until: str


class GoingAway(msgspec.Struct, frozen=True, tag_field="type", tag="goaway"):
    """The server said that it will close this connection."""

    reason: str = ""
    retry_after: float = 0.0


class Error(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """A request failed; the connection lives."""

    code: str
    message: str
    id: int | str | None = None
    retry_after: float | None = None


_Answer = Joined | Left | History | Members | Ack | Error
Frame = Connected | _Answer | Pushed | PresenceChanged | Gap | GoingAway


class _Tag(msgspec.Struct):
    type: str


_TAG = msgspec.json.Decoder(_Tag)
_FRAME: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)
_KNOWN = frozenset(kind.__struct_config__.tag for kind in get_args(Frame))


def decode(text: str) -> Frame | None:
    """Return the frame in `text`, or None for a type that we have no use for."""
    try:
        return _FRAME.decode(text) if _TAG.decode(text).type in _KNOWN else None
    except msgspec.DecodeError as error:
        raise ProtocolError(f"not a chat.v1 frame: {error}") from error


def encode(**fields: Any) -> str:
    """Return a frame to send; fields that are None are left out."""
    return msgspec.json.encode({key: value for key, value in fields.items() if value is not None}).decode()
