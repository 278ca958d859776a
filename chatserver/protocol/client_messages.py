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
from chatserver.protocol.validation import (
    MAX_TEXT_BYTES,
    check_emoji,
    check_key,
    check_mentions,
    check_name,
    check_offset,
    check_room,
    check_text,
    parse_cursor,
)
from chatserver.reasons import ErrorCode

MAX_ID_CHARS = 64
MAX_HISTORY = 200  # messages in one answer; phoenix and centrifuge leave it to the application
DEFAULT_HISTORY = 50
MAX_TOKEN_CHARS = 4096  # what a cookie holds; an RS256 token with a page of claims has 2,000

# Bytes of a message as JSON: an encoder for ASCII needs three for one, and 2 KiB are for what is around the text.
MAX_JSON_BYTES = 3 * MAX_TEXT_BYTES + 2 * 1024
_MAX_PLAIN_BYTES = 2 * MAX_TEXT_BYTES  # each CR LF becomes LF

_OBJECT = "a message is a JSON object"
_JSON, _TEXT = "application/json", "text/plain"
_PLAIN = frozenset((_TEXT, "application/x-www-form-urlencoded", "application/octet-stream"))

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
    reply_to: int | None = None
    mentions: tuple[str, ...] | None = None


class Edit(msgspec.Struct, frozen=True, gc=False, tag="edit"):
    """Say something else instead."""

    room: str
    offset: int
    text: str
    key: str | None = None
    id: MessageId = None


class Delete(msgspec.Struct, frozen=True, gc=False, tag="delete"):
    """Take back what was said."""

    room: str
    offset: int
    key: str | None = None
    id: MessageId = None


class React(msgspec.Struct, frozen=True, gc=False, tag="react"):
    """Put an emoji on a message, or take it off."""

    room: str
    offset: int
    emoji: str
    on: bool
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


#: What happens to a message later.
Change: TypeAlias = Edit | Delete | React
ClientMessage: TypeAlias = Join | Leave | Publish | Change | History | Members | Read | Typing | Ping | Auth
_MESSAGE_TYPES = frozenset(
    (
        "join", "leave", "publish", "edit", "delete", "react", "history", "members", "read", "typing", "ping", "auth",
    )
)  # fmt: skip


class PublishBody(msgspec.Struct, frozen=True, gc=False):
    """The body of a POST of a message."""

    text: str
    key: str | None = None
    reply_to: int | None = None
    mentions: tuple[str, ...] | None = None
    name: object = None  # refused: see `decode_publish`


class EditBody(msgspec.Struct, frozen=True, gc=False):
    """The body of a PATCH of a message."""

    text: str
    key: str | None = None


class KeyBody(msgspec.Struct, frozen=True, gc=False):
    """The body of a request that says everything else in its path."""

    key: str | None = None


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
_edit_bodies: msgspec.json.Decoder[EditBody] = msgspec.json.Decoder(EditBody)
_key_bodies: msgspec.json.Decoder[KeyBody] = msgspec.json.Decoder(KeyBody)
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
    """The message in an HTTP body: JSON, or the text itself. Ask only once the sender's rate allows it."""
    media = _media_type(content_type)
    if media == _JSON:
        message = _parse(body, _publish_bodies)
        if message.name is not None:
            sentence = 'name: a message does not say who one is; POST /session {"name": ...} gives a token that does'
            raise MessageError(ErrorCode.BAD_FIELD, sentence)
        _check_key(message.key)
        if message.reply_to is not None:
            check_offset(message.reply_to, "reply_to")
        mentions = None if message.mentions is None else check_mentions(message.mentions)
        return PublishBody(check_text(message.text), message.key, message.reply_to, mentions)
    return PublishBody(_plain_text(body, media))


def decode_edit(body: bytes, content_type: str | None) -> EditBody:
    """What to say instead: as `decode_publish`."""
    media = _media_type(content_type)
    if media == _JSON:
        edit = _parse(body, _edit_bodies)
        _check_key(edit.key)
        return EditBody(check_text(edit.text), edit.key)
    return EditBody(_plain_text(body, media))


def decode_key(body: bytes, content_type: str | None) -> str | None:
    """The key in an HTTP body that has nothing else; most have no body."""
    return _check_key(parse_body(body, content_type, _key_bodies).key) if body else None


def _media_type(content_type: str | None) -> str:
    """`application/json`, `text/plain`, or nothing for what is not understood.

    `curl -d hello` claims to send a form, and libraries that are told nothing claim to send bytes: both are text.
    """
    media, _, parameters = (content_type or _TEXT).partition(";")
    media = media.strip().lower()
    if media == _JSON:
        return media
    charset = parameters.lower().replace(" ", "").replace('"', "")
    utf8 = "charset=" not in charset or "charset=utf-8" in charset or "charset=us-ascii" in charset
    return _TEXT if utf8 and media in _PLAIN else ""


def _plain_text(body: bytes, media: str) -> str:
    if media != _TEXT:
        raise MessageError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send application/json, or text/plain in UTF-8")
    if len(body) > _MAX_PLAIN_BYTES:
        raise MessageError(ErrorCode.BAD_FIELD, f"text: {len(body):,} bytes, limit {MAX_TEXT_BYTES:,}")
    try:
        return check_text(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise MessageError(ErrorCode.BAD_FIELD, "text: not UTF-8") from None


def _check_key(key: str | None) -> str | None:
    return key if key is None else check_key(key)


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
        return _checked_publish(message)
    if isinstance(message, Change):
        return _checked_change(message)
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


def _checked_publish(message: Publish) -> Publish:
    if message.key is not None:
        check_key(message.key)
    if message.reply_to is not None:
        check_offset(message.reply_to, "reply_to")
    if message.mentions is not None:
        message = msgspec.structs.replace(message, mentions=check_mentions(message.mentions))
    text = check_text(message.text)
    return message if text is message.text else msgspec.structs.replace(message, text=text)


def _checked_change(message: Change) -> ClientMessage:
    check_offset(message.offset)
    if message.key is not None:
        check_key(message.key)
    if isinstance(message, Edit):
        return msgspec.structs.replace(message, text=check_text(message.text))
    if isinstance(message, React):
        check_emoji(message.emoji)
    return message
