"""A join that needs the log: the room comes into memory while what its new member has missed is read.

    the room, if it is not in memory ─────────────────────┬─ the member, with the page that it lacks
    what stands behind the cursor, if it is our epoch's ──┘

Owns: this order. May not: decide who may join, or know a wire form. A join of a room in memory whose ring holds the
page needs no step of this, and does not come here.

One after the other these are three reads of a room that nobody is in, for somebody who was away for long: after a
restart that is everybody. What is read and not needed, since the room's newest messages hold it, is cancelled.
"""

from collections.abc import Callable
from typing import TypeVar

import trio

from chatserver.api.pages import Page, Pages, Start
from chatserver.api.pipelines import side_by_side
from chatserver.chat.hub import Hub
from chatserver.chat.registry import LATEST
from chatserver.chat.room import Room
from chatserver.protocol.validation import Place

T = TypeVar("T")


class JoinPipeline:
    """The steps, over the hub and the pages of a server."""

    def __init__(self, hub: Hub, pages: Pages) -> None:
        self._hub = hub
        self._pages = pages

    async def join(self, name: str, network: str, after: Place | None, enter: Callable[[Room, Page], T]) -> T:
        """What `enter` makes of the room and of the page behind a place. Raises LogError, and what `enter` raises.

        The loop makes no pass between `enter` and the return, so that a member can be answered ahead of any news.
        """
        missed = _Missed()
        async with side_by_side() as nursery:
            if after is not None and self._hub.room(name) is None:
                nursery.start_soon(self._read_missed, name, after, missed)
            async with self._hub.using(name, network) as room:
                if after is not None and self._pages.is_ahead(room, after):
                    await self._hub.reach(room, after.offset)
                start = self._pages.start(room, after, LATEST)
                page = self._pages.after_now(room, start, LATEST)
                if page is None and missed.start == start:
                    page = await missed.wait()
                if page is None:
                    page = await self._pages.after_start(name, start, LATEST)
            nursery.cancel_scope.cancel()
        async with self._hub.using(name, network) as room:  # it is in memory still, or else is loaded again
            return enter(room, page)

    async def _read_missed(self, name: str, after: Place, missed: "_Missed") -> None:
        """Read on from a place before it is known whether the room's newest messages reach back to it."""
        if self._pages.is_ours(after):
            missed.start = Start(after.offset, recovered=True)
            missed.page = await self._pages.after_start(name, missed.start, LATEST)
            missed.known.set()


class _Missed:
    """The page behind a start, when it has been read."""

    def __init__(self) -> None:
        self.start: Start | None = None
        self.page: Page | None = None
        self.known = trio.Event()

    async def wait(self) -> Page | None:
        """The page."""
        await self.known.wait()
        return self.page
