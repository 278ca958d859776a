"""Receivers of a room's news: members, which stay, and held polls, which get one answer.

Owns: the structs. May not: know what a connection is beyond a value to hand back to the sink.

A slow member costs an integer: its cursor. No member has a queue of messages. All structs are untracked by the
collector (see `net/connection.py`); the cycles through them are cut by `Hub.leave` and `Hub.release`.
"""

from enum import IntEnum
from typing import TYPE_CHECKING, Final

import msgspec

from chatserver.chat.principal import Principal
from chatserver.chat.ring import Encoding

if TYPE_CHECKING:
    from chatserver.chat.room import Room


class Source(IntEnum):
    """Where a member gets its messages from."""

    RING = 0  # broadcasts offer it what it lacks
    LOG = 1  # the log is being read for it, and broadcasts skip it
    NOTHING = 2  # it has left


#: For the loops over a room's members: to look up `Source.RING` costs CPython 3.11 some 900 instructions.
RING: Final = Source.RING


class Member(msgspec.Struct, gc=False, eq=False):
    """One connection in one room; its principal is in `Room.members`."""

    room: "Room"
    connection: object
    encoding: Encoding
    cursor: int  # the offset up to which everything was given to its connection
    source: Source = Source.RING
    next: "Member | None" = None  # the same connection's membership in another room


class Wait(msgspec.Struct, gc=False, eq=False):
    """One room that a held poll waits for; `room` is None once it does not."""

    room: "Room | None" = None
    after: int = 0
    next: "Wait | None" = None


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """The kind of page that a client wants, wherever it begins."""

    limit: int
    messages_only: bool = False
    many: bool = False  # pages of rooms, in the shape of `/poll`


class PollWaiter(Wait, kw_only=True, gc=False, eq=False):
    """A held poll: it is answered once, as soon as any of its rooms has a record after the offset given for it.

    The struct is its own first `Wait`, since nearly all polls name one room.
    """

    connection: object
    principal: Principal
    wanted: Wanted  # its answer may be empty, if it holds only messages
    keep_alive: bool
    headers: tuple[tuple[str, str], ...] = ()  # of its answer

    def lacks_news_of(self, room: "Room") -> bool:
        """Whether it still waits for this room, and the room has a record after its offset."""
        wait: Wait | None = self
        while wait is not None:
            if wait.room is room:
                return wait.after < room.last
            wait = wait.next
        return False

    def places(self) -> list[tuple["Room", int]]:
        """Each room and the offset after which it waits for a record, in the order in which the client named them."""
        found = []
        wait: Wait | None = self
        while wait is not None:
            if wait.room is not None:
                found.append((wait.room, wait.after))
            wait = wait.next
        return found
