"""Rate limiters on shards, for costly requests.

Owns: the limits of a search, which shard keeps which bucket, and recent refusals. May not: answer a request;
`OverLimitError` reports that a limit is exceeded.

With --shared the shards are the servers of shared.py, otherwise the only shard is in this process.
"""

from collections.abc import Hashable, Sequence
from zlib import crc32

import msgspec
import trio

from chatserver.chat.principal import Principal
from chatserver.meters import KeyedBuckets, sweep
from chatserver.protocol.errors import MessageError, too_often
from chatserver.reasons import ErrorCode
from chatserver.settings.fields import Settings

#: Seconds' worth of a rate that may be used in one burst.
BURST_SECONDS = 2.0
#: Users who may search at full rate from one network, and those who may do so for longer than a minute.
NETWORK_SHARE, LASTING_SHARE = 10, 5
#: Refusals that are remembered, so that the shards need not be asked again.
MAX_REFUSALS = 10_000


class Limit(msgspec.Struct, frozen=True):
    name: str
    rate: float
    burst: float


class SearchLimits(msgspec.Struct, frozen=True):
    """The limits on searches of one user, and of all users of one network."""

    user: Limit
    network: tuple[Limit, ...]

    def of(self, visitor: Principal) -> list[tuple[Limit, Hashable]]:
        """The limits on a visitor's searches, each with its key."""
        return [(self.user, visitor.number), *((each, visitor.network) for each in self.network)]


def search_limits(settings: Settings) -> SearchLimits:
    """The limits that follow from --search-rate; 0 is no limit."""
    rate = settings.search_rate
    user = Limit("user", rate, max(rate * BURST_SECONDS, 1.0))
    network = Limit("network", rate * NETWORK_SHARE, user.burst * NETWORK_SHARE)
    lasting = rate * LASTING_SHARE
    return SearchLimits(user, (network, Limit("minute", lasting, max(lasting * 60, network.burst))))


class OverLimitError(MessageError):
    """A limit is exceeded, for this many seconds."""

    def __init__(self, limit: Limit, key: Hashable, wait: float) -> None:
        super().__init__(ErrorCode.RATE_LIMITED, too_often(wait, "searches"), wait=wait)
        self.limit, self.key = limit, key


class LocalShard:
    """The buckets of some keys, in this process."""

    def __init__(self) -> None:
        self._buckets: dict[Limit, KeyedBuckets[Hashable]] = {}

    async def take(self, limit: Limit, key: Hashable) -> float:
        """Spend one token and return 0.0, or return the seconds until there is one."""
        await trio.lowlevel.checkpoint()
        buckets = self._buckets.get(limit)
        if buckets is None:
            buckets = self._buckets[limit] = KeyedBuckets(limit.rate, burst=limit.burst)
        return buckets.take(key, trio.current_time())

    def sweep(self) -> None:
        for buckets in self._buckets.values():
            buckets.sweep(trio.current_time())


class Limiters:
    """Many limits over many shards: in every process, a key of a limit is on the same shard."""

    def __init__(self, shards: Sequence[LocalShard]) -> None:
        self._shards = shards
        self._refused: dict[tuple[str, Hashable], float] = {}  # when the wait is over

    async def take(self, limit: Limit, key: Hashable) -> None:
        """Spend one token of a limit. Raises OverLimitError."""
        if not limit.rate:
            return
        shard = self._shards[crc32(f"{limit.name} {key}".encode()) % len(self._shards)]
        wait = await shard.take(limit, key)
        if wait:
            raise OverLimitError(limit, key, wait)

    def refused(self, limit: Limit, key: Hashable) -> float:
        """Seconds that a key is known to have to wait; 0.0: ask the shard."""
        return max(0.0, self._refused.get((limit.name, key), 0.0) - trio.current_time())

    def remember(self, refusal: OverLimitError) -> None:
        """Refuse this key without asking the shard until its wait is over."""
        if len(self._refused) < MAX_REFUSALS:
            self._refused[refusal.limit.name, refusal.key] = trio.current_time() + (refusal.wait or 0.0)

    def sweep(self) -> None:
        """Forget refusals that are over, and full buckets in this process."""
        now = trio.current_time()
        sweep(self._refused, lambda until: until <= now)
        for shard in self._shards:
            shard.sweep()
