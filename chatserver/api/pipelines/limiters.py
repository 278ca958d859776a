"""Rate limits of searches, in this process and with --shared on its servers.

Owns: the limits of a search, and the buckets of this process. May not: answer a request; `OverLimitError` reports that
a limit is exceeded.
"""

from collections.abc import Awaitable, Callable, Hashable
from typing import TypeAlias

import trio

from chatserver.chat.principal import Principal
from chatserver.meters import MICROSECOND, KeyedBuckets
from chatserver.protocol.errors import MessageError, too_often
from chatserver.reasons import ErrorCode

#: Seconds' worth of a rate that may be used in one burst.
BURST_SECONDS = 2.0
#: Users who may search at full rate from one network, and those who may do so for longer than a minute.
NETWORK_SHARE, LASTING_SHARE = 10, 5


class Limit:
    """One limit: its name on the shards, and its buckets in this process."""

    def __init__(self, name: str, rate: float, burst: float) -> None:
        self.name = name
        self.buckets: KeyedBuckets[Hashable] = KeyedBuckets(rate, burst=burst)
        self.bucket = self.buckets.bucket


class OverLimitError(MessageError):
    """A limit is exceeded, for this many seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__(ErrorCode.RATE_LIMITED, too_often(wait, "searches"), wait=wait)


#: Spends one token of a limit for a key on its shard; returns 0.0, or the seconds until there is one.
AskShard: TypeAlias = Callable[[Limit, Hashable], Awaitable[float]]


class SearchLimits:
    """The limits on searches of one user, and of all users of one network; a rate of 0 is no limit.

    The buckets of this process are asked first, and with `ask_shard` those of all processes. A refusal by a shard
    empties the bucket here: the shard is asked again when its wait is over.
    """

    def __init__(self, rate: float, ask_shard: AskShard | None = None) -> None:
        self._ask_shard = ask_shard
        burst, lasting = max(rate * BURST_SECONDS, 1.0), rate * LASTING_SHARE
        of_network = burst * NETWORK_SHARE
        self.user = Limit("user", rate, burst)
        self.network = (
            Limit("network", rate * NETWORK_SHARE, of_network),
            Limit("minute", lasting, max(lasting * 60, of_network)),
        )

    def of(self, visitor: Principal) -> list[tuple[Limit, Hashable]]:
        """The limits on a visitor's searches, each with its key."""
        return [(self.user, visitor.number), *((each, visitor.network) for each in self.network)]

    def wait(self, visitor: Principal) -> float:
        """Seconds until a visitor may search, by what this process knows; nothing is spent, and no shard is asked."""
        now = trio.current_time()
        return max(limit.buckets.wait(key, now) for limit, key in self.of(visitor))

    async def take(self, limit: Limit, key: Hashable) -> None:
        """Spend one token of a limit. Raises OverLimitError."""
        await trio.lowlevel.checkpoint()
        buckets, bucket = limit.buckets, limit.bucket
        if not bucket.interval:
            return
        wait = buckets.take(key, trio.current_time())
        if not wait and self._ask_shard is not None:
            wait = await self._ask_shard(limit, key)
            if wait:
                buckets.lower(key, wait + (bucket.span - bucket.interval) * MICROSECOND, trio.current_time())
        if wait:
            raise OverLimitError(wait)

    def sweep(self) -> None:
        """Forget full buckets."""
        for limit in (self.user, *self.network):
            limit.buckets.sweep(trio.current_time())
