"""Sign-outs everywhere, as the log keeps them: tokens and sessions made before one are no longer valid.

Owns: the value, the interface, the sign-outs in memory. May not: know a token.

Each person has at most one, kept until the last token or session that it ends would have expired anyway. Anybody may be
a guest, so only the latest sign-outs of guests are kept.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

#: Sign-outs of guests that are kept; each is 100 bytes of memory.
MAX_GUESTS = 10_000
#: Sign-outs between two removals of those beyond MAX_GUESTS from a database, each of which looks at all that are kept.
TRIM_EVERY = 100


class SignOut(msgspec.Struct, frozen=True, gc=False):
    """The sign-out of one person."""

    number: int  # 60 bits, see chat/principal.py
    guest: bool
    time: int  # ms since the Unix epoch
    until: int  # ms since the Unix epoch; anything made before `time` has expired by then


class SignOuts(Protocol):
    """The sign-outs of an open log. Both methods raise LogUnavailable."""

    async def load(self, now_ms: int) -> list[SignOut]:
        """All that still end something, the oldest first."""

    async def add(self, sign_out: SignOut) -> None:
        """Store a sign-out, in place of an earlier one of the same person."""


class MemorySignOuts:
    """`SignOuts` in memory."""

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
    """Drop expired sign-outs, and the oldest of guests beyond MAX_GUESTS."""
    left = {number: each for number, each in kept.items() if each.until > now_ms}
    guests = [number for number, each in left.items() if each.guest]
    for number in guests[: max(0, len(guests) - MAX_GUESTS)]:
        del left[number]
    return left
