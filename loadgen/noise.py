"""What else than the target may have made an answer late.

Owns: the limits beyond which this machine, its host or the generator itself is a suspect, and how that is worded. May
not: decide anything; `verdict.py` does.
"""

from typing import Final

from loadgen.bar import MARGIN_MS
from loadgen.figures import Figures
from loadgen.report import LAG_LIMIT_MS

#: A generator as late as this is a fifth of what the bar allows a server.
LATE_MS: Final = MARGIN_MS / 5

#: ATTACKS.md: a run counts in which the host took less than this.
STEAL_PERCENT: Final = 4.0

#: ATTACKS.md: and in which the bare loop, attacked in the same run, kept within this.
FLOOR_MS: Final = 15.0

#: Somebody ready to run waited for this part of the baseline, or of the recovery, in which a server and its victims
#: have hardly anything to do.
PRESSURE_PERCENT: Final = 20.0

#: A process that waits for this part of its time is not the one that is slow.
WAIT_PERCENT: Final = 20.0

#: A process that uses this much of one processor is not on time for all that it has to measure.
CPU_PERCENT: Final = 85.0

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
    ("floor_over_ms", FLOOR_MS, "the bare floor, attacked as well, was {:g} ms late"),
)


def busy(figures: Figures) -> tuple[str, ...]:
    """Why the generator cannot be believed: it was too late itself."""
    lag = figures["lag_p99_ms"]
    if lag is None or lag <= LAG_LIMIT_MS:
        return ()
    why = ", ".join(words.format(value) for name, words in _WHY_LATE if (value := figures.get(name)))
    late = f"the generator's own schedule was {lag:g} ms late at the 99th percentile: it lacked CPU"
    return (f"{late} ({why})" if why else late,)


def suspects(figures: Figures) -> tuple[str, ...]:
    """Why a late answer need not be the target's; nothing on a quiet machine."""
    return tuple(
        words.format(value)
        for name, limit, words in _SUSPECTS
        if (value := figures.get(name)) is not None and value > limit
    )
