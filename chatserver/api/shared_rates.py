"""Publish rates across processes: each decides by what it knows, and learns of the others' messages within a second.

Owns: the counts that are still to be sent to the shards. May not: delay a publish. Each process decides at once by its
own buckets, so a user who publishes through several has a burst in each, and then one rate for all of them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from chatserver.api.services import WriteLimits
from chatserver.chat.principal import Principal
from chatserver.meters import MICROSECOND, KeyedBuckets
from chatserver.shared.limits import Spent, spend
from chatserver.shared.shards import Shard, Shards, SharedError

#: Seconds between two rounds.
REPORT_INTERVAL = 1.0
#: Buckets in one script, which then occupies its server for 1 ms.
BUCKETS_PER_SCRIPT = 200


@dataclass(slots=True)
class _Kind:
    """One limit: its name, its buckets in this process, and what was spent from each since the last round."""

    name: str
    buckets: KeyedBuckets[int] | KeyedBuckets[str]
    spent: Counter[int | str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Entry:
    kind: _Kind
    key: int | str
    spent: Spent


class SharedRates:
    """See the module; `run` sends the counts."""

    def __init__(self, limit: WriteLimits, shards: Shards) -> None:
        self._users = _Kind("publish-user", limit.users)
        self._networks = _Kind("publish-network", limit.networks)
        self._shards = shards
        limit.note = self.note

    def note(self, principal: Principal) -> None:
        """Count a published message."""
        self._users.spent[principal.number] += 1
        self._networks.spent[principal.network] += 1

    async def run(self) -> None:
        """Send the counts to the shards, until cancelled."""
        while True:
            await trio.sleep(REPORT_INTERVAL)
            async with trio.open_nursery() as nursery:
                for shard, entries in self._rounds():
                    nursery.start_soon(self._tell, shard, entries)

    def _rounds(self) -> Iterator[tuple[Shard, list[_Entry]]]:
        """The counts for each shard, one script at a time."""
        by_shard: defaultdict[int, list[_Entry]] = defaultdict(list)
        for kind in (self._users, self._networks):
            spent, kind.spent = kind.spent, Counter()
            bucket = kind.buckets.bucket
            for key, count in spent.items():
                name = f"{kind.name}:{key}"
                entry = _Entry(kind, key, Spent(self._shards.key(name), bucket.interval, bucket.span, count))
                by_shard[self._shards.index(name)].append(entry)
        for index, entries in by_shard.items():
            for start in range(0, len(entries), BUCKETS_PER_SCRIPT):
                yield self._shards.all[index], entries[start : start + BUCKETS_PER_SCRIPT]

    async def _tell(self, shard: Shard, entries: list[_Entry]) -> None:
        try:
            levels = await spend(shard, [each.spent for each in entries])
        except SharedError:
            return  # these counts are dropped: this process still has its own buckets
        for entry, level in zip(entries, levels, strict=True):
            entry.kind.buckets.lower(entry.key, level * MICROSECOND, trio.current_time())  # type: ignore[arg-type]
