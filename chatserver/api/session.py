"""What is kept of one WebSocket.

Owns: the struct. May not: hold anything that a parked peer does not need; it is there 15,000 times.
"""

from collections.abc import Iterator
from enum import IntEnum

import msgspec

from chatserver.chat.member import Member
from chatserver.protocol.websocket import Assembly, Event


class Waiting(IntEnum):
    """Why a WebSocket's messages are not attended to."""

    NOTHING = 0  # they are
    TASK = 1  # a task is at work on one of them
    ROOM = 2  # its publishes are ahead of the log or of a room's pump
    GONE = 3  # its close frame has been sent, or its connection is no more: nothing may be sent behind that
    TURN = 4  # it has sent more than is attended to in one go: the others first


class Session(msgspec.Struct, gc=False, eq=False):
    """A WebSocket: its connection, its user, the rooms it is in (a chain of members)."""

    connection: object
    user: int
    echo: bool = False
    waiting: Waiting = Waiting.NOTHING
    fluent: bool = False  # nothing that it said last had to wait: what it sends ahead is unpacked at one go
    counted: int = 0  # bytes of it that are not a whole message, as all of them are counted
    in_flight: int = 0  # publishes that wait for the log
    members: Member | None = None
    assembly: Assembly | None = None  # the message it is in the middle of
    queue: list[Event] | None = None  # events read and not yet attended to, while one of them waits for us

    def rooms(self) -> Iterator[Member]:
        """Its memberships."""
        member = self.members
        while member is not None:
            following = member.next  # read first: the caller may end this one
            yield member
            member = following

    def find(self, room: str) -> Member | None:
        """Its membership in a room."""
        for member in self.rooms():
            if member.room_name == room:
                return member
        return None

    def add(self, member: Member) -> None:
        """One more."""
        member.next = self.members
        self.members = member

    def remove(self, gone: Member) -> None:
        """One less; it must be there."""
        if self.members is gone:
            self.members = gone.next
        else:
            for member in self.rooms():
                if member.next is gone:
                    member.next = gone.next
                    break
        gone.next = None
