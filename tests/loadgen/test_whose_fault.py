"""Verdicts beside a floor that was late, a generator that stood still and a loud baseline: not the target's doing."""

from __future__ import annotations

import re
from functools import partial
from unittest.mock import patch

import pytest

from loadgen import scorecard, verdict
from loadgen.measured import Floor
from loadgen.report import Outcome, Report
from tests.loadgen.commandline import IMPATIENT, Ended, attack, attacked, falls_short, stand_still, with_short_cycles
from tests.loadgen.planted import Plant, planted_process

# V7: the floor

_LATE_FLOOR = Floor(figures={"baseline_p99_ms": 2.0, "attack_p50_ms": 2.0, "attack_p99_ms": 5000.0})


def _beside(floor: Floor, *arguments: str, plant: Plant | None = None) -> Report:
    """A row of which every answer is late: on a busy machine the bar is above any planted delay."""

    async def met(*_: object) -> Floor:
        return floor

    with patch.object(scorecard, "play_floor", met), planted_process(plant, watched=plant is not None) as (url, pid):
        watching = ("--server-pid", str(pid)) if plant is not None else ()
        ended = attack(
            url, "idle-connect", "--victim", "ws", "--floor", "--fail-if", "attack_p99_ms>0", *watching, *arguments,
            command="scorecard",
        )  # fmt: skip
    [row] = ended.report.parts
    assert (ended.code, ended.outcome) == (row.outcome.exit_code, row.outcome)
    return row


def test_v7_beside_a_floor_that_was_late() -> None:
    """A floor that failed its victims was late by the whole timeout: a late answer beside it is nobody's.

    That a late floor excuses no failure, and that a quick one excuses nothing, is test_verdict.py's.
    """
    row = _beside(_LATE_FLOOR, "--no-bar")
    assert row.outcome is Outcome.INVALID
    assert "attack_p99_ms is " in "; ".join(row.verdict.reasons)
    assert "the floor itself was late: 5,000 ms" in "; ".join(row.verdict.reasons)


@pytest.mark.parametrize(
    ("floor", "doubt"),
    [
        (_LATE_FLOOR, "the floor itself was late: 5,000 ms"),
        (Floor(fault="the floor died"), "the floor itself gave no figures"),
        (Floor(), r"the generator itself was \S+ ms late at the 99th percentile"),
    ],
)
def test_v7_and_v9_what_misses_by_memory_is_not_blamed_for_a_latency_that_nobody_believes(
    floor: Floor, doubt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "generator" in doubt:
        monkeypatch.setitem(verdict._CAUSES, "lag_p99_ms", (0.0, verdict._CAUSES["lag_p99_ms"][1]))
    row = _beside(floor, plant=Plant(leak_bytes=100_000))
    assert row.outcome is Outcome.FELL_SHORT, row.verdict
    assert row.verdict.reasons[0].startswith("server_bytes_over_bar is "), row.verdict
    assert re.search(f"^latency not judged: .*{doubt}", row.verdict.reasons[-1]), row.verdict
    assert not any("_ms is " in reason for reason in row.verdict.reasons), row.verdict
    assert any(note.startswith("attack_p99_ms is ") for note in row.verdict.notes), row.verdict


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
        planted_process, "idle-connect", beside=crowd, good=lambda ended: ended.figure("lag_max_ms") < 1000
    )
    assert ended.is_sound, ended
    assert ended.figure("lag_max_ms") < 1000


def test_v9_honest_clients_whose_own_process_stood_still_are_nobodys_victims(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server ends who answers no pings; it would have done so here as well, but that was not seen."""
    monkeypatch.setattr("loadgen.findings._CROWD_STOOD_STILL", 0.5)
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


def test_v15_a_loud_baseline_allows_nothing() -> None:
    """It stalls before the attack and not during it, in which each answer is 150 ms late: the bar was 1.5 stalls."""
    plant = Plant(stalls_every=0.6, stall=0.3, stalls_until_attacked=True, slow_when_attacked=0.15)

    def is_told(ended: Ended) -> bool:
        # The last stall may reach into the attack: then its answers are over the bar of any baseline.
        return "the baseline is too late to judge by" in ended.reasons or "_ms is " in ended.reasons

    ended = attacked(partial(planted_process, plant), "idle-connect", "--victim", "ws", good=is_told, baseline=1.8)
    assert ended.code in {1, 3}, ended
    assert is_told(ended), ended


@pytest.mark.usefixtures("lateness_is_no_fault")
def test_v15_a_server_that_fails_before_the_attack_is_told() -> None:
    plant, blamed = Plant(drop_every=7), ("baseline_failed", "attack_failed")
    ended = falls_short(plant, "idle-connect", "--victim", "ws", blamed=blamed, timeout=IMPATIENT)
    lost = sum(sum(row.failed.values()) for row in ended.report.phases)
    operations = lost + sum(row.succeeded for row in ended.report.phases)
    assert lost >= operations // 7 - 2
    assert operations > 2 * lost, "one that waits for ever holds up none of those behind it"
