"""What the server kept of a chat: every acknowledged message is read again after the attack.

Owns: what counts as lost. If the server reports that older messages are gone (`recovered` is false), only messages from
the oldest remaining one on can.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial, reduce
from random import Random
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec
import trio

from loadgen.clients.messages import Reread, merged
from loadgen.net import wire
from loadgen.net.answers import NOT_SERVED, TURNED_AWAY, UNANSWERED
from loadgen.net.line import EndedError
from loadgen.net.target import is_own_fault
from loadgen.personas._websocket import Message
from loadgen.protocols import presence
from loadgen.protocols.changes import Changes
from loadgen.protocols.chat_v1 import PollVictim, WebSocketVictim, get_page
from loadgen.protocols.http import HttpPeer, http_peer
from loadgen.victims.probe import Context
from loadgen.victims.victim import Victim, failure_in, number_in, text_of

#: Rooms that are read again at once: enough to finish soon, and too few to be a load.
AT_ONCE: Final = 8

#: Time for a page of a room, and for all rooms: that, and more for each page that there must be. A page takes a few
#: milliseconds, and from another continent a few hundred.
PAGE_SECONDS: Final = 20.0
REREAD_SECONDS: Final = 60.0
MORE_SECONDS: Final = 0.5
LONGEST_SECONDS: Final = 1800.0  # 3,500 pages

#: Time for a server that answers "not now", and the pause between two requests.
NOT_NOW_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.5

#: Time to search a room for texts that are gone, and for how many: more would be a load.
SEARCH_SECONDS: Final = 5.0
MOST_SEARCHES: Final = 20

_PAGE_MESSAGES: Final = 50

#: Answers of a server that does not serve a history now.
_NOT_NOW: Final = tuple(f"answered {status}" for status in TURNED_AWAY)


class _Results(msgspec.Struct):
    """The answer to a search."""

    results: tuple[Message, ...]


_results: Final = msgspec.json.Decoder(_Results)


class _Said(NamedTuple):
    """What the server has acknowledged in one room: operations, and the offset of each message."""

    room: str
    reader: int  # the victim from whose address it is read again
    acknowledged: Mapping[int, int]
    changes: Changes
    members: Callable[[], presence.Expected]

    def compared(self, kept: tuple[set[int], bool] | str) -> Reread:
        """What is lost of it, given what the room has kept and whether the server calls that complete, or why not."""
        if isinstance(kept, str):
            return Reread(unreadable=kept) if kept in {UNANSWERED, *NOT_SERVED} else Reread(refused=kept)
        numbers, complete = kept
        oldest = 0 if complete else min(numbers, default=0)  # no retention explains a room without its latest message
        known = self.acknowledged.keys() - self.changes.replaced(self.changes.kinds)
        wanted = {number for number in known if number >= oldest}
        gone = "the server no longer has the oldest" if len(wanted) < len(known) else ""
        return Reread(asked=len(wanted), lost=len(wanted - numbers), unreadable=gone)


async def reread(context: Context, victims: Sequence[Victim]) -> Reread:
    """Ask for every message that the server acknowledged to these victims and to newcomers."""
    by_newcomers = context.newcomers_said.items()

    def changes_of(victim: Victim) -> Changes:
        return victim.changes if isinstance(victim, WebSocketVictim) else Changes()

    rooms = [
        *(
            _Said(each.room, each.index, each.acknowledged, changes_of(each), partial(presence.of_victim, each))
            for each in victims
        ),
        *(
            _Said(room, index, acknowledged, Changes(), partial(presence.of_newcomers, context, room))
            for index, (room, acknowledged) in enumerate(by_newcomers)
            if acknowledged
        ),
    ]
    limiter, found = trio.CapacityLimiter(AT_ONCE), list[Reread]()
    # Others may keep no history. A victim that polls has read the page of its room before it said anything.
    excused = NOT_SERVED if all(not isinstance(victim, PollVictim) for victim in victims) else frozenset()
    patience = trio.current_time() + NOT_NOW_SECONDS

    async def history(said: _Said) -> tuple[set[int], bool] | str:
        """What the room still has, or why it was not read; a history that cannot be read has nothing."""
        try:
            with trio.fail_after(PAGE_SECONDS) as limit:
                return await _history(context, said, limit)
        except BaseException as error:  # noqa: BLE001  `failure_in` raises everything but a failed connection
            failure = failure_in(error)
            reason = context.reason_of(failure)
            if is_own_fault(failure):
                return UNANSWERED
            is_unread = isinstance(failure, trio.TooSlowError | OSError) or reason in {*_NOT_NOW, *excused}
            return reason if is_unread else (set(), True)

    async def read(said: _Said) -> None:
        async with limiter:
            while (kept := await history(said)) in _NOT_NOW and trio.current_time() < patience:  # noqa: ASYNC110
                await trio.sleep(RETRY_SECONDS)
            if not isinstance(kept, str):
                found.append(await presence.check(context, said.room, said.reader, said.members, patience))
        found.append(said.compared(kept))
        if kept == UNANSWERED and not any(each.asked for each in found):  # a server that answers at all has, by now
            limit.cancel()

    pages = sum(-(-len(said.acknowledged) // _PAGE_MESSAGES) for said in rooms)
    with trio.move_on_after(min(REREAD_SECONDS + MORE_SECONDS * pages, LONGEST_SECONDS)) as limit:
        async with trio.open_nursery() as nursery:
            for said in rooms:
                nursery.start_soon(read, said)
    if limit.cancelled_caught:
        found.insert(0, Reread(unreadable=UNANSWERED))
    return reduce(merged, found, Reread())


async def _history(context: Context, said: _Said, limit: trio.CancelScope) -> tuple[set[int], bool]:
    """Return the operations whose messages the room still has, and whether the server calls this history complete."""
    kept, undone, offsets = set[int](), set[int | None](), set[int]()
    complete, last = True, 0

    def take(record: Message) -> None:
        nonlocal last
        is_behind, last = 0 < record.offset <= last, record.offset
        number = said.changes.operation(record.type, record.target)
        if record.text:
            number = number_in(record.text, said.room, context.tag)
        if number is None:
            return
        kept.add(number)
        is_changed = record.type == "message" and number in said.changes.kinds  # it has the text of a later edit
        is_elsewhere = not is_changed and 0 < record.offset != said.acknowledged.get(number, 0) > 0
        if is_behind or is_elsewhere:
            undone.add(number)  # out of order, not where its receipt says, or there a second time

    cursor = "0"
    async with http_peer(context, said.reader) as peer:
        while True:
            query = f"after={quote(cursor, safe='')}&limit={_PAGE_MESSAGES}"
            limit.deadline = trio.current_time() + PAGE_SECONDS
            page = await get_page(peer, f"/rooms/{said.room}/messages?{query}")
            complete = complete and page.recovered
            if not page.messages or page.cursor == cursor:
                break
            for each in page.messages:
                take(each)
            messages = [each for each in page.messages if each.type == "message"]
            undone |= {said.changes.undone(each.offset, each.text) for each in messages}
            offsets |= {each.offset for each in messages}
            cursor = page.cursor
        if complete and 0 not in offsets:  # else it may be among the oldest, which are gone, or at no offset
            undone |= said.changes.vanished(offsets)
        with trio.move_on_after(SEARCH_SECONDS):
            async for found in _found(peer, said):
                undone.add(said.changes.undone(found.offset, found.text))
    return kept - undone, complete


async def _found(peer: HttpPeer, said: _Said) -> AsyncIterator[Message]:
    """Search for texts that were deleted or edited; a server may offer no search, or not now.

    Which ones is left to chance, since a server that limits searches answers only the first.
    """
    gone = sorted(said.changes.replaced(said.acknowledged))
    for number in Random(said.room).sample(gone, min(len(gone), MOST_SEARCHES)):  # noqa: S311
        path = f"/search?room={said.room}&q={quote(text_of(said.room, number))}"
        try:
            status, body = await peer.request("GET", path)
            results = _results.decode(body).results if status == 200 else ()
        except (EndedError, *wire.UNREADABLE):  # no answer to what it does not know, or a page for every path
            return
        for each in results:
            yield each
        if status != 200:
            return
