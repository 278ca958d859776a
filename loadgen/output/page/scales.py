"""From numbers to positions on an axis, and the ticks of an axis.

Owns: that ticks are 1, 2 and 5 times powers of ten, which are easy to read.
"""

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

_STEPS: Final = (1, 2, 5, 10)

#: A step may be this much shorter than asked for, so that 30.01 seconds still have six steps of five.
_NEARLY: Final = 0.95


class Scale(NamedTuple):
    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The position of a value: 0 at the low end, 1 at the high end, never outside."""
        if self.logarithmic:
            value, low, high = (math.log10(max(each, self.low)) for each in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return min(max((value - low) / (high - low), 0.0), 1.0)


def linear(low: float, high: float, *, ticks: int = 4) -> Scale:
    """An axis that includes both numbers and has about `ticks` steps."""
    step = _step((high - low) / ticks) if high > low else _step(max(abs(high), 1.0) / ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Scale(first * step, last * step, tuple(_round(at * step) for at in range(first, last + 1)))


def fitted(low: float, high: float, *, ticks: int) -> Scale:
    """An axis that ends exactly at these numbers, for time."""
    wide = linear(low, high, ticks=ticks)
    high = max(high, low + 1e-9, low * (1 + 1e-9))  # an axis without length would divide by zero
    return Scale(low, high, tuple(tick for tick in wide.ticks if low <= tick <= high))


def logarithmic(low: float, high: float) -> Scale:
    """A logarithmic axis, with ticks at 1-2-5 if those are few, else at powers of ten."""
    low = max(low, 1e-6)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(max(high, low))) + 1)
    marks = [_round(step * 10.0**exponent) for exponent in exponents for step in _STEPS[:3]]
    first = max(mark for mark in marks if mark <= low * (1 + 1e-9))
    last = min((mark for mark in marks if mark >= high and mark > first), default=first * 10)
    inside = [mark for mark in marks if first <= mark <= last]
    decades = [mark for mark in inside if f"{mark:e}".startswith("1.000000e")]
    return Scale(first, last, tuple(inside if len(inside) <= 7 else decades), logarithmic=True)


def extent(values: Iterable[float | None]) -> tuple[float, float] | None:
    """The smallest and the largest finite value; `None` if there is none."""
    measured = [value for value in values if value is not None and math.isfinite(value)]
    return (min(measured), max(measured)) if measured else None


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in _STEPS if step * power >= rough * _NEARLY)


def _round(value: float) -> float:
    """Round off the error that multiplying by 0.1 leaves."""
    return float(f"{value:.12g}")
