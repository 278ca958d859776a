"""Reads of the log whose results are never older than the news; equal reads at the same time share one.

No read joins one that began before news of its room: it would lack a message that was acknowledged before it was asked.

Owns: the reads under way, and the records altered meanwhile. May not: know who reads.

A read may fetch a message before an edit or deletion, and return after the change was broadcast: its reader would show
the old text for ever. So each change of a room is noted for all that hold results from before it, in a block of
`altered_meanwhile`: reads under way, and callers whose results wait for more.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from msgspec.structs import replace

from chatserver.fair import SingleFlight, in_steps
from chatserver.log.interface import Head, Log, Range, Record

#: Records of news kept during the load of a room: 0.5 ms of work. What follows is read from the log afterwards.
MOST_NEWS = 256


class Alterations:
    """The records altered during a block."""

    __slots__ = ("altered", "emptied")

    def __init__(self) -> None:
        # By room and offset: the record as it is now, and the offset of the record that altered it.
        self.altered: dict[tuple[str, int], tuple[Record, int]] = {}
        self.emptied: set[tuple[str, int]] = set()  # edits, likewise

    def now(self, record: Record, after: int = 0) -> Record:
        """This record in its present state; see `up_to_date`."""
        place = record.room, record.offset
        if place in self.emptied:
            return replace(record, text="")
        altered, by = self.altered.get(place, (record, 0))
        # Of a shared log, it may have been read after a later edit in another process.
        return record if by <= after or _edits(altered) < _edits(record) else altered

    def up_to_date(self, records: list[Record], *, after: int = 0) -> list[Record]:
        """These records in their present state. What the log had up to offset `after` was read with them.

        Of a shared log, news of our own up to there is older than the read if another process has written since.
        """
        return [self.now(record, after) for record in records] if self.altered or self.emptied else records


class LogReader:
    """The reading half of a log. `written` and `altered` must be called with the news."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.shared = log.shared
        self._flights: SingleFlight[tuple[Range, int], list[Record]] = SingleFlight()  # by `_generation` as well
        self._generation = 0  # a new one begins with news of a room that is being read
        self._noting: dict[str | None, list[Alterations]] = {}  # see `altered_meanwhile`; None: in all rooms
        self._news: dict[str, list[Record]] = {}  # of rooms that are being loaded

    async def head(self, room: str) -> Head:
        return await self._log.head(room)

    async def read(self, wanted: Range) -> list[Record]:
        """As of `Log`, but what begins after an offset has no holes: it ends before a record that the log has lost.

        So the reader learns of the loss: the next page does not begin right after this one.
        """

        async def begin() -> list[Record]:
            with self.altered_meanwhile(wanted.room) as noted:  # others may join a read that began before them
                found = await self._log.read(wanted)
                if found and not wanted.last and found[-1].offset - found[0].offset >= len(found):
                    found = [record for at, record in enumerate(found) if record.offset == found[0].offset + at]
                return noted.up_to_date(found)

        with self.altered_meanwhile(wanted.room) as noted:  # also what is altered until the caller goes on
            return noted.up_to_date(await self._flights.get((wanted, self._generation), begin))

    async def newest(self, room: str, limit: int) -> tuple[Head, list[Record]]:
        """As of `Log`, with the news that came meanwhile; not shared, since a room is loaded once.

        A publisher may look for its message as soon as the room is there.
        """
        news: list[Record] = []
        self._news[room] = news
        try:
            with self.altered_meanwhile(room) as meanwhile:
                head, records = await self._log.newest(room, limit)
                last = head.last
                for record in news:
                    if record.offset == last + 1:
                        records.append(replace(record, alters=(), empties=0))  # `meanwhile` has these
                        last += 1
                return replace(head, last=last), meanwhile.up_to_date(records, after=head.last)
        finally:
            del self._news[room]

    async def encoded(self, room: str, records: list[Record], encode: Callable[[Record], bytes]) -> list[bytes]:
        """Encode records of a room, in steps; the result is as they are at the end."""
        with self.altered_meanwhile(room) as meanwhile:
            found = await in_steps(map(encode, records))
        now = meanwhile.up_to_date(records)
        if now is not records:
            found = [done if a is b else encode(b) for done, a, b in zip(found, records, now, strict=True)]
        return found

    def holders(self, room: str) -> int:
        """The number of blocks that may hold results from this room."""
        return len(self._noting.get(room, ())) + len(self._noting.get(None, ()))

    @contextmanager
    def altered_meanwhile(self, *rooms: str) -> Iterator[Alterations]:
        """Collect what is altered in these rooms, or if none is named in all, until the block ends."""
        noted = Alterations()
        places: tuple[str | None, ...] = rooms or (None,)
        for place in places:
            self._noting.setdefault(place, []).append(noted)
        try:
            yield noted
        finally:
            for place in places:
                noting = self._noting[place]
                noting.remove(noted)
                if not noting:
                    del self._noting[place]

    def written(self, room: str, batch: Sequence[Record]) -> None:
        """There is news of this room."""
        if room in self._noting:
            self._generation += 1
            if room in self._news:
                self._news[room].extend(batch[: MOST_NEWS - len(self._news[room])])

    def altered(self, room: str, records: Iterable[Record], empties: int = 0, *, by: int) -> None:
        """Note what the record at offset `by` has altered, and that the edit at offset `empties` has lost its text."""
        for noted in (*self._noting.get(room, ()), *self._noting.get(None, ())):
            noted.altered.update(((room, record.offset), (record, by)) for record in records)
            if empties:
                noted.emptied.add((room, empties))

    def __len__(self) -> int:
        return len(self._noting)


def _edits(record: Record) -> tuple[bool, int]:
    """The later the text of two states of a message, the higher."""
    state = record.state
    return (False, 0) if state is None else (state.deleted, state.edit)
