"""Rooms in which another process has written: missing records are read from the log.

Owns: the rooms in memory that may lack records, and the reads for them. May not: trust a hint, or broadcast; the hub
handles the records that were read as it handles news.

A room appends record k+1 only after record k. News that does not follow is treated as a mere hint, like the hints of
other processes, which may be lost, late, doubled or wrong. So the rooms in memory are compared with a shared log, and a
hint for which the log has nothing costs one read.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog
import trio
from msgspec.structs import replace

from chatserver.chat.catch_up import READ_RETRY, READERS
from chatserver.chat.log_reader import LogReader
from chatserver.chat.room import Room
from chatserver.chat.sink import Schedule
from chatserver.fair import SingleFlight
from chatserver.log.interface import MAX_READ, Kind, Log, LogError, Range, Record

#: Records read at a time, and added to the ring in one go: 0.5 ms of work.
FOLLOW_PAGE = 256
#: Seconds between two comparisons of up to MAX_READ rooms with a shared log. That is the delay of a record whose hint
#: was lost, while no more rooms are in memory; with 20,000 it is 20 s.
COMPARE_INTERVAL = 1.0
#: Messages with new reactions in one page, up to which each is read alone; above it, their part of the ring is read.
MAX_SINGLE_READS = 8

_log = structlog.get_logger("chatserver.chat")


class Follower:
    """See the module. `run` is a task; `take_in` appends records that follow the last one of a room."""

    def __init__(
        self, log: Log, reader: LogReader, rooms: Mapping[str, Room], schedule: Schedule, *,
        take_in: Callable[[Room, list[Record]], None], retained: Callable[[dict[str, int]], None],
        note_altered: Callable[[Sequence[Record]], object],
    ) -> None:  # fmt: skip
        self._log = log
        self._reader = reader
        self._rooms = rooms
        self._schedule = schedule
        self._take_in = take_in
        self._retained = retained
        self._note_altered = note_altered
        self._following: SingleFlight[Room, None] = SingleFlight()
        self._waiting: dict[Room, None] = {}  # rooms to read for, in order of request
        self._idle = trio.lowlevel.ParkingLot()  # readers
        self._is_failing = False  # a reader, and the log says so already
        self._uncompared: list[str] = []  # rooms not yet compared in this round

    def expect(self, room: Room, offset: int) -> None:
        """Note that the room may have records up to this offset. While it loads, nothing is read."""
        room.expected = max(room.expected, offset)
        if room.ready and room.expected > room.last:
            self._waiting[room] = None
            self._idle.unpark()

    def on_hints(self, hints: Mapping[str, int]) -> None:
        """Other processes may have written to these rooms, up to these offsets."""
        for name, offset in hints.items():
            room = self._rooms.get(name)
            if room is not None:
                self.expect(room, offset)

    async def reach(self, room: Room, offset: int) -> None:
        """Read a room's records up to this offset, as far as the log has them. Raises LogError."""
        room.expected = max(room.expected, offset)
        await self._follow(room)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(READERS):
                nursery.start_soon(self._serve)
            if self._log.shared:
                nursery.start_soon(self._compare)

    async def _serve(self) -> None:
        while True:
            while self._waiting:
                room = next(iter(self._waiting))
                del self._waiting[room]
                try:
                    await self._follow(room)
                    self._is_failing = False
                except LogError as error:
                    if not self._is_failing:  # a database may be away for a day
                        _log.warning("catch_up_failed", room=room.name, reason=str(error))
                    self._is_failing = True
                    await trio.sleep(READ_RETRY)
                    self.expect(room, room.expected)
                except Exception:  # noqa: BLE001  a bug of ours: the room waits for its next hint
                    self._schedule.faulted(room)
            await self._idle.park()

    async def _follow(self, room: Room) -> None:
        await self._following.get(room, partial(self._read_on, room))

    async def _read_on(self, room: Room) -> None:
        """Read until the room has all records it was hinted at, or the log has no more."""
        while room.expected > room.last and self._rooms.get(room.name) is room:
            expected, room.expected = room.expected, 0  # hints from now on may be for records after this page
            more = True  # after a failure, too
            try:
                more = await self._read_page(room)
            finally:
                if more:
                    room.expected = max(room.expected, expected)

    async def _read_page(self, room: Room) -> bool:
        """Read one page after the room's last record. Returns whether there was any record."""
        with self._reader.altered_meanwhile(room.name) as meanwhile:
            records = await self._log.read(Range(room.name, FOLLOW_PAGE, after=room.last))
            if not records:
                return False
            last = records[-1].offset
            found = list((await self._altered_by(room, records)).values())
            altered, records = (meanwhile.up_to_date(each, after=last) for each in (found, records))
        if altering := [record for record in records if record.kind]:
            self._note_altered(altering)
        self._reader.altered(room.name, altered, by=last)
        # Attached to the last record, since each was read in its present state.
        records[-1] = replace(records[-1], alters=tuple(altered))
        lacking = [record for record in records if record.offset > room.last]  # our own news may have come meanwhile
        if self._rooms.get(room.name) is room:
            self._take_in(room, lacking)
        return True

    async def _altered_by(self, room: Room, records: list[Record]) -> dict[int, Record]:
        """Earlier records that these have altered, in their present state, by offset.

        Only those that are in a ring, or perhaps in results that are held.
        """
        targets = {record.target for record in records if record.kind and record.target < records[0].offset}
        first = records[0].offset if room.ring is None else room.ring.first
        reacted_only = all(record.kind in (Kind.MESSAGE, Kind.REACTION) for record in records)
        is_held = self._reader.holders(room.name) > 1  # one is that of `_read_page`
        single = {target for target in targets if target < first} if is_held else set()
        if reacted_only and len(targets) <= MAX_SINGLE_READS:
            single |= {target for target in targets if target >= first}
            targets.clear()
        found: dict[int, Record] = {}
        for target in single:
            for record in await self._log.read(Range(room.name, 1, after=target - 1)):
                found[record.offset] = record
        if targets:
            begin = max(first, min(targets))
            found |= await self._about(room.name, targets, range(begin, records[0].offset))
        return found

    async def _about(self, room: str, targets: set[int], where: range) -> dict[int, Record]:
        """Those of these messages that are in a range of offsets, and all edits of them in that range."""
        found: dict[int, Record] = {}
        at = where.start
        while at < where.stop and (page := await self._log.read(Range(room, MAX_READ, after=at - 1))):
            for record in page:
                # An edit empties the edit before it, and the log does not say which edit that was.
                about = record.target if record.kind is Kind.EDIT else record.offset
                if record.offset < where.stop and about in targets:
                    found[record.offset] = record
            at = page[-1].offset + 1
        return found

    async def _compare(self) -> None:
        """Compare rooms in memory with the log, up to MAX_READ of them each time."""
        is_failing = False  # and the log says so already
        while True:
            await trio.sleep(COMPARE_INTERVAL)
            if not self._uncompared:
                self._uncompared = list(self._rooms)
            names = self._uncompared[-MAX_READ:]
            del self._uncompared[-MAX_READ:]
            if names:
                try:
                    heads = await self._log.heads(names)
                except LogError as error:
                    if not is_failing:  # a database may be away for a day
                        _log.warning("rooms_not_compared", reason=str(error))
                    is_failing = True
                else:
                    is_failing = False
                    self._retained({name: head.first for name, head in heads.items()})
                    self.on_hints({name: head.last for name, head in heads.items()})
