"""The server's messages in chat.v1, as JSON bytes: over WebSocket, SSE and HTTP alike.

Owns: the shape and the field order of every answer. A message is encoded once, by `record_json`, and every wire form is
cut from those bytes. Pages are lists of parts that include the messages' own bytes, so a page that waits for a slow
peer costs no copy. Short answers are joined by hand (a room's name and a cursor need no escaping). `id` is left out
when the client sent none. The body of an answer ends with a line feed, for terminals.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil

import msgspec

from chatserver.protocol.errors import MessageId
from chatserver.reasons import ErrorCode

_encode = msgspec.json.Encoder().encode


class User(msgspec.Struct, frozen=True, gc=False):
    """A user, as all messages show one; a struct of another class with the same fields will do."""

    id: str
    name: str


@lru_cache(maxsize=64)  # the messages of a group have one time, and each has it in two frames
def time_text(time_ms: int) -> str:
    """`2026-11-20T12:00:00.123Z` for milliseconds since 1970."""
    return f"{_second(time_ms // 1000)}{time_ms % 1000:03d}Z"


@lru_cache(maxsize=64)  # messages come in order: the second is nearly always the one before
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")


def _id(id_: MessageId) -> str:
    return "" if id_ is None else f',"id":{_encode(id_).decode("utf-8")}'


def message_push(record: bytes) -> bytes:
    """The push of a record to a member. Records other than messages include their type already."""
    return record if record.startswith(b'{"type":') else b'{"type":"message",' + record[1:]


def ack(id_: MessageId, room: str, offset: int, epoch: str, time_ms: int, count: int | None = None) -> bytes:
    """A record is durable; for a reaction, with the new count."""
    return f'{{"type":"ack"{_id(id_)},{_place(room, offset, epoch, time_ms, count)}}}'.encode()


def ack_body(
    room: str, offset: int, epoch: str, time_ms: int, user_id: str, user_name: str, count: int | None = None
) -> bytes:
    """`ack` over HTTP, with the author: the body of a 201 or 200."""
    user = _encode(User(user_id, user_name)).decode("utf-8")
    return f'{{{_place(room, offset, epoch, time_ms, count)},"user":{user}}}\n'.encode()


def _place(room: str, offset: int, epoch: str, time_ms: int, count: int | None) -> str:
    counted = "" if count is None else f',"count":{count}'
    return f'"room":"{room}","offset":{offset},"cursor":"{epoch}-{offset}","time":"{time_text(time_ms)}"{counted}'


def hello(session: str, user: msgspec.Struct, end: bytes) -> bytes:
    """The first message on a WebSocket; `end` comes from `hello_end`. A session's token needs no escaping."""
    return b'{"type":"hello","protocol":"chat.v1","session":"%b","user":%b,%b' % (session.encode(), _encode(user), end)


def hello_end(ping: float, limits: Mapping[str, int | float]) -> bytes:
    """The part of `hello` that is the same for every client; `ping` is in seconds."""
    return _encode({"ping": ping, "limits": limits})[1:]


def joined(
    id_: MessageId, room: str, cursor: str, recovered: bool, messages: Sequence[bytes], members: int
) -> list[bytes]:
    """A join succeeded, in parts. `messages` are encoded messages."""
    begin = f'{{"type":"joined"{_id(id_)},"room":"{room}",'
    return _page(begin, cursor, recovered, messages, f',"members":{members}}}')


def left(id_: MessageId, room: str) -> bytes:
    return f'{{"type":"left"{_id(id_)},"room":"{room}"}}'.encode()


def history(id_: MessageId, room: str, cursor: str, recovered: bool, messages: Sequence[bytes]) -> list[bytes]:
    """A page of a room's log, in parts."""
    return _page(f'{{"type":"history"{_id(id_)},"room":"{room}",', cursor, recovered, messages, "}")


def page(room: str, cursor: str, recovered: bool, messages: Sequence[bytes]) -> list[bytes]:
    """`history` over HTTP: the body of a 200, and of a long-poll's answer."""
    return _page(f'{{"room":"{room}",', cursor, recovered, messages, "}\n")


def poll_page(rooms: Iterable[tuple[str, str, bool, Sequence[bytes]]]) -> list[bytes]:
    """The answer to a long-poll on many rooms, in parts: room, cursor, recovered, messages of each."""
    parts = [b'{"rooms":{']
    for index, (room, cursor, recovered, messages) in enumerate(rooms):
        parts += _page(f'{"," if index else ""}"{room}":{{', cursor, recovered, messages, "}")
    parts.append(b"}}\n")
    return parts


def _page(begin: str, cursor: str, recovered: bool, messages: Sequence[bytes], end: str) -> list[bytes]:
    parts = [b","] * (2 * len(messages) + 1)
    parts[0] = f'{begin}"cursor":"{cursor}","recovered":{"true" if recovered else "false"},"messages":['.encode()
    parts[1::2] = messages
    if messages:
        parts[-1] = f"]{end}".encode()
    else:
        parts[0] += f"]{end}".encode()
    return parts


def members(id_: MessageId, room: str, users: bytes, count: int) -> list[bytes]:
    """The members of a room, in parts: `count` users, and the list of some of them."""
    return _crowd(f'{{"type":"members"{_id(id_)},', room, users, count, "}")


def members_page(room: str, users: bytes, count: int) -> list[bytes]:
    """`members` over HTTP: the body of a 200."""
    return _crowd("{", room, users, count, "}\n")


def _crowd(begin: str, room: str, users: bytes, count: int, end: str) -> list[bytes]:
    return [f'{begin}"room":"{room}","members":'.encode(), users, f',"count":{count}{end}'.encode()]


def presence(room: str, joined: Sequence[msgspec.Struct], left: Sequence[msgspec.Struct], members: int) -> bytes:
    return _encode({"type": "presence", "room": room, "joined": joined, "left": left, "members": members})


def read(room: str, offset: int, id_: MessageId = None) -> bytes:
    """How far this user has read, for its other connections; with an id, the answer to its `read`."""
    return f'{{"type":"read"{_id(id_)},"room":"{room}","offset":{offset}}}'.encode()


def typing(room: str, user: msgspec.Struct) -> bytes:
    return _encode({"type": "typing", "room": room, "user": user})


def gap(room: str, after: str, until: str) -> bytes:
    """This client was too slow, and the messages between two cursors were skipped."""
    return f'{{"type":"gap","room":"{room}","after":"{after}","until":"{until}"}}'.encode()


def goaway(reason: str, retry_after: float) -> bytes:
    """The server will close the connection; the client should come back after `retry_after` seconds."""
    return _encode({"type": "goaway", "reason": reason, "retry_after": round(retry_after, 3)})


def error(id_: MessageId, code: ErrorCode, message: str, retry_after: float | None = None, *, room: str = "") -> bytes:
    """A message was refused; the connection stays. With a room and no id: the membership in that room has ended."""
    place = f',"room":"{room}"' if room else ""
    retry = "" if retry_after is None else f',"retry_after":{ceil(retry_after * 1000) / 1000}'
    told = _encode(message).decode()
    return f'{{"type":"error"{_id(id_)}{place},"code":"{code.code}","message":{told}{retry}}}'.encode()


def session_body(
    user: msgspec.Struct, *, guest: bool, moderates: Sequence[str], expires: str | None, tokens: bool,
    token: str | None,
) -> bytes:  # fmt: skip
    """A session over HTTP, with its token in the answer that creates it. `moderates` are patterns of rooms.

    `tokens`: whether the server takes those with which users sign in.
    """
    body = {
        "user": user, "guest": guest, "moderator": "*" in moderates, "moderates": moderates, "expires": expires,
        "tokens": tokens,
    }  # fmt: skip
    return _encode(body if token is None else {"token": token, **body}) + b"\n"


def authenticated(id_: MessageId, user: msgspec.Struct, expires: str | None) -> bytes:
    """The client is this user from now on, until `expires` (None: for good)."""
    return b'{"type":"authenticated"%b,"user":%b,"expires":%b}' % (_id(id_).encode(), _encode(user), _encode(expires))


def expiring(seconds: float) -> bytes:
    """The sign-in expires soon; `auth` with another token extends it."""
    return f'{{"type":"expiring","seconds":{round(seconds, 1)}}}'.encode()


def pong(id_: MessageId) -> bytes:
    return f'{{"type":"pong"{_id(id_)}}}'.encode()
