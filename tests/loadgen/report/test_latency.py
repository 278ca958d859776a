import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from loadgen.report.latency import CEILING_SECONDS, Latency


def _of(*values: float) -> Latency:
    latency = Latency()
    for value in values:
        latency.record(value)
    return latency


def test_merging_is_the_same_as_recording_together() -> None:
    left, right, both = _of(0.001, 0.002), _of(0.5), _of(0.001, 0.002, 0.5)
    left.merge(right)
    assert left.spread() == both.spread()
    assert (both.spread().p50_ms, both.spread().max_ms) == (2.0, 500.0)


def test_nothing_recorded_is_none_and_not_zero() -> None:
    spread = Latency().spread()
    assert spread.count == 0
    assert spread.p50_ms is None
    assert spread.max_ms is None


def test_values_off_the_scale_are_kept_at_its_ends() -> None:
    latency = _of(-1.0, CEILING_SECONDS * 10)
    assert latency.count == 2
    assert latency.at(0) == pytest.approx(1e-6)
    assert latency.longest == CEILING_SECONDS * 10, "but the longest is exact"


def test_memory_does_not_grow_with_what_is_recorded() -> None:
    latency = _of(*(1 + number / 10_000 for number in range(10_000)))
    assert len(latency.counts) <= 2 * 1024, "of each power of two microseconds"


@pytest.mark.parametrize(("count", "left_out"), [(1, 0), (2, 1), (20, 1), (99, 1), (100, 1), (200, 2)])
def test_what_is_judged_leaves_the_worst_hundredth_out_and_one_of_fewer(count: int, left_out: int) -> None:
    latency = Latency()
    for number in range(1, count + 1):
        latency.record(number / 10)
    assert latency.judged() == pytest.approx((count - left_out) / 10, rel=0.001)
    assert Latency().judged() is None


@given(st.lists(st.integers(1, CEILING_SECONDS * 1_000_000), min_size=1), st.floats(0.1, 100))
def test_it_counts_in_the_cells_of_hdr_histogram(micros: list[int], percentile: float) -> None:
    """So that other tools find in the exported histogram what the report says, but for its longest, which is exact."""
    latency, histogram = Latency(), HdrHistogram(1, CEILING_SECONDS * 1_000_000, 3)
    for micro in micros:
        latency.record((micro + 0.5) / 1e6)
        histogram.record_value(micro)
    for each in (histogram, HdrHistogram.decode(latency.encoded())):
        assert latency.at(percentile) == min(each.get_value_at_percentile(percentile) / 1e6, latency.longest_seconds)
