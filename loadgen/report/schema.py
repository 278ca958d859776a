"""The report: the results of a command, for the terminal, the page and machines.

Owns: the schema of `--json` and report.json (`schema` counts its versions; docs/loadgen.md describes it) and the
verdict. May not: print anything, or know how it is drawn.
"""

from collections import Counter
from collections.abc import Iterable
from copy import copy
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any, Final

import msgspec

from loadgen.net.timers import now
from loadgen.report.latency import Spread

#: 2: victims by transport, a richer timeline, tables, metrics, parts. 3: failures in percentiles; not exercised.
#: 4: no `kills` beside `lifetime`. 5: no `metrics`.
SCHEMA: Final = 5


class Tone(Enum):
    GOOD = "good"
    DOUBT = "doubt"
    BAD = "bad"


class Outcome(StrEnum):
    """How a command ended, with its exit code, and how it is said."""

    exit_code: int
    tone: Tone
    sentence: str

    HELD = "held", 0, Tone.GOOD, "The target held."
    FELL_SHORT = "fell short", 1, Tone.BAD, "The target fell short."
    INVALID = "invalid", 3, Tone.DOUBT, "This is no measurement of the target."
    NOT_EXERCISED = (
        "not exercised", 3, Tone.DOUBT, "The attack did not take place, so there is nothing to judge."
    )  # fmt: skip
    # the exit code as shells report a program ended by Ctrl-C
    INTERRUPTED = "interrupted", 130, Tone.DOUBT, "Stopped before the end."

    def __new__(cls, word: str, exit_code: int, tone: Tone, sentence: str) -> "Outcome":
        outcome = str.__new__(cls, word)
        outcome._value_ = word
        outcome.exit_code, outcome.tone, outcome.sentence = exit_code, tone, sentence
        return outcome


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a run, printed as the last line."""

    outcome: Outcome  # held, fell short, invalid, not exercised, interrupted
    reasons: list[str]  # why, worded for people
    notes: list[str] = []  # what else there is to know: how hard the attack was, what was left out, what is doubtful

    @property
    def explanation(self) -> list[str]:
        return [*self.reasons, *self.notes]


class PhaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """The results of one group of victims, or of the schedule's messages, in one phase."""

    name: str  # baseline, attack, recovery; steady
    what: str  # the group: WebSocket round trip, long-poll, event stream, GET; acknowledged, own message back
    seconds: float  # length of the phase
    succeeded: int  # operations
    failed: dict[str, int]  # by reason
    spread: Spread  # of all; a failed one counts with the whole timeout
    histogram: str = ""  # the whole distribution: HdrHistogram V2 in base64, in microseconds
    server_cpu_percent: float | None = None  # of one core, children included
    server_pss_bytes: int | None = None  # at the phase's end, without pages of files; shared pages counted once


class Tally(msgspec.Struct, kw_only=True):
    """What became of one persona's clients: counted by its cohort, sent by the workers, shown in the report."""

    wanted: int  # clients that were asked for
    held: int = 0  # established now, or at the end
    peak: int = 0  # most established at one moment
    opened: int = 0  # times that a client was established, reconnects included
    came: int = 0  # clients that reached the server at least once: established, or turned away by its answer
    left: int = 0  # times that a client closed by itself
    refused: dict[str, int] = msgspec.field(default_factory=Counter)  # attempts turned away, by reason
    failed: dict[str, int] = msgspec.field(default_factory=Counter)  # attempts that failed otherwise, by reason
    ended: dict[str, int] = msgspec.field(default_factory=Counter)  # established, disconnected later, by reason
    answers: dict[str, int] = msgspec.field(default_factory=Counter)  # notable answers, to attackers above all
    sent_bytes: int = 0  # by all of them
    received_bytes: int = 0  # by all of them
    deliveries: int = 0  # messages that reached them

    def counts(self) -> dict[str, Any]:
        """A copy of every counter, by name."""
        return {name: copy(getattr(self, name)) for name in Tally.__struct_fields__}


class CohortRow(Tally, kw_only=True):
    """The results of one persona's clients."""

    persona: str  # see `loadgen list`
    group: str = ""  # of the scenario
    honest: bool  # not an attacker
    slow: bool  # honest on a bad network: its failures are collateral
    lifetime: Spread  # from connect until it was disconnected


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One second of the timeline. Dictionaries are by persona; values that were not measured are `None`."""

    seconds: float  # since the start
    phase: str  # at that moment
    held: dict[str, int]  # at that moment
    ended: dict[str, int]  # so far
    refused: dict[str, int]  # so far
    succeeded: int = 0  # victims' (or the schedule's) operations that succeeded in this second
    failed: int = 0  # operations due in this second that failed
    p50_ms: float | None = None  # of operations that succeeded in this second
    p99_ms: float | None = None  # the same
    max_ms: float | None = None  # the same
    server_rss_bytes: int | None = None  # resident size, children included
    server_cpu_percent: float | None = None  # of one core, since the sample before
    server_descriptors: int | None = None  # open at that moment


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Any other table: a fingerprint's probes, a comparison, what a diff found."""

    title: str  # the heading above it
    columns: list[str]  # their headings
    rows: list[list[str]]  # a cell for each column, formatted for people
    notes: list[str] = []  # remarks below it


class Report(msgspec.Struct, kw_only=True):
    """All results of a command."""

    schema: int = SCHEMA  # version of this format, see docs/loadgen.md
    command: str  # run, attack, ...; in a part, the attack, case family or measurement
    arguments: str = ""  # the command line, quoted so that it can be pasted
    target: str  # the URL; in a comparison the servers' names
    seed: int = 0  # of all random choices; 0 if there were none
    started: str  # RFC 3339, UTC
    seconds: float  # duration of the command
    verdict: Verdict  # the outcome, with reasons
    figures: dict[str, float | None] = {}  # by name; --fail-if knows the same names
    meanings: dict[str, str] = {}  # of the figures, in one sentence each
    phases: list[PhaseRow] = []  # results of the victims, by group and phase
    cohorts: list[CohortRow] = []  # results of the crowd, by persona
    timeline: list[Sample] = []  # a sample a second
    tables: list[Table] = []  # all other results
    parts: list["Report"] = []  # a scorecard's attacks, a comparison's runs

    @property
    def outcome(self) -> Outcome:
        return self.verdict.outcome


def verdict(outcome: Outcome, reasons: Iterable[str], notes: Iterable[str] = ()) -> Verdict:
    return Verdict(outcome=outcome, reasons=list(dict.fromkeys(reasons)), notes=list(dict.fromkeys(notes)))


class Started:
    def __init__(self) -> None:
        self.at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._begun = now()

    @property
    def seconds(self) -> float:
        return self.until(now())

    def until(self, moment: float) -> float:
        return round(moment - self._begun, 2)
