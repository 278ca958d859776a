"""A join that needs the log: the room is loaded while the messages that its new member missed are read.

    load the room, if it is not in memory ────────────────┬─ enter the member, with the page that it missed
    read after the cursor, if it is of our epoch ─────────┘

Owns: this order. May not: decide who may join, or know a wire form.

After a restart each join loads a room and reads a page: three reads if done one after the other. The read of the page
is cancelled if the newest messages of the loaded room include it.
"""

from collections.abc import Callable
from typing import TypeVar

import trio

from chatserver.api.pages import Page, Pages, Start
from chatserver.api.pipelines import side_by_side
from chatserver.chat.hub import Hub
from chatserver.chat.member import Wanted
from chatserver.chat.registry import LATEST
from chatserver.chat.room import Room
from chatserver.protocol.validation import Cursor

T = TypeVar("T")
#: The page of records that a new member has missed.
JOINED = Wanted(LATEST)


class JoinPipeline:
    def __init__(self, hub: Hub, pages: Pages) -> None:
        self._hub = hub
        self._pages = pages

    async def join(self, name: str, network: str, after: Cursor | None, enter: Callable[[Room, Page], T]) -> T:
        """Call `enter` with the room and the page after a place. Raises LogError, and what `enter` raises.

        There is no checkpoint between `enter` and the return, so that the answer to a join comes before any news.
        """
        with self._pages.while_it_waits(name) as up_to_date:
            page = await self._page(name, network, after)
            async with self._hub.registry.using(name, network) as room:  # still in memory, or loaded again
                return enter(room, up_to_date(name, page))

    async def _page(self, name: str, network: str, after: Cursor | None) -> Page:
        begins: Start | None = None  # of a page that is read before the room's newest messages are known
        missed, is_read = list[Page](), trio.Event()

        async def read(start: Start) -> None:
            missed.append(await self._pages.after_start(name, start, JOINED))
            is_read.set()

        async with side_by_side() as nursery:
            if after is not None and self._pages.is_ours(after) and self._hub.registry.room(name) is None:
                begins = Start(after.offset, recovered=True)
                nursery.start_soon(read, begins)
            async with self._hub.registry.using(name, network) as room:
                if after is not None and self._pages.is_ahead(room, after):
                    await self._hub.follower.reach(room, after.offset)
                start = self._pages.start(room, after, LATEST)
                page = self._pages.after_now(room, start, JOINED)
                if page is None and begins == start:
                    await is_read.wait()
                    [page] = missed
                if page is None:
                    page = await self._pages.after_start(name, start, JOINED)
            nursery.cancel_scope.cancel()
        return page
