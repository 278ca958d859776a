"""What the server sends: `chat.v1` and the JSON of HTTP, seen from the client.

Owns: the shapes. May not: import the server's own types; a client that shared them could not notice when the server
stops speaking the contract. Unknown types and fields are ignored, so that an older client gets on with a newer server.
"""

from typing import get_args

import msgspec


class ProtocolError(Exception):
    """The server sent something that is not `chat.v1`."""


class User(msgspec.Struct, frozen=True):
    """A person or a program."""

    id: str
    name: str


# -- records: what a room's log holds --------------------------------------------------------------------------------


class Record(msgspec.Struct, frozen=True):
    """A place in a room's log. `offset` counts from 1 without holes, `cursor` is what to resume after.

    By itself it is a record of a type that this client does not know.
    """

    room: str
    offset: int
    cursor: str
    user: User
    time: str


class Message(Record, frozen=True, omit_defaults=True, tag_field="type", tag="message"):
    """Something said; out of the history it is as it stands now: edited, deleted, with its reactions."""

    text: str = ""
    reply_to: int | None = None
    mentions: tuple[str, ...] = ()
    edited: bool | str = False
    deleted: bool | str = False
    reactions: dict[str, int] = {}


class Edit(Record, frozen=True, tag_field="type", tag="edit"):
    """The message at `target` has a new text."""

    target: int
    text: str = ""


class Deletion(Record, frozen=True, tag_field="type", tag="delete"):
    """The message at `target` has no text any more."""

    target: int


class Reaction(Record, frozen=True, tag_field="type", tag="reaction"):
    """Somebody reacted to the message at `target`, or took it back; `count` have this emoji now."""

    target: int
    emoji: str
    on: bool = True
    count: int = 0


# -- answers and pushes -----------------------------------------------------------------------------------------------


class Connected(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """The server greeted us; `user` is who we are to it."""

    user: User


class History(msgspec.Struct, frozen=True, tag_field="type", tag="history"):
    """Answer to `history`: a page of a room's log, oldest first."""

    cursor: str
    recovered: bool
    messages: tuple[msgspec.Raw, ...] = ()
    id: int = 0

    @property
    def records(self) -> list[Record]:
        """What is in the page; decoded now, since a message has no `type` here and other records have."""
        return [_record(raw) for raw in self.messages]


class Joined(History, frozen=True, tag="joined"):
    """Answer to `join`: the messages missed, or the latest."""

    members: int | None = None  # how many are there; an HTTP transport does not say


class Left(msgspec.Struct, frozen=True, tag_field="type", tag="left"):
    """Answer to `leave`."""

    id: int


class Members(msgspec.Struct, frozen=True, tag_field="type", tag="members"):
    """Answer to `members`: who is in a room, `count` in all, though not all may be named."""

    room: str
    members: tuple[User, ...]
    count: int
    id: int = 0


class Ack(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="ack"):
    """Answer to a write: its record is durable, at this place."""

    room: str
    offset: int
    cursor: str = ""
    time: str = ""
    id: int = 0


class Authenticated(msgspec.Struct, frozen=True, tag_field="type", tag="authenticated"):
    """Answer to `auth`: who we are from now on."""

    user: User
    id: int = 0


class Presence(msgspec.Struct, frozen=True, tag_field="type", tag="presence"):
    """People came to a room or left it."""

    room: str
    joined: tuple[User, ...] = ()
    left: tuple[User, ...] = ()
    members: int = 0


class Typing(msgspec.Struct, frozen=True, tag_field="type", tag="typing"):
    """Somebody is typing in a room."""

    room: str
    user: User


class Read(msgspec.Struct, frozen=True, tag_field="type", tag="read"):
    """We have read a room up to an offset: answer to `read`, or told by another client of ours."""

    room: str
    offset: int
    id: int | None = None


class Skipped(msgspec.Struct, frozen=True, tag_field="type", tag="gap"):
    """The server skipped ahead, since we were too slow; what lies between may be in the history."""

    room: str
    after: str
    until: str


class Expiring(msgspec.Struct, frozen=True, tag_field="type", tag="expiring"):
    """The token runs out in so many seconds."""

    seconds: float


class GoingAway(msgspec.Struct, frozen=True, tag_field="type", tag="goaway"):
    """The server said that it will close this connection."""

    reason: str = ""
    retry_after: float = 0.0


class Error(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """A request failed; the connection lives. With a room and no id: a moderator has taken us out of it."""

    code: str
    message: str
    id: int | str | None = None
    retry_after: float | None = None
    room: str | None = None


Answer = Joined | Left | History | Members | Ack | Authenticated | Read
Frame = Answer | Connected | Error | Presence | Typing | Skipped | Expiring | GoingAway


class _Tag(msgspec.Struct):
    type: str = "message"


_TAG = msgspec.json.Decoder(_Tag)
_FRAME: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)
_KNOWN = frozenset(kind.__struct_config__.tag for kind in get_args(Frame))
_RECORDS: dict[str, msgspec.json.Decoder[Record]] = {
    str(kind.__struct_config__.tag): msgspec.json.Decoder(kind) for kind in (Message, Edit, Deletion, Reaction)
}
_UNKNOWN_RECORD = msgspec.json.Decoder(Record)


def decode(text: str | bytes) -> Frame | Record | None:
    """Return the frame or record in `text`, or None for a type that we have no use for."""
    try:
        kind = _TAG.decode(text).type
        if kind in _RECORDS:
            return _RECORDS[kind].decode(text)
        if kind in _KNOWN:
            return _FRAME.decode(text)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"not a chat.v1 frame: {error}") from error
    try:
        return _UNKNOWN_RECORD.decode(text)
    except msgspec.DecodeError:
        return None


def _record(raw: msgspec.Raw) -> Record:
    try:
        return _RECORDS.get(_TAG.decode(raw).type, _UNKNOWN_RECORD).decode(raw)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"not a record of a room: {error}") from error
