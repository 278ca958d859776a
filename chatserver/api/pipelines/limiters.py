"""Rate limiters on shards, for requests that cost more than they look.

Owns: which limits a search has, which shard keeps which bucket, and who was refused a moment ago. May not: refuse
anybody by itself; `OverLimitError` says that a limit does.

The shards are in this process, or with --shared the servers of shared.py: a limit is asked for in the way of a server,
with an await, and side by side with the others.
"""

from collections.abc import Callable, Hashable, Sequence
from itertools import islice
from typing import Protocol
from zlib import crc32

import msgspec
import trio

from chatserver.api.pipelines import RefusedError
from chatserver.meters import MICROSECOND, KeyedBuckets
from chatserver.settings.fields import Settings

#: Shards in this process.
SHARDS = 3
#: Seconds' worth of a rate that may be used in one burst.
BURST_SECONDS = 2.0
#: Users who may search at full rate from one network, and how many of them for longer than a minute.
NETWORK_SHARE, LASTING_SHARE = 10, 5
#: Refusals that are remembered, so that the shards need not be asked again; the others are asked.
MAX_REFUSALS = 10_000


class Limit(msgspec.Struct, frozen=True):
    """So many a second, and so many at once."""

    name: str
    rate: float
    burst: float


class SearchLimits(msgspec.Struct, frozen=True):
    """What bounds the searches of one user, and of all users of one network."""

    user: Limit
    network: tuple[Limit, ...]


def search_limits(settings: Settings) -> SearchLimits:
    """All follow from --search-rate; 0 is no limit."""
    rate = settings.search_rate
    user = Limit("user", rate, max(rate * BURST_SECONDS, 1.0))
    network = Limit("network", rate * NETWORK_SHARE, user.burst * NETWORK_SHARE)
    lasting = rate * LASTING_SHARE
    return SearchLimits(user, (network, Limit("minute", lasting, max(lasting * 60, network.burst))))


class OverLimitError(RefusedError):
    """A limit is used up."""

    def __init__(self, limit: Limit, key: Hashable, wait: float) -> None:
        super().__init__(f"{limit.name}: {wait:.1f} s")
        self.limit, self.key, self.wait = limit, key, wait


class Shard(Protocol):
    """Keeps the buckets of some keys."""

    async def take(self, limit: Limit, key: Hashable) -> float:
        """Spend one token: 0.0 when it was there, else the seconds until it will be."""

    def sweep(self) -> None:
        """Forget, in this process, the keys whose bucket is full."""


class LocalShard:
    """A shard in this process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[Limit, KeyedBuckets[Hashable]] = {}

    async def take(self, limit: Limit, key: Hashable) -> float:
        """See `Shard.take`."""
        await trio.lowlevel.checkpoint()
        buckets = self._buckets.get(limit)
        if buckets is None:
            buckets = self._buckets[limit] = KeyedBuckets(limit.rate, burst=limit.burst)
        return buckets.take(key, self._now())

    def sweep(self) -> None:
        """Forget the keys whose bucket is full."""
        for buckets in self._buckets.values():
            buckets.sweep(self._now())

    def _now(self) -> int:
        return int(self._clock() / MICROSECOND)

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))


class Limiters:
    """Many limits over many shards: a key of a limit is always on the same shard, in every process."""

    def __init__(self, shards: Sequence[Shard], clock: Callable[[], float]) -> None:
        self._shards = shards
        self._clock = clock
        self._refused: dict[tuple[str, Hashable], float] = {}  # until when

    async def take(self, limit: Limit, key: Hashable) -> None:
        """Spend one token of a limit. Raises OverLimitError."""
        if not limit.rate:
            return
        shard = self._shards[crc32(f"{limit.name} {key}".encode()) % len(self._shards)]
        wait = await shard.take(limit, key)
        if wait:
            raise OverLimitError(limit, key, wait)

    def refused(self, limit: Limit, key: Hashable) -> float:
        """Seconds that a key has to wait, as far as is known without asking; 0.0: ask."""
        return max(0.0, self._refused.get((limit.name, key), 0.0) - self._clock())

    async def remember(self, refusal: OverLimitError) -> None:
        """Refuse this key without asking until its time has come."""
        await trio.lowlevel.checkpoint()
        if len(self._refused) < MAX_REFUSALS:
            self._refused[refusal.limit.name, refusal.key] = self._clock() + refusal.wait

    def sweep(self) -> None:
        """Forget refusals whose time has come, and full buckets in this process."""
        now = self._clock()
        self._refused = {key: until for key, until in self._refused.items() if until > now}
        for shard in self._shards:
            shard.sweep()

    def __len__(self) -> int:
        return len(self._refused)


def local_shards(clock: Callable[[], float], count: int = SHARDS) -> list[LocalShard]:
    """Those in this process."""
    return list(islice(iter(lambda: LocalShard(clock), None), count))
