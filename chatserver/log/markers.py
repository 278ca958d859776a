"""How far each user has read in each room: what engines promise of it, and the engine in memory.

Owns: the values, the bounds, the `Markers` protocol. May not: know who is connected, or when a marker is worth storing.

A marker is no message: it may be lost with the last second before a crash, and it never moves backwards.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

#: Rooms of one user whose markers are kept; the one that moved longest ago goes first. Discord has 100 servers a user.
MAX_MARKED_ROOMS = 1_000
#: Markers of all users, about 100 MB of them; those that moved longest ago go first. Names are free, so are guests.
MAX_MARKERS = 1_000_000
#: Markers moved between two looks at how many there are.
TRIM_EVERY = 10_000
#: The highest number of unread messages that is told; it stands for itself and for anything above it.
MOST_UNREAD = 1_000


class Marker(msgspec.Struct, frozen=True, gc=False):
    """How far a user has read in a room."""

    user_id: str
    room: str
    offset: int


class Unread(msgspec.Struct, frozen=True, gc=False):
    """What a user has not read in a room."""

    read: int  # the offset up to which it is read
    unread: int  # up to MOST_UNREAD
    mentions: int


class Markers(Protocol):
    """The markers of a log; usable while the log is open. All methods raise LogUnavailable."""

    async def move(self, markers: Sequence[Marker]) -> None:
        """Store all of these or none. None moves backwards, or beyond the room's last offset; a room never written has
        none.
        """

    async def of_user(self, user_id: str) -> dict[str, int]:
        """The offset up to which a user has read, by room."""

    async def unread(self, user_id: str, places: Mapping[str, int]) -> dict[str, Unread]:
        """What a user has not read behind these offsets, by room; rooms never written are left out."""


def unread_by_offsets(read: int, last: int) -> Unread:
    """Counted by offsets, since retention may have removed what lies between."""
    return Unread(min(read, last), max(0, min(last - read, MOST_UNREAD)), 0)


class Kept(Protocol):
    """A room of the log in memory."""

    last: int


class MemoryMarkers:
    """`Markers` of the log in memory. `room` finds a room's records."""

    def __init__(self, room: Callable[[str], Kept], checkpoint: Callable[[], Awaitable[None]]) -> None:
        self._room = room
        self._checkpoint = checkpoint
        self._users: dict[str, dict[str, int]] = {}  # both in the order of the last move
        self._count = 0

    async def move(self, markers: Sequence[Marker]) -> None:
        """See `Markers.move`."""
        await self._checkpoint()
        for marker in markers:
            offset = min(marker.offset, self._room(marker.room).last)
            rooms = self._users.get(marker.user_id, {})
            if offset <= rooms.get(marker.room, -1) or not self._room(marker.room).last:
                continue
            self._users.pop(marker.user_id, None)
            self._users[marker.user_id] = rooms
            self._count += rooms.pop(marker.room, None) is None
            rooms[marker.room] = offset
            if len(rooms) > MAX_MARKED_ROOMS:
                self._forget(rooms)
        while self._count > MAX_MARKERS:
            user_id, rooms = next(iter(self._users.items()))
            self._forget(rooms)
            if not rooms:
                del self._users[user_id]

    def _forget(self, rooms: dict[str, int]) -> None:
        del rooms[next(iter(rooms))]
        self._count -= 1

    async def of_user(self, user_id: str) -> dict[str, int]:
        """See `Markers.of_user`."""
        await self._checkpoint()
        return dict(self._users.get(user_id, {}))

    async def unread(self, user_id: str, places: Mapping[str, int]) -> dict[str, Unread]:
        """See `Markers.unread`."""
        await self._checkpoint()
        lasts = {room: self._room(room).last for room in places}
        return {room: unread_by_offsets(read, lasts[room]) for room, read in places.items() if lasts[room]}
