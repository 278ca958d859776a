"""The verdict: the one place where it is decided how a run ended.

Owns: the order in which facts count. Data in, a verdict with its reasons out. May not: measure, or know which command
asks.

What shows in counts (a failure, a lost message, a dead server) is the target's, however busy this machine was: a
failure takes seconds of silence or an answer that says no. What shows in times is the target's only where nothing else
took them: with `noise` it is no measurement.
"""

from dataclasses import dataclass
from typing import Final

from loadgen.figures import Condition, Figures
from loadgen.report import Outcome, Verdict, verdict

_STOPPED: Final = "stopped before the end; the figures cover what was done"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that a verdict is made of."""

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
    """Decide how a run ended."""
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
    """What several outcomes come to."""
    return next((each for each in _BY_GRAVITY if each in outcomes), Outcome.NOT_EXERCISED)
