"""The two meters: never more than rate and burst in any window, and sums that are what the holders keep."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.meters import MICROSECOND, ByteBudget, KeyedBuckets, TokenBucket

SECOND = round(1 / MICROSECOND)


class TestTokenBucket:
    def test_no_rate_is_no_limit(self) -> None:
        bucket = TokenBucket(0, burst=0)
        state = 0
        for _ in range(1000):
            state = bucket.spend(state, 5)
            assert not bucket.over(state, 5)
        assert (state, bucket.wait(state, 5)) == (0, 0.0)

    @pytest.mark.parametrize("rate", [0.2, 1.0, 5.0, 1000.0])
    def test_a_burst_is_not_over_and_one_more_is(self, rate: float) -> None:
        bucket = TokenBucket(rate, burst=10)
        state = 0
        for _ in range(10):
            state = bucket.spend(state, SECOND)
            assert not bucket.over(state, SECOND)
        assert bucket.over(bucket.spend(state, SECOND), SECOND)

    def test_patience_is_in_tokens(self) -> None:
        bucket = TokenBucket(10, burst=2)
        state = bucket.spend(0, 0, 7)
        assert bucket.over(state, 0, patience=4)
        assert not bucket.over(state, 0, patience=5)

    @given(st.integers(0, 10 * SECOND), st.integers(1, 40))
    def test_the_wait_is_enough_and_hardly_longer(self, now: int, spent: int) -> None:
        bucket = TokenBucket(5, burst=10)
        state = bucket.spend(0, now, spent)
        wait = round(bucket.wait(state, now) / MICROSECOND)
        assert not bucket.over(bucket.spend(state, now + wait), now + wait)
        if wait > 1:
            assert bucket.over(bucket.spend(state, now + wait - 2), now + wait - 2)

    def test_who_rests_is_kept_as_nothing(self) -> None:
        bucket = TokenBucket(1, burst=5)
        state = bucket.spend(0, 0, 3)
        assert bucket.at_rest(state, SECOND) == state
        assert bucket.at_rest(state, 3 * SECOND) == 0
        assert bucket.spend(0, 3 * SECOND) == bucket.spend(state, 3 * SECOND), "nothing was lost by forgetting"

    def test_equal_states_of_a_moment_are_one_object(self) -> None:
        bucket = TokenBucket(1, burst=5)
        assert bucket.spend(0, 5 * SECOND) is bucket.spend(0, 5 * SECOND)


class TestKeyedBuckets:
    def test_what_is_refused_is_not_spent(self) -> None:
        buckets: KeyedBuckets[str] = KeyedBuckets(1, burst=1)
        assert buckets.take("a", 0) == 0.0
        for _ in range(100):
            assert buckets.take("a", 0) > 0.0
        assert buckets.take("a", SECOND) == 0.0

    def test_keys_do_not_share_and_are_forgotten(self) -> None:
        buckets: KeyedBuckets[int] = KeyedBuckets(10, burst=1)
        assert [buckets.take(key, 0) for key in range(100)] == [0.0] * 100
        assert len(buckets) == 100
        buckets.sweep(SECOND)
        assert len(buckets) == 0

    @given(st.lists(st.integers(0, 1000), max_size=200), st.sampled_from([1.0, 5.0, 20.0]))
    def test_never_more_than_rate_and_burst_in_any_window(self, gaps_ms: list[int], rate: float) -> None:
        buckets: KeyedBuckets[int] = KeyedBuckets(rate, burst=2 * rate)
        now, allowed = 0, []
        for gap in gaps_ms:
            now += gap * 1000
            if buckets.take(1, now) == 0.0:
                allowed.append(now * MICROSECOND)
        for start, begun in enumerate(allowed):
            for count, ended in enumerate(allowed[start:], start=1):
                assert count <= rate * (ended - begun + 2.0) + 1e-3


class TestByteBudget:
    def test_growing_over_it_is_told_and_shrinking_never_is(self) -> None:
        budget = ByteBudget(100)
        assert budget.resize("a", 60)
        assert not budget.resize("b", 60)
        assert budget.over
        assert budget.resize("b", 50), "it gave something back"
        budget.release("b")
        assert not budget.over

    def test_what_is_free_is_not_charged(self) -> None:
        budget = ByteBudget(100, free=10)
        assert all(budget.resize(number, 10) for number in range(1000))
        assert (budget.used, len(budget)) == (0, 0)
        assert budget.resize("long", 90)
        assert not budget.resize("another", 11)
        assert budget.resize("small", 10), "a flood of long ones does not hit it"

    @given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 60), st.booleans()), max_size=60))
    def test_the_sum_is_what_is_kept(self, acts: list[tuple[int, int, bool]]) -> None:
        budget = ByteBudget(100, free=10)
        kept: dict[int, int] = {}
        for holder, size, released in acts:
            if released:
                budget.release(holder)
                kept.pop(holder, None)
            else:
                before = kept.get(holder, 0)
                kept[holder] = charge = size if size > 10 else 0
                fits = sum(kept.values()) <= 100
                assert budget.resize(holder, size) == (fits or charge < before or not charge)
            assert budget.used == sum(kept.values())
            assert budget.over == (budget.used > 100)
            assert len(budget) == sum(1 for charge in kept.values() if charge)
        for holder in range(5):
            budget.release(holder)
        assert (budget.used, len(budget)) == (0, 0)
