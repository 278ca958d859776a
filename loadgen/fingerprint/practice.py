"""Good practice: what a limit and its probe are, and the one rule that marks a finding.

Owns: the marks. A limit itself is a row beside the code that probes it: its name, figure, range, reason and precedent.
May not: probe anything.

A range has two ends because a wrong limit hurts in two ways: honest slow users if it is too tight (`harsh`), everybody
else if it is too loose (`lenient`) or not there (`missing`).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from loadgen.fingerprint.findings import Failed, Finding, Found, NoneSeen, NotApplicable, Unit
from loadgen.fingerprint.site import Need, Site


class Mark(StrEnum):
    GOOD = "good"
    LENIENT = "lenient"  # there is a limit, but it lets an attacker do more than good servers do
    HARSH = "harsh"  # it hurts honest slow users
    MISSING = "missing"  # there is no limit
    UNDECIDED = "undecided"  # no limit was seen, but we did not look as far as good servers go
    NONE = ""  # nothing to mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    name: str  # of the probe, for people
    figure: str
    meaning: str
    why: str
    good: tuple[float | None, float | None]  # a value below it is marked `below`, one above it `above`
    unit: Unit = Unit.SECONDS
    below: Mark = Mark.HARSH
    above: Mark = Mark.LENIENT
    absent: Mark = Mark.MISSING
    enough: float | None = None  # how far "none seen" must have looked to count; by default the upper end of `good`
    nothing: float = float("inf")  # the value of "none seen" in a --fail-if

    @property
    def bounds(self) -> str:
        if self.unit is Unit.YES_NO:
            return "yes"
        if self.absent is Mark.GOOD:
            return "none"
        least, most = (None if end is None else f"{end:,.0f}" for end in self.good)
        unit = f" {self.unit.value}".replace(" %", "%")
        if least and most:
            return f"{least} to {most}{unit}"
        return f"at least {least}{unit}" if least else f"at most {most}{unit}"


#: Units that need several samples. A size needs none: its search takes many steps and confirms both ends.
_SAMPLED: Final = frozenset({Unit.SECONDS, Unit.RATE, Unit.YES_NO})

SAMPLES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Limit):
    need: Need = Need.HTTP  # what the server must serve
    play: Callable[[Site], Awaitable[Finding]]

    @property
    def samples(self) -> int:
        return SAMPLES if self.unit in _SAMPLED else 1


def mark(limit: Limit, finding: Finding) -> Mark:
    """Compare a finding with good practice; a value that may lie in the range, given its uncertainty, is good.

    A connection may end early by accident, but not late: the median decides whether a time is too short, the longest
    sample whether it is too long.
    """
    least, most = limit.good
    match finding:
        case Found(value=value, uncertainty=doubt):
            slack = doubt if limit.unit is Unit.SECONDS else 0.0
            short = finding.least if limit.unit is Unit.YES_NO else value
            long = finding.most if limit.unit is Unit.SECONDS else value
            if least is not None and short + slack < least:
                return limit.below
            if most is not None and long - slack > most:
                return limit.above
            return Mark.GOOD
        case NoneSeen(looked=looked):
            enough = most if limit.enough is None else limit.enough
            return limit.absent if enough is None or looked >= enough else Mark.UNDECIDED
        case NotApplicable() | Failed():
            return Mark.NONE
