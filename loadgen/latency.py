"""Latencies as HDR histograms: constant memory, three digits, and they merge.

Owns: the unit (seconds outside, microseconds within) and the percentiles that every report shows. Merging is what
lets one run be split over phases, cohorts and, later, processes without ever averaging a percentile.
"""

from typing import Final

import msgspec
from hdrh.histogram import HdrHistogram

#: Values above are recorded as this. An hour is longer than any run is allowed to be.
CEILING_SECONDS: Final = 3600
_MICRO: Final = 1_000_000
_DIGITS: Final = 3

#: The percentiles of a `Spread`, and what they are called there.
_SHOWN: Final = (50.0, 90.0, 99.0, 99.9)
_NAMES: Final = ("p50_ms", "p90_ms", "p99_ms", "p999_ms")


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """The percentiles of a report's row, in milliseconds; `None` where nothing was recorded."""

    count: int  # durations recorded
    p50_ms: float | None  # median
    p90_ms: float | None  # 90th percentile
    p99_ms: float | None  # 99th
    p999_ms: float | None  # 99.9th
    max_ms: float | None  # the longest, exactly


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution in a form that goes down a pipe."""

    count: int
    longest: float
    histogram: str  # HdrHistogram V2, base64; empty if nothing was recorded


class PhaseLag(msgspec.Struct, frozen=True, kw_only=True):
    """How late a process was in one phase."""

    phase: str
    lag: Recording


class Latency:
    """One distribution of durations."""

    __slots__ = ("_histogram", "_longest", "count")

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, CEILING_SECONDS * _MICRO, _DIGITS)
        self._longest = 0.0  # exact, since a maximum rounded to three digits invites doubt
        self.count = 0

    def record(self, seconds: float) -> None:
        """Add one duration; what the clock calls negative is zero."""
        self._histogram.record_value(min(max(int(seconds * _MICRO), 1), CEILING_SECONDS * _MICRO))
        self._longest = max(self._longest, seconds)
        self.count += 1

    def merge(self, other: "Latency") -> None:
        """Add everything that `other` recorded."""
        self._histogram.add(other._histogram)
        self._longest = max(self._longest, other._longest)
        self.count += other.count

    def recording(self) -> Recording:
        """Pack it for another process."""
        packed = self._histogram.encode().decode() if self.count else ""
        return Recording(count=self.count, longest=self._longest, histogram=packed)

    def add(self, recording: Recording) -> None:
        """Merge what another process recorded."""
        if recording.count:
            self._histogram.decode_and_add(recording.histogram.encode())
            self._longest = max(self._longest, recording.longest)
            self.count += recording.count

    def histogram(self, width_seconds: float) -> list[tuple[float, int]]:
        """How many fell into each bucket of this width, as (upper end in seconds, count); empty ones are left out."""
        buckets: dict[int, int] = {}
        for item in self._histogram.get_recorded_iterator():
            # values are recorded as the top of an HDR cell: half a cell back keeps 10.0 out of the bucket after it
            number = int(item.value_iterated_to * (1 - 0.5 * 10**-_DIGITS) / _MICRO / width_seconds)
            buckets[number] = buckets.get(number, 0) + item.count_at_value_iterated_to
        return [(round((number + 1) * width_seconds, 3), count) for number, count in sorted(buckets.items())]

    def at(self, percentile: float) -> float | None:
        """The duration, in seconds, that this percentage stayed at or below; `None` if nothing was recorded."""
        if not self.count:
            return None
        value: int = self._histogram.get_value_at_percentile(percentile)
        return value / _MICRO

    def judged(self) -> float | None:
        """The 99th percentile; of fewer than a hundred, what all but the worst stayed at or below."""
        return self.at(99.0 if self.count >= 100 else 100.0 * max(self.count - 1, 1) / max(self.count, 1))

    @property
    def longest(self) -> float | None:
        """The longest duration in seconds, exactly."""
        return self._longest if self.count else None

    def spread(self) -> Spread:
        """The row for a report."""
        found: dict[float, int] = self._histogram.get_percentile_to_value_dict(_SHOWN) if self.count else {}
        return Spread(
            count=self.count,
            **{name: found[at] / 1000 if found else None for name, at in zip(_NAMES, _SHOWN, strict=True)},
            max_ms=milliseconds(self.longest),
        )


def milliseconds(seconds: float | None) -> float | None:
    """Seconds as milliseconds, to the microsecond."""
    return None if seconds is None else round(seconds * 1000, 3)
