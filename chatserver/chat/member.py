"""Those who wait for a room's news: members, who stay, and holds, who get one answer.

Owns: the structs. May not: know what a connection is beyond a value to hand back to the outlet.

A slow member costs an integer: its cursor. There is no queue of messages for anybody. All structs are untracked by the
collector (see `net/connection.py`); the cycles through them are cut by `Hub.leave` and `Hub.release`.
"""

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

from chatserver.chat.ring import Form

if TYPE_CHECKING:
    from chatserver.chat.room import Room


class State(IntEnum):
    """What a member gets its messages from."""

    LIVE = 0  # the ring: the pump offers what it lacks
    CATCHING_UP = 1  # the log: a reader is at work for it, and the pump passes it by
    GONE = 2
    ALONE = 3  # nothing: nobody else is in its room, and nothing was said there, see unopened.py


class Member(msgspec.Struct, gc=False, eq=False):
    """One connection in one room."""

    room: "Room"  # one that stands for all the others while it is ALONE
    connection: object
    form: Form
    user: int
    cursor: int  # the offset up to which everything was given to its connection
    state: State = State.LIVE
    uninformed: bool = False  # was behind when presence was told
    alone_in: str | None = None  # the name of its room while it is ALONE
    next: "Member | None" = None  # the same connection's membership in another room

    @property
    def room_name(self) -> str:
        """What its client calls the room."""
        return self.room.name if self.alone_in is None else self.alone_in


class Wait(msgspec.Struct, gc=False, eq=False):
    """One room that a held poll waits for."""

    room: "Room"
    after: int
    next: "Wait | None" = None


class Hold(msgspec.Struct, gc=False, eq=False):
    """A held poll: it is answered once, as soon as any of its rooms has something after its place there."""

    connection: object
    user: int
    limit: int
    many: bool  # answered in the shape of `/poll`, even for one room
    keep_alive: bool
    first: Wait | None = None

    def lacks_news_of(self, room: "Room") -> bool:
        """Whether it still waits for this room, and the room has something after its place."""
        wait = self.first
        while wait is not None:
            if wait.room is room:
                return wait.after < room.last
            wait = wait.next
        return False

    def places(self) -> list[tuple[str, int]]:
        """Each room's name and the offset that something must come after, in the order the client named them."""
        found = []
        wait = self.first
        while wait is not None:
            found.append((wait.room.name, wait.after))
            wait = wait.next
        return found[::-1]


class Outlet(Protocol):
    """What chat may do with a connection. Nothing here waits."""

    def offer(self, connection: object, data: bytes) -> int:
        """Write what the peer takes now: bytes taken, 0 when it is behind, -1 when it is gone."""

    def offer_each(self, connections: list[object], data: bytes) -> list[tuple[int, int]]:
        """Offer the same to many; index and result, as of `offer`, for those that did not take all of it."""

    def keep(self, connection: object, chunk: bytes, position: int) -> None:
        """See to the rest of a frame that was partly taken; its members are offered more when there is room."""

    def send(self, connection: object, data: bytes) -> None:
        """Write all of it, now or later."""

    def blocked(self, connection: object) -> bool:
        """Whether it is behind."""

    def answer(self, hold: Hold, *, herd: bool) -> None:
        """News for a held poll; one of many whose next requests will all come at once, or not."""

    def resume(self, connection: object) -> None:
        """A publisher that was paused may go on."""

    def fault(self, connection: object | None = None) -> None:
        """A bug of ours, to be called where its exception is caught: it costs this connection, if any, and no other."""

    def crowded(self) -> bool:
        """Whether more peers wait to be attended to than can be in one pass."""
