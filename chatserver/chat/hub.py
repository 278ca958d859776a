"""Events in rooms: joins, leaves, polls, publishes, and the log's news.

Owns: these events. May not: know a wire form or a socket, how rooms come into memory, or when presence is sent.

Joining, parking a poll and handling news are plain functions that never wait, so no wake-up can be lost between them.
The hub fans out on the log's news, never on a publish of its own: a message bus can bring news as well.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import trio
from msgspec.structs import replace

from chatserver.chat.behind import Behind
from chatserver.chat.broadcast import Broadcaster
from chatserver.chat.catch_up import READERS, CatchUp
from chatserver.chat.cluster import Cluster
from chatserver.chat.follower import Follower
from chatserver.chat.housekeeping import Housekeeping
from chatserver.chat.log_reader import LogReader
from chatserver.chat.member import Member, PollWaiter, Source, Wait
from chatserver.chat.presence import Presence
from chatserver.chat.principal import Principal
from chatserver.chat.registry import EMPTY_ROOM_SECONDS, Registry
from chatserver.chat.ring import Encoding, MessageEncoder, RingSize
from chatserver.chat.room import Room
from chatserver.chat.sink import Schedule, Sink
from chatserver.log.interface import (
    EDIT,
    Draft,
    Log,
    LogBusy,
    LogError,
    LogUnavailable,
    OnAnswer,
    Record,
    Refused,
    Stored,
)
from chatserver.log.sanctions import EVERYWHERE
from chatserver.meters import ByteBudget, KeyedBuckets
from chatserver.settings.fields import Settings

#: Users kept present after their connection has ended, in all rooms together, at 150 to 450 bytes each. At the limit,
#: users leave a room as soon as their connection ends. Each new cookie makes a new user, and a poll enters 100 rooms.
MAX_LEASES = 200_000
#: Once half of MAX_LEASES are used, one network may add 1/LEASE_SHARE of them at once, and as many again in the time
#: that a lease lasts: fewer than 64 networks do not end the leases of others. An office of 300 in two rooms fits.
LEASE_SHARE = 256


class Hub:
    """See the module. Its readers of the log are started by `run`.

    `tell` sends a message to the other processes of this chat, as in `Cluster`; None: there are no others.
    """

    def __init__(
        self, log: Log, encoder: MessageEncoder, sink: Sink, schedule: Schedule, settings: Settings, *,
        note_failure: Callable[[LogError], None], tell: Callable[[bytes], None] | None,
        note_deletion: Callable[[Draft, str], None], note_altered: Callable[[Sequence[Record]], object],
        note_unstored: Callable[[Draft], object],
    ) -> None:  # fmt: skip
        self.budget = ByteBudget(settings.all_rings_bytes)
        size = RingSize(encoder, settings.ring_messages, settings.ring_bytes, self.budget)
        self.reader = LogReader(log)
        self.rooms: dict[str, Room] = {}  # in memory, by name; the registry decides which
        self.behind = Behind()
        self.broadcaster = Broadcaster(sink, schedule, self.behind)
        self._catch_up = CatchUp(self.behind, self.reader, encoder, sink, self.broadcaster)
        self.housekeeping = Housekeeping(self.rooms, self.broadcaster, schedule, left=self._left)
        self.cluster = None if tell is None else Cluster(self.rooms, self.housekeeping, tell)
        self.registry = Registry(
            self.rooms, self.reader, size, max_rooms=settings.max_rooms, of_peer=settings.max_rooms_per_connection,
            stays=max(EMPTY_ROOM_SECONDS, settings.presence_grace), schedule=schedule, loaded=self._loaded,
            make_presence=(lambda name: Presence()) if self.cluster is None else self.cluster.make_presence,
        )  # fmt: skip
        self.follower = Follower(
            log, self.reader, self.rooms, schedule,
            take_in=self._take_in, retained=self.retained, note_altered=note_altered,
        )  # fmt: skip
        self._log = log
        self._sink = sink
        self._schedule = schedule
        self._note_failure = note_failure  # called for each message that the log did not take
        self._note_deletion = note_deletion  # called for each message that a moderator has deleted, or may have
        self._note_altered = note_altered  # called with edits, deletions and reactions, of any process
        self._note_unstored = note_unstored  # called with drafts that are not in the log
        self._lease_seconds = settings.presence_grace
        share = MAX_LEASES // LEASE_SHARE
        self._lease_limit: KeyedBuckets[str] = KeyedBuckets(share / self._lease_seconds, burst=share)
        self.published = 0
        self._members = self._waits = 0  # memberships, and rooms waited for, over all rooms

    async def run(self) -> None:
        """Read the log for members behind their rings, and for rooms behind the log, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.follower.run)
            for _ in range(READERS):
                nursery.start_soon(self._catch_up.run)

    # -- news -------------------------------------------------------------------------------------------------------

    def publish(self, draft: Draft, done: OnAnswer) -> Room | None:
        """Hand a record to the log; `done` is called when it is durable or refused. Raises LogBusy.

        Returns the room if it is in memory: its `congested` tells whether the publisher should pause.
        """
        room = self.rooms.get(draft.room)
        if room is not None:
            draft = replace(draft, known=room.last)
        try:
            self._log.submit(draft, partial(self._answered, room, draft, done))
        except LogError as error:
            self._failed(draft, error)
            raise
        if room is not None:
            room.pending += 1
            room.pending_bytes += len(draft.text)
        return room

    def _answered(self, room: Room | None, draft: Draft, done: OnAnswer, result: Stored | LogError) -> None:
        if room is not None:
            room.pending -= 1
            room.pending_bytes -= len(draft.text)
        try:
            if isinstance(result, LogError):
                self._failed(draft, result)
                if draft.as_moderator and isinstance(result, LogUnavailable):
                    self._note_deletion(draft, "not confirmed: it may not be deleted")
            elif draft.as_moderator and result.fresh:
                self._note_deletion(draft, "")
            done(result)
        finally:
            if room is not None:
                self.broadcaster.resume_publishers(room)  # without news, after a failure or a repeated key

    def _failed(self, draft: Draft, error: LogError) -> None:
        if isinstance(error, LogBusy | Refused):
            self._note_unstored(draft)
        if not isinstance(error, Refused):
            self._note_failure(error)

    def news(self, records: Sequence[Record]) -> None:
        """Handle records that the log has made durable, in its order. An exception affects one room only."""
        self.published += len(records)
        by_room: dict[str, list[Record]] = {}
        altering = []
        for record in records:
            by_room.setdefault(record.room, []).append(record)
            if record.alters:
                altering.append(record)
                room = self.rooms.get(record.room)
                if room is None or record.offset > room.last:
                    self.reader.altered(record.room, record.alters, record.empties, by=record.offset)
        if altering:
            self._note_altered(altering)
        for name, batch in by_room.items():
            self.reader.written(name, batch)
            room = self.rooms.get(name)
            if room is not None:
                try:
                    self._news_of(room, batch)
                except Exception:  # noqa: BLE001
                    self._schedule.faulted(room)
        self.registry.relieve()
        if self.cluster is not None:
            self.cluster.written(records)

    def _news_of(self, room: Room, batch: list[Record]) -> None:
        if room.ready and batch[0].offset == room.last + 1:
            self._take_in(room, batch, as_committed=True)
            return
        # Another process has written in between, or the room is being loaded.
        if room.ring is not None:
            # Deletions are acknowledged before these records are read. The news of a record that is here already is
            # late: the ring has what others have altered since.
            room.ring.alter([record for record in batch if record.offset > room.last])
            room.forget_answers()
        self.follower.expect(room, batch[-1].offset)

    def _take_in(self, room: Room, batch: list[Record], *, as_committed: bool = False) -> None:
        ring = room.ring
        if ring is None:
            self.registry.note_first_message(room)
            ring = room.make_ring(0)
        ring.add(batch, as_committed=as_committed)
        if any(record.kind is EDIT and record.target < room.first for record in batch):
            ring.forget_texts(room.first)  # retention was faster than the news of the edit
        if room.notices is not None:
            room.notices.written(batch)
        room.forget_answers()
        self.broadcaster.announce(room)

    def _loaded(self, room: Room) -> None:
        self.follower.expect(room, room.expected)  # what was noted during its load

    def retained(self, firsts: dict[str, int]) -> None:
        """Retention, of this process or another, may have moved the oldest offset of these rooms."""
        for name, first in firsts.items():
            room = self.rooms.get(name)
            if room is not None and first > room.first:
                room.first = first
                room.forget_answers()
                if room.ring is not None:
                    room.ring.forget_texts(first)

    # -- members ----------------------------------------------------------------------------------------------------

    def attach(
        self, room: Room, connection: object, *, encoding: Encoding, principal: Principal, cursor: int
    ) -> Member:
        """Make a connection a member, from a cursor on. `broadcaster.deliver` sends what it lacks."""
        member = Member(room, connection, encoding, cursor)
        self._enter(room, principal)
        room.put_member(member, principal)  # last: an exception above must not leave an unreferenced member here
        self._members += 1
        return member

    def leave(self, member: Member) -> None:
        """End a membership at the client's request."""
        principal = self._detach(member)
        member.room.presence.leave(principal.number)
        self.end_lease(member.room, principal)

    def lost(self, member: Member) -> None:
        """End a membership whose connection has ended; the person stays present for a lease."""
        self._lease(member.room, self._detach(member))

    def _detach(self, member: Member) -> Principal:
        member.source = Source.NOTHING
        member.connection = None
        self._members -= 1
        self._informed(member)
        return member.room.remove_member(member)

    def change_principal(self, member: Member, principal: Principal) -> None:
        """A member has signed in or changed its name; others see it change in place."""
        room = member.room
        before = room.members[member]
        room.put_member(member, principal)
        room.presence.change(before, principal)
        self.housekeeping.note_presence(room)

    def _enter(self, room: Room, principal: Principal) -> None:
        self.registry.note_entered(room)
        room.presence.enter(principal)
        self.housekeeping.note_presence(room)

    def _left(self, room: Room) -> None:
        self.housekeeping.note_presence(room)
        self.broadcaster.resume_publishers(room)  # perhaps no members are left to wait for
        self.registry.note_empty(room)

    def writable(self, member: Member) -> None:
        if self._informed(member):
            room = member.room
            notice = member.encoding.presence(room.name, (), (), len(room.presence))
            if notice:
                self._sink.send(member.connection, notice)
        self.broadcaster.deliver(member)

    def _informed(self, member: Member) -> bool:
        """Remove a member from those that missed a presence notice; returns whether it was among them."""
        uninformed = member.room.uninformed
        if uninformed is None or member not in uninformed:
            return False
        uninformed.remove(member)
        if not uninformed:
            member.room.uninformed = None  # an emptied set keeps the memory of all who were in it
        return True

    # -- polls ------------------------------------------------------------------------------------------------------

    def park(self, waiter: PollWaiter, waits: Iterable[tuple[Room, int]]) -> None:
        """Hold a poll until one of the rooms has a record after the offset given with it."""
        wait: Wait = waiter
        for room, after in waits:
            if wait.room is not None:
                wait.next = Wait()
                wait = wait.next
            wait.room, wait.after = room, after
            if room.waiters is None:
                room.waiters = {}
            room.waiters[waiter] = None
            self._waits += 1
            self._enter(room, waiter.principal)

    def release(self, waiter: PollWaiter) -> None:
        """End a held poll; its user stays present for a lease."""
        places = waiter.places()
        waiter.room = waiter.next = None
        for room, _ in places:
            assert room.waiters is not None, "it waits there"
            del room.waiters[waiter]
            if not room.waiters:
                room.waiters = None
            self._waits -= 1
            self._lease(room, waiter.principal)

    def polled(self, room: Room, principal: Principal) -> None:
        """A poll was answered at once: its user is present for a lease too."""
        self._enter(room, principal)
        self._lease(room, principal)

    def _may_lease(self, principal: Principal) -> bool:
        """Whether a user may have a lease although half of them are used."""
        full = self.housekeeping.leases >= MAX_LEASES
        return not full and not self._lease_limit.take(principal.network, trio.current_time())

    def _lease(self, room: Room, principal: Principal) -> None:
        if self.housekeeping.leases < MAX_LEASES // 2 or self._may_lease(principal):
            room.presence.leave_by(principal.number, trio.current_time() + self._lease_seconds)
            self.housekeeping.note_lease(room)
            if not room.members:
                self._left(room)  # who is present has not changed, but the room may be empty now
        else:
            room.presence.leave(principal.number)
            self._left(room)

    def end_lease(self, room: Room, principal: Principal) -> bool:
        """End the lease of a user who left or was expelled. False: there was none."""
        ended = room.presence.end_lease(principal.number)
        self._left(room)
        return ended

    def leaseholders(self, name: str) -> Iterator[tuple[Room, Principal]]:
        """Users who are present by a lease, in a room or in all; safe to iterate while leases change."""
        rooms = self.housekeeping.leasing() if name == EVERYWHERE else filter(None, [self.rooms.get(name)])
        return ((room, principal) for room in rooms for principal in room.presence.leaseholders())

    # -- housekeeping -------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Once a second: leases end, presence is sent, empty rooms leave memory."""
        self.registry.evictions.begin()
        self.registry.relieve()  # joined chunks, made when they were sent, count too
        self.housekeeping.begin()
        self._lease_limit.sweep(trio.current_time())

    def statistics(self) -> dict[str, int]:
        """Rooms in memory, memberships and held polls in them, records of news, bytes kept."""
        return {
            "rooms": len(self.rooms),
            "members": self._members,
            "waiters": self._waits,
            "published": self.published,
            "kept": self.budget.used,
        }
