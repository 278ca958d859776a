"""The report: what a command found, in a form that serves the terminal, the page and a machine alike.

Owns: the shape of `--json` and report.json (`schema` counts its versions; docs/loadgen.md describes it) and the
verdict. May not: print anything, or know how it is drawn.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final

import msgspec

from loadgen.latency import Spread
from loadgen.timers import now

#: 2: victims by transport, a richer timeline, tables, metrics, parts. 3: failures in percentiles; not exercised.
SCHEMA: Final = 3

#: With a schedule later than this at the 99th percentile the generator was short of CPU, and its latencies are its own.
LAG_LIMIT_MS: Final = 25.0


class Outcome(IntEnum):
    """How a command ended."""

    HELD = 0
    FELL_SHORT = 1
    INVALID = 3
    NOT_EXERCISED = 5  # as a program it ends like an invalid run
    INTERRUPTED = 130  # as shells report a program ended by Ctrl-C

    @property
    def words(self) -> str:
        return self.name.lower().replace("_", " ")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The last line."""

    outcome: str  # held, fell short, invalid, not exercised, interrupted
    reasons: list[str]  # why, worded for people
    notes: list[str] = []  # how hard the attack was, and what was left out

    @property
    def told(self) -> list[str]:
        return [*self.reasons, *self.notes]


class PhaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one group of victims, or the schedule's messages, met in one phase."""

    name: str  # baseline, attack, recovery; steady
    what: str  # the group: WebSocket round trip, long-poll, event stream, GET; acknowledged, own message back
    seconds: float  # how long it was
    succeeded: int  # operations
    failed: dict[str, int]  # by reason
    spread: Spread  # of all; one that failed took the whole timeout
    histogram: str = ""  # the same whole: HdrHistogram V2 in base64, in microseconds
    server_cpu_percent: float | None = None  # of one core, children included
    server_pss_bytes: int | None = None  # at the phase's end, shared pages counted once


class CohortRow(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one persona's clients."""

    persona: str  # see `loadgen list`
    honest: bool  # no attacker
    slow: bool  # honest on a bad line: what happens to it is collateral
    wanted: int  # clients that were to be played
    held: int  # established at the end
    peak: int  # established at one moment, at most
    opened: int  # times one was established, returns included
    left: int  # times a client closed by itself
    refused: dict[str, int]  # attempts turned away, by reason
    failed: dict[str, int]  # attempts that came to nothing for another reason, by reason
    ended: dict[str, int]  # established ones that the server ended, by reason
    answers: dict[str, int]  # what attackers were told, whether it ended them or not
    lifetime: Spread  # from connect to the server's ending it
    kills: list[tuple[float, int]]  # the same as a histogram: (age in s up to which, how many)
    sent_bytes: int  # by all of them
    received_bytes: int  # by all of them
    deliveries: int  # messages that reached them


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One second of the timeline. Dictionaries are by persona; what was not measured is `None`."""

    seconds: float  # since the start
    phase: str  # at that moment
    held: dict[str, int]  # at that moment
    ended: dict[str, int]  # so far
    refused: dict[str, int]  # so far
    succeeded: int = 0  # victims' (or the schedule's) operations that ended in this second
    failed: int = 0  # the same, of those that failed
    p50_ms: float | None = None  # of those that succeeded in this second
    p99_ms: float | None = None  # the same
    max_ms: float | None = None  # the same
    server_rss_bytes: int | None = None  # resident size, children included
    server_cpu_percent: float | None = None  # of one core, since the sample before
    server_descriptors: int | None = None  # open at that moment


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Anything else worth a table: a fingerprint's probes, a scorecard's verdicts, a comparison."""

    title: str  # what stands above it
    columns: list[str]  # their headings
    rows: list[list[str]]  # a cell for each column, numbers as people read them
    notes: list[str] = []  # what stands below it


class Report(msgspec.Struct, kw_only=True):
    """Everything that a command found."""

    schema: int = SCHEMA  # of this shape, see docs/loadgen.md
    command: str  # run, attack, ...; of a part what it played
    arguments: str  # the command line, as it may be typed again
    target: str  # the URL; of a comparison the servers' names
    seed: int  # of every random choice; 0 where there was none
    started: str  # RFC 3339, UTC
    seconds: float  # how long it took
    verdict: Verdict  # what it comes to
    figures: dict[str, float | None] = {}  # by name; --fail-if knows the same names
    meanings: dict[str, str] = {}  # of the figures, in one sentence each
    phases: list[PhaseRow] = []  # what victims met, by group and phase
    cohorts: list[CohortRow] = []  # what became of the crowd, by persona
    timeline: list[Sample] = []  # a sample a second
    metrics: dict[str, float] = {}  # by how much the target's own /metrics counters grew, by series
    tables: list[Table] = []  # what fits nowhere else
    parts: list["Report"] = []  # a scorecard's attacks, a comparison's runs

    @property
    def outcome(self) -> Outcome:
        return Outcome[self.verdict.outcome.replace(" ", "_").upper()]

    @property
    def exit_code(self) -> int:
        outcome = self.outcome
        return Outcome.INVALID if outcome is Outcome.NOT_EXERCISED else outcome.value


def verdict(outcome: Outcome, reasons: list[str], notes: Iterable[str] = ()) -> Verdict:
    return Verdict(outcome=outcome.words, reasons=reasons, notes=list(notes))


class Started:
    def __init__(self) -> None:
        self.at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._begun = now()

    @property
    def seconds(self) -> float:
        return round(now() - self._begun, 2)
