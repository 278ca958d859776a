"""Rate limiters for costly requests, in this process and with --shared on its servers.

Owns: the limits of a search, and the buckets of this process. May not: answer a request; `OverLimitError` reports that
a limit is exceeded.
"""

from collections.abc import Awaitable, Callable, Hashable
from typing import TypeAlias

import msgspec
import trio

from chatserver.chat.principal import Principal
from chatserver.meters import KeyedBuckets, TokenBucket
from chatserver.protocol.errors import MessageError, too_often
from chatserver.reasons import ErrorCode
from chatserver.settings.fields import Settings

#: Seconds' worth of a rate that may be used in one burst.
BURST_SECONDS = 2.0
#: Users who may search at full rate from one network, and those who may do so for longer than a minute.
NETWORK_SHARE, LASTING_SHARE = 10, 5


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

    def __init__(self, wait: float) -> None:
        super().__init__(ErrorCode.RATE_LIMITED, too_often(wait, "searches"), wait=wait)


#: Spends one token of a limit for a key on its shard; returns 0.0, or the seconds until there is one.
AskShard: TypeAlias = Callable[[Limit, Hashable, TokenBucket], Awaitable[float]]


class Limiters:
    """The buckets of this process, which are asked first, and with `ask_shard` those of all processes.

    A refusal by a shard empties the bucket here: the shard is asked again when its wait is over.
    """

    def __init__(self, ask_shard: AskShard | None = None) -> None:
        self._ask_shard = ask_shard
        self._buckets: dict[Limit, KeyedBuckets[Hashable]] = {}

    async def take(self, limit: Limit, key: Hashable) -> None:
        """Spend one token of a limit. Raises OverLimitError."""
        await trio.lowlevel.checkpoint()
        if not limit.rate:
            return
        buckets = self._of(limit)
        wait = buckets.take(key, trio.current_time())
        if not wait and self._ask_shard is not None:
            wait = await self._ask_shard(limit, key, buckets.bucket)
            if wait:
                buckets.lower(key, wait + (limit.burst - 1) / limit.rate, trio.current_time())
        if wait:
            raise OverLimitError(wait)

    def wait(self, limit: Limit, key: Hashable) -> float:
        """Seconds until there is a token in this process; nothing is spent, and no shard is asked."""
        return self._of(limit).wait(key, trio.current_time()) if limit.rate else 0.0

    def _of(self, limit: Limit) -> KeyedBuckets[Hashable]:
        buckets = self._buckets.get(limit)
        if buckets is None:
            buckets = self._buckets[limit] = KeyedBuckets(limit.rate, burst=limit.burst)
        return buckets

    def sweep(self) -> None:
        """Forget full buckets."""
        for buckets in self._buckets.values():
            buckets.sweep(trio.current_time())
