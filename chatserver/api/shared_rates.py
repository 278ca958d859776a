"""Publish rates across processes: each decides by what it knows, and learns of the others' messages within a second.

Owns: the counts that are still to be sent to the shards. May not: delay a publish. Each process decides at once by its
own buckets, so a user who publishes through several has a burst in each, and then one rate for all of them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import trio

from chatserver.api.services import WriteLimits
from chatserver.chat.principal import Principal
from chatserver.fair import in_steps
from chatserver.meters import MICROSECOND, KeyedBuckets
from chatserver.settings.fields import Settings
from chatserver.shared.limits import Spent, spend
from chatserver.shared.shards import Shards, SharedError

#: Seconds between two rounds.
REPORT_INTERVAL = 1.0
#: Buckets in one script, which then occupies its server for 1 ms.
BUCKETS_PER_SCRIPT = 200


@dataclass(slots=True)
class _Rate:
    """One limit: its name, its buckets in this process, and what was spent from each since the last round."""

    name: str
    buckets: KeyedBuckets[int] | KeyedBuckets[str]
    spent: Counter[int | str] = field(default_factory=Counter)


#: What was spent from one bucket of a rate.
_Entry: TypeAlias = tuple[_Rate, int | str, Spent]


class SharedWriteLimits(WriteLimits):
    """See the module; `run` sends the counts."""

    def __init__(self, settings: Settings, shards: Shards) -> None:
        super().__init__(settings)
        self._of_users = _Rate("publish-user", self.users)
        self._of_networks = _Rate("publish-network", self.networks)
        self._shards = shards

    def take(self, principal: Principal) -> float:
        """See `WriteLimits.take`; what is allowed is counted for the other processes."""
        wait = super().take(principal)
        if self.is_limited and not wait:
            self._of_users.spent[principal.number] += 1
            self._of_networks.spent[principal.network] += 1
        return wait

    async def run(self) -> None:
        """Send the counts to the shards, until cancelled."""
        while True:
            await trio.sleep(REPORT_INTERVAL)
            by_shard: defaultdict[int, list[_Entry]] = defaultdict(list)
            await in_steps(self._sorted_into(by_shard))
            async with trio.open_nursery() as nursery:
                for index, entries in by_shard.items():
                    for start in range(0, len(entries), BUCKETS_PER_SCRIPT):
                        nursery.start_soon(self._tell, index, entries[start : start + BUCKETS_PER_SCRIPT])
                        await trio.lowlevel.checkpoint()

    def _sorted_into(self, by_shard: Mapping[int, list[_Entry]]) -> Iterator[None]:
        """Take the counts since the last round, one after the other: thousands of users may have written."""
        for rate in (self._of_users, self._of_networks):
            spent, rate.spent = rate.spent, Counter()
            bucket = rate.buckets.bucket
            for key, count in spent.items():
                name = f"{rate.name}:{key}"
                spent_there = Spent(self._shards.key(name), bucket.interval, bucket.span, count)
                by_shard[self._shards.index(name)].append((rate, key, spent_there))
                yield

    async def _tell(self, index: int, entries: list[_Entry]) -> None:
        try:
            levels = await spend(self._shards.all[index], [spent for *_, spent in entries])
        except SharedError:
            return  # these counts are dropped: this process still has its own buckets
        for (rate, key, _), level in zip(entries, levels, strict=True):
            rate.buckets.lower(key, level * MICROSECOND, trio.current_time())  # type: ignore[arg-type]
