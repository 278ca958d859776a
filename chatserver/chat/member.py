"""Those who wait for a room's news: members, who stay, and held polls, which get one answer.

Owns: the structs. May not: know what a connection is beyond a value to hand back to the sink.

A slow member costs an integer: its cursor. There is no queue of messages for anybody. All structs are untracked by the
collector (see `net/connection.py`); the cycles through them are cut by `Hub.leave` and `Hub.release`.
"""

from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

from chatserver.chat.principal import Principal
from chatserver.chat.ring import Encoding

if TYPE_CHECKING:
    from chatserver.chat.room import Room


class Source(IntEnum):
    """What a member gets its messages from."""

    RING = 0  # a broadcast offers what it lacks
    LOG = 1  # a reader is at work for it, and broadcasts pass it by
    NOTHING = 2  # it has left


class Member(msgspec.Struct, gc=False, eq=False):
    """One connection in one room; whose it is stands in `Room.members`."""

    room: "Room"
    connection: object
    encoding: Encoding
    cursor: int  # the offset up to which everything was given to its connection
    source: Source = Source.RING
    next: "Member | None" = None  # the same connection's membership in another room


class Wait(msgspec.Struct, gc=False, eq=False):
    """One room that a held poll waits for; None once it does not."""

    room: "Room | None" = None
    after: int = 0
    next: "Wait | None" = None


class PollWaiter(Wait, kw_only=True, gc=False, eq=False):
    """A held poll: it is answered once, as soon as any of its rooms has something after its place there.

    It is its own first wait: nearly all polls name one room.
    """

    connection: object
    principal: Principal
    limit: int
    many: bool  # answered in the shape of `/poll`, even for one room
    keep_alive: bool
    messages_only: bool = False  # nothing else is in its answer, which may be empty then

    def lacks_news_of(self, room: "Room") -> bool:
        """Whether it still waits for this room, and the room has something after its place."""
        wait: Wait | None = self
        while wait is not None:
            if wait.room is room:
                return wait.after < room.last
            wait = wait.next
        return False

    def places(self) -> list[tuple["Room", int]]:
        """Each room and the offset that something must come after, in the order the client named them."""
        found = []
        wait: Wait | None = self
        while wait is not None:
            if wait.room is not None:
                found.append((wait.room, wait.after))
            wait = wait.next
        return found
