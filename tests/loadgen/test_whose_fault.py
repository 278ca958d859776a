"""Verdicts beside a floor that was late, and a generator that stood still: not the target's doing."""

from functools import partial
from unittest.mock import AsyncMock, patch

import pytest

from loadgen import scorecard
from loadgen.report.schema import Outcome
from tests.loadgen.commandline import (
    COUNTS,
    IMPATIENT,
    KEPT,
    attack,
    attacked,
    falls_short,
    stand_still,
    with_short_cycles,
)
from tests.loadgen.planted import Plant, planted_process
from tests.loadgen.readings import at_floor

# V7: the floor


def test_v7_beside_a_floor_that_was_late() -> None:
    """A floor that failed its victims was late by the whole timeout: a late answer beside it is nobody's.

    On a busy machine the bar is above any planted delay, so every answer counts as late. What else a floor excuses, and
    what not, is test_findings.py's.
    """
    floor = AsyncMock(return_value=at_floor(attack_p50_ms=2.0, attack_p99_ms=5000.0))
    with patch.object(scorecard, "play_floor", floor), planted_process() as (url, _):
        ended = attack(
            url, "idle-connect", "--victim", "ws", "--floor", "--fail-if", "attack_p99_ms>0", "--no-bar",
            command="scorecard",
        )  # fmt: skip
    [row] = ended.report.parts
    assert (ended.code, ended.outcome) == (3, row.outcome)
    assert row.outcome is Outcome.INVALID
    assert "attack_p99_ms is " in "; ".join(row.verdict.reasons)
    assert "the floor itself was late: 5,000 ms" in "; ".join(row.verdict.reasons)


# V9: the generator


def test_v9_a_generator_that_stood_still_is_invalid() -> None:
    """For more than half of the time that an operation has: it may have caused any failure itself."""
    with planted_process() as (url, _):
        ended = attack(url, "idle-connect", beside=partial(stand_still, "victims"), timeout=IMPATIENT)
    assert ended.code == 3, ended
    assert ended.outcome is Outcome.INVALID
    assert "the generator itself stood still for " in ended.reasons
    assert "the generator itself was" in ended.reasons


def test_v9_a_late_crowd_alone_is_not() -> None:
    crowd = partial(stand_still, "crowd")
    ended = attacked(
        planted_process, "idle-connect", "--no-bar", "--fail-if", ",".join(f"{name}>0" for name in (*COUNTS, *KEPT)),
        beside=crowd, good=lambda ended: ended.figure("lag_max_ms") < 1000,
    )  # fmt: skip
    assert (ended.code, ended.outcome) == (0, Outcome.HELD), ended
    assert ended.figure("lag_max_ms") < 1000


def test_v9_honest_clients_whose_own_process_stood_still_are_nobodys_victims(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server ends who answers no pings; it would have done so here as well, but that was not seen."""
    monkeypatch.setattr("loadgen.run.findings._CROWD_STOOD_STILL", 0.5)
    with planted_process(Plant(close_members_after=0.8)) as (url, _), with_short_cycles(1.0):
        ended = attack(
            url, "idle-connect", "--victim", "poll",
            neighbours=1, newcomers=0, clients=5, beside=partial(stand_still, "crowd"),
        )  # fmt: skip
    assert ended.figure("collateral") > 0
    assert ended.outcome is Outcome.INVALID, ended
    assert "honest slow clients were hurt, but their own process was 1." in ended.reasons
    assert not ended.blames("collateral")


# V15: the baseline


@pytest.mark.usefixtures("quiet_machine")
def test_v15_a_server_that_fails_before_the_attack_is_told() -> None:
    plant, blamed = Plant(drop_every=7), ("baseline_failed", "attack_failed")
    ended = falls_short(plant, "idle-connect", "--victim", "ws", blamed=blamed, timeout=IMPATIENT, baseline=1.5)
    lost = sum(sum(row.failed.values()) for row in ended.report.phases)
    operations = lost + sum(row.succeeded for row in ended.report.phases)
    assert lost >= operations // 7 - 2
    assert operations > 2 * lost, "one that waits for ever holds up none of those behind it"
