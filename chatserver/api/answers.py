"""What a handler may answer: a closed set, so that the edge needs no other knowledge of handlers.

Owns: the shapes. May not: send anything.

`Response` is written, and the connection kept or closed. `Hold` parks until a room has news or time is up. `Stream`
becomes server-sent events, `Upgrade` a WebSocket. `Commit` waits for the log to make a message durable: a callback from
the group commit costs 81 µs a publish in all, a task 108. `Slow` is a search.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import msgspec

from chatserver.api.dialect import Dialect
from chatserver.chat.principal import Principal
from chatserver.chat.room import Room
from chatserver.log.interface import Draft, LogError, Stored
from chatserver.protocol.errors import Headers
from chatserver.protocol.response import JSON


class Response(msgspec.Struct, gc=False):
    """A whole answer."""

    status: int
    body: list[bytes]  # in parts, which others may have as well
    content_type: str = JSON
    headers: Headers = ()


class Hold(msgspec.Struct, gc=False):
    """A poll with nothing new: for each room the offset that something must come after."""

    waits: list[tuple[Room, int]]
    principal: Principal
    seconds: float
    limit: int
    many: bool
    messages_only: bool = False


class Stream(msgspec.Struct, gc=False):
    """Events of a room after an offset; `preface` goes out first."""

    room: Room
    after: int
    principal: Principal
    preface: bytes
    messages_only: bool = False


class Upgrade(msgspec.Struct, gc=False):
    """A WebSocket for a principal; `wire` is the 101 answer, and what the dialect says right behind it."""

    wire: bytes
    principal: Principal
    dialect: Dialect


class Commit(msgspec.Struct, gc=False):
    """A message for the log, and the answer once it is durable or has failed."""

    draft: Draft
    render: Callable[[Stored | LogError], Response]


class Slow(msgspec.Struct, gc=False):
    """An answer that takes more than a read of the log: such wait among themselves, and never in front of readers."""

    pending: "Pending"


Answer: TypeAlias = Response | Hold | Stream | Upgrade | Commit | Slow
#: An answer that has to wait for the log; `close` it if its connection is gone.
Pending: TypeAlias = Coroutine[Any, Any, Answer]
