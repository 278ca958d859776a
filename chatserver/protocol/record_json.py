"""Edits, deletions and reactions as JSON, and the state of a message that they leave.

Owns: these shapes and their field order. May not: be needed for a plain message, which `encoders` makes. A record other
than a message begins with its type, so that every transport can recognise it by its first bytes.
"""

from collections.abc import Sequence

import msgspec

from chatserver.protocol.encoders import string, time_text, user_json

_TYPED, _OFFSET, _TIME = b'{"type":"', b'"offset":', b'"time":"'


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
    return message if not more else b"%b,%b" % (message[:-1], msgspec.json.encode(more)[1:])


def without_state(message: bytes) -> bytes:
    """A message without its state, which follows its time."""
    # No value has these bytes, since quotes within a string are escaped.
    end = message.index(b'"', message.rindex(_TIME) + len(_TIME))
    return message[: end + 1] + b"}"


def edit_json(place: str, target: int, text: str, user: tuple[str, str], time_ms: int) -> bytes:
    """An edit; `place` comes from `record_place`."""
    return _record("edit", place, target, f'"text":{string(text)},', user, time_ms)


def without_text(edit: bytes) -> bytes:
    """An edit whose text a later edit has replaced."""
    return msgspec.json.encode(msgspec.json.decode(edit) | {"text": ""})


def delete_json(place: str, target: int, user: tuple[str, str], time_ms: int) -> bytes:
    """A deletion."""
    return _record("delete", place, target, "", user, time_ms)


def reaction_json(
    place: str, target: int, emoji: str, on: bool, count: int, user: tuple[str, str], time_ms: int
) -> bytes:  # fmt: skip
    """A reaction that was added or removed, and the new count of this emoji."""
    what = f'"emoji":{string(emoji)},"on":{"true" if on else "false"},"count":{count},'
    return _record("reaction", place, target, what, user, time_ms)


def record_place(room: str, offset: int, epoch: str) -> str:
    """The room, offset and cursor of a record, as JSON fields."""
    return f'"room":"{room}","offset":{offset},"cursor":"{epoch}-{offset}"'


def _record(kind: str, place: str, target: int, what: str, user: tuple[str, str], time_ms: int) -> bytes:
    return (
        f'{{"type":"{kind}",{place},"target":{target},{what}"user":{user_json(*user)},"time":"{time_text(time_ms)}"}}'
    ).encode()
