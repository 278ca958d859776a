import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.output.page import scales
from loadgen.output.page.scales import Scale

Axis = Callable[[float, float], Scale]
sizes = st.floats(min_value=0, max_value=1e9, allow_subnormal=False)


@pytest.mark.parametrize(
    ("axis", "low", "high", "ticks"),
    [
        (scales.linear, 0, 8000, (0, 2000, 4000, 6000, 8000)),
        (scales.linear, 0, 7999, (0, 2000, 4000, 6000, 8000)),
        (scales.linear, 0, 1, (0, 0.5, 1)),
        (scales.linear, 0, 3, (0, 1, 2, 3)),
        (scales.linear, 39.1, 42.8, (39, 40, 41, 42, 43)),
        (scales.linear, 0, 0, (0, 0.5)),
        (scales.logarithmic, 1.1, 19, (1, 2, 5, 10, 20)),
        (scales.logarithmic, 0.6, 60, (1, 10, 100)),
        (scales.logarithmic, 1.1, 740, (1, 10, 100, 1000)),
        (scales.logarithmic, 3, 3, (2, 5)),
        (scales.logarithmic, 1, 1, (1, 2)),
    ],
)
def test_ticks_are_round(axis: Axis, low: float, high: float, ticks: tuple[float, ...]) -> None:
    assert axis(low, high).ticks == ticks


def test_a_power_of_ten_is_a_step_of_a_logarithmic_axis() -> None:
    assert [scales.logarithmic(1, 1000).at(value) for value in (1, 10, 1000)] == pytest.approx([0, 1 / 3, 1])


def test_time_ends_when_it_is_over() -> None:
    scale = scales.fitted(0, 30.01, ticks=6)
    assert (scale.high, scale.ticks) == (30.01, (0, 5, 10, 15, 20, 25, 30))
    assert scales.fitted(0, 0, ticks=6).at(0) == 0


def _is_sound(scale: Scale, low: float, high: float) -> None:
    assert scale.low < scale.high
    assert 1 <= len(scale.ticks) <= 16
    assert list(scale.ticks) == sorted(set(scale.ticks))
    assert 0 <= scale.at(low) <= scale.at(high) <= 1
    for tick in scale.ticks:
        assert float(f"{tick:e}".partition("e")[0]) in {0, 1, 2, 5} or not scale.logarithmic
    assert scale.at(-math.inf) == 0
    assert scale.at(math.inf) == 1


@given(sizes, sizes)
def test_any_numbers_give_a_sound_axis(one: float, other: float) -> None:
    low, high = sorted((one, other))
    _is_sound(scales.linear(low, high), low, high)
    _is_sound(scales.logarithmic(low, high), max(low, 1e-6), max(high, 1e-6))
    fitted = scales.fitted(low, high, ticks=6)
    assert 0 <= fitted.at(low) <= fitted.at(high) <= 1


def test_extent_passes_over_what_is_no_number() -> None:
    assert scales.extent([None, 3.0, math.nan, 1.0, math.inf]) == (1.0, 3.0)
    assert scales.extent([None]) is None
