"""How much all connections together keep of what came and is not whole, so that memory has a bound over them too.

Owns: the count, and who is refused while it is over its bound. May not: know connections. Whoever keeps a head, a body,
a message or a TLS record that is not whole says here how long it is by now, and says so when it is gone.

A bound for each is none for 20,000 of them: heads of 16 KiB would be 330 MB, bodies of 64 KiB 1.3 GB. What is whole is
not counted: it is answered in the same call, and what a handler keeps of it (a draft) the log counts. Only a whole
ClientHello, and whole frames behind one that waits, are counted until their turn comes.
"""

from typing import Protocol

#: Bytes that anybody may have unfinished, whatever all others keep: a browser's head, a ClientHello, a message of usual
#: length. So a flood of long ones does not hit those who chat. They are not counted: 20,000 of these are 40 MB, on top
#: of the bound.
SMALL = 2048


class Keeper(Protocol):
    """Whatever has something unfinished."""

    counted: int  # bytes of it that are counted


class Unfinished:
    """Bytes kept, and how many may be."""

    __slots__ = ("_most", "used")

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0

    def fits(self, keeper: Keeper, kept: int) -> bool:
        """Count what somebody keeps by now; False if that is too much, with what all others keep."""
        counted = kept if kept > SMALL else 0
        self.used += counted - keeper.counted
        keeper.counted = counted
        return not counted or self.used <= self._most

    def gone(self, keeper: Keeper) -> None:
        """It is whole, refused or given up; harmless the second time."""
        self.used -= keeper.counted
        keeper.counted = 0
