"""How far each user has read in each room: the promises of an engine.

Owns: the values, the bounds, what is read to count unread messages. May not: know an engine, who is connected, or when
a marker is worth storing.

Markers are not as durable as messages: a crash may lose those of the last second. A marker never moves backwards.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from chatserver.log.interface import Head

#: Markers kept of one user; the marker that moved longest ago is dropped first. Discord has 100 servers a user.
MAX_MARKED_ROOMS = 1_000
#: Markers kept of all users, about 100 MB; those that moved longest ago are dropped first. A client can be any number
#: of guests, in any number of rooms.
MAX_MARKERS = 1_000_000
#: The highest count of unread messages that is reported; it stands for anything above it too. No more records are read
#: in one room.
MAX_UNREAD_COUNT = 1_000
#: Records that are read for one answer: 10 ms of a reading thread, if most are plain messages.
MAX_COUNTED = 20_000


class Marker(msgspec.Struct, frozen=True, gc=False):
    """How far a user has read in a room."""

    user_id: str
    room: str
    offset: int


class Unread(msgspec.Struct, frozen=True, gc=False):
    """What a user has not read in a room."""

    read: int  # the offset up to which it is read
    unread: int  # messages of others, up to MAX_UNREAD_COUNT
    mentions: int  # those of them that mention the user, among the newest MAX_UNREAD_COUNT records


class Markers(Protocol):
    """The markers of an open log. All methods raise LogUnavailable."""

    async def move(self, markers: Sequence[Marker]) -> None:
        """Store all of these or none. None moves backwards or beyond the room's last offset.

        A marker in a room that was never written is ignored.
        """

    async def of_user(self, user_id: str) -> dict[str, int]:
        """The offset up to which a user has read, by room."""

    async def unread(self, user_id: str, places: Mapping[str, int]) -> dict[str, Unread]:
        """What a user has not read after these offsets, by room; rooms never written are left out."""


class Span(NamedTuple):
    """The offsets to read after a marker, `low` to `high`, and the number of records that are not read."""

    room: str
    read: int
    unseen: int
    low: int
    high: int

    def unread(self, messages: int, mentions: int) -> Unread:
        """Add up the counts. Records that were not read count as messages, since retention may have removed them."""
        return Unread(self.read, min(self.unseen + messages, MAX_UNREAD_COUNT), mentions)


def spans(places: Mapping[str, int], heads: Mapping[str, Head]) -> Iterator[Span]:
    """What to read after these offsets: of each room the newest MAX_UNREAD_COUNT records, and MAX_COUNTED in all.

    The first rooms are counted exactly. Rooms without a head were never written.
    """
    left = MAX_COUNTED
    for room, marked in places.items():
        head = heads.get(room)
        if head is None:
            continue
        last = head.last
        read = min(marked, last)
        low = max(read + 1, head.first, last - MAX_UNREAD_COUNT + 1)
        if last - low >= left:
            low = last + 1
        left -= last - low + 1
        yield Span(room, read, low - 1 - read, low, last)
