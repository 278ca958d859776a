"""That the load generator does not lie: one planted fault a server, and the verdict has to name it.

A machine that is too busy makes a run *invalid*: that is honest, so it is allowed here beside the verdict that was
planted, but the fault has to be among the reasons all the same.
"""

import pytest

from loadgen.personas import registry
from loadgen.report import Report
from tests.loadgen.planted import Plant
from tests.loadgen.plays import attacked


def _blames(report: Report, figure: str) -> bool:
    return any(reason.startswith(f"{figure} is") for reason in report.verdict.reasons)


async def test_everybody_is_thrown_out_after_a_while() -> None:
    """Victims come back, and what they lost meanwhile counts."""
    report = await attacked(Plant(close_members_after=0.8, delay=0.08), {"idle-connect": 5}, victims=6)
    assert _blames(report, "attack_failed"), report.verdict
    assert any(row.succeeded for row in report.phases if row.name == "recovery")


async def test_honest_slow_readers_thrown_out_are_collateral(monkeypatch: pytest.MonkeyPatch) -> None:
    """The phone reads 3 KB/s of what is said to it at seven times that; a server that keeps 16 KiB for it hangs up.

    As the kernel counts it, that is 2 s of what is said. A crowd that waited for a busy machine says seconds of it in
    one go: whoever else is told of it has a buffer for that.
    """
    for quick in ("sleepy-tab", "chat"):
        monkeypatch.setattr(registry()[quick], "receive_buffer_bytes", 200_000)
    monkeypatch.setattr("loadgen.experiment.NEIGHBOURS_RATE", 10.0)
    monkeypatch.setattr("loadgen.experiment.NEIGHBOURS_TEXT_BYTES", 2000)
    neighbours = {"phone-2g": 3, "sleepy-tab": 2}
    report = await attacked(Plant(send_buffer=16_384), {"idle-connect": 5}, neighbours=neighbours, seconds=4.0)
    assert report.figures["neighbours"] == 5, "without the one who speaks to them"
    assert _blames(report, "collateral"), report.verdict
    hurt = {row.persona for row in report.cohorts if row.ended or row.failed}
    assert "phone-2g" in hurt
    assert "sleepy-tab" not in hurt


async def test_honest_slow_clients_that_are_never_let_in_are_collateral(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were neither refused nor ended, only never answered, and were not counted."""
    monkeypatch.setattr("loadgen.experiment.NEIGHBOURS_SECONDS", 0.3)
    monkeypatch.setattr("loadgen.player.CONNECT_LIMIT_SECONDS", 5.0)
    report = await attacked(Plant(unanswered_room="lobby"), {"idle-connect": 5}, neighbours={"sleepy-tab": 3})
    assert report.figures["collateral"] == 4, "three, and the one who was to speak to them"
    assert _blames(report, "collateral"), report.verdict
