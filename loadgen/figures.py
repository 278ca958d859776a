"""The named figures of a run, and thresholds over them.

Owns: the closed list of names that `--fail-if` understands and that `report.json` carries, each with its unit and
meaning. A new figure is a new row here first.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from loadgen.target import UsageError

Figures = Mapping[str, float | None]

COMMON: Final = {
    "round_trip_ms": "what a GET took before all else, connecting included: how far away the target is",
    "lag_p99_ms": "how late the processes that measure ran while they measured, 99th percentile, the latest of them",
    "lag_max_ms": "how late the processes that measure ran while they measured, at worst",
    "own_bytes_per_client": "memory of the generator for each virtual client",
    "own_cpu_percent": "CPU that the busiest process that measures used, of one core",
    "own_cpu_wait_percent": "time that a process that measures was ready to run and others had the CPU, at worst",
    "server_cpu_wait_percent": "time that the server was ready to run and other programs had the CPU (--server-pid)",
    "steal_percent": (
        "time that the host took from this machine's processors, of all their time: in the steady window, or during the"
        " attack"
    ),
    "connects_per_s": "connections established a second while the crowd opened",
}

RUN: Final = MappingProxyType(
    {
        "held": "clients established in the steady window",
        "refused": "clients turned away: connection refused, 429, 503",
        "failed": "clients that were not established for another reason",
        "ended": "clients that were established and that the server then ended",
        "ack_p50_ms": "intended send time to acknowledgement, median",
        "ack_p99_ms": "intended send time to acknowledgement, 99th percentile",
        "ack_max_ms": "intended send time to acknowledgement, at worst",
        "echo_p50_ms": "intended send time to the sender's own message coming back, median",
        "echo_p99_ms": "intended send time to the sender's own message coming back, 99th percentile",
        "echo_max_ms": "intended send time to the sender's own message coming back, at worst",
        "unacknowledged": "messages sent and never acknowledged",
        "unreturned": "messages sent that never came back to their sender",
        "missed": "messages acknowledged that members of their room were never given, for each member that missed one",
        "message_errors": "messages that the server refused with an error",
        "messages_per_s": "messages acknowledged, late ones too, for each second of the steady window",
        "deliveries_per_s": "messages delivered to virtual clients a second",
        "server_bytes_per_connection": "growth of the server's memory for each connection (--server-pid)",
        "server_bytes_per_further_connection": "the same growth for the second half of the crowd alone (--server-pid)",
        "server_cpu_us_per_connection_s": "server CPU per connection-second when steady, in us (--server-pid)",
        **COMMON,
    }
)

ATTACK: Final = MappingProxyType(
    {
        "success_percent": "victims' operations during the attack that succeeded",
        "baseline_failed": "victims' operations before the attack that failed",
        "attack_failed": "victims' operations during the attack that failed",
        "recovery_failed": "victims' operations after the attack that failed",
        "newcomers_came": "healthy clients that connected, did one operation and left, during the attack",
        "newcomers_success_percent": "of these, the part that succeeded",
        "newcomers_failed": "newcomers that failed, in all phases",
        "newcomers_p99_ms": "what newcomers took during the attack, connecting included, 99th percentile",
        "baseline_p50_ms": "the victims' operations before the attack, median",
        "baseline_p99_ms": "the victims' operations before the attack, 99th percentile",
        "attack_p50_ms": "the victims' operations during the attack, median",
        "attack_p99_ms": "the victims' operations during the attack, 99th percentile",
        "attack_p999_ms": "the victims' operations during the attack, 99.9th percentile",
        "attack_max_ms": "the victims' operations during the attack, at worst",
        "attack_ws_p99_ms": "WebSocket round trips during the attack, 99th percentile",
        "attack_poll_p99_ms": "long-polls during the attack, 99th percentile",
        "attack_sse_p99_ms": "event streams during the attack, 99th percentile",
        "attack_get_p99_ms": "plain GETs during the attack, 99th percentile",
        "recovery_p50_ms": "the victims' operations after the attack, median",
        "recovery_p99_ms": "the victims' operations after the attack, 99th percentile",
        "recovery_success_percent": "victims' operations after the attack that succeeded",
        "p50_ratio": "median during the attack divided by the baseline's",
        "p99_ratio": "99th percentile during the attack divided by the baseline's",
        "floor_baseline_p99_ms": "the same victims at the floor, before the same attack, 99th percentile (--floor)",
        "floor_p50_ms": "the same victims at the floor during the same attack, median (--floor)",
        "floor_p99_ms": (
            "the same victims at the floor during the same attack, 99th percentile (--floor); who was not answered"
            " there waited for as long as victims do"
        ),
        "floor_p99_ratio": "99th percentile during the attack divided by the floor's during the same (--floor)",
        "floor_over_ms": "the floor's 99th percentile above its baseline, where it did not fail its victims (--floor)",
        "p99_over_bar_ms": (
            "99th percentile above the bar, of the transport that is furthest from it; the bar is 1.5 times its"
            " baseline's or 25 ms above it, whichever is more"
        ),
        "recovery_p99_over_bar_ms": "the same after the attack",
        "worst_victim_over_bar_ms": "the median of the victim that fared worst during the attack, above the same bar",
        "first_failure_s": "from the attack's begin to the first operation that failed",
        "recover_s": "from the attack's end until nothing failed any more and the bar was kept",
        "acknowledged": "messages that the server acknowledged and that were looked for after the attack",
        "acknowledged_lost": "of these, no longer in their room's history",
        "malformed_accepted": "malformed requests taken although two programs may read them differently",
        "neighbours": "honest slow clients beside the attack",
        "collateral": "honest clients beside the attack that the server refused, failed, ended or did not let in",
        "attackers_asked": "attackers that were to come",
        "attackers_came": "attackers that reached the server at some time: let in, or turned away by an answer",
        "attempts_per_s": "connections that attackers tried to make a second",
        "attacker_bytes_per_s": "bytes that attackers sent a second",
        "attackers_peak": "most attackers connected at one moment",
        "attackers_held": "attackers still connected when the attack ended",
        "attackers_refused": "attempts turned away: connection refused, 429, 503",
        "attackers_killed": "attackers thrown out after they were connected",
        "kill_p50_s": "age at which attackers were thrown out, median",
        "kill_max_s": "age at which attackers were thrown out, at worst",
        "oldest_attacker_s": "age of the oldest attacker still connected when the attack ended",
        "bytes_cost_ratio": "bytes that attackers received for each that they sent",
        "server_cpu_cost_ratio": "server CPU above the baseline for each second of the attackers' (--server-pid)",
        "server_cpu_us_per_attacker_s": "server CPU above the baseline per attacker-second, in us (--server-pid)",
        "server_bytes_grown": "the most that the server's memory grew by in the attack, without the baseline's growth"
        " (--server-pid)",
        "server_bytes_per_attacker": "the same for each attacker that came (--server-pid)",
        "server_bytes_over_bar": "the same above what attackers may cost: 2 KiB each and 512 KiB once (--server-pid)",
        "server_bytes_left_over_bar": "what is left above what may be: 1 KiB each and 512 KiB once (--server-pid)",
        "server_bytes_left": "server memory after recovery above the baseline, without its growth (--server-pid)",
        "server_growth_bytes_s": "growth of the server's memory in the baseline: its victims' messages (--server-pid)",
        "server_descriptors_left": "server descriptors after recovery above the baseline (--server-pid)",
        "crowd_lag_p99_ms": "how late the attackers' own processes ran during the attack; they give way to all others",
        "baseline_pressure_percent": "time before the attack in which a program of this machine waited for a processor",
        "recovery_pressure_percent": "the same after the attack",
        "baseline_steal_percent": (
            "time that the host took from this machine's processors, of all their time: before the attack"
        ),
        **COMMON,
    }
)

_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = MappingProxyType(
    {">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne}
)
_TIME: Final = re.compile(r".*_ms|p\d+_ratio|floor_p99_ratio|recover_s")
_CONDITION: Final = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(>=|<=|==|!=|>|<)\s*(-?[0-9]+(?:\.[0-9]+)?)\s*")


class Condition(NamedTuple):
    """A threshold: the run fails if it is true."""

    figure: str
    sign: str
    limit: float

    def __str__(self) -> str:
        return f"{self.figure}{self.sign}{self.limit:g}"

    @property
    def is_time(self) -> bool:
        """Whether it is about how long something took, which other programs can change."""
        return _TIME.fullmatch(self.figure) is not None

    def judge(self, figures: Figures) -> str | None:
        """Say why the run fails by this condition, or return `None`."""
        value = figures[self.figure]
        if value is None:
            return f"{self.figure} was not measured, so {self} cannot be judged"
        return f"{self.figure} is {value:g} ({self})" if _OPERATORS[self.sign](value, self.limit) else None


def parse(conditions: Iterable[str], known: Iterable[str], *, server_pid: bool) -> tuple[Condition, ...]:
    """Read `--fail-if` arguments, each one or more conditions with commas between."""
    known = tuple(known)
    return tuple(_parse(text, known, server_pid) for many in conditions for text in many.split(","))


def _parse(text: str, known: tuple[str, ...], server_pid: bool) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UsageError(f"--fail-if: {text!r} is not of the form 'FIGURE>NUMBER'")
    name, sign, limit = match.groups()
    if name not in known:
        raise UsageError(f"--fail-if: there is no figure {name!r}; known are {', '.join(sorted(known))}")
    if name.startswith("server_") and not server_pid:
        raise UsageError(f"--fail-if: {name} is only measured with --server-pid")
    return Condition(name, sign, float(limit))
