"""Rates: bursts of two seconds' worth, then the rate; nothing kept of who is quiet."""

import pytest
from chatserver.chat.ratelimit import ADDRESS_SHARE, BURST_SECONDS, PublishLimit, RateLimit
from hypothesis import given
from hypothesis import strategies as st


def test_no_limit() -> None:
    limit: RateLimit[int] = RateLimit(0)
    assert [limit.take(1, 0.0) for _ in range(1000)] == [0.0] * 1000
    assert len(limit) == 0


@pytest.mark.parametrize("rate", [0.2, 1.0, 5.0, 100.0])
def test_a_burst_and_no_more(rate: float) -> None:
    limit: RateLimit[int] = RateLimit(rate)
    burst = max(round(rate * BURST_SECONDS), 1)
    assert [limit.take(1, 7.0) for _ in range(burst)] == [0.0] * burst
    assert limit.take(1, 7.0) > 0.0


def test_the_wait_is_enough_and_no_longer_than_needed() -> None:
    limit: RateLimit[int] = RateLimit(5.0)
    while not limit.take(1, 0.0):
        pass
    wait = limit.take(1, 0.0)
    assert limit.take(1, wait * 0.9) > 0.0
    assert limit.take(1, wait) == 0.0


def test_being_refused_costs_nothing() -> None:
    limit: RateLimit[int] = RateLimit(1.0)
    for _ in range(100):
        limit.take(1, 0.0)
    assert limit.take(1, 1.0) == 0.0


def test_users_do_not_share() -> None:
    limit: RateLimit[int] = RateLimit(1.0)
    assert [limit.take(1, 0.0) for _ in range(2)] == [0.0, 0.0]
    assert limit.take(1, 0.0) > 0.0
    assert limit.take(2, 0.0) == 0.0


def test_whoever_is_quiet_is_forgotten() -> None:
    limit: RateLimit[int] = RateLimit(10.0)
    for user in range(100):
        limit.take(user, 0.0)
    limit.take(1, 0.1)
    limit.sweep(0.1001)
    assert len(limit) == 1
    limit.sweep(10.0)
    assert len(limit) == 0


@given(st.lists(st.integers(0, 1000), max_size=200), st.sampled_from([1.0, 5.0, 20.0]))
def test_never_more_than_rate_and_burst_in_any_window(gaps_ms: list[int], rate: float) -> None:
    limit: RateLimit[int] = RateLimit(rate)
    now, allowed = 0.0, []
    for gap in gaps_ms:
        now += gap / 1000
        if limit.take(1, now) == 0.0:
            allowed.append(now)
    for start, begun in enumerate(allowed):
        for count, ended in enumerate(allowed[start:], start=1):
            assert count <= rate * (ended - begun + BURST_SECONDS) + 1e-6


def first_half(address: str) -> str:
    return address.partition("/")[0]


def test_an_address_has_a_share_whoever_asks() -> None:
    """A new name for each message: another cookie, another User-Agent, another connection."""
    limit = PublishLimit(1.0, network=first_half)
    burst = round(ADDRESS_SHARE * BURST_SECONDS)
    assert [limit.take(user, f"here/{user}", 0.0) for user in range(burst)] == [0.0] * burst
    wait = limit.take(-1, "here/x", 0.0)
    assert 0.0 < wait <= 1.0 / ADDRESS_SHARE + 1e-6
    assert limit.take(-2, "elsewhere", 0.0) == 0.0
    assert limit.take(-3, "here/x", wait) == 0.0


def test_who_is_refused_as_a_user_does_not_use_up_the_address() -> None:
    limit = PublishLimit(1.0, network=first_half)
    for _ in range(1000):
        limit.take(1, "here", 0.0)
    assert limit.take(2, "here", 0.0) == 0.0
    limit.sweep(1e6)
    assert len(limit) == 0


def test_no_limit_for_users_is_none_for_addresses() -> None:
    limit = PublishLimit(0.0, network=first_half)
    assert {limit.take(user, "here", 0.0) for user in range(1000)} == {0.0}
