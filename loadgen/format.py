"""How numbers, figures and parts of a report are worded, the same on the terminal, on the page and in junit.xml.

Owns: digits and thousands, the unit that a figure's name carries, the groups in which figures are shown, what a part
of a scorecard is called, and that nothing a server said can steer a terminal. May not: print, or know HTML.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

from loadgen import figures
from loadgen.report import Outcome, Report

SENTENCES: Final[Mapping[Outcome, str]] = {
    Outcome.HELD: "The target held.",
    Outcome.FELL_SHORT: "The target fell short.",
    Outcome.INVALID: "No measurement of the target: something else was the bottleneck.",
    Outcome.NOT_EXERCISED: "The attack did not take place, so there is nothing to judge.",
    Outcome.INTERRUPTED: "Stopped before the end.",
}

_TIMES: Final = "\N{MULTIPLICATION SIGN}"

#: The unit of a figure, by the first of these that its name contains.
_UNITS: Final = (
    (re.compile(r"ratio"), _TIMES),
    (re.compile(r"percent"), "%"),
    (re.compile(r"_bytes_per_s$"), "B/s"),
    (re.compile(r"(^|_)bytes(_|$)"), "B"),
    (re.compile(r"(^|_)us(_|$)"), "µs"),
    (re.compile(r"_bps$"), "B/s"),
    (re.compile(r"_ms$"), "ms"),
    (re.compile(r"_per_s$"), "/s"),
    (re.compile(r"_s$"), "s"),
)

#: The group of a figure, by the first of these that its name matches; shown in the order of GROUPS.
_GROUPS: Final = (
    ("generator", re.compile(r"(crowd_)?lag_|own_|(baseline|recovery)_pressure_|(baseline_)?steal_|connects_per_s")),
    ("honest slow clients", re.compile(r"collateral|neighbours?")),
    ("cost", re.compile(r"server_|cost_|.*_(cost|spent)(_|$)")),
    ("attackers", re.compile(r"attackers?_(?!p\d|max)|attempts_|kill|oldest_attacker|malformed")),
    ("messages", re.compile(r"ack_|echo_|missed|acknowledged|unacknowledged|unreturned|message|deliveries")),
    ("clients", re.compile(r"(held|refused|failed|ended)$")),
    (
        "victims",
        re.compile(
            r"(baseline|attack|recovery|floor|victims?|newcomers|worst|round|success|failed|p\d+|max)_|first_fail|.*recover"
        ),
    ),
)
OTHER: Final = "other"
GROUPS: Final = (
    "victims",
    "honest slow clients",
    "messages",
    "clients",
    "attackers",
    "cost",
    "generator",
    OTHER,
)

_KNOWN: Final = frozenset((*figures.RUN, *figures.ATTACK))

_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # controls, bidi overrides, lone surrogates, line ends


class Amount(NamedTuple):
    """A number as it is shown."""

    value: str
    unit: str

    def __str__(self) -> str:
        return self.value + (self.unit if self.unit in {"", "%", _TIMES} else f" {self.unit}")


class FigureGroup(NamedTuple):
    """Figures that are read together."""

    title: str
    figures: Mapping[str, float]


def worded(outcome: Outcome) -> str:
    """An outcome as a verdict has it."""
    return outcome.name.lower().replace("_", " ")


class Tone(Enum):
    """How a word of judgement is meant."""

    GOOD = "good"
    DOUBT = "doubt"
    BAD = "bad"


TONES: Final[Mapping[Outcome, Tone]] = {
    Outcome.HELD: Tone.GOOD,
    Outcome.FELL_SHORT: Tone.BAD,
    Outcome.INVALID: Tone.DOUBT,
    Outcome.NOT_EXERCISED: Tone.DOUBT,
    Outcome.INTERRUPTED: Tone.DOUBT,
}

_WORDS: Final[Mapping[str, Tone]] = {
    **{worded(outcome): tone for outcome, tone in TONES.items()},
    # what a fingerprint calls a limit
    "good": Tone.GOOD,
    "lenient": Tone.DOUBT,
    "undecided": Tone.DOUBT,
    "harsh": Tone.BAD,
    "missing": Tone.BAD,
}


def tone_of(words: str) -> Tone | None:
    """How a verdict or a mark is meant; `None` for any other words."""
    return _WORDS.get(words)


def number(value: float) -> str:
    """Three digits that mean something, all those before the point, thousands apart."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if value == int(value) or size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def size(count: float) -> Amount:
    """Bytes, in the binary unit that keeps the number short."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024 * 10:
            return Amount(number(round(count) if unit == "B" and abs(count) >= 10 else count), unit)
        count /= 1024
    return Amount(number(count), "GiB")


def span(seconds: float) -> str:
    """A stretch of time for a person."""
    if seconds < 60:
        return f"{number(round(seconds, 1))} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def figure(name: str, value: float) -> Amount:
    """A figure of the report."""
    unit = next((unit for pattern, unit in _UNITS if pattern.search(name)), "")
    if unit == "B":
        return size(value)
    return Amount(percent(value) if unit == "%" else number(value), unit)


def group_of(name: str) -> str:
    """The group that a figure is shown in."""
    return next((group for group, pattern in _GROUPS if pattern.match(name)), OTHER)


def grouped(report: Report) -> list[FigureGroup]:
    """What was measured, in groups; figures that are not of run or attack stay together."""
    measured = {name: value for name, value in report.figures.items() if value is not None}
    if not report.figures.keys() <= _KNOWN:
        return [FigureGroup(report.command, measured)] if measured else []
    groups = [
        FigureGroup(title, {name: value for name, value in measured.items() if group_of(name) == title})
        for title in GROUPS
    ]
    return [group for group in groups if group.figures]


def total(reasons: Mapping[str, int]) -> int:
    """How many, for whatever reason."""
    return sum(reasons.values())


def percent(value: float) -> str:
    """A rate that says 100 only if it was: of a million round trips one may matter."""
    return number(value) if not 99 <= value < 100 else f"{min(value, 99.99):.2f}"


def success_percent(succeeded: int, failed: Mapping[str, int]) -> str:
    """What share succeeded; empty where nothing was tried."""
    attempts = succeeded + total(failed)
    return percent(100 * succeeded / attempts) if attempts else ""


def replay(report: Report) -> str:
    """The command line that plays the same choices again. Without a seed nothing was left to chance."""
    line = report.arguments or f"loadgen {report.command} {report.target}"
    return line if "--seed" in line or not report.seed else f"{line} --seed {report.seed}"


def judges_parts(report: Report) -> bool:
    """Whether the verdicts on its parts are the report's own; a comparison has other servers in it, and judges none."""
    return all(part.target == report.target for part in report.parts)


def part_names(parts: Sequence[Report]) -> list[str]:
    """What the parts of a report are called: by their commands, then by their targets as well, at last by number."""
    names = [part.command for part in parts]
    often = Counter(names)
    names = [f"{name}, {part.target}" if often[name] > 1 else name for name, part in zip(names, parts, strict=True)]
    often, seen = Counter(names), Counter[str]()
    for at, name in enumerate(names):
        if often[name] > 1:
            seen[name] += 1
            names[at] = f"{name}, {seen[name]}"
    return names


def printable(text: str) -> str:
    """Text from outside without anything that steers a terminal, reorders a line or breaks XML."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if _steers(each) else each for each in text)


def _steers(character: str) -> bool:
    return unicodedata.category(character) in _STEERING or character in "\ufffe\uffff"
