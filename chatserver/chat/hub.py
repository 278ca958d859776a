"""The rooms in memory, and everything that may happen to them.

Owns: which rooms are loaded, who joins, leaves, polls and goes, the news. May not: know a wire form or a socket.

Decides synchronously: joining, parking a poll and taking in news are plain functions from check to park, so no wake-up
can be lost between them. Only `load` waits, for the log. The hub fans out on the log's news, never on a publish of its
own: the same path serves one process and, later, many.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import islice

import structlog
import trio

from chatserver.chat.member import Hold, Member, Outlet, State, Wait
from chatserver.chat.presence import LEASE
from chatserver.chat.pump import READERS, Pump
from chatserver.chat.ring import Encoder, Form
from chatserver.chat.room import Life, Room
from chatserver.chat.shelf import Shelf
from chatserver.log.interface import Draft, Log, LogError, Record, Stored

#: Messages of history that a room has in memory from the start: what a `join` without a cursor gives.
LATEST = 50
#: Seconds an empty room stays in memory, so that everybody who drops and returns at once finds its ring.
EMPTY_STAYS = 30.0
#: Empty rooms kept for that; asking for rooms that do not exist must not fill memory.
MAX_EMPTY = 1024
#: Members told of presence in one round of a second, over all rooms: 30 ms of it. Whoever joins and leaves as fast as
#: it may, in a hundred large rooms, would otherwise have ten thousands of frames sent for 20 of its own.
TOLD_A_ROUND = 5_000
#: Rooms that are looked at for that in one round: 10 ms of it. Everybody may go, or come back, in the same moment.
CHANGED_A_ROUND = 1_000
#: Rooms whose leases are looked at in one round: 10 ms of it. One request may poll a hundred rooms.
LEASES_A_ROUND = 2_000

_log = structlog.get_logger("chatserver.chat")


class RoomsFullError(LogError):
    """No other room can be opened now. A `LogError`, since it is met where a room is loaded, and waited for alike."""


class Hub:
    """See the module. Its tasks are started by `run`."""

    def __init__(
        self, log: Log, encoder: Encoder, outlet: Outlet, *, ring_messages: int, ring_bytes: int,
        all_rings_bytes: int, max_rooms: int, note_failure: Callable[[LogError], None],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:  # fmt: skip
        self.rooms: dict[str, Room] = {}
        self.pump = Pump(outlet, encoder, log)
        self._log = log
        self._encoder = encoder
        self._outlet = outlet
        self._ring_messages = ring_messages
        self._ring_bytes = ring_bytes
        self._max_rooms = max_rooms
        self._note_failure = note_failure  # told of each message that the log did not take
        self._shelf = Shelf(all_rings_bytes)
        self._clock = clock
        self._empty: dict[Room, float] = {}  # room to the time it leaves memory, in that order
        self._leasing: dict[Room, None] = {}  # with pollers that have just been answered, whoever was seen to first
        self._changed: dict[Room, None] = {}  # whose presence is to be told, whoever was seen to first
        self.published = 0
        self._unanswered = 0  # messages of the last news whose publishers are not told yet; 0 if the pump was busy
        self._members = self._holds = 0  # memberships, and rooms waited for, over all rooms

    async def run(self) -> None:
        """The pump, its readers and the house-keeping, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.pump.run)
            for _ in range(READERS):
                nursery.start_soon(self.pump.run_reader)

    # -- rooms ------------------------------------------------------------------------------------------------------

    def room(self, name: str) -> Room | None:
        """The room, if it is in memory and ready: then everything about its newest messages needs no waiting."""
        room = self.rooms.get(name)
        return room if room is not None and room.life is Life.READY else None

    @asynccontextmanager
    async def using(self, name: str) -> AsyncGenerator[Room, None]:
        """The room, loaded if need be, and kept in memory for the length of the block. Raises LogError."""
        room = self.rooms.get(name)
        if room is None:
            room = self._make(name)
            room.pins += 1
            try:
                await self._load(room)
            except BaseException:
                room.pins -= 1
                self._forget(room)
                raise
        else:
            room.pins += 1
        try:
            while room.loaded is not None:
                await room.loaded.wait()
            if self.rooms.get(name) is not room:
                raise LogError(f"room {name} could not be loaded")
            yield room
        finally:
            room.pins -= 1
            self._note_empty(room)

    async def load(self, names: Iterable[str]) -> None:
        """Bring rooms into memory, side by side; they stay for a while even if nobody comes.

        Raises LogError, the first one, after calling off the others.
        """
        failures: list[LogError] = []

        async def load_one(name: str) -> None:
            try:
                async with self.using(name):
                    pass
            except LogError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(load_one, name)
        if failures:
            raise failures[0]

    def _make(self, name: str) -> Room:
        if len(self.rooms) >= self._max_rooms:
            self._evict_oldest()
        if len(self.rooms) >= self._max_rooms:
            raise RoomsFullError(f"{len(self.rooms)} rooms are in memory, as many as may be, and none of them is empty")
        room = Room(
            name,
            self._log.identity.epoch,
            self._encoder,
            ring_messages=self._ring_messages,
            ring_bytes=self._ring_bytes,
            shelf=self._shelf,
        )
        self.rooms[name] = room
        return room

    async def _load(self, room: Room) -> None:
        while True:
            head = await self._log.head(room.name)
            records = await self._log.latest(room.name, LATEST)
            last = records[-1].offset if records else head.last
            if last >= room.seen:
                break  # else news came while we read: it is in the log by now
        room.ring.last = last - len(records)
        room.ring.first = room.ring.last + 1
        room.first = max(room.first, head.first)  # retention may have been told meanwhile
        room.ring.add(records)
        self._relieve()
        room.walked(reaches=last, written=room.ring.written)
        self._ready(room)

    def _ready(self, room: Room) -> None:
        room.life = Life.READY
        if room.loaded is not None:
            room.loaded.set()
            room.loaded = None

    def _forget(self, room: Room) -> None:
        """A room that could not be loaded: whoever else waits for it is told, and the next one tries again."""
        if self.rooms.get(room.name) is room and room.life is Life.LOADING:
            del self.rooms[room.name]
        if room.loaded is not None:
            room.loaded.set()
            room.loaded = None

    def _note_empty(self, room: Room) -> None:
        if room.life is Life.READY and room.empty:
            self._empty.pop(room, None)
            self._empty[room] = self._clock() + EMPTY_STAYS
            while len(self._empty) > MAX_EMPTY:
                self._evict_oldest()

    def _evict_oldest(self) -> None:
        room = next(iter(self._empty), None)
        if room is not None:
            self._evict(room)

    def _evict(self, room: Room) -> None:
        del self._empty[room]
        if room.empty and self.rooms.get(room.name) is room:
            del self.rooms[room.name]
            room.cut(0)

    def _relieve(self) -> None:
        """If all rooms together keep too much: empty ones go, the oldest first, then each keeps its share at most."""
        while self._shelf.over and self._empty:
            self._evict_oldest()
        if self._shelf.over:
            share = self._shelf.aim // len(self.rooms)
            for room in self.rooms.values():
                room.cut(share)

    # -- news -------------------------------------------------------------------------------------------------------

    def publish(self, draft: Draft, done: Callable[[Stored | LogError], None]) -> Room | None:
        """Hand a message to the log; `done` is called when it is durable. Raises LogBusy.

        Returns the room if it is in memory: its `congested` tells whether the publisher should pause.
        """
        room = self.rooms.get(draft.room)
        size = len(draft.text)

        def settled(result: Stored | LogError) -> None:
            if isinstance(result, LogError):
                self._note_failure(result)
            if room is not None:
                room.pending -= 1
                room.pending_bytes -= size
            done(result)
            if room is not None:
                self.pump.resume_publishers(room)  # a failure or a repeated key is no news: no walk would do it
            if isinstance(result, Stored) and result.fresh:
                self._unanswered -= 1
                if self._unanswered == 0:  # whoever published reads its answer before its message
                    self.pump.begin()

        try:
            self._log.submit(draft, settled)
        except LogError as error:
            self._note_failure(error)
            raise
        if room is not None:
            room.pending += 1
            room.pending_bytes += size
        return room

    def news(self, records: Sequence[Record]) -> None:
        """Take in what the log has made durable, in its order."""
        self.published += len(records)
        by_room: dict[str, list[Record]] = {}
        self._unanswered = len(records) if self.pump.idle else 0
        for record in records:
            by_room.setdefault(record.room, []).append(record)
        for name, batch in by_room.items():
            room = self.rooms.get(name)
            if room is None:
                continue
            if room.life is Life.LOADING:
                room.seen = batch[-1].offset
                continue
            room.ring.add(record for record in batch if record.offset > room.ring.last)
            room.forget_answers()
            if room.members or room.holds:
                self.pump.queue(room)
            else:
                room.walked(reaches=room.last, written=room.ring.written)
        self._relieve()

    def retained(self, firsts: dict[str, int]) -> None:
        """Retention has moved the oldest offset of some rooms."""
        for name, first in firsts.items():
            room = self.rooms.get(name)
            if room is not None:
                room.first = max(room.first, first)
                room.forget_answers()

    # -- members ----------------------------------------------------------------------------------------------------

    def attach(self, room: Room, connection: object, *, form: Form, user: int, cursor: int) -> Member:
        """Make a connection a member from a place on. Call `pump.deliver` once it may be sent to."""
        member = Member(room, connection, form, user, cursor)
        room.members[member] = None
        self._members += 1
        self._enter(room, user)
        return member

    def leave(self, member: Member) -> None:
        """End a membership; harmless when it has ended."""
        if member.state is State.GONE:
            return
        member.state = State.GONE
        member.connection = None
        room = member.room
        del room.members[member]
        self._members -= 1
        room.presence.leave(member.user)
        self._left(room)

    def _enter(self, room: Room, user: int) -> None:
        self._empty.pop(room, None)
        room.presence.enter(user)
        if room.presence.changed:
            self._changed[room] = None

    def _left(self, room: Room) -> None:
        if room.presence.changed:
            self._changed[room] = None
        if not room.members and room.paused:
            self.pump.queue(room)  # nobody is left to wait for
        self._note_empty(room)

    # -- polls ------------------------------------------------------------------------------------------------------

    def park(self, hold: Hold, waits: Iterable[tuple[Room, int]]) -> None:
        """Hold a poll until one of the rooms has something after the place given with it."""
        for room, after in waits:
            hold.first = Wait(room, after, hold.first)
            room.holds[hold] = None
            self._holds += 1
            self._enter(room, hold.user)

    def release(self, hold: Hold) -> None:
        """End a held poll; its user stays present for a little while."""
        wait = hold.first
        hold.first = None
        while wait is not None:
            room = wait.room
            del room.holds[hold]
            self._holds -= 1
            self._lease(room, hold.user)
            wait = wait.next

    def polled(self, room: Room, user: int) -> None:
        """A poll was answered at once: its user is here all the same."""
        self._enter(room, user)
        self._lease(room, user)

    def _lease(self, room: Room, user: int) -> None:
        room.presence.leave_by(user, self._clock() + LEASE)
        self._leasing[room] = None
        self._left(room)

    # -- house-keeping ------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Once a second: leases end, presence is told, empty rooms leave memory."""
        now = self._clock()
        for room in list(islice(self._leasing, LEASES_A_ROUND)):
            room.presence.expire(now)
            del self._leasing[room]
            if room.presence.leased:
                self._leasing[room] = None  # behind those who were not seen to in this round
            self._left(room)
        self._tell_changed(now)
        for room in [room for room, leaves in self._empty.items() if leaves <= now]:
            self._evict(room)
        self._relieve()  # what was sent since is kept as well

    def _tell_changed(self, now: float) -> None:
        told = 0
        for room in list(islice(self._changed, CHANGED_A_ROUND)):
            if told >= TOLD_A_ROUND:
                break  # the others are first in the next round
            del self._changed[room]
            # A notice that the pump has not taken yet is not overwritten: the names in it would be told to nobody.
            if room.presence.tell_after > now or room.notice is not None:
                self._changed[room] = None  # behind those who were not seen to in this round
            else:
                told += len(room.members)
                self._tell_presence(room, now)

    def _tell_presence(self, room: Room, now: float) -> None:
        if room.presence.changed:
            joined, left = room.presence.tell(now)
            if not room.members:
                return  # nobody is left to be told
            room.notice = self._encoder.presence(room.name, joined, left, len(room.presence))
            self.pump.queue(room)

    def drained(self, member: Member) -> None:
        """A member's connection has room again."""
        room = member.room
        if member.uninformed:
            member.uninformed = False
            self._outlet.send(member.connection, self._encoder.presence(room.name, (), (), len(room.presence)))
        if member.state is State.LIVE:
            self.pump.deliver(member)

    def statistics(self) -> dict[str, int]:
        """Rooms in memory, memberships and holds in them, messages taken in."""
        return {
            "rooms": len(self.rooms),
            "members": self._members,
            "holds": self._holds,
            "published": self.published,
            "kept": self._shelf.used,
        }
