"""The rooms in memory: how they come there, stay and leave.

Owns: which rooms are loaded, and which are unopened, empty or too many. May not: send, or know why one is used.

Only `using` and `load` wait, for the log. All else is synchronous: whoever finds a room and parks in it finds it there.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

import trio

from chatserver.chat.member import Member
from chatserver.chat.presence import Presence
from chatserver.chat.ring import Encoder
from chatserver.chat.room import Life, Room
from chatserver.chat.shelf import Shelf
from chatserver.chat.unopened import Unopened
from chatserver.log.interface import Log, LogError

#: Messages of history that a room has in memory from the start: what a `join` without a cursor gives.
LATEST = 50
#: Seconds an empty room stays in memory, so that everybody who drops and returns at once finds its ring.
EMPTY_STAYS = 30.0
#: Rooms that one poll has loaded side by side, of a hundred that it may name. Each is a task, and the log reads two at
#: once.
LOADS_AT_ONCE = 4
#: Empty rooms kept for that; asking for rooms that do not exist must not fill memory.
MAX_EMPTY = 1024


class RoomsFullError(LogError):
    """No other room can be opened now. A `LogError`, since it is met where a room is loaded, and waited for alike."""


class Registry:
    """See the module."""

    def __init__(
        self, log: Log, encoder: Encoder, *, ring_messages: int, ring_bytes: int, all_rings_bytes: int, max_rooms: int,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self.rooms: dict[str, Room] = {}
        self._log = log
        self._encoder = encoder
        self._ring_messages = ring_messages
        self._ring_bytes = ring_bytes
        self._max_rooms = max_rooms
        self._clock = clock
        self._shelf = Shelf(all_rings_bytes)
        self._unopened = Unopened(self._new_room(""))
        self._unwritten = 0  # rooms in which nothing was ever said
        self._empty: dict[Room, float] = {}  # room to the time it leaves memory, in that order

    def room(self, name: str) -> Room | None:
        """The room, if it is in memory and ready: then everything about its newest messages needs no waiting."""
        room = self.rooms.get(name)
        return room if room is not None and room.life is Life.READY else None

    @property
    def count(self) -> int:
        """Rooms in memory, unopened ones included."""
        return len(self.rooms) + len(self._unopened)

    @property
    def unwritten(self) -> int:
        """How many of these there are in which nothing was ever said."""
        return self._unwritten + len(self._unopened)

    def names(self) -> Iterator[str]:
        """Of those in which somebody is and nothing was ever said."""
        yield from (room.name for room in self.rooms.values() if room.presence and room.last == 0)
        yield from self._unopened

    def presence(self, name: str) -> Presence:
        """Who is in a room."""
        room = self.room(name)
        if room is not None:
            return room.presence
        presence = Presence()
        user = self._unopened.user(name)
        if user is not None:
            presence.seat(user)
        return presence

    @asynccontextmanager
    async def using(self, name: str) -> AsyncGenerator[Room, None]:
        """The room, loaded if need be, and kept in memory for the length of the block. Raises LogError."""
        room = await self._pin(name)
        try:
            yield room
        finally:
            room.pins -= 1
            self.note_empty(room)

    async def _pin(self, name: str) -> Room:
        """The room, loaded. If the log fails, all who wait for it are told; if whoever loads it is called off, one of
        the others goes on: that was about the other's time, not about theirs.
        """
        while True:
            room = self.find(name)
            waits = room is not None
            if room is None:
                room = self._make(name)
            room.pins += 1
            try:
                if not waits:
                    await self._load(room)
                while room.loaded is not None:
                    await room.loaded.wait()
            except BaseException as error:
                room.pins -= 1
                if waits:
                    self.note_empty(room)
                else:
                    self._forget(room, Life.FAILED if isinstance(error, LogError) else Life.CALLED_OFF)
                raise
            if room.life is Life.READY:
                return room
            room.pins -= 1
            if room.life is Life.FAILED:
                raise LogError(f"room {name} could not be loaded")

    async def load(self, names: Iterable[str]) -> None:
        """Bring rooms into memory, some side by side; they stay for a while even if nobody comes.

        Raises LogError, the first one, after calling off the others.
        """
        failures: list[LogError] = []
        left = iter(names)

        async def load_some() -> None:
            try:
                for name in left:
                    async with self.using(name):
                        pass
            except LogError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(LOADS_AT_ONCE):
                nursery.start_soon(load_some)
        if failures:
            raise failures[0]

    def _make(self, name: str) -> Room:
        if self.count >= self._max_rooms:
            self._evict_oldest()
        if self.count >= self._max_rooms:
            raise RoomsFullError(f"{self.count} rooms are in memory, as many as may be, and none of them is empty")
        room = self.rooms[name] = self._new_room(name)
        return room

    def _new_room(self, name: str) -> Room:
        return Room(
            name,
            self._log.identity.epoch,
            self._encoder,
            ring_messages=self._ring_messages,
            ring_bytes=self._ring_bytes,
            shelf=self._shelf,
        )

    def find(self, name: str) -> Room | None:
        """The room, ready or not; one that somebody waits in alone is opened."""
        room = self.rooms.get(name)
        if room is None and name in self._unopened:
            room = self.rooms[name] = self._new_room(name)
            self._unopened.open(room)
            self._ready(room)
        return room

    def put_away(self, room: Room) -> Member | None:
        """Close a room that somebody has just entered, if there is nothing else in it; who that is."""
        if self.rooms.get(room.name) is not room:
            return None
        alone = self._unopened.close(room)
        if alone is not None:
            self._remove(room)
        return alone

    def _remove(self, room: Room) -> None:
        del self.rooms[room.name]
        if room.last == 0:
            self._unwritten -= 1

    async def _load(self, room: Room) -> None:
        while True:
            head = await self._log.head(room.name)
            records = await self._log.latest(room.name, LATEST) if head.last else []  # most names are nobody's yet
            last = records[-1].offset if records else head.last
            if last >= room.seen:
                break  # else news came while we read: it is in the log by now
        room.ring.last = last - len(records)
        room.ring.first = room.ring.last + 1
        room.first = max(room.first, head.first)  # retention may have been told meanwhile
        room.ring.add(records)
        self.relieve()
        room.walked(reaches=last, written=room.ring.written)
        self._ready(room)

    def _ready(self, room: Room) -> None:
        if room.last == 0:
            self._unwritten += 1
        room.end_loading(Life.READY)

    def _forget(self, room: Room, life: Life) -> None:
        """A room that was not loaded; the next one who wants it tries again."""
        if self.rooms.get(room.name) is room:
            del self.rooms[room.name]
        room.end_loading(life)

    def note_empty(self, room: Room) -> None:
        """Nobody may be in it any more: then it leaves memory in a while."""
        if room.life is Life.READY and room.empty:
            self._empty.pop(room, None)
            self._empty[room] = self._clock() + EMPTY_STAYS
            while len(self._empty) > MAX_EMPTY:
                self._evict_oldest()

    def note_entered(self, room: Room) -> None:
        """Somebody is in it."""
        self._empty.pop(room, None)

    def note_written(self, room: Room) -> None:
        """Something is about to be said in it."""
        if room.last == 0:
            self._unwritten -= 1

    def leave_unopened(self, member: Member) -> None:
        """Whoever was alone in an unopened room goes."""
        self._unopened.leave(member)

    def evict_due(self) -> None:
        """Those that have been empty long enough leave memory."""
        now = self._clock()
        for room in [room for room, leaves in self._empty.items() if leaves <= now]:
            self._evict(room)

    def _evict_oldest(self) -> None:
        room = next(iter(self._empty), None)
        if room is not None:
            self._evict(room)

    def _evict(self, room: Room) -> None:
        del self._empty[room]
        if room.empty and self.rooms.get(room.name) is room:
            self._remove(room)
            room.cut(0)

    def relieve(self) -> None:
        """If all rooms together keep too much: empty ones go, the oldest first, then each keeps its share at most."""
        while self._shelf.over and self._empty:
            self._evict_oldest()
        if self._shelf.over:
            share = self._shelf.aim // len(self.rooms)
            for room in self.rooms.values():
                room.cut(share)

    @property
    def kept(self) -> int:
        """Bytes that all rooms keep."""
        return self._shelf.used
