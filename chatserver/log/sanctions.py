"""What is forbidden to somebody for a while: mutes and bans, as they are kept.

Owns: the value, the interface, how many there may be, the sanctions in memory. May not: enforce one; chat/moderation.py
does.

There is one of a kind for each user or network in a room: a new one takes the place of the last.
"""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Protocol

import msgspec

from chatserver.log.audit import AuditEntry, MemoryAudit

#: Sanctions in force at a time; each is 0.5 KB of memory, and all are read when the server starts.
MAX_SANCTIONS = 50_000
#: The name that stands for every room.
EVERYWHERE = "*"


class Kind(StrEnum):
    """What is forbidden."""

    MUTE = "mute"  # to write
    BAN = "ban"  # to be there


class Sanction(msgspec.Struct, frozen=True, gc=False):
    """One user or network, in one room or in all."""

    room: str  # EVERYWHERE for all
    kind: Kind
    user: str  # its id; or empty, and there is a network
    network: str
    until: int  # ms since the Unix epoch; 0: until it is lifted
    reason: str
    by_id: str
    by_name: str
    time: int  # of its making, in ms since the Unix epoch
    id: int = 0  # given by the log, and never again

    def expired(self, now_ms: int) -> bool:
        """Whether it is over."""
        return 0 < self.until <= now_ms

    @property
    def place(self) -> tuple[str, Kind, str, str]:
        """What there is one sanction for."""
        return self.room, self.kind, self.user, self.network


class TooManySanctionsError(Exception):
    """MAX_SANCTIONS are in force."""


class Sanctions(Protocol):
    """The sanctions of a log that is open. All methods raise LogUnavailable; a change and its entry are one."""

    async def load(self, now_ms: int) -> list[Sanction]:
        """All that are in force, the oldest first."""

    async def add(self, sanction: Sanction, entry: AuditEntry) -> Sanction:
        """Keep it, in place of the last one like it, and give it an id. Raises TooManySanctionsError."""

    async def lift(self, id_: int, entry: AuditEntry) -> bool:
        """End it: whether it was there."""


class MemorySanctions:
    """`Sanctions` that end with their log."""

    def __init__(self, audit: MemoryAudit, checkpoint: Callable[[], Awaitable[None]]) -> None:
        self._audit = audit
        self._checkpoint = checkpoint
        self._last = 0
        self._kept: dict[tuple[str, Kind, str, str], Sanction] = {}

    async def load(self, now_ms: int) -> list[Sanction]:
        """See `Sanctions`."""
        await self._checkpoint()
        return sorted((each for each in self._kept.values() if not each.expired(now_ms)), key=lambda each: each.id)

    async def add(self, sanction: Sanction, entry: AuditEntry) -> Sanction:
        """See `Sanctions`."""
        await self._checkpoint()
        kept = {place: each for place, each in self._kept.items() if not each.expired(sanction.time)}
        if sanction.place not in kept and len(kept) >= MAX_SANCTIONS:
            raise TooManySanctionsError
        self._last += 1
        made = msgspec.structs.replace(sanction, id=self._last)
        self._kept = {**kept, made.place: made}
        self._audit.append([entry])
        return made

    async def lift(self, id_: int, entry: AuditEntry) -> bool:
        """See `Sanctions`."""
        await self._checkpoint()
        found = [place for place, each in self._kept.items() if each.id == id_]
        for place in found:
            del self._kept[place]
        if found:
            self._audit.append([entry])
        return bool(found)
