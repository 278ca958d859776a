"""Who somebody is, as every handler sees it: nothing else is known of a person beyond this.

Owns: the struct, and what its rights allow. May not: know where principals come from; guests are one source
(chat/identity.py), tokens and a trusted proxy's header can be others.
"""

from enum import Enum, auto
from typing import Protocol

import msgspec

from chatserver.chat.identity import User, guest


class Action(Enum):
    """What may be allowed in a room."""

    READ = auto()
    WRITE = auto()
    MODERATE = auto()


class Rights(Protocol):
    """What a principal may do. One object serves all that have the same."""

    def allow(self, action: Action, room: str) -> bool:
        """Whether this may be done in this room."""


class GuestRights:
    """Guests read and write everywhere."""

    def allow(self, action: Action, room: str) -> bool:
        """Anything but moderation."""
        return action is not Action.MODERATE


GUEST_RIGHTS = GuestRights()


class Principal(msgspec.Struct, gc=False, frozen=True, eq=False):
    """A person or a program. This one is a guest, of which a parked connection keeps 32 bytes; others say more."""

    number: int  # stands for the person wherever people are counted: 60 bits
    network: str  # the address it comes from, or its /64

    @property
    def rights(self) -> Rights:
        """What it may do."""
        return GUEST_RIGHTS

    @property
    def expires(self) -> float | None:
        """When its sign-in runs out, on trio's clock; looked at when an idle WebSocket is pinged."""
        return None

    @property
    def face(self) -> User:
        """Id and name, as others see them."""
        return guest(self.number)

    def may(self, action: Action, room: str) -> bool:
        """Whether its rights allow this."""
        return self.rights.allow(action, room)
