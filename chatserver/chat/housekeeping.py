"""What is done for rooms once a second: leases end, and members are told of presence and notices.

Owns: the rooms that wait for that, and how many members are told in a round. May not: know what presence and notices
are, or send; `Broadcaster` does.

A round takes a few rooms in a step, and all its steps together tell a bounded number of members. Rooms that find no
place in a round are first in the next one.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chatserver.chat.broadcast import Broadcaster
from chatserver.chat.notices import Notices
from chatserver.chat.principal import Principal
from chatserver.chat.room import Room
from chatserver.chat.sink import Schedule

#: Members told of presence or notices in a round of a second, over all rooms: 30 ms of it. One client that comes and
#: goes in a hundred large rooms would otherwise have ten thousands of frames sent.
TOLD_A_ROUND = 5_000
#: Members of a room up to which they are told who types.
MAX_TYPING_MEMBERS = 5_000
#: Members who are looked at for what one write costs: those who are not told that somebody has read.
LOOKS_A_WRITE = 16
#: Rooms that are looked at for that, and for their leases, in one step: 0.2 ms.
LOOKED_AT = 32


@dataclass(slots=True)
class _Round:
    """The rooms that are left to look at in a round."""

    leasing: deque[Room]
    changed: deque[Room]
    noticing: deque[Room]


class Housekeeping:
    """See the module. `left` is called with a room whose leases were looked at: somebody may have gone."""

    def __init__(
        self, rooms: Mapping[str, Room], broadcaster: Broadcaster, schedule: Schedule, *,
        left: Callable[[Room], None], clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._rooms = rooms
        self._broadcaster = broadcaster
        self._schedule = schedule
        self._left = left
        self._clock = clock
        self._leasing: dict[Room, None] = {}  # with pollers that have just been answered, those seen to first in front
        self._changed: dict[Room, None] = {}  # whose presence is to be told, alike
        self._noticing: dict[Room, None] = {}  # that have notices, alike
        self._told = 0  # members told of presence or notices since the last round began
        self._round: _Round | None = None  # that is under way

    # -- what waits for the next round ------------------------------------------------------------------------------

    def note_presence(self, room: Room) -> None:
        """Somebody may have come or gone, perhaps in another process: it is told in time."""
        if room.presence.changed:
            self._changed[room] = None

    def note_lease(self, room: Room) -> None:
        """Somebody stays in the room for a while."""
        self._leasing[room] = None

    def leasing(self) -> list[Room]:
        """The rooms in which somebody does."""
        return list(self._leasing)

    def forget(self, room: Room) -> None:
        """It leaves memory."""
        for rooms in (self._leasing, self._changed, self._noticing):
            rooms.pop(room, None)

    # -- notices ----------------------------------------------------------------------------------------------------

    def types(self, name: str, principal: Principal) -> None:
        """Somebody is writing something: told to the others in the room, if they are not too many."""
        room = self._rooms.get(name)
        if room is not None and 0 < len(room.members) <= MAX_TYPING_MEMBERS:
            now = self._clock()
            self._notices(room).types(principal, now)
            self._notify(room, now)

    def moved(self, name: str, principal: Principal, offset: int, connection: object = None) -> None:
        """Somebody has read up to an offset: told to the same person's other connections in the room.

        `connection` is the one that says so, if it is in the room.
        """
        room = self._rooms.get(name)
        if room is not None and room.presence.connections(principal.number) > (connection is not None):
            self._notices(room).moved(principal.number, offset, connection)
            self._notify(room, self._clock())

    def _notices(self, room: Room) -> Notices:
        if room.notices is None:
            room.notices = Notices()
            self._noticing[room] = None
        return room.notices

    def _notify(self, room: Room, now: float) -> None:
        """Have a room told of its notices, if it is time and this round's share is not used up; else in a later one."""
        notices = room.notices
        if notices is None or not room.members or notices.idle(now):
            room.notices = None
            self._noticing.pop(room, None)
        elif notices.announced is None and self._told < TOLD_A_ROUND and notices.may_tell(now):
            members = len(room.members)
            self._told += members if notices.typing else members // LOOKS_A_WRITE + len(notices.reads)
            self._noticing[room] = self._noticing.pop(room)  # behind those that have not been told
            notices.announce(now)
            self._broadcaster.announce_members(room)

    # -- a round ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The next round, unless the last one is not over, and goes on."""
        if self._round is None:
            self._round = _Round(deque(self._leasing), deque(self._changed), deque(self._noticing))
            self._told = 0
            if self._go_on(self):
                self._schedule.later(self._go_on, self)

    def _go_on(self, _: object) -> bool:
        """The next rooms of a round. True: there are more."""
        left, self._round = self._round, None  # a fault costs the rest of this round, and not the next one
        assert left is not None
        now = self._clock()
        for _ in range(min(len(left.leasing), LOOKED_AT)):
            if self._end_leases(left.leasing[0], now):
                break
            left.leasing.popleft()
        for _ in range(min(len(left.changed), LOOKED_AT)):
            self._told += self._tell_presence(left.changed.popleft(), now)
            if self._told >= TOLD_A_ROUND:
                left.changed.clear()  # the others are first in the next round
                break
        for _ in range(min(len(left.noticing), LOOKED_AT)):
            self._notify(left.noticing.popleft(), now)
        if not (left.leasing or left.changed or left.noticing):
            return False
        self._round = left
        return True

    def _end_leases(self, room: Room, now: float) -> bool:
        """End the next ones of a room. True: there may be more."""
        more = room.presence.expire(now)
        if not room.presence.leased:
            self._leasing.pop(room, None)
        self._left(room)
        return more

    def _tell_presence(self, room: Room, now: float) -> int:
        """Have a room told who came and went, if it is time; to how many."""
        if room.telling is not None or not room.presence.may_tell(now):
            return 0
        self._changed.pop(room, None)
        if not room.presence.changed:
            return 0
        if not room.members:
            room.presence.tell(now)  # to nobody
            return 0
        room.telling = now
        self._broadcaster.announce_members(room)
        return len(room.members)
