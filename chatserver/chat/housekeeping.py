"""Once a second, for all rooms: leases end, and members are sent presence and notices.

Owns: the rooms that wait for that, and how many members one round reaches. May not: know what presence and notices are,
or send; `Broadcaster` does.

A round is done in steps, and all its steps together reach a bounded number of members. The rooms that wait for presence
take turns by the network that loaded them, so that nobody waits for a hundred large rooms of strangers.
"""

from collections.abc import Callable, Iterator, Mapping

import trio

from chatserver.chat.broadcast import Broadcaster
from chatserver.chat.notices import Notices
from chatserver.chat.principal import Principal
from chatserver.chat.room import Room
from chatserver.chat.sink import Schedule
from chatserver.fair import FairQueue, LongWork

#: Members sent presence or notices in one round, over all rooms: 30 ms of each second. Otherwise one client that joins
#: and leaves a hundred large rooms would cause tens of thousands of frames.
MAX_NOTICES_PER_ROUND = 5_000
#: Members of a room up to which typing is announced.
MAX_TYPING_MEMBERS = 5_000
#: Members that can be checked in the time of one write: a read marker is sent to one person, but all are checked.
CHECKS_PER_WRITE = 16


class Housekeeping:
    """See the module. `left` is called with a room in which leases may have ended."""

    def __init__(
        self, rooms: Mapping[str, Room], broadcaster: Broadcaster, schedule: Schedule, *,
        left: Callable[[Room], None],
    ) -> None:  # fmt: skip
        self._rooms = rooms
        self._broadcaster = broadcaster
        self._left = left
        self._leasing: dict[Room, int] = {}  # rooms with leases and the number of these, the longest waiting first
        self.leases = 0  # their sum; some may have ended since the last round
        self._changed: dict[Room, bool] = {}  # rooms with a presence change to send, and whether they are in `_due`
        self._due: FairQueue[Room] = FairQueue()  # those of them that may be sent it
        self._noticing: dict[Room, None] = {}  # rooms with notices, the longest waiting first
        self._reached = 0  # members reached since the last round began
        self._order = [self._send_notices, self._send_presence]  # of the last round
        self._round = LongWork(self._visit, schedule.own, self)

    # -- what waits for the next round ------------------------------------------------------------------------------

    def note_presence(self, room: Room) -> None:
        """Queue a room whose presence may have changed, here or in another process."""
        self._changed.setdefault(room, False)

    def note_lease(self, room: Room) -> None:
        """Queue a room in which a user has a lease."""
        count = room.presence.leases
        self.leases += count - self._leasing.get(room, 0)
        self._leasing[room] = count

    def leasing(self) -> list[Room]:
        """The rooms in which users have leases."""
        return list(self._leasing)

    # -- notices ----------------------------------------------------------------------------------------------------

    def types(self, name: str, principal: Principal) -> None:
        """A user types: note it for the other members, if the room is not too large."""
        room = self._rooms.get(name)
        if room is not None and 0 < len(room.members) <= MAX_TYPING_MEMBERS:
            self._notices(room).types(principal, trio.current_time())
            self._announce_notices(room, self._broadcaster.announce_members)

    def moved(self, name: str, principal: Principal, offset: int, connection: object = None) -> None:
        """A user has read up to an offset: note it for the user's other connections in the room.

        `connection` is where the marker was moved, if it is in the room.
        """
        room = self._rooms.get(name)
        if room is not None and room.presence.connections(principal.number) > (connection is not None):
            self._notices(room).moved(principal.number, offset, connection)
            self._announce_notices(room, self._broadcaster.announce_members)

    def _notices(self, room: Room) -> Notices:
        if room.notices is None:
            room.notices = Notices()
            self._noticing[room] = None
        return room.notices

    def _announce_notices(self, room: Room, begin: Callable[[Room], None]) -> None:
        """Leave a room's notices to a pass, which begins now, if it is time and this round's share is not used up."""
        notices, now = self._notices(room), trio.current_time()
        if notices.idle(now):
            room.notices = None
            del self._noticing[room]
            return
        if self._reached >= MAX_NOTICES_PER_ROUND or not notices.may_send(now):
            return
        members = len(room.members)
        self._reached += members if notices.typing else members // CHECKS_PER_WRITE + len(notices.reads)
        self._noticing[room] = self._noticing.pop(room)  # to the end of the order
        notices.announce(now)
        begin(room)

    # -- a round ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin the next round, unless the last one is still under way."""
        self._round.begin()

    def _visit(self) -> Iterator[None]:
        self._reached = 0
        for room in list(self._leasing):
            while self._end_leases(room, trio.current_time()):
                yield
            yield
        for room in list(self._changed):  # a list of pairs takes ten times as long
            if not self._changed.get(room, True) and room.presence.may_send(trio.current_time()):
                self._changed[room] = True
                self._due.push(room.network, room)
            yield
        # They take turns in going first: many rooms that keep changing, or users who type in many, may use up a round.
        self._order.reverse()
        for send in self._order:
            yield from send()

    def _send_presence(self) -> Iterator[None]:
        now = trio.current_time()  # one float for all rooms, each of which keeps it
        while self._due.length and self._reached < MAX_NOTICES_PER_ROUND:
            self._reached += self._tell_presence(self._due.pop(), now)
            yield
        if not self._changed:
            self._changed.clear()  # an emptied dict keeps the memory of its largest size

    def _send_notices(self) -> Iterator[None]:
        for room in list(self._noticing):
            self._announce_notices(room, self._broadcaster.begin_now)
            yield

    def _end_leases(self, room: Room, now: float) -> bool:
        """End the next expired leases of a room. True: there may be more."""
        ended = room.presence.expire(now)
        if room.presence.leases:
            self.note_lease(room)
        else:
            self.leases -= self._leasing.pop(room, 0)
        if ended:
            self._left(room)
        return ended

    def _tell_presence(self, room: Room, now: float) -> int:
        """Begin to send a room's presence change. Returns how many members it goes to."""
        del self._changed[room]
        if not room.presence.changed:
            return 0
        room.presence_since = now
        self._broadcaster.begin_now(room)
        if room.presence.changed:  # a notice names a few people
            self.note_presence(room)
        return len(room.members)
