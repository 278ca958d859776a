"""Reads of the log whose results are never older than the news; equal reads at the same time share one.

Owns: the reads under way, and the records altered meanwhile. May not: know who reads.

A read may fetch a message before an edit or deletion, and return after the change was broadcast: its reader would show
the old text for ever. So each change is applied to the result of every read of its room that is under way.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from msgspec.structs import replace

from chatserver.fair import SingleFlight
from chatserver.log.interface import MAX_READ_BYTES, Head, Log, Record

#: Room, offset, limit, bytes, and two flags: whether forward, and whether only messages.
_Key: TypeAlias = tuple[str, int, int, int, tuple[bool, bool]]


class Reading:
    """The records of a room altered since the first of the readers that share a read began."""

    __slots__ = ("altered", "emptied", "readers")

    def __init__(self) -> None:
        self.altered: dict[int, Record] = {}  # by offset, as they are now
        self.emptied: set[int] = set()  # edits, by offset
        self.readers = 0

    def up_to_date(self, records: list[Record]) -> list[Record]:
        """These records in their present state."""
        if self.altered:
            records = [self.altered.get(record.offset, record) for record in records]
        if self.emptied:
            records = [replace(record, text="") if record.offset in self.emptied else record for record in records]
        return records


class LogReader:
    """The reading half of a log. `altered` must be called with the news."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._flights: SingleFlight[_Key, list[Record]] = SingleFlight()
        self._under_way: dict[str, dict[_Key, Reading]] = {}  # by room
        self._noting: dict[str, list[Reading]] = {}  # see `altered_meanwhile`

    @property
    def shared(self) -> bool:
        """As of `Log`."""
        return self._log.shared

    async def head(self, room: str) -> Head:
        """As of `Log`."""
        return await self._log.head(room)

    async def read(self, room: str, *, after: int, limit: int, max_bytes: int = MAX_READ_BYTES) -> list[Record]:
        """As of `Log`."""
        key = (room, after, limit, max_bytes, (True, False))
        return await self._read(key, lambda: self._log.read(room, after=after, limit=limit, max_bytes=max_bytes))

    async def latest(
        self,
        room: str,
        limit: int,
        *,
        before: int | None = None,
        max_bytes: int = MAX_READ_BYTES,
        messages_only: bool = False,
    ) -> list[Record]:
        """As of `Log`."""
        key = (room, -1 if before is None else before, limit, max_bytes, (False, messages_only))
        return await self._read(
            key,
            lambda: self._log.latest(room, limit, before=before, max_bytes=max_bytes, messages_only=messages_only),
        )

    async def _read(self, key: _Key, read: Callable[[], Awaitable[list[Record]]]) -> list[Record]:
        under_way = self._under_way.setdefault(key[0], {})
        reading = under_way.setdefault(key, Reading())
        reading.readers += 1
        try:
            records = await self._flights.get(key, read)
        finally:
            reading.readers -= 1
            if not reading.readers:
                del under_way[key]
                if not under_way:
                    del self._under_way[key[0]]
        return reading.up_to_date(records)

    def is_reading(self, room: str) -> bool:
        """Whether a read of this room is under way."""
        return room in self._under_way

    @contextmanager
    def altered_meanwhile(self, room: str) -> Iterator[Reading]:
        """Collect what is altered in a room during the block, for a caller that reads the log directly."""
        reading = Reading()
        noting = self._noting.setdefault(room, [])
        noting.append(reading)
        try:
            yield reading
        finally:
            noting.remove(reading)
            if not noting:
                del self._noting[room]

    def altered(self, room: str, records: Iterable[Record], empties: int = 0) -> None:
        """Note altered records of a room, and that the edit at offset `empties` has lost its text."""
        if room not in self._under_way and room not in self._noting:
            return
        for reading in (*self._under_way.get(room, {}).values(), *self._noting.get(room, ())):
            reading.altered.update((record.offset, record) for record in records)
            if empties:
                reading.emptied.add(empties)

    def __len__(self) -> int:
        return len(self._under_way) + len(self._noting)
