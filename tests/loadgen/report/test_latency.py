import base64
import zlib

import pytest
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
def test_a_percentile_has_three_digits_rounded_up(micros: list[int], percentile: float) -> None:
    latency = _of(*((micro + 0.5) / 1e6 for micro in micros))
    exact = sorted(micros)[max(int(percentile * len(micros) / 100 + 0.5), 1) - 1]
    found = latency.at(percentile)
    assert found is not None
    assert exact <= round(found * 1e6, 3) <= exact * (1 + 1 / 1024) + 0.5
    assert found <= (max(micros) + 0.5) / 1e6


#: As hdrhistogram 0.10.8 of Python encodes it, uncompressed: 3 of 1 us, one of each of the next, 200 of the last.
_RECORDED = (
    "1c849313000000190000000000000003000000000000000100000000d693a4003ff0000000000000"
    "0106020102f11f020204fb0f0202fb3f02c13e02a3bc019003"
)


def test_the_histogram_is_encoded_as_hdr_histogram_does() -> None:
    """So that other tools find in it what the report says, but for its longest, which is exact."""
    micros = [1, 1, 1, 2, 4, 2046, 2047, 2048, 2049, 4095, 4096, 65_535, 1_000_000]
    micros += [CEILING_SECONDS * 1_000_000] * 200
    raw = base64.b64decode(_of(*((micro + 0.5) / 1e6 for micro in micros)).encoded())
    assert raw[:8] == bytes.fromhex("1c849314") + (len(raw) - 8).to_bytes(4)
    assert zlib.decompress(raw[8:]).hex() == _RECORDED
