"""The answers of handlers: a closed set, so that the edge needs no other knowledge of handlers.

Owns: the shapes. May not: send anything.
"""

from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import Any, TypeAlias

import msgspec

from chatserver.api.dialect import Dialect
from chatserver.chat.member import Wanted
from chatserver.chat.principal import Principal
from chatserver.chat.ring import Encoding
from chatserver.chat.room import Room
from chatserver.log.interface import Draft, LogError, Stored
from chatserver.protocol.errors import Headers
from chatserver.protocol.response import JSON, error_body, retry_after
from chatserver.reasons import ErrorCode


class Response(msgspec.Struct, gc=False):
    status: int
    body: list[bytes]  # in parts, which may be shared with other answers
    content_type: str = JSON
    headers: Headers = ()
    error: ErrorCode | None = None  # of a refusal


class Hold(msgspec.Struct, gc=False):
    """A poll with nothing new, to be held: for each room, the offset after which a record answers it."""

    waits: list[tuple[Room, int]]
    principal: Principal
    seconds: float
    wanted: Wanted


class Stream(msgspec.Struct, gc=False):
    """Server-sent events of a room after an offset; `preface` is sent first, after the head."""

    room: Room
    after: int
    principal: Principal
    preface: bytes
    encoding: Encoding


class Upgrade(msgspec.Struct, gc=False):
    """A WebSocket for a principal; `wire` is the 101 answer, followed by the dialect's first message."""

    wire: bytes
    principal: Principal
    dialect: Dialect


class Commit(msgspec.Struct, gc=False):
    """A message for the log, and the answer once it is durable or has failed.

    The answer comes from a callback: with a task, a publish takes a third more CPU.
    """

    draft: Draft
    render: Callable[[Stored | LogError], Response]


class Queue(Enum):
    """Where an answer waits for its task, so that short reads wait for nothing else, and sign-outs for no search."""

    READ = auto()  # short reads of the log
    SLOW = auto()  # many short reads, and sign-outs
    SCAN = auto()  # reads for which the log may look at thousands of records
    METRICS = auto()  # of all workers: the supervisor makes them, and waits for no log
    LIST = auto()  # lists of rooms, which wait for searches
    SEARCH = auto()


class Later(msgspec.Struct, gc=False):
    """An answer for which a task waits, mostly for the log.

    The edge then calls `check`, which raises if the user has signed out or been banned meanwhile.
    """

    pending: "Coroutine[Any, Any, Answer]"  # the edge calls its `close` if the connection is gone
    check: Callable[[], object]
    queue: Queue = Queue.READ


class Next(msgspec.Struct, gc=False):
    """An answer that is made in a step of its own, since the loop's time for one step is spent."""

    go_on: "Callable[[], Answer]"


Answer: TypeAlias = Response | Hold | Stream | Upgrade | Commit | Later | Next


def refusal(code: ErrorCode, message: str, wait: float | None) -> Response:
    """An error, with Retry-After if `wait` is known."""
    return Response(code.status, [error_body(code, message)], headers=retry_after(wait), error=code)


def given_anyway() -> None:
    """The `check` of an action: its result is sent, even if the action was to sign out."""
