"""What happens in rooms: who joins, leaves, polls and goes, and the news.

Owns: that, and when presence is told. May not: know a wire form or a socket, or how rooms come into memory.

Decides synchronously: joining, parking a poll and taking in news are plain functions from check to park, so no wake-up
can be lost between them. The hub fans out on the log's news, never on a publish of its own: the same path serves one
process and, later, many.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import trio

from chatserver.chat.member import Hold, Member, Outlet, State, Wait
from chatserver.chat.presence import LEASE
from chatserver.chat.pump import READERS, Pump
from chatserver.chat.registry import Registry
from chatserver.chat.ring import Encoder, Form
from chatserver.chat.room import Life, Room
from chatserver.log.interface import Draft, Log, LogError, Record, Stored

#: Members told of presence in one round of a second, over all rooms: 30 ms of it. Whoever joins and leaves as fast as
#: it may, in a hundred large rooms, would otherwise have ten thousands of frames sent for 20 of its own.
TOLD_A_ROUND = 5_000
#: Rooms that are looked at for that in one round: 10 ms of it. Everybody may go, or come back, in the same moment.
CHANGED_A_ROUND = 1_000
#: Rooms whose leases are looked at in one round: 10 ms of it. One request may poll a hundred rooms.
LEASES_A_ROUND = 2_000


class Hub:
    """See the module. Its tasks are started by `run`."""

    def __init__(
        self, log: Log, encoder: Encoder, outlet: Outlet, *, ring_messages: int, ring_bytes: int,
        all_rings_bytes: int, max_rooms: int, note_failure: Callable[[LogError], None],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:  # fmt: skip
        self.registry = Registry(
            log, encoder, ring_messages=ring_messages, ring_bytes=ring_bytes, all_rings_bytes=all_rings_bytes,
            max_rooms=max_rooms, clock=clock,
        )  # fmt: skip
        self.rooms = self.registry.rooms
        self.room, self.using, self.load = self.registry.room, self.registry.using, self.registry.load
        self.pump = Pump(outlet, encoder, log)
        self._log = log
        self._encoder = encoder
        self._outlet = outlet
        self._note_failure = note_failure  # told of each message that the log did not take
        self._clock = clock
        self._leasing: dict[Room, None] = {}  # with pollers that have just been answered, whoever was seen to first
        self._changed: dict[Room, None] = {}  # whose presence is to be told, whoever was seen to first
        self._arrived: dict[Member, None] = {}  # alone, and not told yet that it is there
        self.published = 0
        self._unanswered = 0  # messages of the last news whose publishers are not told yet; 0 if the pump was busy
        self._members = self._holds = 0  # memberships, and rooms waited for, over all rooms

    async def run(self) -> None:
        """The pump, its readers and the house-keeping, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.pump.run)
            for _ in range(READERS):
                nursery.start_soon(self.pump.run_reader)

    # -- news -------------------------------------------------------------------------------------------------------

    def publish(self, draft: Draft, done: Callable[[Stored | LogError], None]) -> Room | None:
        """Hand a message to the log; `done` is called when it is durable. Raises LogBusy.

        Returns the room if it is in memory: its `congested` tells whether the publisher should pause.
        """
        room = self.registry.find(draft.room)
        size = len(draft.text)

        def settled(result: Stored | LogError) -> None:
            if room is not None:
                room.pending -= 1
                room.pending_bytes -= size
            if isinstance(result, LogError):
                self._attempt(self._note_failure, result)
            self._attempt(done, result)
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
            self._attempt(self._take_in, name, batch)
        self._attempt(self.registry.relieve)

    def _take_in(self, name: str, batch: list[Record]) -> None:
        room = self.registry.find(name)
        if room is None:
            return
        if room.life is Life.LOADING:
            room.seen = batch[-1].offset
            return
        self.registry.note_written(room)
        room.ring.add(record for record in batch if record.offset > room.ring.last)
        room.forget_answers()
        if room.members or room.holds:
            self.pump.queue(room)
        else:
            room.walked(reaches=room.last, written=room.ring.written)

    def _attempt(self, work: Callable[..., object], *arguments: object) -> None:
        """Do something for one room, or for all: a bug of ours in it is told, and costs that one call."""
        try:
            work(*arguments)
        except Exception:  # noqa: BLE001
            self._outlet.fault()

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

    def settle(self, room: Room) -> None:
        """Behind whoever has come into it, perhaps as the only one: most rooms that are made up stay like that."""
        alone = self.registry.put_away(room)
        if alone is not None:
            self._changed.pop(room, None)
            self._arrived[alone] = None

    def leave(self, member: Member) -> None:
        """End a membership; harmless when it has ended."""
        if member.state is State.GONE:
            return
        self._members -= 1
        if member.state is State.ALONE:
            self.registry.leave_unopened(member)
        else:
            room = member.room
            del room.members[member]
            room.presence.leave(member.user)
            self._left(room)
        member.state = State.GONE
        member.connection = None

    def _enter(self, room: Room, user: int) -> None:
        self.registry.note_entered(room)
        room.presence.enter(user)
        if room.presence.changed:
            self._changed[room] = None

    def _left(self, room: Room) -> None:
        if room.presence.changed:
            self._changed[room] = None
        if not room.members and room.paused:
            self.pump.queue(room)  # nobody is left to wait for
        self.registry.note_empty(room)

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
            del self._leasing[room]
            self._attempt(self._end_leases, room, now)
        self._tell_arrived()
        self._tell_changed(now)
        self._attempt(self.registry.evict_due)
        self._attempt(self.registry.relieve)  # what was sent since is kept as well

    def _end_leases(self, room: Room, now: float) -> None:
        room.presence.expire(now)
        if room.presence.leased:
            self._leasing[room] = None  # behind those who were not seen to in this round
        self._left(room)

    def _tell_arrived(self) -> None:
        """Whoever is alone hears of its own arrival as everybody does."""
        arrived, self._arrived = self._arrived, {}  # bounded: each took a request in the last second
        for member in arrived:
            try:
                if member.state is State.ALONE and not self._outlet.blocked(member.connection):
                    frame = self._encoder.presence(member.room_name, (member.user,), (), 1)
                    self._outlet.send(member.connection, frame)
            except Exception:  # noqa: BLE001  a bug of ours costs one member, and those behind it are told
                self._outlet.fault(member.connection)

    def _tell_changed(self, now: float) -> None:
        told = 0
        for room in list(islice(self._changed, CHANGED_A_ROUND)):
            if told >= TOLD_A_ROUND:
                break  # the others are first in the next round
            del self._changed[room]
            if room.presence.tell_after > now or room.telling is not None:
                self._changed[room] = None  # behind those who were not seen to in this round
            else:
                told += len(room.members)
                self._attempt(self._tell_presence, room, now)

    def _tell_presence(self, room: Room, now: float) -> None:
        if not room.members:
            room.presence.tell(now)  # to nobody
        elif room.presence.changed:
            room.telling = now
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
            "rooms": self.registry.count,
            "members": self._members,
            "holds": self._holds,
            "published": self.published,
            "kept": self.registry.kept,
        }
