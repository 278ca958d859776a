"""A search as a pipeline, beside the same steps in sequence, on real shards that are near and far.

How: the server's own pipeline over an SQLite log with an index and two Valkey servers, for a word that is in every
message, so that four rooms are queried as well; in turns with a loop that awaits the same steps one by one. Each
visitor is new, so its session is stored, and shared results are found to be out of date and stored again. The shards
are on this machine, or 1 and 20 ms away through a proxy. The figure is the time in sequence divided by that of the
pipeline.
What would fool it: steps that only one of the two has; parallel queries that a server could not make, where one thread
searches (as it does here).
"""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count, islice
from pathlib import Path
from time import perf_counter

import msgspec
import trio

from chatserver.api.pipelines.limiters import SearchLimits
from chatserver.api.pipelines.results import ResultCache
from chatserver.api.pipelines.search import QUERIED_ROOMS, ROOMS_CONSIDERED, Asked, Ranking, SearchPipeline
from chatserver.api.pipelines.shared import SharedSearch
from chatserver.chat.log_reader import LogReader
from chatserver.chat.principal import Principal
from chatserver.log.index import Question
from chatserver.log.interface import Draft
from chatserver.log.sqlite import SqliteLog
from chatserver.shared import open_shards
from tests.bench.figures import TIMES, Figure, Result, Scale, at_least, compared
from tests.log.support import Disk
from tests.support.partition import Link
from tests.support.valkeys import Valkey, valkeys

#: Milliseconds of delay to a shard, with bound and aim of the gain.
SHARDS = ((0, 0.7, 1.0), (1, 1.0, 1.5), (20, 2.0, 2.8))
FIGURES = {
    ms: at_least(f"search, shards of {ms} ms: one step after another, of side by side", TIMES, bound=bound, aim=aim)
    for ms, bound, aim in SHARDS
}
#: Searches a second, which no run reaches.
RATE = 10_000.0

#: Attempts to ask a shard that does not answer in time on a busy machine, and seconds between them.
ATTEMPTS, PAUSE = 200, 0.1
#: Messages handed to the log at a time.
FILL_BATCH = 5_000


def search_pipeline(
    log: Disk, limits: SearchLimits, later: Callable[..., None], shared: SharedSearch | None = None
) -> SearchPipeline:
    """The server's pipeline over this log, with empty caches of its own."""
    return SearchPipeline(
        index=log.index, limits=limits, results=ResultCache(),
        after_steps=(), shared=shared,
        recent_rooms=partial(recent_rooms, log), may_read=lambda principal, room: True, start_in_background=later,
        altered_meanwhile=LogReader(log).altered_meanwhile,
    )  # fmt: skip


async def recent_rooms(log: Disk, limit: int) -> list[str]:
    return [summary.room for summary in await log.rooms(limit)]


class Searching:
    """The pipeline and the sequential loop, on the same systems."""

    def __init__(self, log: SqliteLog, shared: SharedSearch, later: Callable[..., None]) -> None:
        self._log = log
        self._shared = shared
        self._later = later
        self._limits = SearchLimits(RATE, shared.limits.take)
        self._visitors = count(1)

    def asked(self) -> Asked:
        """A question of a new visitor, after all cached results were invalidated."""
        self._shared.results.forget()
        visitor = Principal(next(self._visitors), "192.0.2.7")
        return Asked(Question(("kettle",)), 20, visitor)

    async def side_by_side(self, asked: Asked) -> int:
        """Search as the server does; the number of messages that are found."""
        pipeline = search_pipeline(self._log, self._limits, self._later, self._shared)
        return len((await pipeline.search(asked)).hits)

    async def one_after_another(self, asked: Asked) -> int:
        """The same steps in sequence."""
        sessions = self._shared.sessions
        for limit in self._limits.network:
            await self._limits.take(limit, asked.visitor.network)
        await sessions.open(asked.visitor)
        await self._limits.take(self._limits.user, asked.visitor.number)
        ranking = Ranking(0)
        if await self._rank(asked.question, ranking) is not None:
            for room in (await recent_rooms(self._log, ROOMS_CONSIDERED))[:QUERIED_ROOMS]:
                await self._rank(msgspec.structs.replace(asked.question, room=room), ranking)
        hits = ranking.best(asked.limit)
        self._later(sessions.touch, asked.visitor)
        return len(hits)

    async def _rank(self, question: Question, ranking: Ranking) -> int | None:
        for _ in range(ATTEMPTS):
            lookup = await self._shared.results.get(question)
            if lookup is not None:
                break
            await trio.sleep(PAUSE)
        else:
            raise RuntimeError("a shard is away")
        if lookup.found is not None:
            raise RuntimeError("a result was cached")
        found = await self._log.index.find(question)
        self._later(self._shared.results.put, question, found, lookup.generation)
        ranking.add(found.hits)
        return found.go_on


def run(scale: Scale) -> Iterator[Result]:
    with tempfile.TemporaryDirectory(prefix="chatserver-bench-") as folder, valkeys(Path(folder), 2) as servers:
        yield from trio.run(_measure_all, folder, servers, scale)


async def _measure_all(folder: str, servers: list[Valkey], scale: Scale) -> list[Result]:
    log, results = SqliteLog(f"{folder}/log.db"), []
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run, lambda records: None)
        await fill(log, _drafts(scale.of(20_000, 600)))
        for delay, _, _ in SHARDS:
            async with shards(servers, delay / 1000) as shared:
                results.append(await _measure(Searching(log, shared, nursery.start_soon), FIGURES[delay], scale))
        nursery.cancel_scope.cancel()
    return results


@asynccontextmanager
async def shards(servers: list[Valkey], seconds: float) -> AsyncIterator[SharedSearch]:
    """The servers, behind proxies with this delay."""
    links = [Link(server.port, delay=seconds) for server in servers]
    async with trio.open_nursery() as nursery:
        for link in links:
            await nursery.start(link.run)
        url = "valkey://" + ",".join(f"127.0.0.1:{link.port}" for link in links)
        opened = open_shards(url, f"bench-{seconds}")
        nursery.start_soon(opened.run, lambda message: None)
        while opened.reachable < len(servers):  # noqa: ASYNC110  it is connected in its own time
            await trio.sleep(0.01)
        yield SharedSearch(opened)
        nursery.cancel_scope.cancel()


async def _measure(searching: Searching, figure: Figure, scale: Scale) -> Result:
    searches = scale.of(50, 2)
    together: list[float] = []
    apart: list[float] = []
    for _ in range(scale.of(7, 1)):
        together.append(await _time(searching, searching.side_by_side, searches))
        apart.append(await _time(searching, searching.one_after_another, searches))
    return compared(figure, apart, together, unit=" ms", more=f" a search; {searches} searches a turn, one at a time")


async def fill(log: Disk, drafts: Iterable[Draft]) -> None:
    """Store these messages and wait for the index."""
    left, stored = 0, trio.Event()

    def done(outcome: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            stored.set()

    drafts = iter(drafts)
    while batch := list(islice(drafts, FILL_BATCH)):
        left, stored = len(batch), trio.Event()
        for draft in batch:
            log.submit(draft, done)
        await stored.wait()
    while log.index.lag:  # noqa: ASYNC110  it is filled in its own time
        await trio.sleep(0.05)


def _drafts(count: int) -> Iterator[Draft]:
    """Messages in eight rooms."""
    return (Draft(f"room-{number % 8}", "u_ann", "Ann", f"the kettle number {number} is on") for number in range(count))


async def _time(searching: Searching, search: Callable[[Asked], Awaitable[int]], times: int) -> float:
    """Milliseconds of one search, on average."""
    start = perf_counter()
    for _ in range(times):
        asked = searching.asked()
        if await search(asked) != asked.limit:
            raise RuntimeError("a search found too little")
    return (perf_counter() - start) / times * 1e3
