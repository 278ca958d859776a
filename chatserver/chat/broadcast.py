"""Broadcasts: bring a room's news to its members and held polls.

Owns: the passes over members and held polls. May not: touch a socket (the sink does), or spend a task on a member.

A pass visits all members of a room, in steps of about 0.1 ms, and offers each in one write all that it lacks. A member
that does not take it all has a cursor, not a queue: `deliver` continues there when its connection is writable, and does
not wait between its check and its return, so no wake-up is lost. A member whose cursor has left the ring is fed from
the log (chat/catch_up.py). Held polls are answered in a pass of their own, which continues in `BULK`.
"""

from collections import deque
from itertools import islice
from typing import NamedTuple

from chatserver.chat.behind import Behind
from chatserver.chat.member import RING, Member, PollWaiter, Source
from chatserver.chat.notices import Move
from chatserver.chat.principal import Principal
from chatserver.chat.ring import CHUNK_BYTES, Encoding, Ring
from chatserver.chat.room import Room
from chatserver.chat.sink import Schedule, Sink

#: Members visited in one step: a write costs 5 µs in the kernel. And the bytes that cost as much again: long chunks go
#: to fewer members.
STEP_MEMBERS, WRITE_BYTES = 32, 8 * 1024
#: Held polls answered in one step, at 15 µs each. Each room of a poll takes 2 µs more, so POLL_ROOMS rooms count as one
#: more poll.
STEP_POLLS, POLL_ROOMS = 8, 8
#: Paused publishers resumed in one step, at 1.5 µs each.
STEP_PUBLISHERS = 64
#: Offsets that a member may be behind the ring and still be fed from the log; beyond that it is sent a gap and goes on
#: from the ring. Otherwise a reader slower than its room would read the log for ever.
MAX_BEHIND = 5_000


class Broadcast:
    """One pass over the members that were in the room when it began."""

    __slots__ = ("_presence", "_typing", "at", "change", "members", "reaches", "reads", "room", "typing", "written")

    def __init__(self, room: Room) -> None:
        self.room = room
        self.members = list(room.members)
        self.at = 0
        self.reaches = room.last
        self.written = 0 if room.ring is None else room.ring.written
        since = room.presence_since
        self.change = None if since is None or not room.presence.changed else room.presence.take_changes(since)
        room.presence_since = None
        self.typing: list[Principal] = []
        self.reads: dict[int, Move] = {}
        if room.notices is not None and room.notices.announced is not None:
            self.typing, self.reads = room.notices.take()
        # Encoded once for each encoding.
        self._presence: dict[Encoding, bytes] = {}
        self._typing: dict[Encoding, dict[int, bytes]] = {}

    def presence(self, encoding: Encoding) -> bytes:
        """The notice of `change` in this encoding."""
        if encoding not in self._presence:
            assert self.change is not None, "the caller has looked"
            joined, left = self.change
            self._presence[encoding] = encoding.presence(self.room.name, joined, left, len(self.room.presence))
        return self._presence[encoding]

    def notices(self, member: Member, number: int) -> bytes:
        """A member's notices: which others type, and how far the same person has read on another connection."""
        encoding, name = member.encoding, self.room.name
        typing = self._typing.get(encoding)
        if typing is None:
            typing = self._typing[encoding] = {who.number: encoding.typing(name, who) for who in self.typing}
        notices = b"".join([notice for who, notice in typing.items() if who != number]) if typing else b""
        move = self.reads.get(number)
        if move is not None and move.connection is not member.connection:
            notices += encoding.read(name, move.offset)
        return notices


class PollPass(NamedTuple):
    """One pass over all polls held when it began. One at a time: news may come faster than thousands are answered."""

    waiters: deque[PollWaiter]
    reaches: int


class Broadcaster:
    def __init__(self, sink: Sink, schedule: Schedule, behind: Behind) -> None:
        self._sink = sink
        self._schedule = schedule
        self._behind = behind
        self.delivered = 0  # messages written to members' connections
        self.gaps = 0

    def announce(self, room: Room) -> None:
        """Begin passes over a room's members and held polls, which may lack something."""
        if room.members:
            self.announce_members(room)
        else:
            room.all_offered()
        if room.waiters and room.answering is None:
            room.answering = PollPass(deque(room.waiters), room.last)
            self._schedule.soon(self._answer_polls, room, room)

    def _step(self, room: Room) -> bool:
        """Visit the next few members; at the end, begin another pass if there is news."""
        broadcast = room.broadcast
        assert broadcast is not None, "a room is queued with its pass"
        begin = broadcast.at
        broadcast.at = end = begin + _members_of_step(room)
        more = end < len(broadcast.members)
        if more:
            self._schedule.soon(self._step, room, room)
        else:
            room.broadcast = None  # first: an exception may end this pass, but not prevent the next
        try:
            self._visit(room, broadcast, broadcast.members[begin:end])
        finally:
            if not more:
                self._end(room, broadcast)  # even after an exception: publishers wait for it
        return False

    def _visit(self, room: Room, broadcast: Broadcast, visited: list[Member]) -> None:
        if broadcast.typing or broadcast.reads:  # before what came in since: a message ends its author's typing
            for member in visited:
                self._tell_notices(member, broadcast)
        for member in self._deliver_alike(room, visited):
            if member.cursor < room.last and member.source is RING:
                self._sink.step(member.connection, self._deliver_to, member)
        if broadcast.change is not None:
            for member in visited:
                self._tell_presence(member, broadcast.presence(member.encoding))

    def _end(self, room: Room, broadcast: Broadcast) -> None:
        room.offered, room.offered_bytes = broadcast.reaches, broadcast.written
        self.resume_publishers(room)
        notices = room.notices
        all_sent = room.presence_since is None and (notices is None or notices.announced is None)
        if room.last != broadcast.reaches or not all_sent:
            self.announce_members(room)

    def announce_members(self, room: Room) -> None:
        """Begin a pass over the members. If one is under way, its end begins the next."""
        if room.broadcast is None:
            room.broadcast = Broadcast(room)
            self._schedule.soon(self._step, room, room)

    def begin_now(self, room: Room) -> None:
        """Begin a pass, unless one is under way, with its first step: in a small room, the whole pass.

        For work that visits thousands of rooms: if it queued them all, users would wait for all of them.
        """
        if room.broadcast is None:
            room.broadcast = Broadcast(room)
            try:
                self._step(room)
            except Exception:  # noqa: BLE001  the fault boundary: the other rooms have their turn
                self._schedule.faulted(room)

    def _tell_notices(self, member: Member, broadcast: Broadcast) -> None:
        """Offer a member its notices; if its connection is blocked, they are dropped."""
        principal = broadcast.room.members.get(member)
        if principal is None:
            return  # the member has left
        notices = broadcast.notices(member, principal.number)
        if notices:
            taken = self._sink.offer(member.connection, notices)
            if 0 < taken < len(notices):
                self._sink.keep(member.connection, notices, taken)

    def _tell_presence(self, member: Member, notice: bytes) -> None:
        """Offer a member a presence notice; if its connection is blocked, it gets the count once it is writable."""
        if not notice or member.source is Source.NOTHING:
            return
        taken = self._sink.offer(member.connection, notice)
        if taken == 0:
            room = member.room
            if room.uninformed is None:
                room.uninformed = set()
            room.uninformed.add(member)
            self._sink.keep(member.connection, b"", 0)
        elif 0 < taken < len(notice):
            self._sink.keep(member.connection, notice, taken)

    def resume_publishers(self, room: Room) -> None:
        """Resume paused publishers unless the room is congested; called whenever that may have changed.

        A few at once and the others in further steps, since thousands may wait.
        """
        paused = room.paused
        if not paused or room.congested or room.resuming:
            return
        for connection in list(islice(paused, STEP_PUBLISHERS)):
            paused.pop(connection, None)  # a fault in resuming one may have closed another
            self._sink.step(connection, self._sink.resume)
        if paused:
            room.resuming = True
            self._schedule.soon(self._resume_more, room, room)
        else:
            room.paused = None  # an emptied dict keeps the memory of all that were in it

    def _resume_more(self, room: Room) -> bool:
        room.resuming = False
        self.resume_publishers(room)
        return False

    def _deliver_alike(self, room: Room, visited: list[Member]) -> list[Member]:
        """Offer one chunk to all members at the cursor of the first one that lacks something: mostly these are all.

        Returns the members that may lack something still. One tight loop in the sink costs a third of a call for each
        member.
        """
        last, ring = room.last, room.ring
        first = next((member for member in visited if member.cursor < last and member.source is RING), None)
        if first is None or ring is None:
            return []
        if not ring.holds_after(first.cursor):
            return visited
        cursor, encoding = first.cursor, first.encoding
        alike = [
            member
            for member in visited
            if member.cursor == cursor and member.encoding is encoding and member.source is RING
        ]
        chunk, reached = ring.chunk(encoding, cursor)
        connections = [member.connection for member in alike]
        partly = self._sink.offer_each(connections, chunk)
        for member in alike:
            member.cursor = reached
        self.delivered += (reached - cursor) * (len(alike) - len(partly))
        if not partly:
            return [] if reached == ring.last and len(alike) == len(visited) else visited
        members = dict(zip(connections, alike, strict=True))  # a member that has died has no connection any more
        for connection, _ in partly:
            members[connection].cursor = cursor
        for connection, taken in partly:  # a dead one has no step
            self._sink.step(connection, self._keep_partly, members[connection], ring, reached, taken)
        return visited

    def _keep_partly(self, connection: object, member: Member, ring: Ring, reached: int, taken: int) -> None:
        self._keep_rest(member, ring.pieces(member.encoding, member.cursor, reached), taken)

    def _deliver_to(self, connection: object, member: Member) -> None:
        self.deliver(member)

    def deliver(self, member: Member) -> None:
        """Offer a member everything it lacks. Called by a pass, and when its connection is writable again."""
        ring = member.room.ring
        if ring is None or member.source is not RING:
            return
        if member.cursor < ring.last and self._sink.blocked(member.connection):
            return  # its connection is blocked, so making a chunk would be wasted
        while member.cursor < ring.last and member.source is RING:
            if member.cursor < ring.first - 1:
                self._skip_to_ring(member, ring)
                continue
            cursor = member.cursor
            chunk, reached = ring.chunk(member.encoding, cursor)
            taken = self._sink.offer(member.connection, chunk)
            if taken == len(chunk):
                member.cursor = reached
                self.delivered += reached - cursor
                continue
            if taken >= 0:
                self._keep_rest(member, ring.pieces(member.encoding, cursor, reached), taken)
            return

    def take_last(self, member: Member) -> bytes:
        """The room's last message, if that is all that the member lacks, for the caller to send; moves the cursor."""
        ring, cursor = member.room.ring, member.cursor
        if ring is None or member.source is not RING or cursor != ring.last - 1 or not ring.holds_after(cursor):
            return b""
        push, member.cursor = ring.chunk(member.encoding, cursor)
        self.delivered += 1
        return push

    def give(self, member: Member, chunk: bytes, pieces: list[bytes]) -> None:
        """Offer a chunk of pieces that follow the member's cursor, and move the cursor past those that were taken."""
        taken = self._sink.offer(member.connection, chunk)
        if taken >= 0:
            self._keep_rest(member, pieces, taken)

    def _keep_rest(self, member: Member, pieces: list[bytes], taken: int) -> None:
        """Move the cursor past the pieces taken; the connection keeps the rest of a piece that was partly taken."""
        for piece in pieces:
            if not taken:
                self._sink.keep(member.connection, b"", 0)
                return
            member.cursor += 1
            self.delivered += 1
            if taken < len(piece):
                self._sink.keep(member.connection, piece, taken)
                return
            taken -= len(piece)

    def _skip_to_ring(self, member: Member, ring: Ring) -> None:
        """Send a member behind the ring a gap, or have the log read for it."""
        first = member.room.first
        if member.cursor < first - 1:
            self.tell_gap(member, first - 1)
        elif ring.first - 1 - member.cursor > MAX_BEHIND:
            self.tell_gap(member, ring.first - 1)
        else:
            member.source = Source.LOG
            self._behind.add(member)

    def tell_gap(self, member: Member, until: int) -> None:
        """Move a member's cursor ahead, and send it the range of offsets that it missed."""
        self.gaps += 1
        gap = member.encoding.gap(member.room.name, member.cursor, until)
        member.cursor = until
        self._sink.send(member.connection, gap)

    def _answer_polls(self, room: Room) -> bool:
        """Answer the next few held polls; at the end, begin another pass if there is news. True: there are more."""
        passing, room.answering = room.answering, None  # an exception ends this pass, but does not prevent the next
        assert passing is not None, "a room is queued with its pass"
        waiters = passing.waiters
        left = STEP_POLLS
        while waiters and left > 0:
            waiter = waiters.popleft()
            left -= 1
            if waiter.lacks_news_of(room):  # it may have been answered, or have gone, meanwhile
                left -= len(waiter.places()) // POLL_ROOMS
                self._sink.answer(waiter)
        if waiters:
            room.answering = passing
        elif room.waiters and room.last != passing.reaches:
            room.answering = PollPass(deque(room.waiters), room.last)
        return room.answering is not None


def _members_of_step(room: Room) -> int:
    """How many members to visit in a step, by what most of them lack."""
    ring = room.ring
    lacking = 0 if ring is None else min(ring.written - room.offered_bytes, CHUNK_BYTES)
    return max(STEP_MEMBERS // (1 + lacking // WRITE_BYTES), 1)
