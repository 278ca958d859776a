"""What one client may have of the rooms in which nothing was ever said.

Owns: that rule, the same for joins and polls. May not: count a client's rooms.

Names are free: a hundred of them, made up, are a hundred rooms to keep, thirty times what a connection costs, and a
thousand clients with a hundred each would have all rooms that there may be.
"""

from chatserver.chat.registry import Registry

#: Rooms of that kind that a client may be in while there are many: its own, and another to come.
UNWRITTEN_SHARE = 2
#: Seconds after which whoever wants more, and may be right to, may ask again while the log is busy with others.
LOOK_UP_RETRY = 1.0
LOOK_UP_LATER = "too many rooms are being looked up for others"


class UnwrittenShare:
    """See the module. `many` is from how many such rooms on, of all clients, the rule holds."""

    def __init__(self, registry: Registry, many: int) -> None:
        self._registry = registry
        self._many = many

    @property
    def limited(self) -> bool:
        """Whether there are many."""
        return self._registry.unwritten >= self._many

    def allows(self, count: int) -> bool:
        """Whether a client may be in so many."""
        return count <= UNWRITTEN_SHARE or not self.limited
