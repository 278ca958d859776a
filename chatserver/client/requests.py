"""Our requests to the server, in any transport; over a WebSocket these are the frames, as JSON.

Owns: the shapes, and whether a request can be JSON at all. May not: know how they are sent.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

import msgspec

from chatserver.client.errors import Invalid


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """A request about a room. `id` is set when it is sent, and comes back with the answer."""

    id: int = 0
    room: str


class Join(Request, frozen=True, kw_only=True, tag="join"):
    """Follow a room, from a cursor or with the latest messages."""

    after: str | None = None


class Leave(Request, frozen=True, kw_only=True, tag="leave"):
    """Stop following a room."""


class History(Request, frozen=True, kw_only=True, tag="history"):
    """Read records after or before a cursor or an offset; with neither, the latest."""

    after: str | int | None = None
    before: str | int | None = None
    limit: int


class Members(Request, frozen=True, kw_only=True, tag="members"):
    """Ask who is in a room."""


class Read(Request, frozen=True, kw_only=True, tag="read"):
    offset: int


class Typing(Request, frozen=True, kw_only=True, tag="typing"):
    """Show others that we are typing. It has no answer."""


class Auth(Request, frozen=True, kw_only=True, tag="auth"):
    """Sign in with this token from now on. It concerns no room."""

    room: str = ""
    token: str


class Write(Request, frozen=True, kw_only=True):
    """A request that becomes a record: with one key only one record, however often it is sent."""

    key: str = ""


class Publish(Write, frozen=True, kw_only=True, tag="publish"):
    text: str
    reply_to: int | None = None
    mentions: Sequence[str] = ()


class Edit(Write, frozen=True, kw_only=True, tag="edit"):
    offset: int
    text: str


class Delete(Write, frozen=True, kw_only=True, tag="delete"):
    offset: int


class React(Write, frozen=True, kw_only=True, tag="react"):
    offset: int
    emoji: str
    on: bool


_R = TypeVar("_R", bound=Request | str | Mapping[str, object])
#: What is sent besides requests: a part of a path, a name, fields.
_FIELD = str | int | float | None
_OTHERS: Any = _FIELD | dict[str, _FIELD]


def checked(request: _R) -> _R:
    """Return the request, text or fields as the server will read them; in the connection's task an error would end it.

    Raises Invalid for half a surrogate pair or a value of a wrong type, and TypeError for one that is no JSON.
    """
    try:
        msgspec.json.encode(request)
        # Not from JSON, where bytes are base64: a program that forgets to decode would publish that.
        plain = msgspec.to_builtins(request, builtin_types=(bytes, bytearray, memoryview))
        read_as = type(request) if isinstance(request, Request) else _OTHERS
        return cast(_R, msgspec.convert(plain, type=read_as))
    except UnicodeEncodeError as error:
        raise Invalid("bad_field", "this text is not valid UTF-8") from error
    except msgspec.ValidationError as error:
        raise Invalid("bad_field", str(error)) from error
