"""What a figure is: a bound, an aim, and the samples that were measured.

Owns: the arithmetic of a verdict. May not: measure.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

T = TypeVar("T")

#: The unit of a ratio.
TIMES = "×"  # noqa: RUF001  the sign that people read
#: Samples from which on the outermost say more about the neighbours than about the server.
MANY = 20


class Better(Enum):
    """Which way is better; the value is how a bound is written."""

    LOWER = "≤"
    HIGHER = "≥"


class Verdict(Enum):
    """How a figure stands; the value is what the table says."""

    AIM = "OK, aim"
    BOUND = "OK"
    SHORT = "short"


class Scale(Enum):
    """How much is measured."""

    FULL = "full"
    QUICK = "quick"

    def of(self, full: T, quick: T) -> T:
        """A count: the one that means something, or the one that only shows that the bench works."""
        return full if self is Scale.FULL else quick


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table."""

    name: str
    unit: str  # printed behind the numbers: " B", "%"
    bound: float
    aim: float
    better: Better

    def reaches(self, value: float, limit: float) -> bool:
        """Whether a value is at least as good as a limit."""
        return value <= limit if self.better is Better.LOWER else value >= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A figure with its samples; `details` says what stands behind it, in words."""

    figure: Figure
    samples: Sequence[float]
    details: str = ""

    @property
    def value(self) -> float:
        """The median: one noisy neighbour does not move it."""
        return statistics.median(self.samples)

    @property
    def verdict(self) -> Verdict:
        """Against bound and aim."""
        if self.figure.reaches(self.value, self.figure.aim):
            return Verdict.AIM
        return Verdict.BOUND if self.figure.reaches(self.value, self.figure.bound) else Verdict.SHORT


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture of what was measured, for `--plots`."""

    name: str  # of its file, without the ending
    svg: str


def median(samples: Sequence[float]) -> float:
    """The middle sample."""
    return statistics.median(samples)


def spread(samples: Sequence[float]) -> str:
    """The median with the lowest and the highest sample; of many samples, with the first and the last decile."""
    low, high = min(samples), max(samples)
    if len(samples) >= MANY:
        low, *_, high = statistics.quantiles(samples, n=10)
    return f"{number(median(samples))} ({number(low)}-{number(high)})"


def number(value: float) -> str:
    """Three digits that mean something, and no exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
