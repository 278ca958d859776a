"""What carries news to those who wait for it.

Owns: the queue of rooms with news, the walks over their members, the readers for those who fell behind the ring.
May not: touch a socket (the outlet does), or spend a task on a member.

A walk visits everybody in a room and offers each, in one write, all that it lacks. It lets other tasks run every
millisecond, and rooms take turns within these: a room of thousands is not in the way of one of two. Whoever does not
take it all keeps a place, not a queue: `drained` brings it back through `deliver`. A member whose place has left the
ring is handed to a few reader tasks, which feed it from the log; one that is thousands behind is told so by a `gap` and
goes on with what is new. Held polls are answered beside the walk, and no faster than the answered can be attended to
when they come back: members do not wait for that.

No wake-up can be lost between "no longer blocked" and "behind": `deliver` runs from check to park without a wait.
"""

from collections import deque
from time import perf_counter
from typing import Protocol

import structlog
import trio

from chatserver.chat.member import Member, Outlet, State
from chatserver.chat.ring import CHUNK_BYTES, Encoder, Form
from chatserver.chat.room import Due, Room, Walk
from chatserver.log.interface import LogError, Record

#: Writes before other tasks run, and seconds: a room of ten thousand delays nobody by more. A write costs 6 µs to
#: 16, as busy as the machine is; by number alone, a slice was 5 ms where everybody's were late already.
SLICE, SLICE_SECONDS = 256, 0.001
#: The part of a slice that is carried at once when news comes, if there was nothing else to carry. Most rooms are
#: small, and a pass of the loop that they do not wait for is two milliseconds beside a crowd.
AT_ONCE_SHARE = 4
#: What a walk through a room costs beside its writes, in writes. Rooms of two people share a slice, as many as fit: a
#: pass for each was 200 rooms a second beside a busy poller, and half a second's wait for 500 rooms at ten messages.
ROOM_COST = 3
#: Writes for one room before another has its turn, or the clock is looked at.
ROOM_SHARE = 32
#: Writes of presence before other tasks run. When thousands come back, their rooms have thousands of notices to tell:
#: in whole slices those were 80 ms of each second in which a pass took four times as long.
NOTICE_SHARE = 32
#: Held polls answered before other tasks run: about 2 ms as well.
WAKE_SLICE = 64
#: The same while more peers are ready than a pass attends to: whoever is answered asks again at once, which costs four
#: times the answer. Eight thousand polls woken at one go would stand before everybody else for most of a second.
WAKE_WHEN_CROWDED = 8
#: Polls of one room answered at a time while another room's wait.
WAKE_SHARE = 4
#: Polls of a room that are a herd: more than a short slice attends to. Its next requests wait for everybody else's.
HERD = 32
#: Messages read from the log at a time for a member behind the ring.
READ_PAGE = 100
#: Offsets a member may be behind the ring and still be fed from the log. A reader slower than its room would read the
#: log for ever: beyond this it is told what it missed and goes on from the ring.
MAX_BEHIND = 5_000
#: Tasks that read the log for members behind the ring; the log itself has two reading connections.
READERS = 2
#: Seconds a reader waits after the log failed.
READ_RETRY = 1.0

_log = structlog.get_logger("chatserver.chat")


class Reads(Protocol):
    """The part of the log that the readers use."""

    async def read(self, room: str, *, after: int, limit: int) -> list[Record]:
        """Messages after an offset, oldest first."""


class Pump:
    """See the module. `run` and `run_reader` are tasks; all else is synchronous."""

    def __init__(self, outlet: Outlet, encoder: Encoder, log: Reads) -> None:
        self._outlet = outlet
        self._encoder = encoder
        self._log = log
        self._rooms: deque[Room] = deque()  # that have messages to be carried
        self._noticed: deque[Room] = deque()  # that have presence alone; a room that is in both is due in the first
        self._waking: deque[Room] = deque()  # whose held polls are being answered
        self._behind: deque[Member] = deque()
        self._news = trio.Event()
        self._fell_behind = trio.Event()
        self.delivered = 0  # messages given to members' connections
        self.gaps = 0

    # -- walking --------------------------------------------------------------------------------------------------

    def queue(self, room: Room) -> None:
        """There is something in this room that its members may lack."""
        due = room.due
        if due > room.queued:
            room.queued = due
            (self._rooms if due is Due.NEWS else self._noticed).append(room)
            self._news.set()

    async def run(self) -> None:
        """Carry news until cancelled."""
        while True:
            while self._rooms or self._noticed or self._waking:
                try:
                    self._walk(SLICE)
                    self._wake(self._wake_slice())
                    self._tell_some(NOTICE_SHARE)
                except Exception:  # noqa: BLE001  a bug of ours costs this slice
                    self._outlet.fault()
                await trio.lowlevel.checkpoint()
            self._news = trio.Event()
            await self._news.wait()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to carry that cannot wait."""
        return not (self._rooms or self._waking)

    def begin(self) -> None:
        """Carry the first of it at once; the rest is the task's."""
        self._walk(SLICE // AT_ONCE_SHARE)
        self._wake(self._wake_slice() // AT_ONCE_SHARE)

    def _wake_slice(self) -> int:
        return WAKE_WHEN_CROWDED if self._outlet.crowded() else WAKE_SLICE

    def _walk(self, left: int) -> None:
        """A slice of the walks: about so many writes, unless they take too long."""
        until = perf_counter() + SLICE_SECONDS
        while self._rooms and left > 0:
            room = self._rooms.popleft()
            room.queued = Due.NOTHING
            left -= ROOM_COST + self._visit(room, min(left, ROOM_SHARE))
            if perf_counter() > until:
                return

    def _tell_some(self, left: int) -> None:
        """A slice of the walks that tell of presence alone."""
        while self._noticed and left > 0:
            room = self._noticed.popleft()
            if room.queued is Due.NOTICE:
                room.queued = Due.NOTHING
                left -= ROOM_COST + self._visit(room, min(left, ROOM_SHARE))

    def _visit(self, room: Room, most: int) -> int:
        """A slice of one room; a bug of ours costs its present walk, and the next one carries what this one left."""
        try:
            return self._slice(room, most)
        except Exception:  # noqa: BLE001
            self._outlet.fault()
            walk, room.walk = room.walk, None
            if walk is not None:
                room.walked(reaches=walk.reaches, written=walk.written)
                if room.last != walk.reaches:
                    self.queue(room)
            self.resume_publishers(room)
            return most

    def _wake(self, left: int) -> None:
        """A slice of the held polls: so many."""
        while self._waking and left > 0:
            room = self._waking.popleft()
            try:
                left -= self._answer(room, min(left, WAKE_SHARE) if self._waking else left)
            except Exception:  # noqa: BLE001  a bug of ours: those who are left wait for the next news
                self._outlet.fault()
                room.waking = None
                left -= 1

    def _rouse(self, room: Room) -> None:
        """Have those answered who hold a poll, unless they are being answered already, or were told all there is."""
        if room.holds and not room.waking and room.woken != room.last:
            room.wake()
            room.herd = len(room.holds) > HERD
            self._waking.append(room)

    def _answer(self, room: Room, most: int) -> int:
        """Answer the next few of a room's polls, and queue it again if there are more; how many were looked at."""
        waking = room.waking
        assert waking is not None, "only rooms that wake somebody are queued"
        looked_at = min(len(waking), most)
        for _ in range(looked_at):
            hold = waking.popleft()
            if hold.lacks_news_of(room):  # it may be answered, or gone, since it was roused
                self._outlet.answer(hold, herd=room.herd)
        if waking:
            self._waking.append(room)
        else:
            room.waking = None
            self._rouse(room)
            self.resume_publishers(room)
        return looked_at

    def _slice(self, room: Room, most: int) -> int:
        """Visit the next few, and queue the room again if something is left to do; how many were visited."""
        walk = room.walk
        if walk is None:
            walk = self._begin_walk(room)
        begin = walk.at
        end = begin + most
        visited = walk.members[walk.at : end]
        self._deliver_alike(room, visited)
        last = room.last
        for member in visited:
            try:
                if member.cursor < last and member.state is State.LIVE:
                    self.deliver(member)
                if walk.notice:
                    self._tell(member, walk.notice)
            except Exception:  # noqa: BLE001  a bug of ours costs one member, and not those behind it
                self._outlet.fault(member.connection)
        everybody = len(walk.members)
        walk.at = end
        if end < everybody:
            self.queue(room)
            return most
        room.walk = None
        room.walked(reaches=walk.reaches, written=walk.written)
        self.resume_publishers(room)
        if room.last != walk.reaches or room.telling is not None:
            self.queue(room)
        return max(everybody - begin, 0)

    def _begin_walk(self, room: Room) -> Walk:
        walk = room.walk = Walk(room)
        due, room.telling = room.telling, None
        if due is not None and room.presence.changed:
            # Put into words here and not when it fell due: a hundred rooms' at one time held everybody up for 8 ms.
            joined, left = room.presence.tell(due)
            walk.notice = self._encoder.presence(room.name, joined, left, len(room.presence))
        self._rouse(room)
        return walk

    def _tell(self, member: Member, notice: bytes) -> None:
        """Presence is told to whoever can take it now; who cannot gets the count when it has room again."""
        if member.form is not Form.FRAMES or member.state is State.GONE:
            return
        taken = self._outlet.offer(member.connection, notice)
        if taken == 0:
            member.uninformed = True
            self._outlet.keep(member.connection, b"", 0)
        elif 0 < taken < len(notice):
            self._outlet.keep(member.connection, notice, taken)

    def resume_publishers(self, room: Room) -> None:
        """Let paused publishers go on if there is room in the ring; called whenever that may have become so."""
        if room.paused and not room.congested:
            paused, room.paused = room.paused, []
            for connection in paused:
                try:
                    self._outlet.resume(connection)
                except Exception:  # noqa: BLE001  nobody else would resume those behind it
                    self._outlet.fault(connection)

    # -- delivering -----------------------------------------------------------------------------------------------

    def _deliver_alike(self, room: Room, visited: list[Member]) -> None:
        """Give the same chunk to all that stand where the first one stands: in a room at ease, that is everybody.

        One tight loop in the outlet instead of a call for each member: 0.3 µs of ours a delivery instead of 0.9, beside
        the kernel's 6. Whoever it does not suit is left to `deliver`.
        """
        first = visited[0] if visited else None
        if first is None or first.cursor >= room.last or not room.ring.holds_after(first.cursor):
            return
        cursor, form = first.cursor, first.form
        alike = [
            member
            for member in visited
            if member.cursor == cursor and member.form is form and member.state is State.LIVE
        ]
        chunk, reached = room.ring.chunk(form, cursor)
        partly = self._outlet.offer_each([member.connection for member in alike], chunk)
        for member in alike:
            member.cursor = reached
        self.delivered += (reached - cursor) * (len(alike) - len(partly))
        for index, taken in partly:
            member = alike[index]
            member.cursor = cursor
            try:
                if taken > 0:
                    self._keep_rest(member, room.ring.pieces(form, cursor, reached), taken)
                elif taken == 0:
                    self._outlet.keep(member.connection, b"", 0)
            except Exception:  # noqa: BLE001  those behind it have a cursor that is not true until they are seen to
                self._outlet.fault(member.connection)

    def deliver(self, member: Member) -> None:
        """Offer a live member everything it lacks. Called by the walk, and when its connection has room again."""
        ring = member.room.ring
        if member.cursor < ring.last and self._outlet.blocked(member.connection):
            return  # its connection is waiting to be writable already: a chunk for its place would be for nothing
        while member.cursor < ring.last:
            if member.cursor < ring.first - 1:
                if not self._skip_to_ring(member):
                    return
                continue
            cursor = member.cursor
            chunk, reached = ring.chunk(member.form, cursor)
            taken = self._outlet.offer(member.connection, chunk)
            if taken == len(chunk):
                member.cursor = reached
                self.delivered += reached - cursor
                continue
            if taken > 0:
                self._keep_rest(member, ring.pieces(member.form, cursor, reached), taken)
            elif taken == 0:
                self._outlet.keep(member.connection, b"", 0)
            return

    def _keep_rest(self, member: Member, pieces: list[bytes], taken: int) -> None:
        """Move the cursor past the piece that was partly taken; the connection finishes that one."""
        for piece in pieces:
            if taken < len(piece):
                if taken:
                    member.cursor += 1
                    self.delivered += 1
                    self._outlet.keep(member.connection, piece, taken)
                else:
                    self._outlet.keep(member.connection, b"", 0)
                return
            taken -= len(piece)
            member.cursor += 1
            self.delivered += 1

    # -- behind the ring ------------------------------------------------------------------------------------------

    def _skip_to_ring(self, member: Member) -> bool:
        """Whether a member behind the ring may go on now; else a reader was asked, or it is not taking anything."""
        if self._outlet.blocked(member.connection):
            self._outlet.keep(member.connection, b"", 0)
            return False
        room = member.room
        if member.cursor < room.first - 1:
            self._tell_gap(member, room.first - 1)
            return member.state is State.LIVE
        if room.ring.first - 1 - member.cursor > MAX_BEHIND:
            self._tell_gap(member, room.ring.first - 1)
            return member.state is State.LIVE
        member.state = State.CATCHING_UP
        self._behind.append(member)
        self._fell_behind.set()
        return False

    def _tell_gap(self, member: Member, until: int) -> None:
        self.gaps += 1
        gap = self._encoder.gap(member.form, member.room.name, member.cursor, until)
        member.cursor = until
        self._outlet.send(member.connection, gap)

    async def run_reader(self) -> None:
        """Feed members from the log until cancelled."""
        while True:
            while self._behind:
                member = self._behind.popleft()
                if member.state is State.CATCHING_UP:
                    try:
                        await self._feed(member)
                    except Exception:  # noqa: BLE001  a bug of ours costs one member, and not the reader
                        self._outlet.fault(member.connection)
            if self._fell_behind.is_set():  # the other reader may wait for this very event already
                self._fell_behind = trio.Event()
            await self._fell_behind.wait()

    async def _feed(self, member: Member) -> None:
        room = member.room
        try:
            records = await self._log.read(room.name, after=member.cursor, limit=READ_PAGE)
        except LogError as error:
            _log.warning("catch_up_failed", room=room.name, reason=str(error))
            await trio.sleep(READ_RETRY)
            if member.state is State.CATCHING_UP:
                # It keeps its place and waits for the log, unless its room has gone too far ahead meanwhile.
                member.state = State.LIVE
                self.deliver(member)
            return
        if member.state is not State.CATCHING_UP:
            return  # it left while we read
        member.state = State.LIVE
        if not records or records[0].offset != member.cursor + 1:
            # Retention passed it between two reads.
            self._tell_gap(member, records[0].offset - 1 if records else room.ring.first - 1)
        if member.state is State.LIVE:
            self._give(member, records)
        if member.state is State.LIVE:
            self.deliver(member)

    def _give(self, member: Member, records: list[Record]) -> None:
        pieces: list[bytes] = []
        size = 0
        for record in records:
            piece = self._encoder.push(member.form, self._encoder.message(record), record.room, record.offset)
            size += len(piece)
            if pieces and size > CHUNK_BYTES:
                break
            pieces.append(piece)
        if not pieces:
            return
        chunk = b"".join(pieces)
        taken = self._outlet.offer(member.connection, chunk)
        if taken == len(chunk):
            member.cursor += len(pieces)
            self.delivered += len(pieces)
        elif taken >= 0:
            self._keep_rest(member, pieces, taken)

    def statistics(self) -> dict[str, int]:
        """Rooms with news to carry, members being fed from the log, messages delivered, gaps told."""
        return {
            "rooms": len(self._rooms),
            "behind": len(self._behind),
            "delivered": self.delivered,
            "gaps": self.gaps,
        }
