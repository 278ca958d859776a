"""A search, from the question to the ranked messages, step by step.

    the limiters of user and network, each on its shard ─────────────────────┐
    the session, made and stored if it is missing ───────────────────────────┼─ the answer ─┬─ the shared results
    the caches, else the index: all rooms ─┬─ room ─ ranked ─┬───────────────┘              ├─ the session, again
                                           └─ room ─ ranked ─┘                              └─ other steps given

Owns: this order. A limiter that refuses, or a step that fails, cancels the others. May not: know HTTP.

One query answers most questions: the newest matches of all rooms, or of the named room. For a word in thousands of
messages it finds those of some rooms only; then the rooms that were written last are queried one by one. A user who may
read few rooms would often find nothing without that.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from heapq import nlargest
from itertools import chain, islice
from typing import TypeAlias

import msgspec
import trio

from chatserver.api.pages import PAGE_BYTES
from chatserver.api.pipelines import side_by_side
from chatserver.api.pipelines.background import StartStep
from chatserver.api.pipelines.limiters import SearchLimits
from chatserver.api.pipelines.results import ResultCache
from chatserver.api.pipelines.shared import SharedSearch
from chatserver.chat.log_reader import Alterations
from chatserver.chat.principal import Principal
from chatserver.fair import SingleFlight
from chatserver.log.index import Found, Hit, Index, Question
from chatserver.log.interface import MAX_READ, LogError

#: Rooms that are queried one by one, and rooms among which readable ones are looked for.
QUERIED_ROOMS, ROOMS_CONSIDERED = 4, 20
#: Seconds for these queries: they only improve the ranking, so the answer does not wait for slow ones.
ROOMS_BUDGET = 0.05
#: The same while the answer has too little: then it waits for them, and more rooms are looked at.
SHORT_ROOMS_BUDGET = 0.5
#: Times that a search continues because the user may not read what it found.
MAX_ROUNDS = 4


class Asked(msgspec.Struct, frozen=True):
    question: Question
    limit: int
    visitor: Principal


class Searched(msgspec.Struct, frozen=True):
    hits: list[Hit]
    cached: bool  # the index was not used
    seconds: float


#: A result of the index, and the generation with which it is shared with other processes.
Unshared: TypeAlias = tuple[Question, Found, bytes]
#: A step that runs once the answer is on its way. It is not given the results, which it would keep in memory meanwhile.
AfterStep: TypeAlias = Callable[[Asked], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPipeline:
    """The steps, and the systems that they query.

    `may_read` tells whether a user may read a room now; `recent_rooms` gives the rooms that were written last.
    """

    index: Index
    limits: SearchLimits
    results: ResultCache
    recent_rooms: Callable[[int], Awaitable[Sequence[str]]]
    may_read: Callable[[Principal, str], bool]
    start_in_background: StartStep
    altered_meanwhile: Callable[[], AbstractContextManager[Alterations]]
    after_steps: Sequence[AfterStep]
    shared: SharedSearch | None = None
    #: by generation of the results, too: no search joins a query that began before a text was removed
    _flights: SingleFlight[tuple[Question, int], tuple[Found, bool]] = field(default_factory=SingleFlight, init=False)

    async def search(self, asked: Asked) -> Searched:
        """Run the search. Raises OverLimitError and LogError."""
        began = trio.current_time()
        ranking = Ranking(self.results.generation)
        with self.altered_meanwhile() as meanwhile:
            await self._query_within_limits(asked, ranking)
            ranking.look_again(meanwhile, partial(self.may_read, asked.visitor))
        for question, found in ranking.found.items():
            self.results.put(question, found, ranking.generation)
        for step in self.after_steps:
            self.start_in_background(step, asked)
        if self.shared is not None:
            self.start_in_background(self.shared.sessions.touch, asked.visitor)
            self.start_in_background(self._share_results, self.shared, ranking.unshared)
        return Searched(ranking.best(asked.limit), not ranking.used_index, trio.current_time() - began)

    async def _query_within_limits(self, asked: Asked, ranking: "Ranking") -> None:
        async with side_by_side() as nursery:
            for limit, key in self.limits.of(asked.visitor):
                nursery.start_soon(self.limits.take, limit, key)
            if self.shared is not None:
                nursery.start_soon(self.shared.sessions.open, asked.visitor)
            await self._query(asked, ranking)

    async def _query(self, asked: Asked, ranking: "Ranking") -> None:
        """Search all rooms; if one answer cannot hold all matches, also rooms one by one, concurrently."""
        question, principal = asked.question, asked.visitor
        complete = await self._rank_rounds(question, asked.limit, principal, ranking)
        if complete or question.room is not None:
            return
        is_short = not ranking.fills(asked.limit)
        optional = suppress(*(() if is_short else (LogError,)))  # a full answer can only become better
        with optional, trio.move_on_after(SHORT_ROOMS_BUDGET if is_short else ROOMS_BUDGET):
            recent = await self.recent_rooms(MAX_READ if is_short else ROOMS_CONSIDERED)
            rooms = dict.fromkeys(chain(recent, principal.rights.named if is_short else ()))
            readable = (room for room in rooms if self.may_read(principal, room))
            for _ in range(MAX_ROUNDS if is_short else 1):
                async with side_by_side() as nursery:
                    for room in islice(readable, QUERIED_ROOMS):
                        in_room = msgspec.structs.replace(question, room=room)
                        nursery.start_soon(self._rank, in_room, principal, ranking)
                if ranking.fills(asked.limit):
                    break

    async def _rank_rounds(self, question: Question, limit: int, principal: Principal, ranking: "Ranking") -> bool:
        """Find and rank, and continue while the user may read too few; returns whether all matches were seen."""
        for _ in range(MAX_ROUNDS):
            go_on = await self._rank(question, principal, ranking)
            if go_on is None or ranking.fills(limit):
                break
            question = msgspec.structs.replace(question, go_on=go_on)
        return go_on is None

    async def _rank(self, question: Question, principal: Principal, ranking: "Ranking") -> int | None:
        """Add the hits of one question; returns where to go on with it."""
        found = self.results.get(question)
        if found is None:
            flight = question, self.results.generation
            found, by_index = await self._flights.get(flight, partial(self._ask, question, ranking))
            ranking.found[question] = found
            ranking.used_index |= by_index
        ranking.add(hit for hit in found.hits if self.may_read(principal, hit.record.room))
        return found.go_on

    async def _ask(self, question: Question, ranking: "Ranking") -> tuple[Found, bool]:
        """Ask for the results of other processes, then the index; returns also whether the index was asked."""
        lookup = None if self.shared is None else await self.shared.results.get(question)
        if lookup is not None and lookup.found is not None:
            return lookup.found, False
        found = await self.index.find(question)
        if lookup is not None:
            ranking.unshared.append((question, found, lookup.generation))
        return found, True

    async def _share_results(self, shared: SharedSearch, unshared: list[Unshared]) -> None:
        async with side_by_side() as nursery:
            for each in unshared:
                nursery.start_soon(shared.results.put, *each)


class Ranking:
    """The hits of all questions, each message once."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.used_index = False
        self.unshared: list[Unshared] = []
        self.found: dict[Question, Found] = {}  # results that were not in this process's cache
        self._hits: dict[tuple[str, int], Hit] = {}

    def add(self, hits: Iterable[Hit]) -> None:
        for hit in hits:
            self._hits[hit.record.room, hit.record.offset] = hit

    def look_again(self, meanwhile: Alterations, may_read: Callable[[str], bool]) -> None:
        """Drop hits whose text was edited or deleted since it was read, and those of rooms that are forbidden by now.

        Only the index knows whether a new text has the words; the next search asks it.
        """
        for place, hit in list(self._hits.items()):
            now = meanwhile.now(hit.record)
            if now.text != hit.record.text or not may_read(now.room):
                del self._hits[place]
            elif now is not hit.record:
                self._hits[place] = msgspec.structs.replace(hit, record=now)

    def best(self, limit: int) -> list[Hit]:
        """The best so far, best first."""
        return nlargest(limit, self._hits.values(), key=lambda hit: (hit.score, hit.record.time, hit.record.offset))

    def fills(self, limit: int) -> bool:
        """Whether these are enough for an answer, which has PAGE_BYTES at most."""
        hits = self._hits.values()
        return len(hits) >= limit or sum(len(hit.record.text.encode()) for hit in hits) >= PAGE_BYTES
