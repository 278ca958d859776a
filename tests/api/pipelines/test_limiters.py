"""Limits on shards: a key has one shard, refusals are remembered, memory is bounded."""

from collections.abc import Hashable

import pytest
import trio
import trio.testing

from chatserver.api.pipelines.limiters import MAX_REFUSALS, Limit, Limiters, LocalShard, OverLimitError, search_limits
from chatserver.meters import MAX_KEYS, SWEPT
from chatserver.settings.fields import Settings

Clock = trio.testing.MockClock
LIMIT = Limit("user", 2.0, 4.0)


class NotedShard(LocalShard):
    """Allows everything, and records the keys."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, Hashable]] = []

    async def take(self, limit: Limit, key: Hashable) -> float:
        self.asked.append((limit.name, key))
        return 0.0


async def test_a_burst_and_a_rate(autojump_clock: Clock) -> None:
    limiters = Limiters([LocalShard()])
    for _ in range(4):
        await limiters.take(LIMIT, 7)
    with pytest.raises(OverLimitError) as caught:
        await limiters.take(LIMIT, 7)
    assert caught.value.wait == pytest.approx(0.5)
    await limiters.take(LIMIT, 8)
    await limiters.take(Limit("network", 2.0, 4.0), 7)
    await trio.sleep(0.5)
    await limiters.take(LIMIT, 7)


async def test_a_key_of_a_limit_always_has_the_same_shard() -> None:
    shards = [NotedShard() for _ in range(3)]
    limiters = Limiters(shards)
    for _ in range(2):
        for key in range(60):
            await limiters.take(LIMIT, key)
    for shard in shards:
        assert shard.asked
        assert shard.asked.count(shard.asked[0]) == 2
    assert sum(len(set(shard.asked)) for shard in shards) == 60


async def test_a_rate_of_zero_asks_no_shard() -> None:
    shard = NotedShard()
    await Limiters([shard]).take(Limit("user", 0.0, 1.0), 7)
    assert shard.asked == []


async def test_refusals_are_kept_until_their_time_and_in_bounded_number(autojump_clock: Clock) -> None:
    shard = LocalShard()
    limiters = Limiters([shard])
    limiters.remember(OverLimitError(LIMIT, 7, 2.0))
    assert limiters.refused(LIMIT, 7) == pytest.approx(2.0)
    assert limiters.refused(LIMIT, 8) == limiters.refused(Limit("network", 1.0, 1.0), 7) == 0.0
    for key in range(MAX_REFUSALS + 5):
        limiters.remember(OverLimitError(LIMIT, key, 1.0))
        await limiters.take(LIMIT, key)
    assert len(limiters._refused) == MAX_REFUSALS
    await trio.sleep(2.0)
    assert limiters.refused(LIMIT, 7) == 0.0
    for _ in range(MAX_KEYS // SWEPT):
        limiters.sweep()
    assert limiters._refused == {}
    assert not any(map(len, shard._buckets.values()))


def test_the_limits_of_a_search_follow_from_one_setting() -> None:
    limits = search_limits(Settings(search_rate=2.0))
    assert (limits.user.rate, limits.user.burst) == (2.0, 4.0)
    assert [(limit.rate, limit.burst) for limit in limits.network] == [(20.0, 40.0), (10.0, 600.0)]
    slow = search_limits(Settings(search_rate=0.01))
    assert (slow.user.burst, [limit.burst for limit in slow.network]) == (1.0, [10.0, 10.0])
