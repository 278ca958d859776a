"""Good practice: what a limit and its probe are, the one rule that marks a finding, and the tables and the verdict.

Owns: the marks and the wording of the results. A limit itself is a row beside the code that probes it: its name,
figure, range, reason and precedent. May not: probe anything, wait, or touch a socket.

A range has two ends because a wrong limit hurts in two ways: honest slow users if it is too tight (`harsh`), all
others if it is too loose (`lenient`) or not there (`missing`).
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from loadgen.fingerprint.found import Failed, Finding, Found, NoneSeen, NotApplicable, Unit, describe, remark
from loadgen.fingerprint.site import Need, Site
from loadgen.report import schema
from loadgen.report.conditions import Condition
from loadgen.report.figures import Better, Figure
from loadgen.report.schema import Outcome, Table, Verdict


class Mark(StrEnum):
    GOOD = "good"
    LENIENT = "lenient"  # there is a limit, but it lets an attacker do more than good servers do
    HARSH = "harsh"  # it hurts honest slow users
    MISSING = "missing"  # there is none as far as good servers go
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
    def declared(self) -> Figure:
        """The figure, of which less or more may be worse: a deadline may be too long or too short."""
        return Figure(self.figure, self.unit.value, self.meaning, better=Better.NEITHER)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Limit):
    need: Need = Need.HTTP  # what the server must serve
    play: Callable[[Site], Awaitable[Finding]]

    @property
    def samples(self) -> int:
        # the search for a size takes many steps, and confirms both ends
        return 3 if self.unit in {Unit.SECONDS, Unit.RATE, Unit.YES_NO} else 1


#: Deadlines of up to 89 s are in use (node; nginx and aiohttp have 75). After a shorter look none is called missing.
LONGEST_SECONDS: Final = 90.0


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
            if enough is not None and limit.unit is Unit.SECONDS:
                enough = max(enough, LONGEST_SECONDS)
            return limit.absent if enough is None or looked >= enough else Mark.UNDECIDED
        case NotApplicable() | Failed():
            return Mark.NONE


#: If our own schedule runs later than this, measured seconds are doubtful.
LAG_LIMIT_SECONDS: Final = 1.0


class Result(NamedTuple):
    limit: Limit
    finding: Finding

    @property
    def name(self) -> str:
        return self.limit.name

    @property
    def mark(self) -> Mark:
        return mark(self.limit, self.finding)

    @property
    def words(self) -> str:
        return describe(self.finding, self.limit.unit)


def values_of(results: Sequence[Result]) -> dict[str, float | None]:
    """The figures by name: each value found, and the number of rows with each mark."""
    marks = Counter(result.mark for result in results)
    return {
        **{limit.figure: round(found.value, 3) if isinstance(found, Found) else None for limit, found in results},
        **{f"limits_{each}": marks[each] for each in Mark if each},
        "probes_failed": len(_failed(results)),
    }


def judge(
    results: Sequence[Result],
    conditions: Sequence[Condition],
    *,
    no_bar: bool = False,
    lag: float = 0.0,
    died: str = "",
    stopped: bool = False,
) -> Verdict:
    """Decide the outcome. A failed probe says nothing about the target, so a run that has one cannot be `HELD`."""
    wrong = [each for each in results if each.mark in {Mark.MISSING, Mark.HARSH} and not no_bar]
    short = [f"{each.mark}: {each.name} ({each.words})" for each in wrong]
    short = [*filter(None, [died]), *short, *_broken(results, conditions)]
    unknown = [] if died or no_bar else _failed(results)
    failed = [f"failed: {names} ({why})" for why, names in _by_reason((remark(each.finding), each) for each in unknown)]
    marks = Counter(result.mark for result in results)
    counts = ", ".join(f"{marks[each]} {each}" for each in Mark if each and marks[each])
    notes = [counts] if counts else []
    if stopped:
        return schema.verdict(Outcome.INTERRUPTED, ["stopped before the end; what was decided is in the table"], notes)
    if lag > LAG_LIMIT_SECONDS:
        late = f"the prober's own schedule was {lag:.1f} s late at worst: it lacked CPU"
        return schema.verdict(Outcome.INVALID, [late, *short], notes)
    if short:
        return schema.verdict(Outcome.FELL_SHORT, [*short, *failed], notes)
    return schema.verdict(Outcome.INVALID if failed else Outcome.HELD, failed, notes)


def _failed(results: Sequence[Result]) -> list[Result]:
    return [each for each in results if isinstance(each.finding, Failed)]


def _broken(results: Sequence[Result], conditions: Sequence[Condition]) -> list[str]:
    """Conditions that any sample breaks; a limit that was not seen counts as `nothing`, usually infinity."""
    least, most = values_of(results), values_of(results)
    for limit, finding in results:
        if isinstance(finding, NoneSeen):
            least[limit.figure] = most[limit.figure] = limit.nothing
        elif isinstance(finding, Found):
            least[limit.figure], most[limit.figure] = finding.least, finding.most
    reasons = (each.judge(most) or each.judge(least) for each in conditions)
    return [reason for reason in reasons if reason is not None]


def found_of(results: Sequence[Result], notes: Sequence[str]) -> Table:
    rows = [
        [each.name, each.words, each.mark.value, each.limit.bounds, remark(each.finding)]
        for each in results
        if not isinstance(each.finding, NotApplicable)
    ]
    return Table(
        title="limits",
        columns=["probe", "found", "mark", "good practice", "how it ended"],
        rows=rows,
        notes=[*notes, *_not_shown(results)],
    )


def advice_on(results: Sequence[Result]) -> Table:
    """The table of advice, one row for each finding that is not good."""
    rows = [
        [each.name, each.mark.value, each.limit.meaning, each.limit.why]
        for order in (Mark.HARSH, Mark.MISSING, Mark.LENIENT)
        for each in results
        if each.mark is order
    ]
    return Table(title="advice", columns=["probe", "mark", "what it is", "what others do, and why"], rows=rows)


def _not_shown(results: Sequence[Result]) -> list[str]:
    """What was left out or not decided, in a line for each reason."""
    left_out = [
        (f"not applicable, {each.finding.why}", each) for each in results if isinstance(each.finding, NotApplicable)
    ]
    further = "good practice goes further than we looked, a longer --within or more CPU may show it"
    undecided = [(further, each) for each in results if each.mark is Mark.UNDECIDED]
    return [f"{why}: {names}" for why, names in _by_reason([*left_out, *undecided])]


def _by_reason(results: Iterable[tuple[str, Result]]) -> list[tuple[str, str]]:
    """Each reason once, with the names of all the probes that have it."""
    names: dict[str, list[str]] = {}
    for why, each in results:
        names.setdefault(why, []).append(each.name)
    return [(why, "; ".join(alike)) for why, alike in names.items()]
