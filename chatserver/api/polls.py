"""History and long-polls: pages of rooms, at once or when there is something new (docs/protocol.md).

Owns: the meaning of these requests. May not: see a socket. Each handler answers, or returns a coroutine if it has to
wait for the log. What is done for many rooms is done in steps.
"""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import lru_cache, partial

import msgspec
import trio

from chatserver.api.answers import Answer, Hold, Later, Next, Queue, Response
from chatserver.api.pages import Page, Start
from chatserver.api.request import Request
from chatserver.api.services import Services
from chatserver.api.tokens import refused
from chatserver.chat.member import PollWaiter, Wanted
from chatserver.chat.policy import READ
from chatserver.chat.room import Room
from chatserver.fair import in_steps
from chatserver.log.interface import MAX_READ
from chatserver.protocol.errors import bad_field
from chatserver.protocol.validation import Cursor, check_room, parse_cursor

#: Rooms that a poll enters in one step: 0.1 ms. A poll of more is parsed, entered and read in a step each, and leaves
#: in a step of its own; for a hundred rooms each takes 0.2 to 0.3 ms.
ENTERED_PER_STEP = 25
#: Rooms that a poll may read from the log among the reads of one room; each takes 0.4 ms.
FEW_ROOMS = 8

#: One object for the thousands of held polls that want the same; there are 200 limits, two sets of kinds, two shapes.
_wanted = lru_cache(1024)(Wanted)


class _Poll(msgspec.Struct, gc=False):
    places: list[tuple[str, Cursor | None]]  # its rooms, and its place in each; None: the newest few records
    wait: float
    wanted: Wanted


class PollHandlers:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._hub = services.hub
        self._pages = services.pages

    def read(self, request: Request, name: str) -> Answer:
        """`GET /rooms/{room}/messages`: a page of history, or with `wait` a long-poll."""
        self._services.check_reader(request, name)
        parameters = request.parameters("after", "before", "limit", "wait", "kinds")
        after, before = parameters.cursor("after"), parameters.cursor("before")
        wait = parameters.wait(self._services.settings.poll_wait_max)
        wanted = _wanted(parameters.limit(), parameters.messages_only())
        if before is not None and (after is not None or wait):
            raise bad_field("before", "not together with after or wait")
        check = partial(self._services.check_reader_again, request, name)
        if wait and request.head.method != "HEAD":
            poll = _Poll([(name, after)], wait, wanted)
            return self._poll(request, poll) or Later(self._poll_later(request, poll), check, _queue_of(1, wanted))
        page = self._pages.now(self._hub.registry.room(name), after, before, wanted)
        if page is None:
            return Later(self._read_later(name, after, before, wanted), check, _queue_of(1, wanted))
        return self._page(name, page)

    async def _read_later(self, name: str, after: Cursor | None, before: Cursor | None, wanted: Wanted) -> Answer:
        return self._page(name, await self._pages.read(name, after, before, wanted))

    def _page(self, name: str, page: Page) -> Response:
        return Response(200, self._pages.body([(name, page)], many=False))

    def poll_many(self, request: Request) -> Answer:
        """`GET /poll?room=lobby:C&room=ops:C&wait=25`."""
        poll = self._parse(request)
        check = partial(self._check_poll_again, request, [poll])
        return _soon(len(poll.places), check, partial(self._poll_or_load, request, poll))

    def _poll_or_load(self, request: Request, poll: _Poll) -> Answer:
        answer = self._poll(request, poll)
        if answer is not None:
            return answer
        # Parsed again when its turn comes: thousands of requests may be queued, and places take ten times their memory.
        parsed: list[_Poll] = []
        check = partial(self._check_poll_again, request, parsed)
        return Later(self._poll_many_later(request, parsed), check, _queue_of(len(poll.places), poll.wanted))

    def _check_poll_again(self, request: Request, parsed: list[_Poll]) -> None:
        self._services.check_reader_again(request, *(name for poll in parsed for name, _ in poll.places))

    def _parse(self, request: Request) -> _Poll:
        """The parameters of a poll of many rooms, if its user may read them. Raises HttpError and MessageError."""
        most = self._services.settings.max_rooms_per_connection
        parameters = request.parameters("room", "limit", "wait", "kinds", rooms=most)
        named = parameters.all("room")
        if not 1 <= len(named) <= most:
            raise bad_field("room", f"name 1 to {most} rooms, each as room=NAME:CURSOR")
        places: dict[str, Cursor | None] = {}
        reader, check = request.reader, self._services.check
        for value in named:
            name, _, cursor = value.partition(":")
            check_room(name)
            check(reader, READ, name)
            if name in places:
                raise bad_field("room", f"{name} is named twice")
            places[name] = parse_cursor(cursor) if cursor else None
        wait = 0.0 if request.head.method == "HEAD" else parameters.wait(self._services.settings.poll_wait_max)
        wanted = _wanted(parameters.limit(), parameters.messages_only(), many=True)
        return _Poll(list(places.items()), wait, wanted)

    def _poll(self, request: Request, poll: _Poll, *, prepared: bool = False) -> Answer | None:
        """Answer or hold a poll. None: it needs `_poll_later`, which has `prepared` the rooms."""
        places, wanted = poll.places, poll.wanted
        principal = request.principal  # first: it raises for another site's page, for which no room is loaded
        rooms = [room for room in map(self._hub.registry.room, (name for name, _ in places)) if room is not None]
        if len(rooms) < len(places):
            return None
        if not prepared and any(map(self._pages.is_ahead, rooms, (place for _, place in places))):
            return None
        self._services.check_empty_rooms(sum(1 for room in rooms if room.ring is None))
        starts = [
            (room, self._pages.start(room, place, wanted.limit)) for room, (_, place) in zip(rooms, places, strict=True)
        ]
        wait = min(poll.wait, principal.seconds_left)
        if wait and all(start.recovered and start.offset >= room.last for room, start in starts):
            waits = [(room, start.offset) for room, start in starts]
            return Hold(waits, principal, wait, wanted)
        if not prepared:
            for room in rooms:
                self._hub.polled(room, principal)
        check = partial(self._check_poll_again, request, [poll])
        return _soon(len(places), check, partial(self._read_several, starts, wanted, check))

    def _read_several(self, starts: list[tuple[Room, Start]], wanted: Wanted, check: Callable[[], None]) -> Answer:
        body = self._pages.several_now(starts, wanted)
        if body is None:
            several = self._several([(room.name, start) for room, start in starts], wanted)
            return Later(several, check, _queue_of(len(starts), wanted))
        return Response(200, body)

    async def _several(self, starts: list[tuple[str, Start]], wanted: Wanted) -> Answer:
        return Response(200, await self._pages.several(starts, wanted, self._hub.registry.room))

    def answer_held(self, waiter: PollWaiter) -> Answer:
        """The answer to a held poll at this moment, even an empty one."""
        is_long = waiter.next is not None and len(waiter.places()) > ENTERED_PER_STEP
        body = None if is_long else self._pages.held_body(waiter)
        if body is not None:
            return Response(200, [body])
        starts = [(room, Start(after, recovered=True)) for room, after in waiter.places()]
        check = self._check_of(waiter, [room.name for room, _ in starts])
        read = partial(self._read_several, starts, waiter.wanted, check)
        return _soon(len(starts), check, read)  # many rooms are left in this step, and read in the next

    def _check_of(self, waiter: PollWaiter, names: list[str]) -> Callable[[], None]:
        """What refuses a user who has left HELD and may no longer read these rooms."""
        principal, signed_out = waiter.principal, self._services.identities.signed_out
        last = signed_out.last_of(principal.number)

        def check() -> None:
            if signed_out.again_since(last, principal.number):
                raise refused()
            for name in names:
                self._services.check(principal, READ, name)

        return check

    async def _poll_many_later(self, request: Request, parsed: list[_Poll]) -> Answer:
        poll = self._parse(request)
        parsed.append(poll)
        await trio.lowlevel.checkpoint()  # for a hundred rooms, parsing is a step of its own
        return await self._poll_later(request, poll)

    async def _poll_later(self, request: Request, poll: _Poll) -> Answer:
        """Load the rooms, all of which stay in memory meanwhile, enter them, and poll again."""
        await self._check_names([name for name, _ in poll.places])
        await trio.lowlevel.checkpoint()
        async with AsyncExitStack() as stack:
            rooms = [
                await stack.enter_async_context(self._hub.registry.using(name, request.network))
                for name, _ in poll.places
            ]
            for room, (_, place) in zip(rooms, poll.places, strict=True):
                if place is not None and self._pages.is_ahead(room, place):
                    await self._hub.follower.reach(room, place.offset)
            await in_steps(map(partial(self._enter, request), rooms))
            answer = self._poll(request, poll, prepared=True)
            assert answer is not None, "all rooms are in memory"
        return await answer.pending if isinstance(answer, Later) else answer

    def _enter(self, request: Request, room: Room) -> None:
        """Make the user present in a room."""
        self._services.check_reader_again(request, room.name)
        self._hub.polled(room, request.principal)

    async def _check_names(self, names: Sequence[str]) -> None:
        """Refuse made-up names beyond the quota of empty rooms, before any room is made."""
        known = [room for room in map(self._hub.registry.room, names) if room is not None]
        others = [name for name in names if self._hub.registry.room(name) is None][:MAX_READ]
        written = await self._services.log.heads(others)
        self._services.check_empty_rooms(sum(not room.last for room in known) + len(others) - len(written))


def _queue_of(rooms: int, wanted: Wanted) -> Queue:
    """A read may be long if it is of many rooms, or of the messages among thousands of other records."""
    if wanted.messages_only:
        return Queue.SCAN
    return Queue.SLOW if rooms > FEW_ROOMS else Queue.READ


def _soon(rooms: int, check: Callable[[], None], answer: Callable[[], Answer]) -> Answer:
    """Answer now, or if it is about many rooms in the next step, if the user may still read these by then."""
    if rooms <= ENTERED_PER_STEP:
        return answer()

    def go_on() -> Answer:
        check()
        return answer()

    return Next(go_on)
