"""The rooms in memory: how they come there, stay and leave.

Owns: which rooms are loaded, which are empty, and how many a network may have brought there. May not: send, or know why
one is used.

Only `using` and `load` wait, for the log. All else is synchronous: what finds a room and parks in it finds it there.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice

from chatserver.chat.presence import Presence
from chatserver.chat.ring import RingSize
from chatserver.chat.room import Room
from chatserver.fair import SingleFlight
from chatserver.log.interface import Log, LogError

#: Messages of history that a room has in memory from the start: what a `join` without a cursor gives.
LATEST = 50
#: Seconds an empty room stays in memory, so that everybody who drops and returns at once finds its ring.
EMPTY_STAYS = 30.0
#: Empty rooms kept for that, and how many of these one network may have brought: anybody may ask for rooms that do not
#: exist. Thousands who drop at once come from many networks, which `all_rings_bytes` bounds.
MAX_EMPTY, MAX_EMPTY_OF_NETWORK = 8192, 128
#: Seconds the others stay: who has just had one loaded goes on to use it.
SURPLUS_STAYS = 1.0
#: Rooms that leave memory in one step: 0.2 ms.
EVICTED_AT_ONCE = 32
#: One in so many of all rooms is what one network may have in memory: that leaves room for seven others.
NETWORK_SHARE = 8
#: To what share of the budget rings are cut when they are over it, so that they are not over again with the next
#: message: cutting looks at every room.
LOW_WATER = 0.75


class RoomsFullError(LogError):
    """No other room can be opened now. A `LogError`, since it is met where a room is loaded, and waited for alike."""


class Registry:
    """See the module."""

    def __init__(
        self, log: Log, size: RingSize, *, max_rooms: int, stays: float = EMPTY_STAYS, clock: Callable[[], float]
    ) -> None:  # fmt: skip
        self.rooms: dict[str, Room] = {}
        self._log = log
        self._size = size
        self._max_rooms = max_rooms
        self._max_of_network = max(1, max_rooms // NETWORK_SHARE)
        self._of_network: Counter[str] = Counter()  # rooms that are in memory because of each
        self._clock = clock
        self._stays = stays  # seconds
        self.loaded: Callable[[Room], None] = lambda room: None  # set by the hub: told of each when it is ready
        self.unloaded: Callable[[Room], None] = lambda room: None  # the same, of each that leaves memory
        self._loading: SingleFlight[Room, Room] = SingleFlight()
        self._unwritten: dict[Room, None] = {}  # in which nothing was ever said
        self._empty: dict[Room, float] = {}  # room to the time it leaves memory, in that order
        self._surplus: dict[Room, float] = {}  # the same, of empty rooms beyond their network's share
        self._empty_of_network: Counter[str] = Counter()  # of those in `_empty`
        #: who is in a room that comes into memory; others may be there, in other processes
        self.make_presence: Callable[[str], Presence] = lambda name: Presence()

    def room(self, name: str) -> Room | None:
        """The room, if it is in memory and ready: then everything about its newest messages needs no waiting."""
        room = self.rooms.get(name)
        return room if room is not None and room.ready else None

    def unwritten(self) -> Iterator[Room]:
        """Those in which somebody is and nothing was ever said."""
        return (room for room in self._unwritten if room.presence)

    def presence(self, name: str) -> Presence:
        """Who is in a room."""
        room = self.room(name)
        return self.make_presence(name) if room is None else room.presence

    @asynccontextmanager
    async def using(self, name: str, network: str) -> AsyncGenerator[Room, None]:
        """The room, loaded if need be, and kept in memory for the length of the block. Raises LogError."""
        room = self.rooms.get(name) or self._make(name, network)
        room.pins += 1
        try:
            if not room.ready:
                await self._loading.get(room, partial(self._load, room))
            yield room
        finally:
            room.pins -= 1
            if room.ready:
                self.note_empty(room)
            elif not room.pins:
                self._remove(room)

    async def load(self, names: Iterable[str], network: str) -> None:
        """Bring rooms into memory, where they stay for a while, one after the other. Raises the first LogError."""
        for name in names:
            async with self.using(name, network):
                pass

    def _make(self, name: str, network: str) -> Room:
        if len(self.rooms) >= self._max_rooms:
            self._evict_oldest()
        if len(self.rooms) >= self._max_rooms:
            raise RoomsFullError(f"{len(self.rooms)} rooms are in memory, as many as may be, and none of them is empty")
        if self._of_network[network] >= self._max_of_network:
            raise RoomsFullError(f"{self._max_of_network} rooms are in memory for this network, as many as may be")
        self._of_network[network] += 1
        room = self.rooms[name] = Room(name, self._size, self.make_presence(name), network=network)
        return room

    async def _load(self, room: Room) -> Room:
        head = await self._log.head(room.name)
        records = await self._log.latest(room.name, LATEST) if head.last else []  # most names are nobody's yet
        last = records[-1].offset if records else head.last
        room.first = max(room.first, head.first)  # retention may have been told meanwhile
        if last:
            room.make_ring(last - len(records)).add(records)
            self.relieve()
        else:
            self._unwritten[room] = None
        room.all_offered()
        room.ready = True
        self.loaded(room)
        return room

    def note_written(self, room: Room) -> None:
        """Something is said in it for the first time."""
        self._unwritten.pop(room, None)

    def _remove(self, room: Room) -> None:
        del self.rooms[room.name]
        self._unwritten.pop(room, None)
        _uncount(self._of_network, room.network)
        room.released()
        room.presence.end()
        self.unloaded(room)

    def note_empty(self, room: Room) -> None:
        """Nobody may be in it any more: then it leaves memory in a while."""
        if not (room.ready and room.empty and self.rooms.get(room.name) is room):
            return
        self.note_entered(room)
        now, network = self._clock(), room.network
        if self._empty_of_network[network] >= MAX_EMPTY_OF_NETWORK:
            self._surplus[room] = now + SURPLUS_STAYS
            return
        self._empty[room] = now + self._stays
        self._empty_of_network[network] += 1
        while len(self._empty) > MAX_EMPTY:
            self._evict(next(iter(self._empty)))

    def note_entered(self, room: Room) -> None:
        """Somebody is in it."""
        if self._empty.pop(room, None) is not None:
            _uncount(self._empty_of_network, room.network)
        else:
            self._surplus.pop(room, None)

    def evict_due(self, _: object = None) -> bool:
        """The next ones that have been empty long enough leave memory. True: there may be more."""
        now = self._clock()
        for empty in (self._surplus, self._empty):
            due = [room for room, leaves in islice(empty.items(), EVICTED_AT_ONCE) if leaves <= now]
            for room in due:
                self._evict(room)
            if len(due) == EVICTED_AT_ONCE:
                return True
        return False

    def _evict_oldest(self) -> None:
        room = next(iter(self._surplus or self._empty), None)
        if room is not None:
            self._evict(room)

    def _evict(self, room: Room) -> None:
        self.note_entered(room)
        if room.empty:
            self._remove(room)

    def relieve(self) -> None:
        """If all rooms together keep too much: empty ones go, the oldest first, then each keeps its share at most."""
        budget = self._size.budget
        while budget.over and (self._surplus or self._empty):
            self._evict_oldest()
        if budget.over:
            share = int(budget.most * LOW_WATER) // len(self.rooms)
            for room in self.rooms.values():
                room.cut(share)


def _uncount(counts: Counter[str], network: str) -> None:
    """One less of this network, of which nothing is kept when there is none."""
    counts[network] -= 1
    if not counts[network]:
        del counts[network]
