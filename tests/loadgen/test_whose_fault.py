"""Verdicts beside a floor that was late and a generator that stood still."""

from __future__ import annotations

from unittest.mock import patch

from loadgen import scorecard
from loadgen.measured import Floor
from loadgen.report import Outcome
from tests.loadgen.commandline import Ended, attack, victims_stand_still
from tests.loadgen.judging import IMPATIENT
from tests.loadgen.planted import planted_process

# V7: the floor


def test_v7_beside_a_floor_that_was_late() -> None:
    """A floor that failed its victims was late by the whole timeout: a late answer beside it is nobody's.

    The condition makes every answer late: on a busy machine the bar is above any planted delay. That a late floor
    excuses no failure, and that a quick one excuses nothing, is test_verdict.py's.
    """

    async def met(*_: object) -> Floor:
        return Floor(figures={"baseline_p99_ms": 2.0, "attack_p50_ms": 2.0, "attack_p99_ms": 5000.0})

    with patch.object(scorecard, "play_floor", met), planted_process() as (url, _):
        ended = attack(
            url, "idle-connect", "--victim", "ws", "--floor", "--no-bar", "--fail-if", "attack_p99_ms>0",
            command="scorecard",
        )  # fmt: skip
    assert "attack_p99_ms is " in _of_the_row(ended)
    assert "the floor itself was late: 5,000 ms" in _of_the_row(ended)
    assert ended.code == 3, ended


def _of_the_row(ended: Ended) -> str:
    [row] = ended.report.parts
    return "; ".join(row.verdict.reasons)


# V9: the generator


def test_v9_a_generator_that_stood_still_is_invalid() -> None:
    """For more than half of the time that an operation has: it may have caused any failure itself."""
    with planted_process() as (url, _):
        ended = attack(url, "idle-connect", beside=victims_stand_still, timeout=IMPATIENT)
    assert ended.code == 3, ended
    assert ended.outcome is Outcome.INVALID
    assert "the generator itself stood still for " in ended.reasons
    assert "the generator itself was" in ended.reasons
