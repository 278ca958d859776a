"""How much all rooms together keep encoded, so that memory has a bound over rooms and not only for each.

Owns: the count. May not: know rooms; rings and rooms say what they take and give back, and the hub asks `over`.

A bound for each room is none when there may be a hundred thousand rooms: somebody who asks for 1,024 empty ones with 50
long messages each would have some hundred MB kept for 30 s.
"""

#: Bytes of a copy of a message besides its contents: what a push puts around it, the head of a bytes object, its place
#: in a list.
ENTRY = 80
#: To what share of it everything is cut when it is over its bound. Less than all of it, so that it is not over again
#: with the next message: cutting looks at every room.
CUT_TO = 0.75


class Shelf:
    """Bytes kept, and how many may be."""

    __slots__ = ("most", "used")

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    @property
    def over(self) -> bool:
        """Whether somebody has to give something up."""
        return self.used > self.most

    @property
    def aim(self) -> int:
        """What is to be kept after a cut."""
        return int(self.most * CUT_TO)
