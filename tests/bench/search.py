"""A search over a million messages: how long it takes, by the kind of question.

How: the server's own pipeline over an SQLite log with its index, in this process, without HTTP. A million messages of
eight words on average, from 2,000 users in 1,000 rooms; 50,000 words by Zipf's law. Nine kinds of questions in turns,
one at a time, each of a new visitor and none answered from a cache.
What would fool it: questions for rare words only, so their words follow the same law; an index that is not complete,
so it is awaited; a file that is not in memory yet, so the first turn does not count.
"""

import random
import statistics
import string
import tempfile
from collections.abc import Callable, Iterator
from itertools import accumulate, count
from time import perf_counter

import trio

from chatserver.api.pipelines.limiters import SearchLimits
from chatserver.api.pipelines.search import Asked
from chatserver.chat.principal import Principal
from chatserver.log.index import Question
from chatserver.log.interface import Draft
from chatserver.log.sqlite import SqliteLog
from tests.bench.figures import Figure, Result, Scale, at_most, spread
from tests.bench.pipeline import RATE, fill, search_pipeline
from tests.log.support import Disk

USUAL = at_most("search over 1,000,000 messages: p50", " ms", bound=30.0, aim=10.0)
SLOWEST = at_most("search over 1,000,000 messages: p99", " ms", bound=150.0, aim=100.0)

ROOMS, USERS, WORDS = 1_000, 2_000, 50_000
#: Words of one message.
SHORTEST, LONGEST = 2, 14


class Language:
    """Random words by Zipf's law: the n-th is 1/n times as frequent as the first."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        made = {self._word() for _ in range(2 * WORDS)}
        self._words = sorted(made)[:WORDS]
        self.random.shuffle(self._words)
        self._weights = list(accumulate(1 / (rank + 1) for rank in range(WORDS)))

    def _word(self) -> str:
        return "".join(self.random.choices(string.ascii_lowercase, k=self.random.randint(3, 10)))

    def words(self, number: int) -> tuple[str, ...]:
        return tuple(self.random.choices(self._words, cum_weights=self._weights, k=number))

    def text(self) -> str:
        return " ".join(self.words(self.random.randint(SHORTEST, LONGEST)))

    def room(self) -> str:
        return f"room-{self.random.randrange(ROOMS)}"

    def user(self) -> str:
        return f"u_{self.random.randrange(USERS)}"

    def draft(self) -> Draft:
        user = self.user()
        return Draft(self.room(), user, user, self.text())


#: The kinds of questions.
KINDS: dict[str, Callable[[Language], Question]] = {
    "one word": lambda it: Question(it.words(1)),
    "two words": lambda it: Question(it.words(2)),
    "three words": lambda it: Question(it.words(3)),
    "the beginning of a word, two letters": lambda it: Question((it.words(1)[0][:2],)),
    "the beginning of a word, four letters": lambda it: Question((it.words(1)[0][:4],)),
    "a word in a room": lambda it: Question(it.words(1), room=it.room()),
    "two words in a room": lambda it: Question(it.words(2), room=it.room()),
    "a word of a user": lambda it: Question(it.words(1), user=it.user()),
    "a word that nobody wrote": lambda it: Question((it.words(1)[0] + "qq",)),
}


def run(scale: Scale) -> Iterator[Result]:
    with tempfile.TemporaryDirectory(prefix="chatserver-bench-") as folder:
        yield from trio.run(measure, SqliteLog(f"{folder}/log.db"), USUAL, SLOWEST, scale)


async def measure(
    log: Disk, usual: Figure, slowest: Figure, scale: Scale, filled: Callable[[], object] = lambda: None
) -> list[Result]:
    """Fill the log, call `filled`, and measure."""
    language = Language(1)
    messages, asked, rounds = scale.of(1_000_000, 2_000), scale.of(60, 2), scale.of(3, 1)
    p50s, p99s = [], []
    by_kind: dict[str, list[float]] = {kind: [] for kind in KINDS}
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run, lambda records: None)
        await fill(log, (language.draft() for _ in range(messages)))
        filled()
        await _turn(log, language, nursery, asked)
        for _ in range(rounds):
            turn = await _turn(log, language, nursery, asked)
            for kind, took in turn.items():
                by_kind[kind] += took
            cuts = statistics.quantiles([seconds * 1e3 for took in turn.values() for seconds in took], n=100)
            p50s.append(cuts[49])
            p99s.append(cuts[98])
        nursery.cancel_scope.cancel()
    kinds = "; ".join(f"{kind} {spread([seconds * 1e3 for seconds in took])}" for kind, took in by_kind.items())
    counts = f"{messages:,} messages; {rounds} turns of {asked * len(KINDS)} questions, one at a time"
    return [
        Result(figure=usual, samples=p50s, details=counts),
        Result(figure=slowest, samples=p99s, details=f"by kind, ms: {kinds}"),
    ]


async def _turn(log: Disk, language: Language, nursery: trio.Nursery, times: int) -> dict[str, list[float]]:
    """Seconds that each search took, by kind."""
    visitors = count(1)
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(times):
        for kind, ask in KINDS.items():
            pipeline = search_pipeline(log, SearchLimits(RATE), nursery.start_soon)
            visitor = Principal(next(visitors), "192.0.2.7")
            asked = Asked(ask(language), 20, visitor)
            began = perf_counter()
            await pipeline.search(asked)
            found[kind].append(perf_counter() - began)
    return found
