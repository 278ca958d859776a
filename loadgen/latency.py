"""Latencies as HDR histograms: constant memory, three digits, and they merge.

Owns: the unit (seconds outside, microseconds within), the percentiles that every report shows, and what is counted
with them: operations of late, and how late a process was itself. Merging is what lets one run be split over phases,
cohorts and processes without ever averaging a percentile.
"""

from collections import Counter
from typing import Final, NamedTuple

import msgspec
from hdrh.histogram import HdrHistogram

#: Values above are recorded as this. An hour is longer than any run is allowed to be.
CEILING_SECONDS: Final = 3600
_MICRO: Final = 1_000_000
_DIGITS: Final = 3

#: Numbers of microseconds with at most so many bits are counted one by one; of longer ones, as in HdrHistogram, only
#: so many bits count.
_BITS: Final = 11

#: The percentiles of a `Spread`, and what they are called there.
_SHOWN: Final = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9}

#: A process's lateness before the first phase that is announced.
_BEFORE: Final = "before"


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """The percentiles of a report's row, in milliseconds; `None` where nothing was recorded."""

    count: int  # durations recorded
    p50_ms: float | None  # median
    p90_ms: float | None  # 90th percentile
    p99_ms: float | None  # 99th
    p999_ms: float | None  # 99.9th
    max_ms: float | None  # the longest, exactly


class Latency(msgspec.Struct, kw_only=True):
    """Durations by how often each occurred: a number in a dictionary costs a tenth of a call into HdrHistogram."""

    counts: dict[int, int] = {}  # by the greatest number of microseconds that three digits do not tell apart
    longest_seconds: float = 0.0  # exact, since a maximum rounded to three digits invites doubt
    count: int = 0

    def record(self, seconds: float) -> None:
        """Add one duration; what the clock calls negative is zero."""
        value = min(max(int(seconds * _MICRO), 1), CEILING_SECONDS * _MICRO)
        if value >> _BITS:
            value |= (1 << value.bit_length() - _BITS) - 1
        self.counts[value] = self.counts.get(value, 0) + 1
        self.longest_seconds = max(self.longest_seconds, seconds)
        self.count += 1

    def merge(self, other: "Latency") -> None:
        for value, count in other.counts.items():
            self.counts[value] = self.counts.get(value, 0) + count
        self.longest_seconds = max(self.longest_seconds, other.longest_seconds)
        self.count += other.count

    def encoded(self) -> str:
        """HdrHistogram V2 in base64, for other tools; empty if nothing was recorded."""
        if not self.count:
            return ""
        histogram = HdrHistogram(1, CEILING_SECONDS * _MICRO, _DIGITS)
        for value, count in self.counts.items():
            histogram.record_value(value, count)
        return str(histogram.encode().decode())

    def histogram(self, width_seconds: float) -> list[tuple[float, int]]:
        """How many fell into each bucket of this width, as (upper end in seconds, count); empty ones are left out."""
        buckets: Counter[int] = Counter()
        for value, count in self.counts.items():
            # a value stands for those below it: half of that back keeps 10.0 out of the bucket after it
            buckets[int(value * (1 - 0.5 * 10**-_DIGITS) / _MICRO / width_seconds)] += count
        return [(round((number + 1) * width_seconds, 3), count) for number, count in sorted(buckets.items())]

    def at(self, percentile: float) -> float | None:
        """The duration, in seconds, that this percentage stayed at or below; `None` if nothing was recorded."""
        left = max(int(percentile * self.count / 100 + 0.5), 1)
        for value in sorted(self.counts):
            left -= self.counts[value]
            if left <= 0:
                return value / _MICRO
        return None

    def judged(self) -> float | None:
        """The 99th percentile; of fewer than a hundred, what all but the worst stayed at or below."""
        return self.at(99.0 if self.count >= 100 else 100.0 * max(self.count - 1, 1) / max(self.count, 1))

    @property
    def longest(self) -> float | None:
        """The longest duration in seconds, exactly."""
        return self.longest_seconds if self.count else None

    def spread(self) -> Spread:
        percentiles = {name: milliseconds(self.at(at)) for name, at in _SHOWN.items()}
        return Spread(count=self.count, **percentiles, max_ms=milliseconds(self.longest))


class Recent(msgspec.Struct, kw_only=True):
    """Operations that ended since they were last taken: for the timeline and the live view."""

    latency: Latency = msgspec.field(default_factory=Latency)  # of those that succeeded
    failed: int = 0

    def take(self) -> "Recent":
        """Everything so far; what follows counts from zero."""
        taken = Recent(latency=self.latency, failed=self.failed)
        self.latency, self.failed = Latency(), 0
        return taken

    def merge(self, other: "Recent") -> None:
        self.latency.merge(other.latency)
        self.failed += other.failed


class Late(NamedTuple):
    schedule: Latency  # at its own moments
    reading: Latency  # at what had come for it: how long that had lain in the kernel, at least


class Lag:
    """How late a process of the generator's own was, phase by phase.

    A process that was busy while the crowd connected and on time while victims were measured measured them well; one
    histogram over everything hides both.
    """

    __slots__ = ("_current", "phases")

    def __init__(self) -> None:
        self.phases: dict[str, Late] = {}
        self.begin(_BEFORE)

    def begin(self, phase: str) -> None:
        self._current = self.phases.setdefault(phase, Late(Latency(), Latency()))

    def record(self, seconds: float) -> None:
        """Add one lateness of the schedule."""
        self._current.schedule.record(seconds)

    def record_read(self, seconds: float) -> None:
        """Add how long what was read just now had waited."""
        self._current.reading.record(seconds)


def milliseconds(seconds: float | None) -> float | None:
    """Seconds as milliseconds, to the microsecond."""
    return None if seconds is None else round(seconds * 1000, 3)
