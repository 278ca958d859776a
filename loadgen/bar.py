"""The limits of the bar, each with its reason, and the arithmetic of what is late.

Owns: the numbers. Which figure is held to which of them stands in figures.py. May not: measure, or decide what a broken
condition comes to (`verdict.py`).
"""

from collections.abc import Mapping
from typing import Final

#: Longer than this people notice, beside what the way there and back takes. A server that stalls now and then does so
#: before an attack as well, so no comparison with the baseline would find it.
NOTICED_MS: Final = 250.0

#: ATTACKS.md: the 99th percentile may be 1.5 times the baseline's or 25 ms above it, whichever is more.
RATIO: Final = 1.5
MARGIN_MS: Final = 25.0

#: A 99th percentile of fewer operations is the worst of them.
LEAST_FOR_P99: Final = 100

#: ATTACKS.md: 2 KB an attacker, half of which may stay for the next; and what a server touches for the first time.
BYTES_EACH: Final = 2048
BYTES_EACH_LEFT: Final = 1024
BYTES_ONCE: Final = 512 * 1024

#: Descriptors that a server may have open after an attack beyond those before: a newcomer or two, a file.
DESCRIPTORS_LEFT: Final = 16


def limit_ms(baseline_p99_ms: float) -> float:
    """How late a 99th percentile may be after such a baseline."""
    return max(baseline_p99_ms * RATIO, baseline_p99_ms + MARGIN_MS)


def quiet_ms(p99_ms: float | None, p50_ms: float | None) -> float | None:
    """What the 99th percentile of a baseline counts for: one far above its median is no quiet server's."""
    return p99_ms if p99_ms is None or p50_ms is None else min(p99_ms, p50_ms + MARGIN_MS)


def most_over(baseline: Mapping[str, float | None], later: Mapping[str, float | None]) -> float | None:
    """By how much the worst of these groups is above its bar, in ms; `None` if none was measured in both phases."""
    over = [
        after - limit_ms(before)
        for group, after in later.items()
        if after is not None and (before := baseline.get(group)) is not None
    ]
    return round(max(over), 3) if over else None
