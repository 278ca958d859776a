"""What a probe found: a limit, no limit within its range, nothing to probe, or a failure of its own.

Owns: the four kinds, their wording, and how several samples become one. The kinds are separate types because "none seen
within 100 s" is a statement about the server, and "not applicable" and "failed" are not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

#: Two times that differ by less than this fraction are the same deadline.
_SAME: Final = 0.1


class Unit(Enum):
    SECONDS = "s"
    BYTES = "B"
    RATE = "B/s"
    PERCENT = "%"
    FIELDS = "fields"
    FRAGMENTS = "fragments"
    CONNECTIONS = "connections"
    YES_NO = ""

    def show(self, value: float) -> str:
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

    A time may be off by `uncertainty` either way. A size or a rate is the last tried value that the server allowed; the
    limit lies at most `uncertainty` beyond it. `others` are the values of further samples, infinity for a connection
    that was not ended.
    """

    value: float
    uncertainty: float = 0.0
    how: str = ""
    others: tuple[float, ...] = ()

    @property
    def least(self) -> float:
        return min((self.value, *self.others))

    @property
    def most(self) -> float:
        return max((self.value, *self.others))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoneSeen:
    """There was no limit up to `looked`, where the probe ended."""

    looked: float
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotApplicable:
    """The server has nothing that could be probed here."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The probe did not finish, so nothing is known."""

    why: str


Finding = Found | NoneSeen | NotApplicable | Failed


def merge(samples: Sequence[Finding], unit: Unit = Unit.SECONDS, *, kept_is_good: bool = False) -> Finding:
    """Combine samples of one limit: the median with the others beside it, of the least favourable kind."""
    found = sorted((each for each in samples if isinstance(each, Found)), key=lambda each: each.value)
    kept = [each for each in samples if isinstance(each, NoneSeen)]
    failed = [each for each in samples if isinstance(each, Failed)]
    if 2 * len(failed) > len(samples):
        return failed[0]
    doubt = f"{len(failed)} of {len(samples)} failed: {failed[0].why}" if failed else ""
    outlived = max(kept, key=lambda each: each.looked, default=None)
    # a rate cannot be compared with the seconds for which a reader was kept
    later = bool(found) and unit is Unit.SECONDS and outlived is not None and outlived.looked <= found[-1].most
    if found and (outlived is None or kept_is_good or later):
        others = [value for each in found for value in (each.value, *each.others)]
        middle = found[len(found) // 2]
        others.remove(middle.value)
        doubts = max(each.uncertainty for each in found)
        return replace(middle, uncertainty=doubts, others=tuple(others), how=_sentence(middle.how, doubt))
    if outlived is not None:
        verb = "ended after" if unit is Unit.SECONDS else "found"
        ended = f"{len(found)} of {len(samples)} {verb} {describe(found[0], unit)}" if found else ""
        return NoneSeen(looked=outlived.looked, how=_sentence(outlived.how, ended, doubt))
    return failed[0] if failed else samples[0]


def longest(ways: Mapping[str, Finding], fast: str = "") -> Finding:
    """Combine several ways of making a server wait: the longest wait is the deadline.

    If only the `fast` way outlasts it, a minimum rate ended the slow ones, not a deadline.
    """
    known = {name: each for name, each in ways.items() if isinstance(each, Found | NoneSeen)}
    slow = [each for name, each in known.items() if name != fast]
    failed = next((each for each in ways.values() if isinstance(each, Failed)), None)
    if failed or not slow:  # a way that failed might have lasted longest
        return failed or merge(list(ways.values()))
    finding = max(slow, key=_held)
    if isinstance(finding, Found) and fast in known and _later(known[fast], finding):
        kept = known[fast]
        bound = kept.value if isinstance(kept, Found) else math.inf
        return replace(finding, others=(bound,), how=_sentence(finding.how, _compared(known), "a least rate"))
    if len(known) == 1:
        return finding
    if isinstance(finding, NoneSeen):
        ended = any(isinstance(each, Found) for each in known.values())
        return replace(finding, how=_sentence(finding.how, f"{_compared(known)}: no total deadline" if ended else ""))
    if any(_later(finding, each) for each in known.values() if isinstance(each, Found)):
        return replace(finding, how=_sentence(finding.how, _compared(known), "progress extends it"))
    return replace(finding, how=_sentence(finding.how, "a total deadline"))


def _held(finding: Found | NoneSeen) -> float:
    return finding.value if isinstance(finding, Found) else finding.looked


def _later(late: Found | NoneSeen, early: Found) -> bool:
    return _held(late) > early.value + max(early.uncertainty, _SAME * early.value)


def _compared(ways: Mapping[str, Found | NoneSeen]) -> str:
    return ", ".join(f"{name} {describe(each, Unit.SECONDS)}" for name, each in ways.items())


def _sentence(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def describe(finding: Finding, unit: Unit) -> str:
    match finding:
        case Found() if unit is Unit.YES_NO and finding.least != finding.most:
            return "not always"
        case Found() if finding.most - finding.least > finding.uncertainty:
            least = unit.show(finding.least)
            return f"{least} or more" if math.isinf(finding.most) else f"{least} to {unit.show(finding.most)}"
        case Found():
            return f"{unit.show(finding.value)}{_doubt(finding, unit)}"
        case NoneSeen():
            return f"none seen {_as_far_as(finding.looked, unit)}"
        case NotApplicable():
            return "not applicable"
        case Failed():
            return "failed"


def remark(finding: Finding) -> str:
    return finding.how if isinstance(finding, Found | NoneSeen) else finding.why


def _as_far_as(looked: float, unit: Unit) -> str:
    # the search for a minimum reading rate is bounded by time, not by a rate: no reader is slower than silence
    if unit in {Unit.SECONDS, Unit.RATE}:
        return f"within {looked:.0f} s" if looked >= 10 else f"within {looked:.2g} s"
    return f"up to {unit.show(looked)}"


def _doubt(found: Found, unit: Unit) -> str:
    if unit is Unit.SECONDS:
        return f" ±{found.uncertainty:.2f}"
    if found.uncertainty <= 1:  # exact: one more byte, field or fragment was refused
        return ""
    if unit is Unit.RATE:
        return f" (ended at {unit.show(found.value - found.uncertainty)})"
    return f" (to {found.value + found.uncertainty:,.0f})"
