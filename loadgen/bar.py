"""The bar: what a target must hold to when nobody says otherwise.

Owns: the limits, each with its reason. May not: measure, or decide what a broken condition comes to (`verdict.py`).
"""

from collections.abc import Mapping
from typing import Final

from loadgen.figures import Condition

#: Longer than this people notice, beside what the way there and back takes. A server that stalls now and then does so
#: before an attack as well, so no comparison with the baseline would find it.
NOTICED_MS: Final = 250.0

#: ATTACKS.md: the 99th percentile may be 1.5 times the baseline's or 25 ms above it, whichever is more.
RATIO: Final = 1.5
MARGIN_MS: Final = 25.0

#: A 99th percentile of fewer operations is the one that fared worst.
LEAST_FOR_P99: Final = 100

#: ATTACKS.md: 2 KB an attacker, half of which may stay for the next; and what a server touches for the first time.
BYTES_EACH: Final = 2048
BYTES_EACH_LEFT: Final = 1024
BYTES_ONCE: Final = 512 * 1024

#: Descriptors that a server may have open after an attack beyond those before: a newcomer or two, a file.
DESCRIPTORS_LEFT: Final = 16


def _none_of(*names: str) -> tuple[Condition, ...]:
    return tuple(Condition(name, ">", 0) for name in names)


def run_bar(*, speaks: bool, round_trip_ms: float) -> tuple[Condition, ...]:
    """What a run must hold to; what its speakers met is judged if there are any."""
    bar = _none_of("refused", "failed", "ended")
    if not speaks:
        return bar
    noticed = NOTICED_MS + round_trip_ms
    return (
        *bar,
        *_none_of("unacknowledged", "unreturned", "missed", "message_errors"),
        Condition("ack_p99_ms", ">", noticed),
        Condition("echo_p99_ms", ">", noticed),
    )


def attack_bar(
    *, newcomers: bool, neighbours: bool, keeps_messages: bool, malformed: bool, watched: bool, round_trip_ms: float
) -> tuple[Condition, ...]:
    """What an attack must hold to, by what there is to judge; `watched` is a server whose process is known."""
    return (
        *_none_of("baseline_failed", "attack_failed", "recovery_failed"),
        *(_none_of("newcomers_failed") if newcomers else ()),
        *(_none_of("acknowledged_lost") if keeps_messages else ()),
        *(_none_of("collateral") if neighbours else ()),
        *(_none_of("malformed_accepted") if malformed else ()),
        *(_none_of("server_bytes_over_bar", "server_bytes_left_over_bar") if watched else ()),
        *((Condition("server_descriptors_left", ">", DESCRIPTORS_LEFT),) if watched else ()),
        Condition("attack_p99_ms", ">", round(NOTICED_MS + round_trip_ms, 1)),
        *_none_of("p99_over_bar_ms", "recovery_p99_over_bar_ms", "worst_victim_over_bar_ms"),
    )


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
