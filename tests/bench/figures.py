"""A figure with its bound and its aim, the samples that were measured, and the verdict."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

T = TypeVar("T")

#: The unit of a ratio.
TIMES = "×"  # noqa: RUF001  the sign that people read
#: From this many samples on, a spread leaves out the first and the last decile.
MANY = 20


class Better(Enum):
    """The direction that is better; the value is the sign of a bound."""

    LOWER = "≤"
    HIGHER = "≥"


class Verdict(Enum):
    """A figure compared with its bound and aim; the value is shown in the table."""

    AIM = "OK, aim"
    BOUND = "OK"
    SHORT = "short"


class Scale(Enum):
    FULL = "full"
    QUICK = "quick"

    def of(self, full: T, quick: T) -> T:
        """The value for a real measurement, or a small one that only shows that the bench works."""
        return full if self is Scale.FULL else quick


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    name: str
    unit: str  # printed behind the numbers: " B", "%"
    bound: float
    aim: float
    better: Better

    def reaches(self, value: float, limit: float) -> bool:
        return value <= limit if self.better is Better.LOWER else value >= limit


def at_most(name: str, unit: str, *, bound: float, aim: float) -> Figure:
    return Figure(name=name, unit=unit, bound=bound, aim=aim, better=Better.LOWER)


def at_least(name: str, unit: str, *, bound: float, aim: float) -> Figure:
    return Figure(name=name, unit=unit, bound=bound, aim=aim, better=Better.HIGHER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A figure with its samples; `details` is a text for the table."""

    figure: Figure
    samples: Sequence[float]
    details: str = ""

    @property
    def value(self) -> float:
        """The median: one noisy neighbour does not move it."""
        return statistics.median(self.samples)

    @property
    def verdict(self) -> Verdict:
        if self.figure.reaches(self.value, self.figure.aim):
            return Verdict.AIM
        return Verdict.BOUND if self.figure.reaches(self.value, self.figure.bound) else Verdict.SHORT


def compared(figure: Figure, ours: Sequence[float], theirs: Sequence[float], *, unit: str, more: str = "") -> Result:
    """Our samples divided by others of the same turns; the details have both, and `more`."""
    return Result(
        figure=figure,
        samples=[one / other for one, other in zip(ours, theirs, strict=True)],
        details=f"{spread(ours)}{unit} against {spread(theirs)}{unit}{more}",
    )


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture of what was measured, for `--plots`."""

    name: str  # of its file, without the ending
    svg: str


def spread(samples: Sequence[float]) -> str:
    """The median with the lowest and the highest sample; of many samples, with the first and the last decile."""
    low, high = min(samples), max(samples)
    if len(samples) >= MANY:
        low, *_, high = statistics.quantiles(samples, n=10)
    return f"{number(statistics.median(samples))} ({number(low)}-{number(high)})"


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
