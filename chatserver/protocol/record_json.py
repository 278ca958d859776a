"""Records as JSON: messages with their state, edits, deletions and reactions.

Owns: these shapes and their field order. A record other than a message begins with its type, so that every transport
can recognise it by its first bytes.
"""

from collections.abc import Sequence

import msgspec

from chatserver.protocol.encoders import User, time_text

_TYPED, _OFFSET, _TEXT, _USER, _TIME = b'{"type":"', b'"offset":', b'"text":"', b'","user":', b'"time":"'
_encode = msgspec.json.Encoder().encode


def kind_of(json: bytes) -> str:
    if not json.startswith(_TYPED):
        return "message"
    return json[len(_TYPED) : json.index(b'"', len(_TYPED))].decode()


def is_message(json: bytes) -> bool:
    return not json.startswith(_TYPED)


def offset_of(json: bytes) -> int:
    begin = json.index(_OFFSET) + len(_OFFSET)  # only the name of the room comes before it, which has no quotes
    return int(json[begin : json.index(b",", begin)])


class _Message(msgspec.Struct, gc=False):
    room: str
    offset: int
    cursor: str
    user: User
    text: str
    time: str


def message_json(room: str, offset: int, epoch: str, user_id: str, user_name: str, text: str, time_ms: int) -> bytes:
    """One message, as every transport carries it."""
    user = User(user_id, user_name)
    return _encode(_Message(room, offset, f"{epoch}-{offset}", user, text, time_text(time_ms)))


def with_state(
    message: bytes, *, reply_to: int, mentions: Sequence[str], edited: int, deleted: bool,
    reactions: Sequence[tuple[str, int]],
) -> bytes:  # fmt: skip
    """A message with its state added, as far as it has any; `edited` is in milliseconds since 1970."""
    more: dict[str, object] = {}
    if reply_to:
        more["reply_to"] = reply_to
    if mentions:
        more["mentions"] = mentions
    if edited:
        more["edited"] = time_text(edited)
    if deleted:
        more["deleted"] = True
    if reactions:
        more["reactions"] = dict(reactions)
    return message if not more else b"%b,%b" % (message[:-1], _encode(more)[1:])


def without_state(message: bytes) -> bytes:
    """A message without its state, which follows its time."""
    # No value has these bytes, since quotes within a string are escaped.
    end = message.index(b'"', message.rindex(_TIME) + len(_TIME))
    return message[: end + 1] + b"}"


class _Change(msgspec.Struct, gc=False):
    """A record other than a message. To encode a dict of its fields would take twice the time."""

    type: str
    room: str
    offset: int
    cursor: str
    target: int


class Edit(_Change, gc=False):
    text: str
    user: User
    time: str


class Delete(_Change, gc=False):
    user: User
    time: str


class Reaction(_Change, gc=False):
    emoji: str
    on: bool
    count: int
    user: User
    time: str


def without_text(edit: bytes) -> bytes:
    """An edit whose text a later edit has replaced."""
    begin = edit.index(_TEXT) + len(_TEXT)
    return edit[:begin] + edit[edit.index(_USER, begin) :]  # no value has these bytes, as in `without_state`
