"""What a probe found: a value, nothing as far as it looked, nothing to look at, or a failure of its own.

Owns: the four shapes and how they are worded. They are kept apart because their meanings are: "none seen within 100 s"
says something of the server, "not applicable" and "failed" do not.
"""

from dataclasses import dataclass
from enum import Enum


class Unit(Enum):
    """What a value counts."""

    SECONDS = "s"
    BYTES = "B"
    RATE = "B/s"
    PERCENT = "%"
    FIELDS = "fields"
    FRAGMENTS = "fragments"
    CONNECTIONS = "connections"
    YES_NO = ""

    def show(self, value: float) -> str:
        """Word a value."""
        if self is Unit.YES_NO:
            return "yes" if value else "no"
        if self is Unit.SECONDS:
            return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
        if self is Unit.PERCENT:
            return f"{value:.4g}%"
        return f"{value:,.0f} {self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A limit, and how the server enforced it.

    A time may be off by `uncertainty` either way. A size or a rate is the last one that was tried on the honest side;
    the limit lies at most `uncertainty` beyond it.
    """

    value: float
    uncertainty: float = 0.0
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoneSeen:
    """There was no limit as far as the probe looked."""

    looked: float
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotApplicable:
    """The server has nothing that could be probed here."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The probe came to no end, so nothing is known."""

    why: str


Finding = Found | NoneSeen | NotApplicable | Failed


def describe(finding: Finding, unit: Unit) -> str:
    """Word what was found."""
    match finding:
        case Found():
            return f"{unit.show(finding.value)}{_doubt(finding, unit)}"
        case NoneSeen():
            return f"none seen {_as_far_as(finding.looked, unit)}"
        case NotApplicable():
            return "not applicable"
        case Failed():
            return "failed"


def remark(finding: Finding) -> str:
    """Word how it ended, or why nothing was found."""
    return finding.how if isinstance(finding, Found | NoneSeen) else finding.why


def _as_far_as(looked: float, unit: Unit) -> str:
    # a floor on the reading rate is looked for with time: nobody reads slower than not at all
    if unit in {Unit.SECONDS, Unit.RATE}:
        return f"within {looked:.0f} s" if looked >= 10 else f"within {looked:.2g} s"
    return f"up to {unit.show(looked)}"


def _doubt(found: Found, unit: Unit) -> str:
    if unit is Unit.SECONDS:
        return f" ±{found.uncertainty:.2f}"
    if found.uncertainty <= 1:  # the next byte, field or fragment was refused: that is exact
        return ""
    if unit is Unit.RATE:
        return f" (ended at {unit.show(found.value - found.uncertainty)})"
    return f" (to {found.value + found.uncertainty:,.0f})"
