"""The state of one WebSocket.

Owns: the struct. May not: hold anything that a parked peer does not need; there are 15,000 of these.
"""

from collections.abc import Iterator
from enum import Enum, auto

import msgspec

from chatserver.api.dialect import Dialect
from chatserver.chat.member import Member
from chatserver.chat.principal import Principal
from chatserver.chat.room import Room
from chatserver.protocol.websocket import Assembly
from chatserver.reasons import Reason


class Waits(Enum):
    """Why a WebSocket's next message is not handled now."""

    NOTHING = auto()  # the message is handled
    TASK = auto()  # a task is handling the last one
    LOG = auto()  # MAX_IN_FLIGHT publishes of the client are waiting for the log
    GONE = auto()  # the connection is closed, or about to be


#: Globals for each message: to look up a member of an enum costs CPython 3.11 some 900 instructions.
NOTHING, LOG, GONE = Waits.NOTHING, Waits.LOG, Waits.GONE


class Ending(msgspec.Struct, gc=False):
    """How a WebSocket is closed; in order, it is closed when all publishes of its client are acknowledged."""

    reason: Reason
    text: str | None = None  # None: the sentence of the reason
    code: int | None = None  # None: that of the reason


class WebSocketSession(msgspec.Struct, gc=False, eq=False):
    """A WebSocket: its principal, its dialect, its memberships (a linked list of members)."""

    principal: Principal
    dialect: Dialect
    members: Member | None = None
    assembly: Assembly | None = None  # its incomplete message
    #: why it is not read; a room: the client publishes too fast for the room's members; work: it is done in steps
    waits: Waits | Room | Iterator[None] | Ending = NOTHING
    in_flight: int = 0  # publishes that wait for the log

    def rooms(self) -> Iterator[Member]:
        member = self.members
        while member is not None:
            following = member.next  # read before the yield: the caller may end this membership
            yield member
            member = following

    def find(self, room: str) -> Member | None:
        member = self.members
        while member is not None:
            if member.room.name == room:
                return member
            member = member.next
        return None

    def add(self, member: Member) -> None:
        member.next, self.members = self.members, member

    def make_last(self, member: Member) -> None:
        """Turn the list of memberships, so that it ends with this one and begins with the one behind it."""
        following = member.next
        if following is None:
            return
        *_, last = self.rooms()
        last.next, self.members, member.next = self.members, following, None

    def remove(self, gone: Member) -> None:
        """Remove a membership, which must be there."""
        if self.members is gone:
            self.members = gone.next
        else:
            for member in self.rooms():
                if member.next is gone:
                    member.next = gone.next
                    break
        gone.next = None
