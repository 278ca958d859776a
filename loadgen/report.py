"""The report: what a run found, in a form that serves the terminal and a machine alike.

Owns: the shape of the `--json` output (`schema` counts its versions) and the verdict. May not: print anything.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

import msgspec

from loadgen.client import Cohort
from loadgen.figures import Condition, Figures
from loadgen.latency import Spread

SCHEMA: Final = 1

#: With a schedule later than this at the 99th percentile the generator was short of CPU, and its latencies are its own.
LAG_LIMIT_MS: Final = 25.0


class Outcome(IntEnum):
    """How a run ended; the value is the exit code."""

    HELD = 0
    FELL_SHORT = 1
    INVALID = 3
    INTERRUPTED = 130  # as shells report a program ended by Ctrl-C


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The last line."""

    outcome: str
    reasons: list[str]


class PhaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured in one phase."""

    name: str
    what: str
    seconds: float
    succeeded: int
    failed: dict[str, int]
    spread: Spread
    server_cpu_percent: float | None = None
    server_pss_bytes: int | None = None


class CohortRow(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one persona's clients."""

    persona: str
    honest: bool
    wanted: int
    held: int
    peak: int
    opened: int
    refused: dict[str, int]
    failed: dict[str, int]
    ended: dict[str, int]
    lifetime: Spread
    received_bytes: int
    deliveries: int


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One second of the timeline."""

    seconds: float
    phase: str
    held: dict[str, int]
    ended: dict[str, int]
    server_rss_bytes: int | None


class Report(msgspec.Struct, kw_only=True):
    """Everything."""

    schema: int = SCHEMA
    command: str
    target: str
    seed: int
    verdict: Verdict
    figures: dict[str, float | None]
    phases: list[PhaseRow]
    cohorts: list[CohortRow]
    timeline: list[Sample]

    @property
    def exit_code(self) -> int:
        """What the program exits with."""
        return Outcome[self.verdict.outcome.replace(" ", "_").upper()].value


def cohort_row(cohort: Cohort) -> CohortRow:
    """Describe a cohort as it stands."""
    return CohortRow(
        persona=cohort.persona.name,
        honest=cohort.persona.honest,
        wanted=cohort.wanted,
        held=cohort.held,
        peak=cohort.peak,
        opened=cohort.opened,
        refused=dict(cohort.refused),
        failed=dict(cohort.failed),
        ended=dict(cohort.ended),
        lifetime=cohort.lifetime.spread(),
        received_bytes=cohort.received_bytes,
        deliveries=cohort.deliveries,
    )


def judge(
    figures: Figures,
    *,
    bar: Iterable[Condition],
    asked: Iterable[Condition],
    faults: Iterable[str],
    interrupted: bool,
) -> Verdict:
    """Decide how the run ended.

    Conditions that were asked for replace the bar. The bar passes over what was not measured; what was asked for and
    not measured fails, because a threshold that silently never applies is worse than none.
    """
    faults = list(faults)
    lag = figures["lag_p99_ms"]
    if lag is not None and lag > LAG_LIMIT_MS:
        faults.append(
            f"the generator's own schedule was {lag:g} ms late at the 99th percentile: it lacked CPU"
            f" (it used {figures['own_cpu_percent']:g}% of one, and waited {figures['own_cpu_wait_percent']:g}% of the"
            " time while other programs had it)"
        )
    asked = tuple(asked)
    judged = asked or tuple(condition for condition in bar if figures[condition.figure] is not None)
    short = [reason for condition in judged if (reason := condition.judge(figures)) is not None]
    if interrupted:
        return _verdict(Outcome.INTERRUPTED, ["stopped before the end; the figures cover what was done", *faults])
    if faults:
        return _verdict(Outcome.INVALID, faults + short)
    return _verdict(Outcome.FELL_SHORT if short else Outcome.HELD, short)


def _verdict(outcome: Outcome, reasons: list[str]) -> Verdict:
    return Verdict(outcome=outcome.name.lower().replace("_", " "), reasons=reasons)
