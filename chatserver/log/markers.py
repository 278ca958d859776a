"""How far each user has read in each room: the promises of an engine, in memory and in a database.

Owns: the values, the bounds, the `Markers` protocol. May not: know who is connected, or when a marker is worth storing.

Markers are not as durable as messages: a crash may lose those of the last second. A marker never moves backwards.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from random import randrange
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from chatserver.fair import in_steps
from chatserver.log.interface import Head, Kind, Record
from chatserver.log.tables import Tables

if TYPE_CHECKING:
    from chatserver.log.database import DatabaseLog

#: Markers kept of one user; the marker that moved longest ago is dropped first. Discord has 100 servers a user.
MAX_MARKED_ROOMS = 1_000
#: Markers kept of all users, about 100 MB; those that moved longest ago are dropped first. A client can be any number
#: of guests, in any number of rooms.
MAX_MARKERS = 1_000_000
#: Markers moved between two counts of how many there are. A count reads all of them, in a reading thread.
COUNT_EVERY = 10_000
#: Of this many moved markers, one has the markers of its user counted, which takes 50 µs for 1,000 rooms. Until then a
#: user may have some dozens more than MAX_MARKED_ROOMS, and these are not shown.
COUNT_ONE_IN = 32
#: The highest count of unread messages that is reported; it stands for anything above it too. No more records are read
#: in one room.
MAX_UNREAD_COUNT = 1_000
#: Records that are read for one answer: 10 ms of a reading thread, if most are plain messages.
MAX_COUNTED = 20_000
#: Records read at a time, and seconds of such reading for one answer. Records with 20 mentions or long texts take ten
#: times as long as plain ones.
COUNT_STEP, COUNT_BUDGET = 1_000, 0.03


class Marker(msgspec.Struct, frozen=True, gc=False):
    """How far a user has read in a room."""

    user_id: str
    room: str
    offset: int


class Unread(msgspec.Struct, frozen=True, gc=False):
    """What a user has not read in a room."""

    read: int  # the offset up to which it is read
    unread: int  # messages of others, up to MAX_UNREAD_COUNT
    mentions: int  # those of them that mention the user, among the newest MAX_UNREAD_COUNT records


class Markers(Protocol):
    """The markers of an open log. All methods raise LogUnavailable."""

    async def move(self, markers: Sequence[Marker]) -> None:
        """Store all of these or none. None moves backwards or beyond the room's last offset.

        A marker in a room that was never written is ignored.
        """

    async def of_user(self, user_id: str) -> dict[str, int]:
        """The offset up to which a user has read, by room."""

    async def unread(self, user_id: str, places: Mapping[str, int]) -> dict[str, Unread]:
        """What a user has not read after these offsets, by room; rooms never written are left out."""


class Span(NamedTuple):
    """The offsets to read after a marker, `low` to `high`, and the number of records that are not read."""

    room: str
    read: int
    unseen: int
    low: int
    high: int

    def unread(self, messages: int, mentions: int) -> Unread:
        """Add up the counts. Records that were not read count as messages, since retention may have removed them."""
        return Unread(self.read, min(self.unseen + messages, MAX_UNREAD_COUNT), mentions)


def spans(places: Mapping[str, int], heads: Mapping[str, Head]) -> Iterator[Span]:
    """What to read after these offsets: of each room the newest MAX_UNREAD_COUNT records, and MAX_COUNTED in all.

    The first rooms are counted exactly. Rooms without a head were never written.
    """
    left = MAX_COUNTED
    for room, marked in places.items():
        head = heads.get(room)
        if head is None:
            continue
        last = head.last
        read = min(marked, last)
        low = max(read + 1, head.first, last - MAX_UNREAD_COUNT + 1)
        if last - low >= left:
            low = last + 1
        left -= last - low + 1
        yield Span(room, read, low - 1 - read, low, last)


Counts = tuple[str, int, int]  # of a room: messages and mentions


def count_spans(
    wanted: Sequence[Span], count: Callable[[Sequence[Span]], Iterable[Counts]], clock: Callable[[], float]
) -> dict[str, Unread]:
    """Have messages and mentions counted, some spans at a time, until COUNT_BUDGET is used up.

    The records left then count as messages.
    """
    counts: dict[str, tuple[int, int]] = {}
    ends = clock() + COUNT_BUDGET
    for step in _steps(span for span in wanted if span.low <= span.high):
        if clock() >= ends:
            break
        counts |= {span.room: (0, 0) for span in step}
        counts |= {room: (messages, mentions) for room, messages, mentions in count(step)}
    return {span.room: span.unread(*counts.get(span.room, (span.high - span.low + 1, 0))) for span in wanted}


def _steps(wanted: Iterable[Span]) -> Iterator[list[Span]]:
    """Spans with COUNT_STEP records together, or up to twice as many."""
    step: list[Span] = []
    records = 0
    for span in wanted:
        step.append(span)
        records += span.high - span.low + 1
        if records >= COUNT_STEP:
            yield step
            step, records = [], 0
    if step:
        yield step


def _is_unread(record: Record, user_id: str) -> bool:
    deleted = record.state is not None and record.state.deleted
    return record.kind is Kind.MESSAGE and not deleted and record.user_id != user_id


class Kept(Protocol):
    """A room of the log in memory."""

    first: int
    last: int
    records: dict[int, Record]


class MemoryMarkers:
    """`Markers` of the log in memory. `room` finds a room's records."""

    def __init__(self, room: Callable[[str], Kept], checkpoint: Callable[[], Awaitable[None]]) -> None:
        self._room = room
        self._checkpoint = checkpoint
        self._users: dict[str, dict[str, int]] = {}  # users and their rooms, both in the order of their last move
        self._count = 0

    async def move(self, markers: Sequence[Marker]) -> None:
        await self._checkpoint()
        for marker in markers:
            offset = min(marker.offset, self._room(marker.room).last)
            rooms = self._users.get(marker.user_id, {})
            if offset <= rooms.get(marker.room, -1) or not self._room(marker.room).last:
                continue
            self._users.pop(marker.user_id, None)
            self._users[marker.user_id] = rooms
            self._count += rooms.pop(marker.room, None) is None
            rooms[marker.room] = offset
            if len(rooms) > MAX_MARKED_ROOMS:
                self._forget(rooms)
        while self._count > MAX_MARKERS:
            user_id, rooms = next(iter(self._users.items()))
            self._forget(rooms)
            if not rooms:
                del self._users[user_id]

    def _forget(self, rooms: dict[str, int]) -> None:
        del rooms[next(iter(rooms))]
        self._count -= 1

    async def of_user(self, user_id: str) -> dict[str, int]:
        await self._checkpoint()
        return dict(self._users.get(user_id, {}))

    async def unread(self, user_id: str, places: Mapping[str, int]) -> dict[str, Unread]:
        await self._checkpoint()
        rooms = {name: room for name in places if (room := self._room(name)).last}

        def count(span: Span) -> Unread:
            records = map(rooms[span.room].records.get, range(span.low, span.high + 1))
            # Retention may have removed some meanwhile.
            unread = [record for record in records if record is not None and _is_unread(record, user_id)]
            return span.unread(len(unread), sum(user_id in record.mentions for record in unread))

        heads = {name: Head(room.first, room.last) for name, room in rooms.items()}
        return dict(await in_steps((span.room, count(span)) for span in spans(places, heads)))


def _trim(markers: Sequence[Marker], removed: int, tables: Tables) -> None:
    """Remove what a user has above MAX_MARKED_ROOMS, and of all users this many that moved longest ago.

    The users to check are taken at random, so that no user can stay uncounted.
    """
    for user_id in sorted({marker.user_id for marker in markers[randrange(COUNT_ONE_IN) :: COUNT_ONE_IN]}):  # noqa: S311
        ((count,),) = tables.run("SELECT count(*) FROM markers WHERE user_id = ?", user_id)
        if count > MAX_MARKED_ROOMS:
            tables.run(_TRIM_USER, user_id, user_id, count - MAX_MARKED_ROOMS)
    if removed:
        tables.run(_TRIM, removed)


_TRIM_USER = """
    DELETE FROM markers WHERE user_id = ? AND room IN
        (SELECT room FROM markers WHERE user_id = ? ORDER BY moved LIMIT ?)
"""
_TRIM = "DELETE FROM markers WHERE (user_id, room) IN (SELECT user_id, room FROM markers ORDER BY moved LIMIT ?)"

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)


class MarkerQueries(Protocol[C_contra]):
    """The statements of a database, as a module. `move` is called in a transaction, and the others only read."""

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of COUNT_BUDGET, in seconds."""

    def move(self, markers: Sequence[Marker], now_ms: int, connection: C_contra, /) -> None:
        """Move markers."""

    def of_user(self, user_id: str, most: int, connection: C_contra, /) -> dict[str, int]:
        """See `Markers.of_user`; the rooms whose markers moved last."""

    def count(self, user_id: str, step: Sequence[Span], connection: C_contra, /) -> Iterable[Counts]:
        """Count the messages of others, and those that mention the user, by room; at will without zeros."""


class DatabaseMarkers(Generic[C]):
    """`Markers` of a log in a database."""

    def __init__(self, log: "DatabaseLog[C]", queries: MarkerQueries[C]) -> None:
        self._log = log
        self._queries = queries
        self._since_count = 0
        self._excess = 0  # markers above MAX_MARKERS at the last count that no move has begun to remove

    async def move(self, markers: Sequence[Marker]) -> None:
        removed = min(self._excess, 2 * len(markers))
        self._excess -= removed  # before the change, since another move may begin meanwhile
        now_ms = self._log.wall_ms()

        def move(connection: C) -> None:
            self._queries.move(markers, now_ms, connection)
            _trim(markers, removed, self._log.tables(connection))

        await self._log.change("storing read markers", move)
        self._since_count += len(markers)
        if self._since_count >= COUNT_EVERY:
            self._since_count = 0
            ((count,),) = await self._log.ask_tables(lambda tables: tables.run("SELECT count(*) FROM markers"))
            self._excess = max(0, count - MAX_MARKERS)

    async def of_user(self, user_id: str) -> dict[str, int]:
        return await self._log.ask(partial(self._queries.of_user, user_id, MAX_MARKED_ROOMS))

    async def unread(self, user_id: str, places: Mapping[str, int]) -> dict[str, Unread]:
        queries, heads = self._queries, self._log.queries.heads

        def find(connection: C) -> dict[str, Unread]:
            wanted = list(spans(places, heads(list(places), connection)))
            return count_spans(wanted, lambda step: queries.count(user_id, step, connection), queries.clock)

        return await self._log.ask(find)
