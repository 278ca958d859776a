"""The server's messages: `chat.v1` and the JSON of HTTP, as the client sees them.

Owns: the shapes. May not: import the server's own types; a client that shared them could not notice that the server
breaks the contract. Unknown types and fields are ignored, so that an older client works with a newer server.
"""

from typing import NamedTuple, get_args

import msgspec


class ProtocolError(Exception):
    """The server sent something that is not `chat.v1`."""


class User(msgspec.Struct, frozen=True):
    """A person or a program."""

    id: str
    name: str


# -- records: what a room's log holds --------------------------------------------------------------------------------


class Record(msgspec.Struct, frozen=True):
    """A record in a room's log. `offset` counts from 1 without holes; `cursor` is the place to resume after.

    This class itself stands for a record of a type that this client does not know.
    """

    room: str
    offset: int
    cursor: str
    user: User
    time: str


class Message(Record, frozen=True, omit_defaults=True, tag_field="type", tag="message"):
    """A message; from the history in its present state: edited, deleted, with its reactions."""

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
    """The message at `target` was deleted."""

    target: int


class Reaction(Record, frozen=True, tag_field="type", tag="reaction"):
    """A user added or removed a reaction to the message at `target`; `count` is the new number of this emoji."""

    target: int
    emoji: str
    on: bool = True
    count: int = 0


# -- answers and pushes -----------------------------------------------------------------------------------------------


class Connected(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """The server's greeting; `user` is our user."""

    user: User


class History(msgspec.Struct, frozen=True, tag_field="type", tag="history"):
    """Answer to `history`: a page of a room's log, oldest first."""

    cursor: str
    recovered: bool
    messages: tuple[msgspec.Raw, ...] = ()
    id: int = 0

    @property
    def records(self) -> list[Record]:
        """The records in the page. They are decoded on demand, since messages have no `type` here and others do."""
        return [_record(raw) for raw in self.messages]


class Joined(History, frozen=True, tag="joined"):
    """Answer to `join`: the missed messages, or the latest."""

    members: int | None = None  # their number; an HTTP transport does not tell it


class Left(msgspec.Struct, frozen=True, tag_field="type", tag="left"):
    """Answer to `leave`; without an id: our new token may not read the room."""

    id: int | None = None
    room: str = ""


class Members(msgspec.Struct, frozen=True, tag_field="type", tag="members"):
    """Answer to `members`: who is in a room; `count` includes members that are not listed."""

    room: str
    members: tuple[User, ...]
    count: int
    id: int = 0


class Ack(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="ack"):
    """Answer to a write: its record is durable, at this offset."""

    room: str
    offset: int
    cursor: str = ""
    time: str = ""
    id: int = 0


class Authenticated(msgspec.Struct, frozen=True, tag_field="type", tag="authenticated"):
    """Answer to `auth`: our user from now on."""

    user: User
    id: int = 0


class Presence(msgspec.Struct, frozen=True, tag_field="type", tag="presence"):
    """People joined or left a room."""

    room: str
    joined: tuple[User, ...] = ()
    left: tuple[User, ...] = ()
    members: int = 0


class Typing(msgspec.Struct, frozen=True, tag_field="type", tag="typing"):
    """A user is typing in a room."""

    room: str
    user: User


class Read(msgspec.Struct, frozen=True, tag_field="type", tag="read"):
    """We have read a room up to an offset: the answer to `read`, or news from another client of ours."""

    room: str
    offset: int
    id: int | None = None


class Skipped(msgspec.Struct, frozen=True, tag_field="type", tag="gap"):
    """The server skipped records, since we were too slow; they may be in the history."""

    room: str
    until: str


class Expiring(msgspec.Struct, frozen=True, tag_field="type", tag="expiring"):
    """The token expires in this many seconds."""

    seconds: float


class GoingAway(msgspec.Struct, frozen=True, tag_field="type", tag="goaway"):
    """The server announced that it will close this connection."""

    reason: str = ""
    retry_after: float = 0.0


class Error(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """A request failed; the connection stays. Without an id: a moderator has muted us, or taken us out of the room."""

    code: str
    message: str
    id: int | None = None
    retry_after: float | None = None
    room: str | None = None


# -- answers of plain HTTP, on every transport ----------------------------------------------------------------------


class Refused(msgspec.Struct):
    """The answer to a request that failed."""

    error: Error


class Page(NamedTuple):
    """Records of a room, oldest first, up to `cursor`. Not `recovered`: the place asked for no longer exists."""

    cursor: str
    recovered: bool
    records: list[Record]


class Found(Message, frozen=True):
    """A message that a search found. The parts of the snippet with True are the matches."""

    snippet: tuple[tuple[str, bool], ...] = ()


class SearchResults(msgspec.Struct, frozen=True):
    """The answer to a search, best first."""

    results: tuple[Found, ...]
    took_ms: float = 0.0
    cached: bool = False


class Unread(msgspec.Struct, frozen=True):
    """How far we have read a room, and the unread messages in it."""

    read: int
    unread: int = 0
    mentions: int = 0


class RoomSummary(msgspec.Struct, frozen=True):
    """A room in the server's list."""

    room: str
    cursor: str = ""
    messages: int = 0
    members: int = 0


class Sanction(msgspec.Struct, frozen=True):
    """A mute or a ban of `user` or `network` in a room, or in all (`*`); without `until`, until it is lifted."""

    id: int
    room: str
    kind: str
    by: User
    time: str
    user: str | None = None
    user_name: str | None = None
    network: str | None = None
    until: str | None = None
    reason: str = ""


class RoomState(msgspec.Struct):
    """The answer of `/rooms/{room}`, as far as this client uses it."""

    why: Error | None = None  # that a message would get, if we may not write there


class Session(msgspec.Struct):
    """The answer of `/session`, besides the user."""

    expires: str | None = None  # when the token ends


class UnreadRooms(msgspec.Struct):
    """The answer of `/unread`."""

    rooms: dict[str, Unread]


class Rooms(msgspec.Struct):
    """The answer of `/rooms`."""

    rooms: tuple[RoomSummary, ...]


class Sanctions(msgspec.Struct):
    """The answer of `/rooms/{room}/sanctions`."""

    sanctions: tuple[Sanction, ...]


class Kicked(msgspec.Struct):
    """The answer of `/rooms/{room}/kick`."""

    ended: int


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
#: What the decoders raise; the second for bytes that are not UTF-8, the third for JSON that is nested too deeply.
NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode(text: str | bytes) -> Frame | Record | None:
    """Return the frame or record in `text`, or None for a type that this client does not use."""
    try:
        kind = _TAG.decode(text).type
        if kind in _RECORDS:
            return _RECORDS[kind].decode(text)
        if kind in _KNOWN:
            return _FRAME.decode(text)
    except NO_JSON as error:
        raise ProtocolError(f"not a chat.v1 frame: {error}") from error
    try:
        return _UNKNOWN_RECORD.decode(text)
    except NO_JSON:
        return None


def _record(raw: msgspec.Raw) -> Record:
    try:
        return _RECORDS.get(_TAG.decode(raw).type, _UNKNOWN_RECORD).decode(raw)
    except NO_JSON as error:
        raise ProtocolError(f"not a record of a room: {error}") from error
