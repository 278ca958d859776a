"""The rooms in memory: how they are loaded, stay and leave.

Owns: which rooms are loaded, which are empty, and how many a network may have loaded. May not: send, or know why a room
is used.

Only `using` and `load` wait, for the log. All else is synchronous: a room cannot leave between being found and parked
in.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice

import trio

from chatserver.chat.log_reader import LogReader
from chatserver.chat.presence import Presence
from chatserver.chat.ring import RingSize
from chatserver.chat.room import Room
from chatserver.chat.sink import Schedule
from chatserver.fair import LongWork, SingleFlight
from chatserver.log.interface import LogError

#: Messages of history that are loaded with a room: what a `join` without a cursor gives.
LATEST = 50
#: Seconds an empty room stays in memory, so that members who drop and return together find its ring.
EMPTY_ROOM_SECONDS = 30.0
#: Empty rooms kept for that time, and how many of these one network may have loaded: a client may request rooms that do
#: not exist. Beyond it the oldest leave, since a client that has just loaded a room goes on to use it. Thousands who
#: drop at once come from many networks; `all_rings_bytes` bounds their rooms.
MAX_EMPTY, MAX_EMPTY_OF_NETWORK = 8192, 128
#: Empty rooms that leave memory at once: 0.1 ms.
EVICTED_AT_ONCE = 16
#: With `left` of `all` places left, a network may load left * left / (all * NETWORK_SHARE) rooms: a tenth of all if it
#: is alone, and less for later ones, since rooms in use cannot be evicted. With a fixed share, eight would take all.
NETWORK_SHARE = 8
#: Share of the budget to which rings are cut when they exceed it. Cutting visits every room, so the next message must
#: not exceed the budget again.
LOW_WATER = 0.75


class RoomsFullError(LogError):
    """No other room can be opened now. A `LogError`, since loading a room raises it, and clients retry it alike."""


class Registry:
    """See the module. It adds to `rooms` and removes from it; nothing else does."""

    def __init__(
        self, rooms: dict[str, Room], log: LogReader, size: RingSize, *, max_rooms: int, of_peer: int, stays: float,
        schedule: Schedule, loaded: Callable[[Room], None], make_presence: Callable[[str], Presence],
    ) -> None:  # fmt: skip
        self._rooms = rooms
        self._log = log
        self._size = size
        self._max_rooms = max_rooms
        self._of_network: Counter[str] = Counter()  # rooms in memory that each network has loaded
        self._stays = stays  # seconds
        # A poll may load as many rooms as a peer may be in, and enters them when all are loaded.
        self._most_empty, self._most_of_network = max(MAX_EMPTY, of_peer), max(MAX_EMPTY_OF_NETWORK, of_peer)
        self._relief = LongWork(self._relieve, schedule.own, self)
        self.evictions = LongWork(self._evict_due, schedule.own, self)
        self._loaded = loaded  # called when a room is ready
        self._loading: SingleFlight[Room, None] = SingleFlight()
        self._unwritten: dict[Room, None] = {}  # rooms without any message
        self._empty: dict[Room, float] = {}  # empty rooms to the time at which they leave memory, in that order
        self._empty_of_network: dict[str, dict[Room, None]] = {}  # the same by network, the oldest first
        self._make_presence = make_presence  # of a room by name: other processes may have people in it

    def room(self, name: str) -> Room | None:
        """The room, if it is in memory and ready: then its newest messages are there without waiting."""
        room = self._rooms.get(name)
        return room if room is not None and room.ready else None

    def unwritten(self, count: int) -> list[Room]:
        """Rooms without any message, so many that `count` of them have people, if there are that many.

        The caller should look at a few of them at a time, since MAX_EMPTY of them may have no people.
        """
        return list(islice(self._unwritten, MAX_EMPTY + count))

    def presence(self, name: str) -> Presence:
        """The presence of a room, whether or not it is in memory."""
        room = self.room(name)
        return self._make_presence(name) if room is None else room.presence

    @asynccontextmanager
    async def using(self, name: str, network: str) -> AsyncGenerator[Room, None]:
        """The room, loaded if needed, and kept in memory during the block. Raises LogError."""
        room = self._rooms.get(name) or self._make(name, network)
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

    def _make(self, name: str, network: str) -> Room:
        while len(self._rooms) >= self._max_rooms and self._empty:
            self._evict(next(iter(self._empty)))
        left = self._max_rooms - len(self._rooms) + len(self._empty)
        held = self._of_network[network]
        if held * NETWORK_SHARE * self._max_rooms >= left**2:
            raise RoomsFullError(f"{held} rooms are in memory for this network, and {left} places are left")
        self._of_network[network] += 1
        room = self._rooms[name] = Room(name, self._size, self._make_presence(name), network=network)
        return room

    async def _load(self, room: Room) -> None:
        head, records = await self._log.newest(room.name, LATEST)
        room.first = max(room.first, head.first)  # `Hub.retained` may have set it during the read
        if head.last:
            ring = room.make_ring(head.last)
            ring.add(records)  # it begins with the first of them
            ring.forget_texts(room.first)
            self.relieve()
        else:
            self._unwritten[room] = None
        room.all_offered()
        room.ready = True
        self._loaded(room)

    def note_first_message(self, room: Room) -> None:
        self._unwritten.pop(room, None)

    def _remove(self, room: Room) -> None:
        del self._rooms[room.name]
        self._unwritten.pop(room, None)
        self._of_network[room.network] -= 1
        if not self._of_network[room.network]:
            del self._of_network[room.network]
        room.released()
        room.presence.end()

    def note_empty(self, room: Room) -> None:
        """If a room is empty now, schedule it to leave memory."""
        if not (room.empty and self._rooms.get(room.name) is room):
            return
        self.note_entered(room)
        self._empty[room] = trio.current_time() + self._stays
        of_network = self._empty_of_network.setdefault(room.network, {})
        of_network[room] = None
        for rooms, most in ((of_network, self._most_of_network), (self._empty, self._most_empty)):
            if len(rooms) > most:
                self._evict(next(iter(rooms)))

    def note_entered(self, room: Room) -> None:
        """A room is not empty any more: it stays in memory."""
        if self._empty.pop(room, None) is not None:
            of_network = self._empty_of_network[room.network]
            del of_network[room]
            if not of_network:
                del self._empty_of_network[room.network]

    def _evict_due(self) -> Iterator[None]:
        """Evict the rooms that have been empty long enough."""
        now = trio.current_time()
        while due := [room for room, leaves in islice(self._empty.items(), EVICTED_AT_ONCE) if leaves <= now]:
            for room in due:
                self._evict(room)
            yield

    def _evict(self, room: Room) -> None:
        self.note_entered(room)
        if room.empty:
            self._remove(room)

    def relieve(self) -> None:
        """If the budget is exceeded: begin to evict empty rooms and to cut the others."""
        if self._size.budget.over:
            self._relief.begin()

    def _relieve(self) -> Iterator[None]:
        """Evict empty rooms, the oldest first, until the budget suffices, else cut every room to an equal share."""
        budget = self._size.budget
        while budget.over and self._empty:
            self._evict(next(iter(self._empty)))
            yield
        if budget.over:
            share = int(budget.most * LOW_WATER) // len(self._rooms)
            for room in list(self._rooms.values()):
                if self._rooms.get(room.name) is room:  # else it has left memory: nothing of it is charged any more
                    room.cut(share)
                yield
