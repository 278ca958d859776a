"""A search as a pipeline, beside the same steps one after another, for rate limiters that are near and far.

How: the server's own pipeline over an SQLite log with an index, for a word that is in every message, so that four
rooms are asked besides; in turns with a loop that awaits the same steps in their order. A shard, and the session's
store, take 0, 1 and 20 ms to answer: this process, the next rack, another region. What is told is how many times as
long one after another takes; no result comes from a cache.
What would fool it: steps that the loop has and the pipeline has not; queries side by side that could not be in a
server, where one thread searches (they share that thread here as well).
"""

import tempfile
from collections.abc import Awaitable, Callable, Hashable, Iterator
from time import perf_counter

import msgspec
import trio

from chatserver.api.pipelines.limiters import Limit, Limiters, search_limits
from chatserver.api.pipelines.results import ResultCache
from chatserver.api.pipelines.search import ROOMS_ASKED, ROOMS_CONSIDERED, Asked, Ranking, SearchPipeline
from chatserver.chat.principal import Principal
from chatserver.log.index import Question
from chatserver.log.interface import Draft
from chatserver.log.sqlite import SqliteLog
from chatserver.settings.fields import Settings
from tests.bench.figures import TIMES, Bench, Better, Figure, Result, Scale, spread

#: Milliseconds until a shard answers, and the least that side by side should gain: nothing, some, three waits for one.
SHARDS = ((0, 0.7, 1.0), (1, 1.0, 1.5), (20, 2.0, 2.8))
FIGURES = {
    delay: Figure(
        name=f"search, shards of {delay} ms: one step after another, of side by side", unit=TIMES, bound=bound,
        aim=aim, better=Better.HIGHER,
    )
    for delay, bound, aim in SHARDS
}  # fmt: skip
LIMITS = search_limits(Settings(search_rate=1000.0))
VISITOR = Principal(7, "192.0.2.7")


class FarSystems:
    """Shards and a store of sessions that answer after a while."""

    def __init__(self, delay: float) -> None:
        self._delay = delay

    async def take(self, limit: Limit, key: Hashable) -> float:
        """There is always a token."""
        await trio.sleep(self._delay)
        return 0.0

    async def find(self, asked: Asked) -> Principal | None:
        """The session is missing."""
        await trio.sleep(self._delay)
        return None

    def make(self, asked: Asked) -> Principal:
        """And made."""
        return asked.visitor

    async def store(self, asked: Asked, principal: Principal) -> None:
        """And stored."""
        await trio.sleep(self._delay)


class Searching:
    """The pipeline and the loop, over the same systems."""

    def __init__(self, log: SqliteLog, systems: FarSystems, later: Callable[..., None]) -> None:
        self._log = log
        self._systems = systems
        self._later = later
        self._limiters = Limiters([systems], trio.current_time)

    async def side_by_side(self, asked: Asked) -> int:
        """As the server does; how many messages are found."""
        pipeline = SearchPipeline(
            index=self._log.index, sessions=self._systems, limiters=self._limiters, limits=LIMITS,
            results=ResultCache(trio.current_time), recent_rooms=self._recent_rooms,
            may_read=lambda principal, *, room: True, start_afterwards=self._later,
        )  # fmt: skip
        return len((await pipeline.search(asked)).hits)

    async def one_after_another(self, asked: Asked) -> int:
        """The same steps."""
        for limit in LIMITS.network:
            await self._limiters.take(limit, asked.network)
        principal = await self._systems.find(asked)
        if principal is None:
            principal = self._systems.make(asked)
            await self._systems.store(asked, principal)
        await self._limiters.take(LIMITS.user, principal.number)
        ranking = Ranking(0)
        found = await self._log.index.find(asked.question)
        ranking.add(found.hits)
        if found.go_on is not None:
            for room in (await self._recent_rooms(ROOMS_CONSIDERED))[:ROOMS_ASKED]:
                ranking.add((await self._log.index.find(msgspec.structs.replace(asked.question, room=room))).hits)
        return len(ranking.best(asked.limit))

    async def _recent_rooms(self, limit: int) -> list[str]:
        return [summary.room for summary in await self._log.rooms(limit)]


def run(scale: Scale) -> Iterator[Result]:
    """In turns, in this process."""
    yield from trio.run(_measure_all, scale)


async def _measure_all(scale: Scale) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="chatserver-bench-") as folder:
        log = SqliteLog(f"{folder}/log.db")
        async with trio.open_nursery() as nursery:
            await nursery.start(log.run, lambda records: None)
            await fill(log, scale.of(20_000, 600))
            results = [
                await _measure(Searching(log, FarSystems(delay / 1000), nursery.start_soon), FIGURES[delay], scale)
                for delay, _, _ in SHARDS
            ]
            nursery.cancel_scope.cancel()
    return results


async def _measure(searching: Searching, figure: Figure, scale: Scale) -> Result:
    searches = scale.of(50, 2)
    together: list[float] = []
    apart: list[float] = []
    for _ in range(scale.of(7, 1)):
        together.append(await _time(searching.side_by_side, searches))
        apart.append(await _time(searching.one_after_another, searches))
    ratios = [slow / quick for slow, quick in zip(apart, together, strict=True)]
    details = (
        f"{spread([each * 1e3 for each in apart])} ms against {spread([each * 1e3 for each in together])} ms a search;"
        f" {searches} searches a turn, one at a time"
    )
    return Result(figure=figure, samples=ratios, details=details)


async def fill(log: SqliteLog, count: int) -> None:
    """So many messages in eight rooms, in the index."""
    left = count
    stored = trio.Event()

    def done(outcome: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            stored.set()

    for number in range(count):
        log.submit(Draft(f"room-{number % 8}", "u_ann", "Ann", f"the kettle number {number} is on"), done)
        if number % 5_000 == 4_999:
            await trio.sleep(0.2)
    await stored.wait()
    while log.index.behind:  # noqa: ASYNC110  it is filled in its own time
        await trio.sleep(0.05)


async def _time(search: Callable[[Asked], Awaitable[int]], times: int) -> float:
    """Seconds that one search takes, of so many."""
    asked = Asked(Question(("kettle",)), 20, VISITOR.network, VISITOR, False)
    start = perf_counter()
    for _ in range(times):
        if await search(asked) != asked.limit:
            raise RuntimeError("a search found too little")
    return (perf_counter() - start) / times


BENCH = Bench(name="pipeline", run=run)
