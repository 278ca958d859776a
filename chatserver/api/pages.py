"""Pages of a room's messages: from its ring when it is there, else from the log.

Owns: the choice between the two, and pages that many get at once. May not: know who asked.
"""

import msgspec

from chatserver.api.encoder import WireEncoder
from chatserver.api.single_flight import SingleFlight
from chatserver.chat.cursor import Place, Start, resolve
from chatserver.chat.member import PollWaiter
from chatserver.chat.room import Room
from chatserver.log.interface import Log, Record
from chatserver.protocol import encoders
from chatserver.protocol.response import response

#: Bytes of messages in one answer, whatever its limit; a client that wants more asks again from the cursor. Bounded by
#: count alone, a client that asked for 200 long ones and read none had us keep 2.8 MB, a poll on 100 rooms 80 MB. The
#: first message of an answer is given whatever its length, so the bound is exceeded by one message at most.
PAGE_BYTES = 64 * 1024
#: Answers to held polls kept for everybody at the same place with the same limit, a room: nearly all polls have one in
#: common, and somebody who tries every limit must not fill memory.
ANSWERS_KEPT = 16


class Page(msgspec.Struct, frozen=True, gc=False):
    """Messages as JSON, the offset they reach, and whether none before them is missing."""

    reaches: int
    recovered: bool
    items: list[bytes]

    @property
    def size(self) -> int:
        """Bytes of messages."""
        return sum(map(len, self.items))


class Pages:
    """Makes pages; one for the server."""

    def __init__(self, log: Log, encoder: WireEncoder) -> None:
        self._log = log
        self._encoder = encoder
        self.events = encoder.events
        #: pages under way, by room, place, limit and direction: who asks for one that is being read gets the same
        self._reading: SingleFlight[tuple[str, int, int, bool], list[Record]] = SingleFlight()

    # -- from the ring: no waiting ----------------------------------------------------------------------------------

    def start(self, room: Room, place: Place | None, limit: int) -> Start:
        """Where a cursor stands in a room in memory."""
        return resolve(
            place, epoch=self._encoder.epoch, first=room.first, last=room.last, newest=limit, coming=room.pending
        )

    def after_now(self, room: Room, start: Start, limit: int, *, most: int = PAGE_BYTES) -> Page | None:
        """The page behind a start, if the ring holds it."""
        ring = room.ring
        if ring is None:
            return Page(start.offset, start.recovered, [])  # nothing was ever said
        if not ring.holds_after(start.offset):
            return None
        return _page(start, ring.after(start.offset, limit), most)

    def before_now(self, room: Room, place: Place, limit: int) -> Page | None:
        """The page that ends before a cursor, if the ring holds it."""
        ours = self._is_ours(place)
        before = min(place.offset, room.last + 1) if ours else room.last + 1
        start = max(room.first, before - limit)
        ring = room.ring
        if before <= start or ring is None:
            return Page(max(before - 1, 0), ours, items=[])
        if not ring.holds_after(start - 1):
            return None
        found = ring.after(start - 1, before - start)
        return Page(before - 1, ours, items=_newest(found, PAGE_BYTES))

    def _is_ours(self, place: Place) -> bool:
        """Whether a cursor is of this epoch; what stood before one of another is gone."""
        return place.epoch is None or place.epoch == self._encoder.epoch

    # -- from the log -----------------------------------------------------------------------------------------------

    async def after(self, room: str, place: Place | None, limit: int) -> Page:
        """The page behind a cursor. Raises LogError."""
        head = await self._log.head(room)
        start = resolve(place, epoch=self._encoder.epoch, first=head.first, last=head.last, newest=limit)
        return await self.after_start(room, start, limit)

    async def after_start(self, room: str, start: Start, limit: int, *, most: int = PAGE_BYTES) -> Page:
        """The page behind a start; with `most` 0 an empty one. Raises LogError."""
        if not most:
            return Page(start.offset, start.recovered, [])
        if start.latest:  # bounded by bytes, what is read forward would end before the newest
            records = await self._reading.get(
                (room, -1, limit, False), lambda: self._log.latest(room, limit, max_bytes=PAGE_BYTES)
            )
        else:
            records = await self._reading.get(
                (room, start.offset, limit, True),
                lambda: self._log.read(room, after=start.offset, limit=limit, max_bytes=PAGE_BYTES),
            )
        if not records:
            return Page(start.offset, start.recovered, [])
        # Retention may have moved on since the start was found.
        begins = records[0].offset - 1
        found = Start(begins, start.recovered and (start.latest or begins == start.offset), start.latest)
        return _page(found, [self._encoder.message(record) for record in records], most)

    async def before(self, room: str, place: Place, limit: int) -> Page:
        """The page that ends before a cursor. Raises LogError."""
        ours = self._is_ours(place)
        if ours:
            records = await self._reading.get(
                (room, place.offset, limit, False),
                lambda: self._log.read_before(room, before=place.offset, limit=limit, max_bytes=PAGE_BYTES),
            )
        else:
            records = await self._log.latest(room, limit)
        reaches = records[-1].offset if records else max(place.offset - 1, 0) if ours else 0
        found = [self._encoder.message(record) for record in records]
        return Page(reaches, ours, items=_newest(found, PAGE_BYTES))

    # -- as answers -------------------------------------------------------------------------------------------------

    def body(self, room: str, page: Page) -> list[bytes]:
        """A page as the body of an answer, in parts."""
        return encoders.page(room, self._encoder.cursor(page.reaches), page.recovered, page.items)

    def many_body(self, pages: list[tuple[str, Page]]) -> list[bytes]:
        """Pages of several rooms."""
        return encoders.poll_page(
            [(room, self._encoder.cursor(page.reaches), page.recovered, page.items) for room, page in pages]
        )

    def held_wire(self, waiter: PollWaiter) -> bytes | None:
        """The whole answer to a held poll as things stand; None when a room's part has left the ring.

        Pollers of one room at one place get the same bytes object.
        """
        wait = waiter.first
        if wait is None or waiter.many or wait.next is not None:
            return self._many_wire(waiter)
        room = wait.room
        key = ("held", wait.after, waiter.limit, waiter.keep_alive)
        wire = None if room.cache is None else room.cache.get(key)
        if wire is None:
            page = self.after_now(room, Start(wait.after, recovered=True), waiter.limit)
            if page is None:
                return None
            wire = response(200, b"".join(self.body(room.name, page)), keep_alive=waiter.keep_alive)
            if room.cache is None or len(room.cache) < ANSWERS_KEPT:
                room.remember(key, wire)
        return wire

    def _many_wire(self, waiter: PollWaiter) -> bytes | None:
        pages = []
        allowance = Allowance(len(waiter.places()))
        wait = waiter.first
        while wait is not None:
            page = self.after_now(wait.room, Start(wait.after, recovered=True), waiter.limit, most=allowance.most)
            if page is None:
                return None
            allowance.take(page)
            pages.append((wait.room.name, page))
            wait = wait.next
        pages.reverse()  # the order in which the client named them
        return response(200, b"".join(self.many_body(pages)), keep_alive=waiter.keep_alive)

    async def held_from_log(self, places: list[tuple[str, int]], limit: int, *, many: bool) -> list[bytes]:
        """The body of the answer to a held poll whose places have left the ring. Raises LogError."""
        pages = []
        allowance = Allowance(len(places))
        for room, after in places:
            page = await self.after_start(room, Start(after, recovered=True), limit, most=allowance.most)
            allowance.take(page)
            pages.append((room, page))
        return self.many_body(pages) if many else self.body(*pages[0])


class Allowance:
    """Bytes that are left for the rooms of one answer: each its share, as long as there is something.

    A room for which nothing is left keeps its place, and is asked for again from there. By then those before it have
    given what they had, so that everybody comes round.
    """

    def __init__(self, rooms: int) -> None:
        self._share = PAGE_BYTES // max(rooms, 1)
        self._left = PAGE_BYTES

    @property
    def most(self) -> int:
        """For the next room; 0 for nothing at all."""
        return max(min(self._share, self._left), 0)

    def take(self, page: Page) -> None:
        """A page is part of the answer."""
        self._left -= page.size


def _page(start: Start, found: list[bytes], most: int) -> Page:
    """What fits of the messages right behind a start: the newest if the client named no place, else the oldest."""
    if not most:
        return Page(start.offset, start.recovered, [])
    if start.latest:
        return Page(start.offset + len(found), start.recovered, _newest(found, most))
    found = _oldest(found, most)
    return Page(start.offset + len(found), start.recovered, found)


def _oldest(found: list[bytes], most: int) -> list[bytes]:
    """The first that fit, and at least one: a page that never moves on would be asked for again and again."""
    size = 0
    for count, message in enumerate(found):
        size += len(message)
        if size > most and count:
            return found[:count]
    return found


def _newest(found: list[bytes], most: int) -> list[bytes]:
    return _oldest(found[::-1], most)[::-1]
