"""Limits of searches: in this process, and with shards that know more; memory is bounded."""

from collections.abc import Hashable

import pytest
import trio
import trio.testing

from chatserver.api.pipelines.limiters import Limit, OverLimitError, SearchLimits
from chatserver.chat.principal import Principal
from chatserver.meters import MICROSECOND

Clock = trio.testing.MockClock


def visitor(number: int) -> Principal:
    return Principal(number, f"192.0.2.{number}")


async def test_a_burst_and_a_rate(autojump_clock: Clock) -> None:
    limits = SearchLimits(2.0)
    user, (network, _) = limits.user, limits.network
    for _ in range(4):
        assert limits.wait(visitor(7)) == 0.0
        await limits.take(user, 7)
    assert limits.wait(visitor(7)) == pytest.approx(0.5)
    with pytest.raises(OverLimitError) as caught:
        await limits.take(user, 7)
    assert caught.value.wait == pytest.approx(0.5)
    await limits.take(user, 8)
    await limits.take(network, 7)
    await trio.sleep(0.5)
    await limits.take(user, 7)
    await trio.sleep(2.0)
    limits.sweep()
    assert len(user.buckets) == len(network.buckets) == 0


async def test_a_shard_is_asked_last_and_its_refusal_holds_without_it(autojump_clock: Clock) -> None:
    asked: list[Hashable] = []
    waits = [3.0, 0.0, 0.0]

    async def ask_shard(limit: Limit, key: Hashable) -> float:
        asked.append((limit.name, key, limit.bucket.interval, limit.bucket.span))
        return waits.pop(0)

    unlimited = SearchLimits(0.0, ask_shard)
    await unlimited.take(unlimited.user, 7)
    assert (asked, unlimited.wait(visitor(7))) == ([], 0.0), "a rate of zero is no limit"
    limits = SearchLimits(2.0, ask_shard)
    user = limits.user
    for left in (3.0, 2.0):
        assert limits.wait(visitor(7)) == (0.0 if left == 3.0 else pytest.approx(left))
        with pytest.raises(OverLimitError) as caught:
            await limits.take(user, 7)
        assert caught.value.wait == pytest.approx(left)
        assert asked == [("user", 7, 500_000, 2_000_000)]
        assert limits.wait(visitor(8)) == limits.network[0].buckets.wait(7, trio.current_time()) == 0.0
        await trio.sleep(1.0)
    await trio.sleep(1.0)
    await limits.take(user, 7)
    with pytest.raises(OverLimitError):
        await limits.take(user, 7)
    assert len(asked) == 2


def rates(limits: SearchLimits) -> list[tuple[float, float]]:
    """The rate and the burst of each limit."""
    buckets = [limit.bucket for limit, _ in limits.of(visitor(7))]
    return [(1 / (bucket.interval * MICROSECOND), bucket.span / bucket.interval) for bucket in buckets]


def test_the_limits_of_a_search_follow_from_one_setting() -> None:
    assert rates(SearchLimits(2.0)) == [(2.0, 4.0), (20.0, 40.0), (10.0, 600.0)]
    assert [burst for _, burst in rates(SearchLimits(0.01))] == [1.0, 10.0, 10.0]
