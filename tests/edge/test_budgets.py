"""Budgets of one connection: a burst, then the rate; nothing kept of whoever is quiet."""

import math

import pytest
from chatserver.edge.budgets import REFUSAL, REQUEST_BURST, Budget, count, message_budget, request_budget
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net.wheel import TICK

NOW = 12_345  # ticks


def spend(budget: Budget, account: int, times: int, tick: int = NOW) -> int:
    for _ in range(times):
        account = budget.spend(account, tick)
    return account


@pytest.mark.parametrize("rate", [0.1, 1.0, 20.0, 50.0, 1_000.0, 10_000.0])
def test_a_burst_and_no_more(rate: float) -> None:
    budget = Budget(rate, burst=100)
    account = spend(budget, 0, 100)
    assert not budget.over(account, NOW)
    assert budget.over(budget.spend(account, NOW), NOW)


@pytest.mark.parametrize("rate", [0.1, 1.0, 20.0, 50.0, 1_000.0, 10_000.0])
def test_the_wait_is_enough_and_not_much_longer(rate: float) -> None:
    budget = Budget(rate, burst=10)
    account = spend(budget, 0, 15)
    wait = budget.wait(account, NOW)
    assert wait == pytest.approx((5 + REFUSAL) / rate + TICK, rel=0.03, abs=4 * TICK / 1024)
    told = budget.spend(account, NOW, REFUSAL)
    assert not budget.over(told, NOW + math.floor(wait / TICK))


@given(st.floats(0.5, 2_000), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), max_size=40))
def test_over_any_time_no_more_than_the_rate_and_a_burst(rate: float, visits: list[tuple[int, int]]) -> None:
    budget = Budget(rate, burst=50)
    account, tick, granted = 0, NOW, 0
    for later, wanted in visits:
        tick += later
        for _ in range(wanted):
            after = budget.spend(account, tick)
            if budget.over(after, tick):
                break
            account = after
            granted += 1
    assert granted <= 50 + rate * (tick - NOW + 1) * TICK * 1.03 + 1


def test_flooded_is_when_patience_is_at_its_end() -> None:
    budget = Budget(10.0, burst=30, patience=30)
    account = spend(budget, 0, 60)
    assert not budget.flooded(account, NOW)
    assert budget.flooded(budget.spend(account, NOW), NOW)
    assert not budget.flooded(account, NOW + 100)


def test_a_refusal_costs_as_much_as_three() -> None:
    budget = Budget(10.0, burst=30)
    assert budget.spend(0, NOW, REFUSAL) == spend(budget, 0, REFUSAL)


def test_a_bot_that_is_a_little_too_fast_is_never_closed_for_it() -> None:
    """A quarter above its user's rate, and it heeds no refusal."""
    budget, account = message_budget(20.0, rooms=100), 0
    for second in range(1000):
        for _ in range(5):
            account = budget.spend(account, NOW + 10 * second, REFUSAL)
    assert not budget.over(account, NOW + 10_000)


def test_no_limit() -> None:
    budget = Budget(0.0, burst=0.0)
    account = spend(budget, 0, 10_000, tick=0)
    assert not budget.over(account, 0)
    assert not budget.flooded(account, 0)
    assert count(account) == 10_000


@pytest.mark.parametrize("rate", [0.0, 50.0])
def test_what_was_spent_is_counted_over_any_time(rate: float) -> None:
    budget = request_budget(rate)
    account = 0
    for visit in range(500):
        account = budget.spend(account, NOW + 7 * visit)
    assert count(account) == 500


def test_a_count_that_runs_over_does_no_harm() -> None:
    budget = Budget(50.0, burst=100)
    account = spend(budget, (NOW << 34) | ((1 << 24) - 2), 3)
    assert not budget.over(account, NOW)


def test_whoever_was_silent_has_nothing_stored() -> None:
    budget = message_budget(20.0, rooms=100)
    account = spend(budget, 0, 3)
    assert budget.settled(account, NOW) == account
    assert budget.settled(account, NOW + 20) == 0
    assert budget.settled(0, NOW) == 0


def test_equal_accounts_of_one_tick_are_one_object() -> None:
    """Thousands of polls that are parked together have made as many requests: they share the number."""
    budget = request_budget(50.0)
    assert spend(budget, 0, 5) is spend(budget, 0, 5)
    assert spend(budget, 0, 1, tick=NOW + 1) is not spend(budget, 0, 1, tick=NOW + 2)


def test_a_client_that_comes_back_may_join_all_its_rooms() -> None:
    budget = message_budget(1.0, rooms=100)
    assert not budget.over(spend(budget, 0, 100), NOW)


def test_a_burst_of_requests_is_its_seconds_worth() -> None:
    budget = request_budget(50.0)
    assert not budget.over(spend(budget, 0, round(50 * REQUEST_BURST)), NOW)
    assert budget.over(spend(budget, 0, round(50 * REQUEST_BURST) + 1), NOW)
