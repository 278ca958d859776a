"""What is kept of one WebSocket.

Owns: the struct. May not: hold anything that a parked peer does not need; it is there 15,000 times.
"""

from collections.abc import Iterator
from enum import Enum, auto

import msgspec

from chatserver.api.dialect import Dialect
from chatserver.chat.member import Member
from chatserver.chat.principal import Principal
from chatserver.chat.room import Room
from chatserver.protocol.websocket import Assembly


class Waits(Enum):
    """Why a WebSocket's next message is not attended to."""

    NOTHING = auto()  # it is
    TASK = auto()  # a task is at work on the last one
    LOG = auto()  # as many of its publishes as may be wait to be durable
    GONE = auto()  # its connection is closed, or about to be


NOTHING = Waits.NOTHING


class WebSocketSession(msgspec.Struct, gc=False, eq=False):
    """A WebSocket: its principal, what it speaks, the rooms it is in (a chain of members)."""

    principal: Principal
    dialect: Dialect
    members: Member | None = None
    assembly: Assembly | None = None  # the message it is in the middle of
    waits: Waits | Room = NOTHING  # for what it is not read; a room: its members, for whom it publishes too fast
    in_flight: int = 0  # publishes that wait for the log

    def rooms(self) -> Iterator[Member]:
        """Its memberships."""
        member = self.members
        while member is not None:
            following = member.next  # read first: the caller may end this one
            yield member
            member = following

    def find(self, room: str) -> Member | None:
        """Its membership in a room."""
        member = self.members
        while member is not None:
            if member.room.name == room:
                return member
            member = member.next
        return None

    def add(self, member: Member) -> None:
        """One more."""
        member.next, self.members = self.members, member

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
