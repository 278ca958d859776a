"""Latencies as HDR histograms: constant memory, three digits, and they merge.

Owns: the unit (seconds outside, microseconds within), the percentiles that every report shows, recent operations, and
the lateness of a process. Because histograms merge, a run can be split over phases, cohorts and processes without ever
averaging a percentile.
"""

import base64
import struct
import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from loadgen.net.timers import NEVER

#: Larger values are recorded as this: an hour, the longest time that a flag allows.
CEILING_SECONDS: Final = 3600
_MICRO: Final = 1_000_000
_DIGITS: Final = 3

#: Significant bits of a number of microseconds; as in HdrHistogram, the lower bits of longer numbers do not count.
_BITS: Final = 11

#: The encoding of HdrHistogram, V2: a cookie, the length of the counts, an offset, digits, the lowest and the highest
#: value, and what a value is multiplied by; around the whole, compressed, another cookie and its length.
_HEAD: Final = struct.Struct(">iiiiqqd")
_PACKED_HEAD: Final = struct.Struct(">ii")
_COOKIE: Final = 0x1C849313
_PACKED_COOKIE: Final = 0x1C849314

#: The percentiles of a `Spread`, by field.
_SHOWN: Final = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9}

#: The time before the first phase that is measured; no phase has this name.
BEFORE: Final = ""

#: Interval in which a process checks its own lateness. Its schedule alone would not show it: a closed loop has none,
#: and a victim that waited for a slow server asks for a time that has passed. A check costs up to 250 us: a hundredth
#: of a processor in all.
LOOK_SECONDS: Final = 0.02


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """The percentiles of a report's row, in milliseconds; `None` if nothing was recorded."""

    count: int  # durations recorded
    p50_ms: float | None  # median
    p90_ms: float | None  # 90th percentile
    p99_ms: float | None  # 99th
    p999_ms: float | None  # 99.9th
    max_ms: float | None  # the longest, exactly


class Latency(msgspec.Struct, kw_only=True):
    """Counts of durations in a dictionary, in the cells that HdrHistogram would count them in."""

    counts: dict[int, int] = {}  # by the largest number of microseconds that has the same significant bits
    longest_seconds: float = 0.0  # exact, because a maximum rounded to three digits raises questions
    count: int = 0

    def record(self, seconds: float) -> None:
        """Add one duration; a negative one counts as the shortest."""
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
        """HdrHistogram V2 in base64, for other tools: the count of each cell, or minus the number of empty ones."""
        numbers, end = bytearray(), 0
        for value, count in sorted(self.counts.items()):
            coarse = max(value.bit_length() - _BITS, 0)
            cell = (coarse << _BITS - 1) + (value >> coarse)
            if empty := cell - end:
                _append(numbers, -empty)
            _append(numbers, count)
            end = cell + 1
        head = _HEAD.pack(_COOKIE, len(numbers), 0, _DIGITS, 1, CEILING_SECONDS * _MICRO, 1.0)
        packed = zlib.compress(head + numbers)
        return base64.b64encode(_PACKED_HEAD.pack(_PACKED_COOKIE, len(packed)) + packed).decode()

    def at(self, percentile: float) -> float | None:
        """The duration, in seconds, that this percentage stayed at or below; `None` if nothing was recorded.

        It has three digits, rounded up, but is never above the longest.
        """
        left = max(int(percentile * self.count / 100 + 0.5), 1)
        for value in sorted(self.counts):
            left -= self.counts[value]
            if left <= 0:
                return min(value / _MICRO, self.longest_seconds)
        return None

    def judged(self) -> float | None:
        """The 99th percentile; with fewer than a hundred durations, the longest but one."""
        return self.at(min(99.0, 100.0 * max(self.count - 1, 1) / max(self.count, 1)))

    @property
    def longest(self) -> float | None:
        return self.longest_seconds if self.count else None

    def spread(self) -> Spread:
        percentiles = {name: milliseconds(self.at(at)) for name, at in _SHOWN.items()}
        return Spread(count=self.count, **percentiles, max_ms=milliseconds(self.longest))


class Recent(msgspec.Struct, kw_only=True):
    """Operations that ended since the last `take`, for the timeline and the live view."""

    latency: Latency = msgspec.field(default_factory=Latency)  # of those that succeeded
    failed: list[float] = []  # when each of those that failed was due

    def take(self) -> "Recent":
        """Return everything so far, and start from zero."""
        taken = Recent(latency=self.latency, failed=self.failed)
        self.latency, self.failed = Latency(), []
        return taken

    def merge(self, other: "Recent") -> None:
        self.latency.merge(other.latency)
        self.failed += other.failed


class Late(NamedTuple):
    schedule: Latency  # lateness of messages and operations
    looks: Latency  # lateness of the process's checks of itself, and of its clients' timers
    reading: Latency  # how long, at least, arriving data had waited in the kernel


class Lag:
    """How late a process of the generator was, phase by phase.

    It may be late while the crowd connects, as long as it is on time while victims are measured; one histogram for the
    whole run would not show that.
    """

    __slots__ = ("_current", "next_look", "phases")

    def __init__(self) -> None:
        self.phases: dict[str, Late] = {}
        self.next_look = NEVER  # until its process runs
        self.begin(BEFORE)

    def begin(self, phase: str) -> None:
        self._current = self.phases.setdefault(phase, Late(Latency(), Latency(), Latency()))

    def record(self, seconds: float) -> None:
        self._current.schedule.record(seconds)

    def look(self, moment: float, timer_due: float = NEVER) -> None:
        """Record the lateness of every check that is due, or of the process's first timer if that is more.

        Each check that a stall delayed counts, so the share is of time. A busy process may be in time for its checks,
        and seconds late for its clients.
        """
        while self.next_look <= moment:
            self._current.looks.record(moment - min(self.next_look, timer_due))
            self.next_look += LOOK_SECONDS

    def record_read(self, seconds: float) -> None:
        self._current.reading.record(seconds)


def _append(numbers: bytearray, number: int) -> None:
    """Append a number, seven bits to a byte, with its sign in the lowest bit."""
    rest = number << 1 if number >= 0 else ~(number << 1)
    while rest > 0x7F:
        numbers.append(rest & 0x7F | 0x80)
        rest >>= 7
    numbers.append(rest)


def pooled(many: Iterable[Latency]) -> Latency:
    whole = Latency()
    for each in many:
        whole.merge(each)
    return whole


def milliseconds(seconds: float | None) -> float | None:
    """Convert seconds to milliseconds, rounded to the microsecond."""
    return None if seconds is None else round(seconds * 1000, 3)
