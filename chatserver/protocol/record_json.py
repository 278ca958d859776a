"""Records as JSON: messages with their state, edits, deletions and reactions.

Owns: these shapes and their field order. A record other than a message begins with its type, so that every transport
can recognise it by its first bytes.
"""

from collections.abc import Mapping, Sequence

import msgspec

from chatserver.protocol.encoders import User, time_text

_TYPED, _OFFSET = b'{"type":"', b'"offset":'
_encode = msgspec.json.Encoder().encode


def kind_of(json: bytes) -> str:
    """The type of a record in JSON."""
    if not json.startswith(_TYPED):
        return "message"
    return json[len(_TYPED) : json.index(b'"', len(_TYPED))].decode()


def is_message(json: bytes) -> bool:
    """Whether a record in JSON is a message."""
    return not json.startswith(_TYPED)


def offset_of(json: bytes) -> int:
    """The offset of a record in JSON."""
    begin = json.index(_OFFSET) + len(_OFFSET)  # only the name of the room comes before it, which has no quotes
    return int(json[begin : json.index(b",", begin)])


class _Message(msgspec.Struct, gc=False, omit_defaults=True):
    """The fields of a message, the last ones only as far as they say anything."""

    room: str
    offset: int
    cursor: str
    user: User
    text: str
    time: str
    reply_to: int = 0
    mentions: Sequence[str] = ()
    edited: str = ""
    deleted: bool = False
    reactions: Mapping[str, int] = {}


def message_json(
    room: str, offset: int, epoch: str, user_id: str, user_name: str, text: str, time_ms: int, *, reply_to: int = 0,
    mentions: Sequence[str] = (), edited: int = 0, deleted: bool = False, reactions: Sequence[tuple[str, int]] = (),
) -> bytes:  # fmt: skip
    """One message, as every transport carries it; `edited` is in milliseconds since 1970."""
    return _encode(_Message(
        room, offset, f"{epoch}-{offset}", User(user_id, user_name), text, time_text(time_ms), reply_to, mentions,
        time_text(edited) if edited else "", deleted, dict(reactions),
    ))  # fmt: skip


def change_json(
    kind: str, room: str, offset: int, epoch: str, target: int, what: Mapping[str, object], user: User, time_ms: int
) -> bytes:  # fmt: skip
    """An edit, a deletion or a reaction; `what` has the fields of its kind alone."""
    return _encode({
        "type": kind, "room": room, "offset": offset, "cursor": f"{epoch}-{offset}", "target": target, **what,
        "user": user, "time": time_text(time_ms),
    })  # fmt: skip


def without_text(edit: bytes) -> bytes:
    """An edit whose text a later edit has replaced."""
    return _encode(msgspec.json.decode(edit) | {"text": ""})
