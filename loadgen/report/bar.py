"""The limits of the bar, each with its reason, and the arithmetic of what is late.

Owns: the numbers. figures.py says which limit applies to which figure. May not: measure, or decide the outcome of a
broken condition (`verdict.py`).
"""

from collections.abc import Mapping
from typing import Final

#: People notice a longer delay, the round trip not counted. It is absolute, because a server that stalls now and then
#: does so before an attack as well, and a comparison with the baseline would not find it.
NOTICED_MS: Final = 250.0

#: The 99th percentile may be 1.5 times the baseline's or 25 ms above it, whichever is more.
RATIO: Final = 1.5
MARGIN_MS: Final = 25.0

#: With fewer operations, the 99th percentile is simply the worst of them.
LEAST_FOR_P99: Final = 100

#: Memory: 2 KiB an attacker, half of which may stay after the attack, and a constant for what a server uses only once.
BYTES_EACH: Final = 2048
BYTES_ONCE: Final = 512 * 1024

#: More for each over TLS: OpenSSL has 14 KB of an idle connection, and 43 KB before its handshake is over. All of it
#: may stay, because most allocators keep what OpenSSL frees: nginx grows in its first attack and in no later one.
BYTES_EACH_TLS: Final = 48 * 1024

#: Descriptors that a server may have open after an attack beyond those before: a newcomer or two, a file.
DESCRIPTORS_LEFT: Final = 16


def allowed_bytes(attackers: int, *, tls: bool, left: bool = False) -> int:
    """Return by how much this many attackers may make a server grow, while they are there or (`left`) afterwards."""
    own = BYTES_EACH // 2 if left else BYTES_EACH
    return attackers * (own + BYTES_EACH_TLS * tls) + BYTES_ONCE


def limit_ms(baseline_p99_ms: float) -> float:
    return max(baseline_p99_ms * RATIO, baseline_p99_ms + MARGIN_MS)


def quiet_ms(p99_ms: float, p50_ms: float) -> float:
    """Return the 99th percentile that a quiet baseline would have: no further than the margin above its median."""
    return min(p99_ms, p50_ms + MARGIN_MS)


def most_over(baseline: Mapping[str, float], later: Mapping[str, float]) -> float | None:
    """Return how far the worst of these groups is above its bar, in ms; `None` if none was measured in both phases."""
    over = [after - limit_ms(baseline[group]) for group, after in later.items() if group in baseline]
    return round(max(over), 3) if over else None
