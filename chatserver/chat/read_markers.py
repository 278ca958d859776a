"""Read markers: how far each user has read in each room, and what is unread.

Owns: the markers that are not stored yet, and how often they are stored. May not: know who is connected, or count
messages: the log does.

A client moves its marker with each message that it shows. All moves of a second become one row for each user and room,
and a group of rows is one transaction, since messages wait for the same writing thread.
"""

from collections.abc import Callable, Iterator
from itertools import compress, islice

import structlog
import trio

from chatserver.fair import in_steps
from chatserver.log.interface import LogBusy, LogError
from chatserver.log.markers import MAX_MARKED_ROOMS, Marker, Markers, Unread

#: Seconds between two rounds of storing.
STORE_EVERY = 1.0
#: Rows of one transaction. They lie on as many pages of a large table: 10 ms of the writing thread, 35 ms for 500 rows.
STORE_GROUP = 128
#: Markers that may wait to be stored: 20 MB if 15,000 readers have six busy rooms each, 43 MB if each user has one.
MAX_WAITING = 100_000
#: Seconds to store the remaining markers when the server stops.
LAST_ROUND_DEADLINE = 1.0

_log = structlog.get_logger("chatserver.chat")


class ReadMarkers:
    """See the module. `run` is a task."""

    def __init__(self, markers: Markers) -> None:
        self._markers = markers
        self._moved: dict[str, dict[str, int]] = {}  # offsets by user and room, since the last round began
        self._storing: dict[str, dict[str, int]] = {}
        self.waiting = 0  # markers in both
        self._idle = trio.lowlevel.ParkingLot()  # `run`, while no marker waits

    def move(self, user_id: str, room: str, offset: int) -> None:
        """A user has read up to an offset; it is stored in a second or two. Raises LogBusy."""
        rooms = self._moved.get(user_id, {})
        before = rooms.get(room)
        if before is None:
            if self.waiting >= MAX_WAITING or len(rooms) >= MAX_MARKED_ROOMS:
                raise LogBusy(f"{self.waiting} read markers wait to be stored, {len(rooms)} of them of this user")
            self.waiting += 1
            self._moved[user_id] = rooms
            self._idle.unpark()
        if before is None or before < offset:
            rooms[room] = offset

    async def store(self, user_id: str) -> None:
        """Store the markers of one user now, who may continue on another server. Raises LogError."""
        moved = self._moved.get(user_id)
        if moved is None:
            return
        stored = dict(moved)
        markers = [Marker(user_id, room, offset) for room, offset in stored.items()]
        for at in range(0, len(markers), STORE_GROUP):
            await self._markers.move(markers[at : at + STORE_GROUP])
        if self._moved.get(user_id) is not moved:
            return  # a round of `run` has taken these meanwhile
        for room, offset in stored.items():
            if moved.get(room) == offset:
                del moved[room]
                self.waiting -= 1
        if not moved:
            del self._moved[user_id]

    async def unread(self, user_id: str, may_read: Callable[[str], bool]) -> dict[str, Unread]:
        """What is unread in the rooms in which a user has a marker and which it may read. Raises LogError.

        Of more than MAX_MARKED_ROOMS, with those that are not stored yet, the rooms marked last.
        """
        # Copied before the log is asked: while its answer is on its way, a marker may be stored, and be in neither.
        waiting = [dict(users.get(user_id, {})) for users in (self._moved, self._storing)]
        places: dict[str, int] = {}
        for markers in (*waiting, await self._markers.of_user(user_id)):
            for room, offset in markers.items():
                places[room] = max(offset, places.get(room, 0))
        rooms = list(islice(places, MAX_MARKED_ROOMS))
        readable = await in_steps(map(may_read, rooms))
        return await self._markers.unread(user_id, {room: places[room] for room in compress(rooms, readable)})

    async def run(self) -> None:
        """Store markers until cancelled, then those that are left."""
        try:
            while True:
                if not self.waiting:
                    await self._idle.park()
                await trio.sleep(STORE_EVERY)
                await self._store()
        except trio.Cancelled:
            with trio.move_on_after(LAST_ROUND_DEADLINE, shield=True):
                await self._store()
                await self._store()  # markers that were moved during the previous round
            if self.waiting:
                _log.warning("read_markers_lost", markers=self.waiting)
            raise

    async def _store(self) -> None:
        """One round. Markers moved during it, and those that could not be stored, are left for the next round."""
        is_retry = bool(self._storing)
        if not is_retry:
            self._storing, self._moved = self._moved, {}
        try:
            while group := list(islice(self._to_store(), STORE_GROUP)):
                await self._markers.move(group)
                self._stored(group)
        except LogError as error:
            if not is_retry:  # a disk may be full for a day
                _log.warning("read_markers_not_stored", reason=str(error))
        except Exception:  # a bug of ours loses this round, so that it is not repeated for ever
            self._stored(list(self._to_store()))
            raise

    def _to_store(self) -> Iterator[Marker]:
        for user_id, rooms in self._storing.items():
            for room, offset in rooms.items():
                yield Marker(user_id, room, offset)

    def _stored(self, group: list[Marker]) -> None:
        for marker in group:
            rooms = self._storing[marker.user_id]
            del rooms[marker.room]
            if not rooms:
                del self._storing[marker.user_id]
        self.waiting -= len(group)
