"""The bodies of HTTP requests: JSON, or for a message its text alone.

Owns: the shapes of bodies, and which content types are accepted. Fields are checked as over WebSocket
(client_messages.py). May not: know what a request means.
"""

from typing import TypeVar

import msgspec

from chatserver.protocol.client_messages import (
    Change,
    Delete,
    Edit,
    Publish,
    React,
    checked_change,
    checked_publish,
    parse_json,
)
from chatserver.protocol.errors import MessageError, bad_field
from chatserver.protocol.validation import MAX_TEXT_BYTES, check_name, check_offset
from chatserver.reasons import ErrorCode

#: Bytes of a plain text before each CR LF becomes LF.
_MAX_PLAIN_BYTES = 2 * MAX_TEXT_BYTES
_JSON, _TEXT = "application/json", "text/plain"
_PLAIN = frozenset((_TEXT, "application/x-www-form-urlencoded", "application/octet-stream"))


class PublishBody(msgspec.Struct, frozen=True, gc=False):
    """The body of a POST of a message."""

    text: str
    key: str | None = None
    reply_to: int | None = None
    mentions: tuple[str, ...] | None = None
    name: object = None  # refused: see `decode_publish`
    as_user: str | None = None


class EditBody(msgspec.Struct, frozen=True, gc=False):
    """The body of a PATCH of a message."""

    text: str
    key: str | None = None
    as_user: str | None = None


class KeyBody(msgspec.Struct, frozen=True, gc=False):
    """The body of a request whose path says what it does."""

    key: str | None = None
    as_user: str | None = None


class SessionBody(msgspec.Struct, frozen=True, gc=False):
    """The body of `POST /session`."""

    name: str | None = None


class ReadBody(msgspec.Struct, frozen=True, gc=False):
    """The body of a PUT of a read marker."""

    offset: int


_T = TypeVar("_T", bound=msgspec.Struct)
_publish_bodies: msgspec.json.Decoder[PublishBody] = msgspec.json.Decoder(PublishBody)
_read_bodies: msgspec.json.Decoder[ReadBody] = msgspec.json.Decoder(ReadBody)
_edit_bodies: msgspec.json.Decoder[EditBody] = msgspec.json.Decoder(EditBody)
_key_bodies: msgspec.json.Decoder[KeyBody] = msgspec.json.Decoder(KeyBody)
_session_bodies: msgspec.json.Decoder[SessionBody] = msgspec.json.Decoder(SessionBody)


def decode_publish(room: str, body: bytes, content_type: str | None) -> Publish:
    """The message in an HTTP body: JSON, or the text itself. Ask only once the sender's rate allows it."""
    media = _media_type(content_type)
    if media != _JSON:
        return checked_publish(Publish(room, _plain_text(body, media)))
    sent = parse_json(body, _publish_bodies)
    if sent.name is not None:
        rule = 'a message cannot name its author; POST /session {"name": ...} gives a token with this name'
        raise bad_field("name", rule)
    return checked_publish(
        Publish(room, sent.text, sent.key, reply_to=sent.reply_to, mentions=sent.mentions, as_user=sent.as_user)
    )


def decode_edit(room: str, offset: int, body: bytes, content_type: str | None) -> Change:
    """The edit with the new text in an HTTP body; as `decode_publish`."""
    media = _media_type(content_type)
    if media != _JSON:
        return checked_change(Edit(room, offset, _plain_text(body, media)))
    sent = parse_json(body, _edit_bodies)
    return checked_change(Edit(room, offset, sent.text, sent.key, as_user=sent.as_user))


def decode_delete(room: str, offset: int, body: bytes, content_type: str | None) -> Change:
    """A deletion; most have no body."""
    sent = _decode_key(body, content_type)
    return checked_change(Delete(room, offset, sent.key, as_user=sent.as_user))


def decode_react(room: str, offset: int, emoji: str, on: bool, body: bytes, content_type: str | None) -> Change:
    """A reaction; most have no body."""
    sent = _decode_key(body, content_type)
    return checked_change(React(room, offset, emoji, on, sent.key, as_user=sent.as_user))


def _decode_key(body: bytes, content_type: str | None) -> KeyBody:
    return parse_body(body, content_type, _key_bodies) if body else KeyBody()


def _media_type(content_type: str | None) -> str:
    """`application/json`, `text/plain`, or an empty text for any type that is not accepted.

    `curl -d hello` declares a form, and libraries without a setting declare bytes: both are read as text.
    """
    media, _, parameters = (content_type or _TEXT).partition(";")
    media = media.strip().lower()
    if media == _JSON:
        return media
    charset = parameters.lower().replace(" ", "").replace('"', "")
    utf8 = "charset=" not in charset or any(f"charset={name}" in charset for name in ("utf-8", "utf8", "us-ascii"))
    return _TEXT if utf8 and media in _PLAIN else ""


def _plain_text(body: bytes, media: str) -> str:
    if media != _TEXT:
        raise MessageError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send application/json, or text/plain in UTF-8")
    if len(body) > _MAX_PLAIN_BYTES:
        raise bad_field("text", f"{len(body):,} bytes, limit {MAX_TEXT_BYTES:,}")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise bad_field("text", "not UTF-8") from None


def parse_body(body: bytes, content_type: str | None, decoder: msgspec.json.Decoder[_T]) -> _T:
    """The JSON in an HTTP body; a body of another type is refused."""
    if _media_type(content_type) != _JSON:
        raise MessageError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send application/json")
    return parse_json(body, decoder)


def decode_read(body: bytes, content_type: str | None) -> int:
    """The offset in the body of a PUT of a read marker."""
    return check_offset(parse_body(body, content_type, _read_bodies).offset, least=0)


def decode_session(body: bytes, content_type: str | None) -> str | None:
    """The name in the body of `POST /session`, tidied; name and body are optional."""
    name = parse_body(body, content_type, _session_bodies).name if body else None
    return None if name is None else check_name(name)
