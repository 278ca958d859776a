"""Whether messages that were acknowledged are still there: the history of each victim's room, read after the attack.

Owns: the walk through a room's history (CONTRACT section 3) and what counts as lost. A server that says itself that
older messages are gone (`recovered` is false) is asked only for those behind what it still has.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec
import trio

from loadgen.messages import Reread
from loadgen.victims.http import HttpPeer
from loadgen.victims.victim import OperationFailedError, Victim, describe, dial, failure_in, number_in

if TYPE_CHECKING:
    from loadgen.victims.runner import ProbeRunner

#: Rooms that are read at once: enough to be done soon, few enough to be no load.
AT_ONCE: Final = 8

#: For one room; a page takes a few milliseconds.
ROOM_SECONDS: Final = 20.0

_PAGE_MESSAGES: Final = 50


class _Text(msgspec.Struct):
    text: str = ""


class _Page(msgspec.Struct):
    cursor: str
    messages: list[_Text]
    recovered: bool = True


_decoder: Final = msgspec.json.Decoder(_Page)


async def reread(runner: "ProbeRunner", victims: Sequence[Victim]) -> Reread:
    """Ask for everything that was acknowledged."""
    limiter = trio.CapacityLimiter(AT_ONCE)
    asked, lost, unreadable = 0, 0, ""

    async def read(victim: Victim) -> None:
        nonlocal asked, lost, unreadable
        async with limiter:
            try:
                with trio.fail_after(ROOM_SECONDS):
                    kept, complete = await _history(runner, victim)
            except BaseException as error:  # noqa: BLE001  everything but the server's failures is raised again
                unreadable = describe(failure_in(error))
                return
        oldest = 0 if complete else min(kept, default=None)
        if oldest is None:
            unreadable = "the server no longer has any"
            return
        wanted = {number for number in victim.acknowledged if number >= oldest}
        asked += len(wanted)
        lost += len(wanted - kept)

    async with trio.open_nursery() as nursery:
        for victim in victims:
            nursery.start_soon(read, victim)
    return Reread(asked=asked, lost=lost, unreadable=unreadable)


async def _history(runner: "ProbeRunner", victim: Victim) -> tuple[set[int], bool]:
    """The operations whose messages a room has, and whether it has had no others."""
    kept: set[int] = set()
    complete = True
    async with await dial(runner, victim.index) as stream:
        peer = HttpPeer(stream, runner.target.authority)
        cursor = "0"
        while True:
            query = f"after={quote(cursor, safe='')}&limit={_PAGE_MESSAGES}"
            status, body = await peer.request("GET", f"/rooms/{victim.room}/messages?{query}")
            if status != 200:
                raise OperationFailedError(f"answered {status}")
            page = _decoder.decode(body)
            complete = complete and page.recovered
            kept |= {number for each in page.messages if (number := number_in(each.text)) is not None}
            if not page.messages or page.cursor == cursor:
                return kept, complete
            cursor = page.cursor
