"""Who has signed out everywhere, as it is kept: what was made for them before does not hold any more.

Owns: the value, the interface, the sign-outs in memory. May not: know a token.

One for each person, and only until the last thing that it forbids would have ended anyway. Anybody may be a guest, so
of guests only the latest are kept.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

#: Sign-outs of guests that are kept; each is 100 bytes of memory.
MAX_GUESTS = 10_000


class SignOut(msgspec.Struct, frozen=True, gc=False):
    """One person."""

    number: int  # 60 bits, see chat/principal.py
    guest: bool
    time: int  # ms since the Unix epoch
    until: int  # ms since the Unix epoch: nothing made before `time` holds for longer


class SignOuts(Protocol):
    """The sign-outs of a log that is open. Both methods raise LogUnavailable."""

    async def load(self, now_ms: int) -> list[SignOut]:
        """All that still forbid something, the oldest first."""

    async def add(self, sign_out: SignOut) -> None:
        """Keep it, in place of the last one of the same person."""


class MemorySignOuts:
    """`SignOuts` that end with their log."""

    def __init__(self, checkpoint: Callable[[], Awaitable[None]]) -> None:
        self._checkpoint = checkpoint
        self._kept: dict[int, SignOut] = {}  # the oldest first

    async def load(self, now_ms: int) -> list[SignOut]:
        """See `SignOuts`."""
        await self._checkpoint()
        return [each for each in self._kept.values() if each.until > now_ms]

    async def add(self, sign_out: SignOut) -> None:
        """See `SignOuts`."""
        await self._checkpoint()
        self._kept.pop(sign_out.number, None)
        self._kept[sign_out.number] = sign_out
        self._kept = bounded(self._kept, sign_out.time)


def bounded(kept: dict[int, SignOut], now_ms: int) -> dict[int, SignOut]:
    """What is left without those that forbid nothing any more, and the oldest of too many guests."""
    left = {number: each for number, each in kept.items() if each.until > now_ms}
    guests = [number for number, each in left.items() if each.guest]
    for number in guests[: max(0, len(guests) - MAX_GUESTS)]:
        del left[number]
    return left
