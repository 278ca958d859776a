"""Pages of a room's messages: from its ring if that has them, otherwise from the log.

Owns: the choice between the two, and pages that many requests share. May not: know who asked.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import msgspec

from chatserver.api.encoder import WireEncoder
from chatserver.chat.log_reader import Alterations, LogReader
from chatserver.chat.member import PollWaiter, Wanted
from chatserver.chat.room import Room
from chatserver.log.interface import Range, Record
from chatserver.protocol import encoders
from chatserver.protocol.record_json import is_message, offset_of
from chatserver.protocol.validation import Cursor

#: Bytes of messages in one answer, whatever its `limit`; a client that wants more asks again from the cursor. The first
#: message is always included, so the bound is exceeded by one message at most. With the rest of the answer a WebSocket
#: frame has at most 64 KiB: WebSockets of Netty and Jetty end at a longer one.
PAGE_BYTES = 63 * 1024
#: Bytes that no record's JSON is shorter than: a share of an answer holds few, whatever the limit.
LEAST_JSON = 100
#: Shared answers to held polls that a room keeps, by place and limit; bounded, since a client may try every limit.
CACHED_ANSWERS = 16
#: In the JSON of a message that was deleted, and of no other: quotes within a text are escaped.
_DELETED = b'"deleted":true'


class Start(msgspec.Struct, frozen=True, gc=False):
    """Where a page begins: after `offset`; `recovered` is False if records that the client lacks are gone."""

    offset: int
    recovered: bool
    latest: bool = False  # the client named no place: a page that is full keeps the newest and drops the older ones
    last: int = 0  # with `latest`: the room's newest offset at that time


def resolve(place: Cursor | None, *, epoch: str, first: int, last: int, newest: int) -> Start:
    """Find the start for a cursor in a room that keeps the offsets `first` to `last`.

    No place, one of another epoch and one beyond the end start before the `newest` few records; one before `first`
    starts at the oldest.
    """
    fresh = max(first - 1, last - newest)
    if place is None:
        return Start(fresh, recovered=True, latest=True, last=last)
    if (place.epoch is not None and place.epoch != epoch) or place.offset > last:
        return Start(fresh, recovered=False, latest=True, last=last)
    if place.offset < first - 1:
        return Start(first - 1, recovered=False)
    return Start(place.offset, recovered=True)


class Page(msgspec.Struct, frozen=True, gc=False):
    """Messages as JSON, the offset that they reach, and whether the client has missed none before them."""

    reaches: int
    recovered: bool
    items: list[bytes]

    @property
    def size(self) -> int:
        return sum(map(len, self.items))


class Pages:
    """Makes pages; one for the server."""

    def __init__(self, log: LogReader, encoder: WireEncoder) -> None:
        self._log = log
        self._encoder = encoder

    def is_ours(self, place: Cursor) -> bool:
        """Whether a place is of this log's epoch."""
        return place.epoch in (None, self._encoder.epoch)

    def start(self, room: Room, place: Cursor | None, limit: int) -> Start:
        """The start for a cursor in a room that is in memory."""
        return resolve(place, epoch=self._encoder.epoch, first=room.first, last=room.last, newest=limit)

    def is_ahead(self, room: Room, place: Cursor | None) -> bool:
        """Whether a place is after all records known here, but perhaps in the log: their news may still come."""
        if place is None or place.offset <= room.last or not self.is_ours(place):
            return False
        return self._log.shared or place.offset <= room.last + room.pending

    def after_now(self, room: Room, start: Start, wanted: Wanted, most: int = PAGE_BYTES) -> Page | None:
        """The page after a start, if the ring has it; with `most` 0 an empty one."""
        ring = room.ring
        # Never written; or without news, as most rooms of a poll of many; or the rooms before have filled the answer.
        if ring is None or start.offset >= room.last or not most:
            return Page(start.offset, start.recovered, [])
        if not ring.holds_after(start.offset) or (wanted.messages_only and start.latest):
            return None  # that many messages may reach further back than the same number of records
        return _page(start, ring.after(start.offset, wanted.limit), most, wanted)

    def now(self, room: Room | None, after: Cursor | None, before: Cursor | None, wanted: Wanted) -> Page | None:
        """The page after a cursor, or with `before` the page that ends there, if the room's ring has it."""
        if room is None or self.is_ahead(room, after or before):
            return None
        if before is None:
            return self.after_now(room, self.start(room, after, wanted.limit), wanted)
        if wanted.messages_only:
            return None
        ours = self.is_ours(before)  # for a place of another epoch, the records before it are gone
        end = min(before.offset, room.last + 1) if ours else room.last + 1
        start = max(room.first, end - wanted.limit)
        ring = room.ring
        if end <= start or ring is None:
            return Page(max(end - 1, 0), ours, items=[])
        if not ring.holds_after(start - 1):
            return None
        return Page(end - 1, ours, items=_newest(ring.after(start - 1, end - start), PAGE_BYTES))

    def several_now(self, starts: Sequence[tuple[Room, Start]], wanted: Wanted) -> list[bytes] | None:
        """The body of an answer with pages of several rooms, if their rings have them."""
        pages = []
        left = PAGE_BYTES
        for room, start in starts:
            page = self.after_now(room, start, wanted, _share(left, len(starts)))
            if page is None:
                return None
            left -= page.size
            pages.append((room.name, page))
        return self.body(pages, many=wanted.many)

    async def read(self, room: str, after: Cursor | None, before: Cursor | None, wanted: Wanted) -> Page:
        """The page after a cursor, or with `before` the page that ends there. Raises LogError."""
        if before is not None:
            return await self._before(room, before, wanted)
        head = await self._log.head(room)
        start = resolve(after, epoch=self._encoder.epoch, first=head.first, last=head.last, newest=wanted.limit)
        return await self.after_start(room, start, wanted)

    async def several(
        self, starts: Sequence[tuple[str, Start]], wanted: Wanted, in_memory: Callable[[str], Room | None]
    ) -> list[bytes]:
        """As `several_now`, with the log's pages of the rooms whose rings lack them. Raises LogError.

        Rooms are given by name and found `in_memory` again: this may have waited for its turn.
        """
        pages = []
        left = PAGE_BYTES
        with self.while_it_waits(*(name for name, _ in starts)) as up_to_date:
            for name, start in starts:
                room, most = in_memory(name), _share(left, len(starts))
                page = None if room is None else self.after_now(room, start, wanted, most)
                if page is None:
                    page = await self.after_start(name, start, wanted, most)
                left -= page.size
                pages.append((name, page))
            return self.body([(name, up_to_date(name, page)) for name, page in pages], many=wanted.many)

    async def after_start(self, room: str, start: Start, wanted: Wanted, most: int = PAGE_BYTES) -> Page:
        """The page after a start; with `most` 0 an empty one. Raises LogError."""
        if not most:
            return Page(start.offset, start.recovered, [])
        limit = min(wanted.limit, 1 + most // LEAST_JSON)
        latest = start.latest  # then reading forward could reach the bound on bytes before the newest record
        after, only = 0 if latest else start.offset, latest and wanted.messages_only
        records = await self._log.read(Range(room, limit, after=after, last=latest, max_bytes=most, messages_only=only))
        if only:
            reaches = max(start.last, records[-1].offset if records else 0)
            return Page(reaches, start.recovered, _newest(await self._encoded(room, records), most))
        if not records:
            return Page(start.offset, start.recovered, [])
        # Retention may have removed records since the start was found, and the log may have lost some.
        begins = records[-1].offset - len(records)
        found_start = Start(begins, start.recovered and (latest or begins == start.offset), latest)
        return _page(found_start, await self._encoded(room, records), most, wanted)

    async def _before(self, room: str, place: Cursor, wanted: Wanted) -> Page:
        ours = self.is_ours(place)
        before = place.offset if ours else None  # for a place of another epoch, the newest records
        only = wanted.messages_only
        records = await self._log.read(
            Range(room, wanted.limit, before=before, last=True, max_bytes=PAGE_BYTES, messages_only=only)
        )
        reaches = records[-1].offset if records else 0
        if ours and not records:  # there are no records before that place, or none at all
            reaches = min(max(place.offset - 1, 0), (await self._log.head(room)).last)
        return Page(reaches, ours, items=_newest(await self._encoded(room, records), PAGE_BYTES))

    async def _encoded(self, room: str, records: list[Record]) -> list[bytes]:
        return await self._log.encoded(room, records, self._encoder.message)

    @contextmanager
    def while_it_waits(self, *rooms: str) -> Iterator[Callable[[str, Page], Page]]:
        """A block in which pages of these rooms wait before they are given.

        It yields a function that returns a page of a room in its present state, since its client may have received a
        deletion meanwhile.
        """
        with self._log.altered_meanwhile(*rooms) as meanwhile:
            yield partial(self._up_to_date, meanwhile)

    def _up_to_date(self, meanwhile: Alterations, room: str, page: Page) -> Page:
        if not meanwhile.altered:
            return page
        items = []
        for item in page.items:
            place = room, offset_of(item)
            altered = meanwhile.altered.get(place)
            if place in meanwhile.emptied:
                items.append(self._encoder.emptied(item))
            elif altered is None or _DELETED in item:  # of a shared log, it may be newer than the news of our own edit
                items.append(item)
            else:
                items.append(self._encoder.message(altered[0]))
        return Page(page.reaches, page.recovered, items)

    def body(self, pages: Sequence[tuple[str, Page]], *, many: bool) -> list[bytes]:
        """Pages as the body of an answer, in parts; with `many`, in the shape of `/poll`."""
        parts = [(room, self._encoder.cursor(page.reaches), page.recovered, page.items) for room, page in pages]
        return encoders.poll_page(parts) if many else encoders.page(*parts[0])

    def held_body(self, waiter: PollWaiter) -> bytes | None:
        """The body of the answer to a held poll at this moment; None if the ring no longer has a room's part.

        Polls of one room at one place share one bytes object.
        """
        shared = None if waiter.wanted.many else waiter.room
        key = waiter.after, waiter.wanted
        body = None if shared is None or shared.cache is None else shared.cache.get(key)
        if body is None:
            starts = [(room, Start(after, recovered=True)) for room, after in waiter.places()]
            parts = self.several_now(starts, waiter.wanted)
            if parts is None:
                return None
            body = b"".join(parts)
            if shared is not None and (shared.cache is None or len(shared.cache) < CACHED_ANSWERS):
                shared.remember(key, body)
        return body


def _share(left: int, rooms: int) -> int:
    """The bytes for the next room of an answer, of those left; with none, the room's cursor does not move."""
    return max(min(PAGE_BYTES // rooms, left), 0)


def _page(start: Start, found: list[bytes], most: int, wanted: Wanted) -> Page:
    """The records after a start that fit: the newest if the client named no place, otherwise the oldest."""
    items = _newest(found, most) if start.latest else _oldest(found, most)
    reaches = start.offset + len(found if start.latest else items)
    if wanted.messages_only:  # it reaches the same offset
        items = list(filter(is_message, items))
    return Page(reaches, start.recovered, items)


def _oldest(found: list[bytes], most: int) -> list[bytes]:
    """The first messages that fit, and at least one, so that every page makes progress."""
    size = 0
    for count, message in enumerate(found):
        size += len(message)
        if size > most and count:
            return found[:count]
    return found


def _newest(found: list[bytes], most: int) -> list[bytes]:
    return _oldest(found[::-1], most)[::-1]
