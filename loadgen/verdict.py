"""The verdict: the one place where it is decided how a run ended.

Owns: the order in which facts count, and the limits beyond which this machine, its host or the generator itself is a
suspect. Data in, a verdict with its reasons out. May not: measure, or know which command asks.

What shows in counts (a failure, a lost message, a dead server) is the target's, however busy this machine was: a
failure takes seconds of silence or an answer that says no. What shows in times is the target's only where nothing else
took them: with `noise` it is no measurement.
"""

from dataclasses import dataclass
from typing import Final

from loadgen.bar import MARGIN_MS
from loadgen.figures import Condition, Figures
from loadgen.report import LAG_LIMIT_MS, Outcome, Verdict, verdict

_STOPPED: Final = "stopped before the end; the figures cover what was done"


@dataclass(frozen=True, kw_only=True)
class Facts:
    figures: Figures
    bar: tuple[Condition, ...]  # what the target must hold to, `--fail-if` included
    died: str = ""  # what shows that the target is gone
    faults: tuple[str, ...] = ()  # why nothing that was measured counts
    busy: tuple[str, ...] = ()  # why what was measured proves too little, unless a count is broken
    noise: tuple[str, ...] = ()  # why a late answer need not be the target's
    loose: tuple[str, ...] = ()  # why the bar allowed more than it should have: what is over it all the same counts
    not_exercised: tuple[str, ...] = ()  # why holding proves nothing
    notes: tuple[str, ...] = ()  # what else a reader must know
    interrupted: bool = False


def decide(facts: Facts) -> Verdict:
    outcome, reasons = _decide(facts)
    return verdict(outcome, reasons, facts.notes)


def _decide(facts: Facts) -> tuple[Outcome, list[str]]:
    broken = [(condition, why) for condition in facts.bar if (why := condition.judge(facts.figures))]
    in_times = [why for condition, why in broken if condition.is_time]
    in_counts = [why for condition, why in broken if not condition.is_time]
    everything, doubts = [why for _, why in broken], [*facts.busy, *facts.noise]
    if facts.interrupted:
        return Outcome.INTERRUPTED, [_STOPPED, *facts.faults]
    if facts.died:
        return Outcome.FELL_SHORT, [f"the server died: {facts.died}", *everything]
    if facts.faults:
        return Outcome.INVALID, [*facts.faults, *everything, *doubts]
    if in_counts:
        return Outcome.FELL_SHORT, [*in_counts, *in_times, *doubts, *facts.not_exercised]
    if in_times and not doubts:
        return Outcome.FELL_SHORT, [*in_times, *facts.not_exercised]
    if facts.not_exercised:
        return Outcome.NOT_EXERCISED, [*facts.not_exercised, *doubts, *in_times]
    if in_times or facts.busy or facts.loose:
        return Outcome.INVALID, [*doubts, *facts.loose, *in_times]
    return Outcome.HELD, []


#: Of several parts, the gravest decides. Parts that were not exercised decide only where nothing else was found.
_BY_GRAVITY: Final = (Outcome.FELL_SHORT, Outcome.INVALID, Outcome.HELD, Outcome.NOT_EXERCISED)


def worst(outcomes: list[Outcome]) -> Outcome:
    return next((each for each in _BY_GRAVITY if each in outcomes), Outcome.NOT_EXERCISED)


# What else than the target may have made an answer late

#: A generator as late as this is a fifth of what the bar allows a server.
LATE_MS: Final = MARGIN_MS / 5

#: ATTACKS.md: a run counts in which the host took less than this.
STEAL_PERCENT: Final = 4.0

#: ATTACKS.md: and in which the bare loop, attacked in the same run, kept within this. One that failed its victims did
#: not: each of those operations took the whole timeout.
FLOOR_MS: Final = 15.0

#: A program ready to run waited for this part of the baseline, or of the recovery, in which a server and its victims
#: have hardly anything to do.
PRESSURE_PERCENT: Final = 20.0

#: A process that waits for this part of its time is not what is slow.
WAIT_PERCENT: Final = 20.0

#: A process that uses this much of one processor is not on time for all that it has to measure.
CPU_PERCENT: Final = 85.0

#: Where a generator is late itself: at what it does by itself, and at what comes for it.
_LATE: Final = (
    ("lag_p99_ms", "the generator's own schedule was {:g} ms late at the 99th percentile: it lacked CPU"),
    ("backlog_p99_ms", "what came for the generator lay unread for {:g} ms at the 99th percentile: it lacked CPU"),
)

#: What else a generator that was late has to say, of what was measured.
_WHY_LATE: Final = (
    ("own_cpu_percent", "it used {:g}% of one"),
    ("own_cpu_wait_percent", "waited {:g}% of the time while other programs had it"),
    ("steal_percent", "the host took {:g}% of the processors' time"),
)

_SUSPECTS: Final = (
    ("lag_p99_ms", LATE_MS, "the generator itself was {:g} ms late"),
    ("own_cpu_percent", CPU_PERCENT, "the generator used {:g}% of its processor"),
    ("own_cpu_wait_percent", WAIT_PERCENT, "the generator waited for a processor {:g}% of its time"),
    ("server_cpu_wait_percent", WAIT_PERCENT, "the server waited for a processor {:g}% of its time"),
    ("baseline_pressure_percent", PRESSURE_PERCENT, "other programs kept this machine busy: {:g}% before the attack"),
    ("recovery_pressure_percent", PRESSURE_PERCENT, "other programs kept this machine busy: {:g}% after the attack"),
    ("baseline_steal_percent", STEAL_PERCENT, "the host took {:g}% of the processors' time before the attack"),
    ("steal_percent", STEAL_PERCENT, "the host took {:g}% of the processors' time"),
    ("floor_p99_ms", FLOOR_MS, "the floor itself was late: {:g} ms"),
    ("backlog_p99_ms", LATE_MS, "the generator read {:g} ms late"),
)


def busy(figures: Figures) -> tuple[str, ...]:
    """Why the generator cannot be believed: it was too late itself."""
    late = [words.format(value) for name, words in _LATE if (value := figures.get(name)) and value > LAG_LIMIT_MS]
    why = ", ".join(words.format(value) for name, words in _WHY_LATE if (value := figures.get(name)))
    return (f"{late[0]} ({why})" if why else late[0], *late[1:]) if late else ()


def suspects(figures: Figures) -> tuple[str, ...]:
    """Why a late answer need not be the target's; nothing on a quiet machine."""
    return tuple(
        words.format(value)
        for name, limit, words in _SUSPECTS
        if (value := figures.get(name)) is not None and value > limit
    )
