"""The verdict: the one place that decides how a run ended.

Owns: the precedence of the facts, and the limits beyond which this machine, its host or the generator itself is a
suspect. May not: measure, or know which command asks.

Counts (a failure, a dead server) are the target's doing, however busy this machine was. Times are the target's only if
nothing else can explain them; so are answers that never came in time, if other programs took the processors from the
target. What the server said (a lost message, a malformed request accepted) is proof even if the generator failed.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from loadgen.report.bar import MARGIN_MS
from loadgen.report.conditions import Condition
from loadgen.report.figures import Figures
from loadgen.report.format import number
from loadgen.report.schema import Outcome, Verdict, verdict

_STOPPED: Final = "stopped before the end; the figures cover what was done"


def decide(
    figures: Figures,
    bar: Sequence[Condition],  # conditions that fail the target if true, `--fail-if` included
    *,
    down: str = "",  # the evidence that the target serves nobody any more
    faults: Sequence[str] = (),  # why the whole measurement is void
    doubts: Sequence[str] = (),  # why something else than the target may have made answers late
    unproven: Collection[str] = (),  # figures that count only answers which came too late, as before the attack
    unsure: Sequence[str] = (),  # why holding proves too little; exceeding the bar still counts
    not_exercised: Sequence[str] = (),  # why holding proves nothing
    notes: Sequence[str] = (),  # further remarks for the reader
    interrupted: bool = False,
) -> Verdict:
    """Decide. The reasons are why it ended so; what has no part in that is in the notes."""
    if faults or down:  # which explains what was not measured
        bar = [condition for condition in bar if figures[condition.figure] is not None]
    broken = [(condition, why) for condition in bar if (why := condition.judge(figures))]
    in_times = [why for condition, why in broken if condition.is_time or condition.figure in unproven]
    in_counts = [why for _, why in broken if why not in in_times]
    if in_times and doubts:
        believed, doubted = [*in_counts, f"latency not judged: {'; '.join(doubts)}"], in_times
    else:
        believed, doubted = [*in_counts, *in_times], [*doubts]
    if interrupted:
        return verdict(Outcome.INTERRUPTED, [_STOPPED], notes)
    if down:
        return verdict(Outcome.FELL_SHORT, [down, *believed], [*doubted, *notes])
    if faults and (proof := [why for condition, why in broken if condition.is_proof]):
        return verdict(Outcome.FELL_SHORT, proof, [*faults, *doubts, *notes])
    if faults:
        return verdict(Outcome.INVALID, [*faults, *in_counts, *in_times, *doubts], notes)
    if in_counts or (in_times and not doubts):
        return verdict(Outcome.FELL_SHORT, believed, [*doubted, *not_exercised, *notes])
    if not_exercised:
        return verdict(Outcome.NOT_EXERCISED, not_exercised, [*doubts, *in_times, *notes])
    if in_times or unsure:
        return verdict(Outcome.INVALID, [*doubts, *unsure, *in_times], notes)
    return verdict(Outcome.HELD, [], notes)


#: Of several parts, the gravest outcome decides. Parts that were not exercised decide only if there is no other
#: outcome.
_BY_GRAVITY: Final = (Outcome.FELL_SHORT, Outcome.INVALID, Outcome.HELD, Outcome.NOT_EXERCISED)


def worst(outcomes: list[Outcome]) -> Outcome:
    return next((each for each in _BY_GRAVITY if each in outcomes), Outcome.NOT_EXERCISED)


# Causes of late answers other than the target

#: The generator's own lateness may be a fifth of the margin that the bar allows a server.
LATE_MS: Final = MARGIN_MS / 5

#: If it was later at the 99th percentile, of its schedule or in reading what had come, no latency of the run is valid.
LAG_LIMIT_MS: Final = 25.0

#: The host may take this share of the processors' time; the run counts only if it took less.
STEAL_PERCENT: Final = 4.0

#: The 99th percentile that the floor (a bare loop, attacked in the same run) must keep. If it fails its victims it
#: exceeds this, since each failed operation counts with the whole timeout.
FLOOR_MS: Final = 15.0

#: Share of the baseline, or of the recovery, in which some program waited for a processor. A server and its victims
#: have hardly anything to do then, so other programs are the cause, or a machine too slow for these.
PRESSURE_PERCENT: Final = 20.0

#: A process that waits for a processor this much of its time is slow for that reason.
WAIT_PERCENT: Final = 20.0

#: A process that uses this much of one processor does not measure everything on time.
CPU_PERCENT: Final = 85.0

#: The figures that tell of such a cause, each with the most that is none, and the words.
_CAUSES: Final = {
    "lag_p99_ms": (LATE_MS, "the generator itself was {} ms late at the 99th percentile"),
    "backlog_p99_ms": (LATE_MS, "data for the generator lay unread for {} ms at the 99th percentile"),
    "own_cpu_percent": (CPU_PERCENT, "the generator used {}% of its processor"),
    "own_cpu_wait_percent": (WAIT_PERCENT, "the generator waited for a processor {}% of its time"),
    "server_cpu_wait_percent": (WAIT_PERCENT, "the server waited for a processor {}% of its time"),
    "baseline_pressure_percent": (
        PRESSURE_PERCENT,
        "programs waited for processors: {}% of the time before the attack",
    ),
    "recovery_pressure_percent": (PRESSURE_PERCENT, "programs waited for processors: {}% of the time after the attack"),
    "baseline_steal_percent": (STEAL_PERCENT, "the host took {}% of the processors' time before the attack"),
    "steal_percent": (STEAL_PERCENT, "the host took {}% of the processors' time"),
    "floor_p99_ms": (FLOOR_MS, "the floor itself was late: {} ms"),
}


def causes(figures: Figures, names: Iterable[str] = _CAUSES, *, most: float | None = None) -> list[str]:
    """What may have made answers late, of these figures and above `most`; nothing on a quiet machine."""
    found = [(figures.get(name) or 0.0, *_CAUSES[name]) for name in names]
    return [words.format(number(value)) for value, limit, words in found if value > (limit if most is None else most)]


def too_late(figures: Figures) -> list[str]:
    """Why no latency can be trusted, the good ones neither: the generator itself was too late."""
    return causes(figures, ("lag_p99_ms", "backlog_p99_ms"), most=LAG_LIMIT_MS)


def others_were_busy(figures: Figures) -> bool:
    """Whether the processors were busy, or the host had them, before the attack."""
    return bool(causes(figures, ("baseline_pressure_percent", "baseline_steal_percent")))
