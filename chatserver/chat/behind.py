"""Members that are behind their ring and wait for the log, by room and cursor.

Owns: the order in which places are read: in turn by network. May not: read, or touch a socket.
"""

from collections import deque

import trio

from chatserver.chat.member import Member, Source
from chatserver.fair import FairQueue

#: A room, and the cursor that its members wait at.
Place = tuple[str, int]


class Behind:
    """See the module. Several tasks may take places."""

    def __init__(self) -> None:
        self.places: dict[Place, deque[Member]] = {}
        self.queue: FairQueue[Place] = FairQueue()
        self._idle = trio.lowlevel.ParkingLot()  # tasks that wait for a place

    def add(self, member: Member) -> None:
        """Queue a member, to be fed from the log from its cursor on."""
        place = (member.room.name, member.cursor)
        members = self.places.get(place)
        if members is None:
            self.places[place] = deque((member,))
            self._push(place, member)
            self._idle.unpark()
        else:
            members.append(member)

    async def take(self) -> Place:
        """Wait for the next place. `put_back` is to be called after it."""
        while not self.queue:
            await self._idle.park()
        return self.queue.pop()

    def put_back(self, place: Place) -> None:
        """Queue the members that still wait at a place; forget the place if there are none."""
        left = [member for member in self.places[place] if member.source is Source.LOG]
        if left:
            self._push(place, left[0])
        else:
            del self.places[place]

    def _push(self, place: Place, member: Member) -> None:
        self.queue.push(member.room.members[member].network, place)
