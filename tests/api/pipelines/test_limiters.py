"""Limits of searches: in this process, and with shards that know more; memory is bounded."""

from collections.abc import Hashable

import pytest
import trio
import trio.testing

from chatserver.api.pipelines.limiters import Limit, Limiters, OverLimitError, search_limits
from chatserver.meters import TokenBucket
from chatserver.settings.fields import Settings

Clock = trio.testing.MockClock
LIMIT = Limit("user", 2.0, 4.0)


async def test_a_burst_and_a_rate(autojump_clock: Clock) -> None:
    limiters = Limiters()
    for _ in range(4):
        assert limiters.wait(LIMIT, 7) == 0.0
        await limiters.take(LIMIT, 7)
    assert limiters.wait(LIMIT, 7) == pytest.approx(0.5)
    with pytest.raises(OverLimitError) as caught:
        await limiters.take(LIMIT, 7)
    assert caught.value.wait == pytest.approx(0.5)
    await limiters.take(LIMIT, 8)
    await limiters.take(Limit("network", 2.0, 4.0), 7)
    await trio.sleep(0.5)
    await limiters.take(LIMIT, 7)
    await trio.sleep(2.0)
    limiters.sweep()
    assert not any(map(len, limiters._buckets.values()))


async def test_a_shard_is_asked_last_and_its_refusal_holds_without_it(autojump_clock: Clock) -> None:
    asked: list[Hashable] = []
    waits = [3.0, 0.0, 0.0]

    async def ask_shard(limit: Limit, key: Hashable, bucket: TokenBucket) -> float:
        asked.append((limit.name, key, bucket.interval, bucket.span))
        return waits.pop(0)

    limiters = Limiters(ask_shard)
    await limiters.take(Limit("user", 0.0, 1.0), 7)
    assert (asked, limiters.wait(Limit("user", 0.0, 1.0), 7)) == ([], 0.0), "a rate of zero is no limit"
    for left in (3.0, 2.0):
        assert limiters.wait(LIMIT, 7) == (0.0 if left == 3.0 else pytest.approx(left))
        with pytest.raises(OverLimitError) as caught:
            await limiters.take(LIMIT, 7)
        assert caught.value.wait == pytest.approx(left)
        assert asked == [("user", 7, 500_000, 2_000_000)]
        assert limiters.wait(LIMIT, 8) == limiters.wait(Limit("network", 1.0, 1.0), 7) == 0.0
        await trio.sleep(1.0)
    await trio.sleep(1.0)
    await limiters.take(LIMIT, 7)
    with pytest.raises(OverLimitError):
        await limiters.take(LIMIT, 7)
    assert len(asked) == 2


def test_the_limits_of_a_search_follow_from_one_setting() -> None:
    limits = search_limits(Settings(search_rate=2.0))
    assert (limits.user.rate, limits.user.burst) == (2.0, 4.0)
    assert [(limit.rate, limit.burst) for limit in limits.network] == [(20.0, 40.0), (10.0, 600.0)]
    slow = search_limits(Settings(search_rate=0.01))
    assert (slow.user.burst, [limit.burst for limit in slow.network]) == (1.0, [10.0, 10.0])
