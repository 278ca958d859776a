"""What a client may say in chat.v1: JSON in, checked structs out.

Owns: the shapes of client messages and what is refused about them. Every refusal is a `MessageError` that names
the field and carries the message's id whenever that could be read, so a client can tell which of its messages it
was. Fields unknown to us are ignored (a newer client may send more); a field sent twice is refused.
Size comes first: no message costs more than its limits allow.
"""

import math
from typing import TypeAlias, TypeVar

import msgspec

from chatserver.protocol.duplicates import known_fields, refuse_duplicates
from chatserver.protocol.errors import MessageError, MessageId
from chatserver.protocol.validation import MAX_TEXT_BYTES, check_key, check_name, check_room, check_text, parse_cursor
from chatserver.reasons import ErrorCode

MAX_ID_CHARS = 64
MAX_HISTORY = 200  # messages in one answer; phoenix and centrifuge leave it to the application
DEFAULT_HISTORY = 50
MAX_TOKEN_CHARS = 4096  # what a cookie holds; an RS256 token with a page of claims has 2,000

# Bytes of a message as JSON: an encoder for ASCII needs three for one, and 2 KiB are for what is around the text.
MAX_JSON_BYTES = 3 * MAX_TEXT_BYTES + 2 * 1024
_MAX_PLAIN_BYTES = 2 * MAX_TEXT_BYTES  # each CR LF becomes LF

_OBJECT = "a message is a JSON object"
_PLAIN = frozenset(("text/plain", "application/x-www-form-urlencoded", "application/octet-stream"))

_ID_LIMIT = 1 << 53  # numbers beyond it do not come back unchanged from a browser
_ID_RULE = f"id: a number below 2^53 or a string of up to {MAX_ID_CHARS} characters"


class Join(msgspec.Struct, frozen=True, gc=False, tag="join"):
    """Be told what is said in a room, after a cursor or with the latest messages."""

    room: str
    after: str | int | None = None
    id: MessageId = None


class Leave(msgspec.Struct, frozen=True, gc=False, tag="leave"):
    """Be told no more."""

    room: str
    id: MessageId = None


class Publish(msgspec.Struct, frozen=True, gc=False, tag="publish"):
    """Say something; with a key, at most once."""

    room: str
    text: str
    key: str | None = None
    id: MessageId = None


class History(msgspec.Struct, frozen=True, gc=False, tag="history"):
    """Read what was said before or after a cursor."""

    room: str
    before: str | int | None = None
    after: str | int | None = None
    limit: int = DEFAULT_HISTORY
    id: MessageId = None


class Members(msgspec.Struct, frozen=True, gc=False, tag="members"):
    """Ask who is there."""

    room: str
    id: MessageId = None


class Read(msgspec.Struct, frozen=True, gc=False, tag="read"):
    """Say how far one has read."""

    room: str
    offset: int
    id: MessageId = None


class Typing(msgspec.Struct, frozen=True, gc=False, tag="typing"):
    """Say that one is writing something."""

    room: str
    id: MessageId = None


class Ping(msgspec.Struct, frozen=True, gc=False, tag="ping"):
    """Ask whether the server is there."""

    id: MessageId = None


class Auth(msgspec.Struct, frozen=True, gc=False, tag="auth"):
    """Be who a token says, from now on."""

    token: str
    id: MessageId = None


ClientMessage: TypeAlias = Join | Leave | Publish | History | Members | Read | Typing | Ping | Auth
_MESSAGE_TYPES = frozenset(("join", "leave", "publish", "history", "members", "read", "typing", "ping", "auth"))


class PublishBody(msgspec.Struct, frozen=True, gc=False):
    """The body of a POST of a message."""

    text: str
    key: str | None = None
    name: object = None  # refused: see `decode_publish`


class SessionBody(msgspec.Struct, frozen=True, gc=False):
    """The body of `POST /session`."""

    name: str | None = None


class ReadBody(msgspec.Struct, frozen=True, gc=False):
    """The body of a PUT of a read marker."""

    offset: int


_T = TypeVar("_T", bound=msgspec.Struct)
_messages: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_publish_bodies: msgspec.json.Decoder[PublishBody] = msgspec.json.Decoder(PublishBody)
_read_bodies: msgspec.json.Decoder[ReadBody] = msgspec.json.Decoder(ReadBody)
_session_bodies: msgspec.json.Decoder[SessionBody] = msgspec.json.Decoder(SessionBody)
_scalars: msgspec.json.Decoder[MessageId] = msgspec.json.Decoder(MessageId)


def decode(data: str | bytes) -> ClientMessage:
    """The message in a text frame, every field checked."""
    try:
        message = _parse(data, _messages)
    except MessageError as error:
        raise _explain(data, error) from None
    try:
        return _checked(message)
    except MessageError as error:
        error.id = message.id if _is_id(message.id) else None
        raise


def decode_publish(body: bytes, content_type: str | None) -> PublishBody:
    """The message in an HTTP body: JSON, or the text itself. Ask only once the sender's rate allows it.

    `curl -d hello` claims to send a form, and libraries that are told nothing claim to send bytes: both are text.
    """
    media, _, parameters = (content_type or "text/plain").partition(";")
    media = media.strip().lower()
    if media == "application/json":
        message = _parse(body, _publish_bodies)
        if message.name is not None:
            sentence = 'name: a message does not say who one is; POST /session {"name": ...} gives a token that does'
            raise MessageError(ErrorCode.BAD_FIELD, sentence)
        key = message.key if message.key is None else check_key(message.key)
        return PublishBody(check_text(message.text), key)
    charset = parameters.lower().replace(" ", "").replace('"', "")
    if media in _PLAIN and ("charset=" not in charset or "charset=utf-8" in charset or "charset=us-ascii" in charset):
        if len(body) > _MAX_PLAIN_BYTES:
            raise MessageError(ErrorCode.BAD_FIELD, f"text: {len(body):,} bytes, limit {MAX_TEXT_BYTES:,}")
        try:
            return PublishBody(check_text(body.decode("utf-8")))
        except UnicodeDecodeError:
            raise MessageError(ErrorCode.BAD_FIELD, "text: not UTF-8") from None
    raise MessageError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send application/json, or text/plain in UTF-8")


def parse_body(body: bytes, content_type: str | None, decoder: msgspec.json.Decoder[_T]) -> _T:
    """The JSON in an HTTP body; a body of another type is refused."""
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise MessageError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send application/json")
    return _parse(body, decoder)


def decode_read(body: bytes, content_type: str | None) -> int:
    """The offset in the body of a PUT of a read marker."""
    return _check_offset(parse_body(body, content_type, _read_bodies).offset)


def _check_offset(offset: int) -> int:
    if not 0 <= offset < _ID_LIMIT:
        raise MessageError(ErrorCode.BAD_FIELD, "offset: a whole number from 0 to 2^53")
    return offset


def decode_session(body: bytes, content_type: str | None) -> str | None:
    """The name in the body of `POST /session`, tidied; there need be none, nor a body."""
    name = parse_body(body, content_type, _session_bodies).name if body else None
    return None if name is None else check_name(name)


def _parse(data: str | bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    if len(data) > MAX_JSON_BYTES:
        raise MessageError(ErrorCode.TOO_LARGE, f"{len(data):,} bytes of JSON, limit {MAX_JSON_BYTES:,}")
    try:
        parsed = decoder.decode(data)
        refuse_duplicates(data, _different_fields(parsed))
    except msgspec.ValidationError as error:
        names_a_field = "`$." in str(error) or "missing required" in str(error)
        raise MessageError(ErrorCode.BAD_FIELD, str(error)[:200] if names_a_field else _OBJECT) from None
    except msgspec.DecodeError as error:
        raise MessageError(ErrorCode.BAD_JSON, str(error)[:200]) from None
    except UnicodeDecodeError:
        raise MessageError(ErrorCode.BAD_JSON, "not UTF-8") from None
    except UnicodeEncodeError:
        raise MessageError(ErrorCode.BAD_JSON, "half a surrogate pair") from None
    except RecursionError:
        raise MessageError(ErrorCode.BAD_JSON, "nested too deeply") from None
    return parsed


def _different_fields(parsed: msgspec.Struct) -> int:
    """How many fields were there at least; 0 if a default hides it."""
    if type(parsed) is History:
        return 0
    values = msgspec.structs.astuple(parsed)
    return len(values) - values.count(None) + (parsed.__struct_config__.tag is not None)


def _explain(data: str | bytes, error: MessageError) -> MessageError:
    """Add what can still be read of a message that was refused: its id, and whether its type was the trouble."""
    if error.code is not ErrorCode.BAD_FIELD:
        return error
    try:
        fields = known_fields.decode(data)
    except (ValueError, RecursionError):
        return MessageError(ErrorCode.BAD_JSON, _OBJECT)
    id_ = _scalar(fields.id)
    if not _is_id(id_):
        return MessageError(ErrorCode.BAD_FIELD, _ID_RULE)
    kind = _scalar(fields.type)
    if not isinstance(kind, str):
        return MessageError(ErrorCode.BAD_FIELD, "type: a string is required", id_)
    if kind not in _MESSAGE_TYPES:
        return MessageError(ErrorCode.UNKNOWN_TYPE, f"type: {kind[:40]!r} is not known here", id_)
    return MessageError(error.code, error.message, id_)


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
    return -_ID_LIMIT < value < _ID_LIMIT  # and so neither NaN nor infinite


def _checked(message: ClientMessage) -> ClientMessage:
    if not _is_id(message.id):
        raise MessageError(ErrorCode.BAD_FIELD, _ID_RULE)
    if isinstance(message, Ping):
        return message
    if isinstance(message, Auth):
        if len(message.token) > MAX_TOKEN_CHARS:
            raise MessageError(
                ErrorCode.BAD_FIELD, f"token: {len(message.token):,} characters, limit {MAX_TOKEN_CHARS:,}"
            )
        return message
    check_room(message.room)
    if isinstance(message, Read):
        _check_offset(message.offset)
    if isinstance(message, Publish):
        if message.key is not None:
            check_key(message.key)
        text = check_text(message.text)
        return message if text is message.text else msgspec.structs.replace(message, text=text)
    if isinstance(message, Join | History) and message.after is not None:
        parse_cursor(message.after)
    if isinstance(message, History):
        if message.before is not None:
            parse_cursor(message.before)
            if message.after is not None:
                raise MessageError(ErrorCode.BAD_FIELD, "before, after: one of them, not both")
        if not 1 <= message.limit <= MAX_HISTORY:
            raise MessageError(ErrorCode.BAD_FIELD, f"limit: 1 to {MAX_HISTORY} messages")
    return message
