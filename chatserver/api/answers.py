"""The answers of handlers: a closed set, so that the edge needs no other knowledge of handlers.

Owns: the shapes. May not: send anything.

`Response` is written, and the connection kept or closed. `Hold` parks a poll until a room has news or its time is up.
`Stream` becomes server-sent events, `Upgrade` a WebSocket. `Commit` waits until a message is durable: with a callback
from the group commit a publish costs 81 µs in all, with a task 108. `Later` waits in a task for any other answer.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import msgspec

from chatserver.api.dialect import Dialect
from chatserver.chat.principal import Principal
from chatserver.chat.room import Room
from chatserver.log.interface import Draft, LogError, Stored
from chatserver.protocol.errors import Headers
from chatserver.protocol.response import JSON, error_body, retry_after
from chatserver.reasons import ErrorCode


class Response(msgspec.Struct, gc=False):
    """A complete answer."""

    status: int
    body: list[bytes]  # in parts, which may be shared with other answers
    content_type: str = JSON
    headers: Headers = ()


class Hold(msgspec.Struct, gc=False):
    """A poll with nothing new: for each room, the offset after which a record would answer it."""

    waits: list[tuple[Room, int]]
    principal: Principal
    seconds: float
    limit: int
    many: bool
    messages_only: bool = False


class Stream(msgspec.Struct, gc=False):
    """Events of a room after an offset; `preface` is sent first."""

    room: Room
    after: int
    principal: Principal
    preface: bytes
    messages_only: bool = False


class Upgrade(msgspec.Struct, gc=False):
    """A WebSocket for a principal; `wire` is the 101 answer, followed by the dialect's first message."""

    wire: bytes
    principal: Principal
    dialect: Dialect


class Commit(msgspec.Struct, gc=False):
    """A message for the log, and the answer once it is durable or has failed."""

    draft: Draft
    render: Callable[[Stored | LogError], Response]


class Later(msgspec.Struct, gc=False):
    """An answer that has to wait, mostly for the log.

    The edge calls `check` when the answer has come. It raises if the user may not have it any more: by then the user
    may have signed out or been banned.
    """

    pending: "Coroutine[Any, Any, Answer]"  # the edge calls its `close` if the connection is gone
    check: Callable[[], object]
    slow: bool = False  # it takes more than a read of the log: these queue separately, so reads do not wait for them


Answer: TypeAlias = Response | Hold | Stream | Upgrade | Commit | Later


def refusal(code: ErrorCode, message: str, wait: float | None) -> Response:
    """An error, with Retry-After if `wait` is known."""
    return Response(code.status, [error_body(code, message)], headers=retry_after(wait))


def given_anyway() -> None:
    """The `check` of an action: what was done is told, even if the action was to sign out."""
