"""The messages of clients in chat.v1: JSON in, checked structs out.

Owns: the shapes of client messages and the reasons for refusing one. Every refusal is a `MessageError` that names the
field and carries the message's id whenever that could be read, so a client knows which of its messages it was. Unknown
fields are ignored (a newer client may send more); a field sent twice is refused.
Size is checked first: no message costs more than its limits allow.
"""

import math
import re
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, final, get_args

import msgspec

from chatserver.protocol.duplicates import known_fields, refuse_duplicates
from chatserver.protocol.errors import MessageError, MessageId, bad_field
from chatserver.protocol.validation import (
    MAX_TEXT_BYTES,
    WHOLE_NUMBER,
    check_emoji,
    check_key,
    check_mentions,
    check_offset,
    check_room,
    check_text,
    optional_cursor,
)
from chatserver.reasons import ErrorCode

MAX_ID_CHARS = 64
MAX_HISTORY = 200  # messages in one answer; phoenix and centrifuge leave it to the application
DEFAULT_HISTORY = 50

# Bytes of a message as JSON: an encoder to ASCII takes three bytes for one of the text, and 2 KiB are for the rest.
MAX_JSON_BYTES = 3 * MAX_TEXT_BYTES + 2 * 1024

_OBJECT = "a message is a JSON object"
_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
# A half is looked for before the half in front of it; the other way round, a text costs fifteen times as much.
_HALF_PAIR = re.compile(rb"%b(?!%b)|%b(?<!%b%b)" % (_HIGH, _LOW, _LOW, _HIGH, _LOW))
_HALF_PAIR_RULE = "half a surrogate pair"  # of a client that cut a text within an emoji

# What msgspec says of fields. A field that may be null may be left out as well, so its null is not named.
_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(.*?)`")
_TYPES = {"str": "a string", "int": WHOLE_NUMBER, "float": "a number", "bool": "true or false", "array": "a list"}

_ID_LIMIT = 1 << 53  # numbers beyond it do not come back unchanged from a browser
_ID_RULE = f"a number below 2^53 or a string of up to {MAX_ID_CHARS} characters"


class Join(msgspec.Struct, frozen=True, gc=False, tag="join"):
    """Follow a room, from a cursor or with the latest messages."""

    room: str
    after: str | int | None = None
    id: MessageId = None


class Leave(msgspec.Struct, frozen=True, gc=False, tag="leave"):
    room: str
    id: MessageId = None


@final
class Publish(msgspec.Struct, frozen=True, gc=False, tag="publish"):
    """Publish a message; with a key, at most once."""

    room: str
    text: str
    key: str | None = None
    id: MessageId = None
    reply_to: int | None = None
    mentions: tuple[str, ...] | None = None
    as_user: str | None = None


@final
class Edit(msgspec.Struct, frozen=True, gc=False, tag="edit"):
    room: str
    offset: int
    text: str
    key: str | None = None
    id: MessageId = None
    as_user: str | None = None


class Delete(msgspec.Struct, frozen=True, gc=False, tag="delete"):
    room: str
    offset: int
    key: str | None = None
    id: MessageId = None
    as_user: str | None = None


@final
class React(msgspec.Struct, frozen=True, gc=False, tag="react"):
    room: str
    offset: int
    emoji: str
    on: bool
    key: str | None = None
    id: MessageId = None
    as_user: str | None = None


class History(msgspec.Struct, frozen=True, gc=False, tag="history"):
    room: str
    before: str | int | None = None
    after: str | int | None = None
    limit: int = DEFAULT_HISTORY
    id: MessageId = None


class Members(msgspec.Struct, frozen=True, gc=False, tag="members"):
    room: str
    id: MessageId = None


class Read(msgspec.Struct, frozen=True, gc=False, tag="read"):
    room: str
    offset: int
    id: MessageId = None


class Typing(msgspec.Struct, frozen=True, gc=False, tag="typing"):
    room: str
    id: MessageId = None


class Ping(msgspec.Struct, frozen=True, gc=False, tag="ping"):
    id: MessageId = None


class Auth(msgspec.Struct, frozen=True, gc=False, tag="auth"):
    """Sign in with a token, or extend a sign-in."""

    token: str
    id: MessageId = None


#: Messages that change an earlier message.
Change: TypeAlias = Edit | Delete | React
ClientMessage: TypeAlias = Join | Leave | Publish | Change | History | Members | Read | Typing | Ping | Auth
_KINDS = frozenset(get_args(ClientMessage))
_WITHOUT_ROOM = frozenset(kind for kind in _KINDS if "room" not in kind.__struct_fields__)
_MESSAGE_TYPES = frozenset(kind.__struct_config__.tag for kind in _KINDS)


_T = TypeVar("_T", bound=msgspec.Struct)
_messages: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_scalars: msgspec.json.Decoder[MessageId] = msgspec.json.Decoder(MessageId)


def decode(data: str | bytes) -> ClientMessage:
    """The message in a text frame, every field checked."""
    try:
        message = parse_json(data, _messages)
    except MessageError as error:
        raise _explain(data, error) from None
    try:
        return _checked(message)
    except MessageError as error:
        error.id = message.id if _is_id(message.id) else None
        raise


def parse_json(data: str | bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """Decode JSON that is not too long and has no field twice. Raises MessageError."""
    if len(data) > MAX_JSON_BYTES:
        raise MessageError(ErrorCode.TOO_LARGE, f"{len(data):,} bytes of JSON, limit {MAX_JSON_BYTES:,}")
    try:
        parsed = decoder.decode(data)
        refuse_duplicates(data, _different_fields(parsed))
    except msgspec.ValidationError as error:
        raise _wrong_shape(str(error)) from None
    except msgspec.DecodeError as error:
        told = str(error)[:200].replace("Input data was truncated", "JSON is empty or ends too early")
        half = _HALF_PAIR.search(_as_bytes(data))  # at the end of a text it is "truncated" too
        raise MessageError(ErrorCode.BAD_JSON, _HALF_PAIR_RULE if half else told) from None
    except UnicodeDecodeError:
        raise MessageError(ErrorCode.BAD_JSON, "not UTF-8") from None
    except UnicodeEncodeError:
        raise MessageError(ErrorCode.BAD_JSON, _HALF_PAIR_RULE) from None
    except RecursionError:
        raise MessageError(ErrorCode.BAD_JSON, "nested too deeply") from None
    return parsed


def _wrong_shape(told: str) -> MessageError:
    """What msgspec tells of a field that is missing, unknown or of a wrong type, in the words of other refusals."""
    if found := _FIELD.match(told):
        return bad_field(found[2][:100], "missing" if found[1] == "missing required" else "unknown field")
    what, _, place = told.partition(" - at `$.")
    if not place:
        return MessageError(ErrorCode.BAD_JSON, _OBJECT)
    types = _EXPECTED.match(what)
    if not types:
        return bad_field(place[:-1], what[:100].lower())
    required = " or ".join(_TYPES.get(name, name) for name in types[1].split(" | ") if name != "null")
    return bad_field(place[:-1], f"{required} is required")


def _different_fields(parsed: msgspec.Struct) -> int:
    """The number of fields that were certainly sent; 0 if a default hides it."""
    kind = type(parsed)
    if kind is History:
        return 0
    values = msgspec.structs.astuple(parsed)
    return len(values) - values.count(None) + (kind in _KINDS)  # and their type


def _explain(data: str | bytes, error: MessageError) -> MessageError:
    """Add to a refusal what can still be read of the message: its id, and whether its type is unknown."""
    if error.code is ErrorCode.TOO_LARGE:
        return error
    malformed = error.code is ErrorCode.BAD_JSON
    try:
        fields = known_fields.decode(_without_half_pairs(data) if malformed else data)
    except (ValueError, RecursionError):
        return error if malformed else MessageError(ErrorCode.BAD_JSON, _OBJECT)
    id_ = _scalar(fields.id)
    if malformed:  # an id that was altered is left out
        return MessageError(error.code, error.message, id_ if _is_id(id_) and "\ufffd" not in str(id_) else None)
    if not _is_id(id_):
        return bad_field("id", _ID_RULE)
    kind = _scalar(fields.type)
    if not isinstance(kind, str):
        return MessageError(ErrorCode.BAD_FIELD, "type: a string is required", id_)
    if kind not in _MESSAGE_TYPES:
        return MessageError(ErrorCode.UNKNOWN_TYPE, f"type: {kind[:40]!r} is not known here", id_)
    return MessageError(error.code, error.message, id_)


def _without_half_pairs(data: str | bytes) -> bytes:
    """The message of a client that cut a text within an emoji, as JSON that can be read: its id tells which it was.

    An escape replaces a half, since what looks like one may be text behind an escaped backslash.
    """
    return _HALF_PAIR.sub(rb"\\ufffd", _as_bytes(data))


def _as_bytes(data: str | bytes) -> bytes:
    return data.encode("utf-8", "replace") if isinstance(data, str) else data


def _scalar(raw: msgspec.Raw) -> MessageId:
    try:
        return _scalars.decode(raw) if raw else None
    except (ValueError, RecursionError):
        return math.nan  # neither an id nor a type


def _is_id(value: MessageId) -> bool:
    if value is None:
        return True
    if isinstance(value, str):
        return len(value) <= MAX_ID_CHARS
    return -_ID_LIMIT < value < _ID_LIMIT  # also excludes NaN and infinity


def _checked(message: Any) -> ClientMessage:
    """Check every field; a text may be tidied. By type: `isinstance` of another struct costs 1,000 instructions."""
    if not _is_id(message.id):
        raise bad_field("id", _ID_RULE)
    kind = type(message)
    if kind not in _WITHOUT_ROOM:
        check_room(message.room)
    check = _CHECKS.get(kind)
    return message if check is None else check(message)


def _checked_join(message: Join) -> Join:
    optional_cursor(message.after)
    return message


def _checked_read(message: Read) -> Read:
    check_offset(message.offset, least=0)
    return message


def _checked_history(message: History) -> History:
    optional_cursor(message.after)
    optional_cursor(message.before)
    if message.before is not None and message.after is not None:
        raise bad_field("before, after", "one of them, not both")
    if not 1 <= message.limit <= MAX_HISTORY:
        raise bad_field("limit", f"1 to {MAX_HISTORY} messages")
    return message


def checked_publish(message: Publish) -> Publish:
    """Check every field but the room; the text may be tidied, each user is mentioned once. Raises MessageError."""
    check_key(message.key)
    if message.reply_to is not None:
        check_offset(message.reply_to, "reply_to")
    if message.mentions is not None:
        message = msgspec.structs.replace(message, mentions=check_mentions(message.mentions))
    return _with_checked_text(message)


def checked_change(message: Change) -> Change:
    """Check every field but the room; a text or an emoji may be tidied. Raises MessageError."""
    check_offset(message.offset)
    check_key(message.key)
    if type(message) is React:
        emoji = check_emoji(message.emoji)
        return message if emoji == message.emoji else msgspec.structs.replace(message, emoji=emoji)
    return _with_checked_text(message) if type(message) is Edit else message


#: The checks of fields other than `id` and `room`.
_CHECKS: dict[type, Callable[[Any], ClientMessage]] = {
    Publish: checked_publish,
    **dict.fromkeys(get_args(Change), checked_change),
    Join: _checked_join,
    Read: _checked_read,
    History: _checked_history,
}


_Written = TypeVar("_Written", Publish, Edit)


def _with_checked_text(message: _Written) -> _Written:
    text = check_text(message.text)
    return message if text is message.text else msgspec.structs.replace(message, text=text)
