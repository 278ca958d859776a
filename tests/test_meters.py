"""The two meters, of rates and of bytes, against simple models."""

import math
import sys
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatserver.edge.websocket import MESSAGE_BURST, REFUSAL
from chatserver.meters import MAX_KEYS, MICROSECOND, SWEPT, FairByteBudget, KeyedBuckets, TokenBucket

NOW = 12_345_000_000  # microseconds
SECOND = 1_000_000
START = 12_345.0  # seconds
#: Rates with an interval of whole microseconds, so that the model's floats and the meter's ints agree.
RATES = [0.1, 1.0, 20.0, 50.0, 1_000.0, 10_000.0]


def spend(bucket: TokenBucket, state: int, times: int, now: int = NOW) -> int:
    for _ in range(times):
        state = bucket.spend(state, now)
    return state


# -- tokens -----------------------------------------------------------------------------------------------------------


VISITS = st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 5)), min_size=5, max_size=40)


@given(st.sampled_from(RATES), st.integers(1, 60), VISITS)
def test_against_a_bucket_of_tokens(rate: float, burst: int, visits: Sequence[tuple[int, int]]) -> None:
    """The model is the usual token bucket, with a float and a time for each holder."""
    bucket, state, tokens, now = TokenBucket(rate, burst=burst), 0, float(burst), NOW
    for later, cost in visits:
        now += later
        state = bucket.spend(state, now, cost)
        tokens = min(burst, tokens + later * MICROSECOND * rate) - cost
        # A difference of one microsecond's tokens is rounding.
        if abs(tokens) > 2 * rate * MICROSECOND * len(visits):
            assert bucket.over(state, now) == (tokens < 0)
        assert bucket.wait(state, now, cost) == pytest.approx(max(0.0, (cost - tokens) / rate), abs=1e-4)


def test_patience_is_added_to_the_burst() -> None:
    bucket = TokenBucket(10.0, burst=30)
    state = spend(bucket, 0, 60)
    assert not bucket.over(state, NOW, patience=30)
    assert bucket.over(bucket.spend(state, NOW), NOW, patience=30)
    assert not bucket.over(state, NOW + 10 * SECOND)


def test_a_bot_that_is_slightly_too_fast_is_never_closed() -> None:
    """The bot ignores refusals at a quarter above a WebSocket's rate. Floods: tests/attacks/test_budgets.py."""
    bucket, state = TokenBucket(20.0, burst=20.0 * MESSAGE_BURST), 0
    for second in range(1000):
        for _ in range(5):
            state = bucket.spend(state, NOW + second * SECOND, REFUSAL)
    assert not bucket.over(state, NOW + 1000 * SECOND)


def test_a_rate_of_nothing_is_no_limit() -> None:
    for burst in (0.0, 10.0):
        bucket = TokenBucket(0.0, burst=burst)
        state = spend(bucket, 0, 10_000)
        assert state == 0
        assert not bucket.over(state, NOW)
        assert bucket.wait(state, NOW, 1e9) == 0.0


def test_an_idle_holder_has_no_stored_state() -> None:
    bucket = TokenBucket(20.0, burst=100)
    state = spend(bucket, 0, 3)
    assert bucket.at_rest(state, NOW) == state
    assert bucket.at_rest(state, NOW + 150_000) == 0, "the bucket is full"
    assert bucket.at_rest(0, NOW) == 0


def test_equal_states_of_one_time_are_one_object() -> None:
    """Thousands of polls parked at the same time have equal states, which share one object."""
    bucket = TokenBucket(50.0, burst=100)
    assert spend(bucket, 0, 5) is spend(bucket, 0, 5)
    assert spend(bucket, 0, 1, now=NOW + 1) is not spend(bucket, 0, 1, now=NOW + 2)
    assert len(bucket._shared) == 1, "states of an earlier time are not kept"


# -- a bucket a key ---------------------------------------------------------------------------------------------------


def test_each_key_has_its_own_and_a_refusal_costs_nothing() -> None:
    """A client that repeats refused requests is granted one as early as a client that waits."""
    buckets = KeyedBuckets[str](1.0, burst=1)
    assert buckets.take("ann", START) == 0.0
    assert buckets.take("ann", START) == pytest.approx(1.0)
    for tenth in range(1, 10):
        assert buckets.take("ann", START + tenth / 10) > 0.0
    assert buckets.take("ben", START) == 0.0
    assert buckets.take("ann", START + 1.0) == 0.0


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.sampled_from("abc"), st.booleans()), min_size=8, max_size=60))
def test_a_sweep_removes_full_buckets_and_changes_no_answer(visits: list[tuple[float, str, bool]]) -> None:
    swept, kept = KeyedBuckets[str](2.0, burst=3), KeyedBuckets[str](2.0, burst=3)
    now = START
    for later, key, sweeps in visits:
        now += later
        if sweeps:
            swept.sweep(now)
        assert swept.take(key, now) == kept.take(key, now)
        assert len(swept) <= len(kept) <= 3
    swept.sweep(now + math.ceil(3 / 2.0))
    assert len(swept) == 0, "a key that is idle for a whole burst costs nothing"


def test_a_sweep_looks_at_some_keys_and_the_next_ones_at_the_others() -> None:
    """One that looked at all held up the loop for 1.5 ms, for each of ten limits, once a second."""
    buckets: KeyedBuckets[int] = KeyedBuckets(1.0, burst=1)
    for key in range(3 * SWEPT):
        buckets.take(key, START)
    assert buckets.take(0, START + 1.0) == 0.0
    left = []
    for _ in range(4):
        buckets.sweep(START + 1.5)
        left.append(len(buckets))
    assert left == [2 * SWEPT + 1, SWEPT + 1, 1, 1]
    assert buckets.take(0, START + 1.5) == pytest.approx(0.5)
    buckets.sweep(START + 2.0)
    assert sys.getsizeof(buckets._states) == sys.getsizeof({}), "not the memory of its largest size"


def test_what_was_spent_elsewhere_counts() -> None:
    buckets = KeyedBuckets[str](1.0, burst=2)
    buckets.lower("ben", 0, START)
    assert len(buckets) == 0
    for level in (2.0, 1.0):  # the later report is the lower one
        buckets.lower("ann", level, START)
        assert buckets.take("ann", START) == pytest.approx(1.0)


def test_without_a_limit_nothing_is_stored() -> None:
    buckets = KeyedBuckets[int](0.0, burst=0)
    assert all(buckets.take(key, START) == 0.0 for key in range(1_000))
    buckets.sweep(START)
    assert len(buckets) == 0


def test_keys_are_bounded_and_the_latest_stay_limited() -> None:
    """Otherwise a million networks, each refused once, take 200 MB."""
    buckets = KeyedBuckets[int](1 / 60, burst=1)
    for key in range(5 * MAX_KEYS):
        assert buckets.take(key, START) == 0.0
    assert len(buckets) <= MAX_KEYS
    full = KeyedBuckets[int](1 / 60, burst=2)
    for key in [*range(MAX_KEYS), 0]:
        full.take(key, START)
    assert len(full) == MAX_KEYS, "a known key displaces no other"
    assert (full.take(MAX_KEYS, START), len(full)) == (0.0, MAX_KEYS // 2 + 1)
    assert full.take(0, START) == 0.0, "the older half is forgotten"
    assert all(buckets.take(5 * MAX_KEYS - back, START) > 0.0 for back in range(1, MAX_KEYS // 2))
    for key in range(2 * MAX_KEYS):
        buckets.lower(key, 1.0, START)
    assert len(buckets) <= MAX_KEYS


# -- bytes ------------------------------------------------------------------------------------------------------------


NETWORKS = "abc"
CHARGES = st.lists(st.tuples(st.sampled_from(NETWORKS), st.integers(0, 3), st.integers(0, 9000)), min_size=8)


@example([("a", 0, 1), ("a", 0, 0), ("b", 0, 8000), ("c", 0, 5000)])  # one that has left has no share
@given(CHARGES)
def test_beyond_the_limit_a_network_has_its_equal_share(steps: list[tuple[str, int, int]]) -> None:
    """What is refused is released, as the server does."""
    budget, kept = FairByteBudget(12_000), dict[tuple[str, int], int]()

    def sum_of(network: str) -> int:
        return sum(size for holder, size in kept.items() if holder[0] == network)

    for network, number, size in steps:
        holder = network, number
        before, kept[holder] = kept.get(holder, 0), size
        share = 12_000 / max(1, sum(sum_of(each) > 0 for each in NETWORKS))
        fits = size < before or size == 0 or sum(kept.values()) <= 12_000 or sum_of(network) <= share
        assert budget.resize(holder, size, network) == fits
        if not fits:
            budget.release(holder)
            del kept[holder]
        for rank, sum_kept in enumerate(sorted(map(sum_of, NETWORKS), reverse=True), 1):
            assert sum_kept <= 12_000 / rank, "the bound that the docstring gives for all"


def test_a_holder_counts_for_the_network_of_its_first_charge() -> None:
    """A proxy may tell the address of a peer later."""
    budget = FairByteBudget(10_000)
    assert budget.resize("moved", 6000, "proxy")
    assert budget.resize("moved", 7000, "home")
    assert not budget.resize("other", 6000, "proxy")
    budget.release("other")
    assert budget.resize("third", 5000, "home"), "its half"


class Holder:
    """A holder, which is distinguished by identity."""


FREE = 2048
BYTES = st.one_of(st.integers(0, 6000), st.sampled_from([FREE - 1, FREE, FREE + 1]))
SIZES = st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), BYTES)), min_size=8, max_size=80)


@example([(0, 6000), (1, 6000), (2, 6000), (3, 6000), (4, FREE)], FREE)
@given(SIZES, st.sampled_from([0, FREE]))
def test_the_sum_is_always_what_all_holders_keep(steps: list[tuple[int, int | None]], free: int) -> None:
    """The last size of each holder counts, whether it was refused or not. None is a release."""
    budget, holders, charges = FairByteBudget(12_000, free=free), [Holder() for _ in range(6)], [0] * 6
    for which, size in steps:
        before, charges[which] = charges[which], max((size or 0) - free, 0)
        if size is None:
            budget.release(holders[which])
        else:
            shrinks = charges[which] < before or not charges[which]
            assert budget.resize(holders[which], size) == (shrinks or sum(charges) <= 12_000)
        assert (budget.used, len(budget)) == (sum(charges), 6 - charges.count(0))
        assert budget.over == (sum(charges) > 12_000)
    for holder in holders:
        budget.release(holder)
    assert (budget.used, len(budget), budget.over) == (0, 0, False)
