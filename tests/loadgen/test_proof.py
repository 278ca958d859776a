"""That the load generator does not lie: one planted fault a server, and the verdict has to name it; and a server
without any, of which it has to find none.

A machine that is too busy makes a run *invalid*: that is honest, so it is allowed here beside the verdict that was
planted, but the fault has to be among the reasons all the same, and a server without one may not be blamed.
"""

import pytest

from loadgen.figures import parse
from loadgen.report import Report
from tests.loadgen.planted import Plant, planted, planted_process
from tests.loadgen.plays import play_attack, play_run

#: The crowd and the victims take turns at two cores with everything else that is tested: long enough to tell.
ATTACK_SECONDS = 4.0

#: Time is the one thing that a busy machine takes from a perfect server.
TIMES = {
    "attack_p99_ms",
    "p99_over_bar_ms",
    "recovery_p99_over_bar_ms",
    "worst_victim_over_bar_ms",
    "ack_p99_ms",
    "echo_p99_ms",
}


def _blames(report: Report, figure: str) -> bool:
    return any(reason.startswith(f"{figure} is") for reason in report.verdict.reasons)


def _blamed(report: Report) -> set[str]:
    """The figures that the verdict holds against the target; what it says of the generator itself is left out."""
    return {reason.split()[0] for reason in report.verdict.reasons if reason.split()[0] in report.figures}


async def test_a_perfect_server_is_found_to_be_one() -> None:
    with planted() as server:
        ran = await play_run(server.url, {"idle": 20, "poll": 10, "sse": 5, "chat": 5}, rate=50, seconds=1.5)
    with planted(Plant(head_deadline=0.8, says_408=True)) as server:
        attacked = await play_attack(
            server.url, {"slow-head": 20, "idle-connect": 20}, victims={"ws": 3, "get": 1}, seconds=ATTACK_SECONDS
        )
    # time is the one thing that a busy machine takes from a perfect server
    assert _blamed(ran) <= TIMES, ran.verdict
    assert _blamed(attacked) <= TIMES, attacked.verdict
    assert ran.figures["unreturned"] == 0
    assert attacked.figures["success_percent"] == 100
    killed = attacked.figures["attackers_killed"]
    assert killed is not None
    assert killed >= 40


async def test_no_head_deadline() -> None:
    conditions = parse(["oldest_attacker_s>1"], ["oldest_attacker_s"], server_pid=False)
    with planted() as server:
        report = await play_attack(server.url, {"slow-head": 10}, seconds=ATTACK_SECONDS, conditions=conditions)
    assert _blames(report, "oldest_attacker_s")
    assert report.figures["attackers_held"] == report.figures["attackers_peak"] == 10
    assert report.figures["attackers_killed"] == 0


async def test_a_leak() -> None:
    with planted_process(Plant(leak_bytes=50_000)) as (url, pid):
        report = await play_attack(url, {"idle-connect": 200}, server_pid=pid, seconds=ATTACK_SECONDS)
    assert _blames(report, "server_bytes_over_bar")
    left = report.figures["server_bytes_left"]
    assert left is not None
    assert left > 200 * 25_000, "and it does not give it back"


async def test_a_stall_now_and_then() -> None:
    """500 ms in every 2.5 s, before the attack as well: no comparison with the baseline would find it."""
    plant = Plant(stalls_every=2.0, stall=0.5)
    with planted(plant) as server:
        attacked = await play_attack(server.url, {"idle-connect": 5}, seconds=4.0, baseline=2.5)
    assert _blames(attacked, "attack_p99_ms")
    with planted(plant) as server:
        ran = await play_run(server.url, {"chat": 5}, rate=50, seconds=4.0)
    assert _blames(ran, "ack_p99_ms")
    worst = ran.figures["ack_max_ms"]
    assert worst is not None
    assert worst >= 400


async def test_one_message_in_a_hundred_is_lost() -> None:
    with planted(Plant(drop_every=100)) as server:
        ran = await play_run(server.url, {"chat": 5}, rate=200, seconds=2.0, drain=1.0)
    assert _blames(ran, "unreturned")
    assert ran.figures["unreturned"] == ran.phases[0].succeeded // 100
    with planted(Plant(drop_every=100)) as server:
        attacked = await play_attack(
            server.url, {"idle-connect": 5}, victims=12, seconds=ATTACK_SECONDS, operation_timeout=2.0
        )
    assert _blames(attacked, "attack_failed")
    assert attacked.figures["first_failure_s"] is not None


async def test_everybody_is_thrown_out_after_a_while() -> None:
    """Members that stay idle are counted as they are ended; victims come back, and what they lost meanwhile counts."""
    with planted(Plant(close_members_after=1.0)) as server:
        ran = await play_run(server.url, {"idle": 10}, seconds=3.0)
    assert _blames(ran, "ended")
    assert ran.cohorts[0].kills[0][0] <= 2.0
    with planted(Plant(close_members_after=1.5, delay=0.05)) as server:
        attacked = await play_attack(server.url, {"idle-connect": 5}, victims=6, seconds=4.0)
    assert _blames(attacked, "attack_failed")


@pytest.mark.parametrize("throws_out", [True, False])
async def test_honest_slow_readers_thrown_out_are_collateral(throws_out: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The phone reads 3 KB/s of what is said to it at ten times that; a server that keeps 16 KiB for it hangs up.

    As the kernel counts it, that is 0.7 s of what is said: who merely had to wait for a busy machine stays.
    """
    monkeypatch.setattr("loadgen.experiment.NEIGHBOURS_RATE", 20.0)
    monkeypatch.setattr("loadgen.experiment.NEIGHBOURS_TEXT_BYTES", 2000)
    with planted(Plant(send_buffer=16_384 if throws_out else 0)) as server:
        report = await play_attack(
            server.url, {"idle-connect": 5}, neighbours={"phone-2g": 3, "sleepy-tab": 2}, seconds=6.0
        )
    assert report.figures["neighbours"] == 5, "without the one who speaks to them"
    if throws_out:
        assert _blames(report, "collateral"), report.verdict
        hurt = {row.persona for row in report.cohorts if row.ended or row.failed}
        assert "phone-2g" in hurt
        assert "sleepy-tab" not in hurt
    else:
        assert report.figures["collateral"] == 0, report.cohorts


async def test_honest_slow_clients_that_are_never_let_in_are_collateral() -> None:
    """They were neither refused nor ended: nobody answered them, and they were not counted."""
    with planted(Plant(unanswered_room="lobby")) as server:
        report = await play_attack(
            server.url, {"idle-connect": 5}, neighbours={"sleepy-tab": 3}, seconds=6.0, recovery=1.0
        )
    assert report.figures["collateral"] == 4, "three, and the one who was to speak to them"
    assert _blames(report, "collateral"), report.verdict


@pytest.mark.parametrize("delay", [0.05, 0.3])
async def test_a_known_delay_is_what_is_reported(delay: float) -> None:
    with planted(Plant(delay=delay)) as server:
        report = await play_run(server.url, {"chat": 10}, rate=40, seconds=1.5)
    for row in report.phases:
        assert row.spread.p50_ms is not None
        # never less; and more only by what this machine was late, which the generator knows of itself
        assert row.spread.p50_ms >= delay * 1000
        assert row.spread.p50_ms <= delay * 1000 + 150 + (report.figures["lag_max_ms"] or 0.0)
