"""`attack` against servers with planted deadlines and faults; a run that a busy machine makes *invalid* names them."""

import socket
from contextlib import ExitStack
from typing import Any

import pytest

from loadgen.net import target
from loadgen.personas import registry
from loadgen.report.conditions import Condition
from loadgen.report.schema import Outcome, Report
from loadgen.run import procfs
from loadgen.run.preflight import InvalidRunError
from loadgen.run.procfs import Ticks
from loadgen.run.session import cause_of_death
from loadgen.scorecard import Scorecard
from tests.loadgen.planted import Plant, planted, planted_process
from tests.loadgen.planted_web import serving
from tests.loadgen.plants import is_crowd
from tests.loadgen.plays import attacked, config, figure, plan, play_attack

EVERY_KIND = {"slow-head": 10, "idle-connect": 10, "slow-body": 10}


async def test_a_server_without_deadlines_holds_its_attackers_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside it: what was asked for is judged, and what the host took of the processors is told by phase."""
    baseline, attack = (Ticks(1000, 50), Ticks(1200, 56)), (Ticks(1300, 90), Ticks(1700, 190))
    readings = iter([*baseline, *attack, Ticks(1800, 200), Ticks(1900, 290)])
    monkeypatch.setattr(procfs, "ticks", lambda: next(readings))
    asked = (Condition("attackers_held", ">", 0),)
    report = await attacked(Plant(), EVERY_KIND, conditions=asked)
    assert report.figures["attackers_peak"] == report.figures["attackers_held"] == 30
    assert report.figures["attackers_killed"] == report.figures["attackers_refused"] == 0
    assert report.figures["attacker_addresses"] == 1, "as for up to 200"
    assert any(reason.startswith("attackers_held is") for reason in report.verdict.reasons)
    assert list(dict.fromkeys(row.name for row in report.phases)) == ["baseline", "attack", "recovery"]
    assert all(row.succeeded and not row.failed for row in report.phases)
    assert report.figures["success_percent"] == 100
    assert (report.figures["baseline_steal_percent"], report.figures["steal_percent"]) == (3.0, 25.0)


async def test_a_deadline_is_found_and_attackers_return() -> None:
    report = await attacked(Plant(head_deadline=0.5, says_408=True), EVERY_KIND, seconds=3.0)
    assert figure(report, "attackers_killed") > 30, "each was thrown out more than once"
    assert figure(report, "kill_p50_s") >= 0.499
    assert report.figures["success_percent"] == 100
    assert all("answered 408" in row.ended for row in report.cohorts)


async def test_a_leak_is_found_and_what_is_left_however_short_the_recovery_was() -> None:
    """What is left was read at a clock's ticks, and a busy machine's short recovery could be between two of them."""
    with planted_process(Plant(leak_bytes=50_000), watched=True) as (url, pid):
        report = await play_attack(url, {"idle-connect": 200}, server_pid=pid, seconds=3.0, recovery=0.001)
    assert figure(report, "server_bytes_per_attacker") > 40_000
    assert figure(report, "server_bytes_left") > 200 * 25_000, "and it does not give it back"
    assert all(_blames(report, figure) for figure in ("server_bytes_over_bar", "server_bytes_left_over_bar"))
    assert all(row.server_pss_bytes for row in report.phases)


async def test_a_server_has_time_to_notice_that_attackers_have_vanished(monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds them by a ping, after a recovery of seconds is over; every server fell short in these rows."""
    monkeypatch.setattr("loadgen.run.player.RETURN_SECONDS", 0.0)
    monkeypatch.setattr(registry()["idle-connect"], "unnoticed_seconds", 60.0)
    with planted_process(Plant(keeps_descriptors=4.0), watched=True) as (url, pid):
        report = await play_attack(url, {"idle-connect": 20}, server_pid=pid, victims=1)
    assert figure(report, "server_descriptors_left") <= 0
    assert figure(report, "attackers_came") == 20


async def test_descriptors_of_newcomers_that_have_left_are_not_what_the_attack_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """hypercorn keeps each for 5 s, has more of them after a baseline of 3 s, and fell short in every row."""
    monkeypatch.setattr("loadgen.run.player.RETURN_SECONDS", 20.0)
    with planted_process(Plant(keeps_closed=2.0), watched=True) as (url, pid):
        report = await play_attack(
            url, {"idle-connect": 1}, server_pid=pid, victims=1, newcomers_per_s=10.0, baseline=0.3, seconds=1.0
        )
    assert figure(report, "server_descriptors_left") <= 0
    assert figure(report, "newcomers_came") > 0


async def test_attackers_have_as_many_addresses_as_asked_and_users_keep_theirs() -> None:
    brief: dict[str, Any] = {"baseline": 0.3, "seconds": 1.0, "recovery": 0.1}
    with planted() as server:
        report = await play_attack(server.url, {"idle-connect": 30}, per_address=7, newcomers_per_s=0, **brief)
        crowd, others = ({each for each in server.accepted_from if is_crowd(each) is so} for so in (True, False))
    assert len(crowd) == report.figures["attacker_addresses"] == 5
    assert len(others - {"127.0.0.1"}) == 3, "an address for each victim"


async def test_what_newcomers_have_said_must_be_kept_as_well() -> None:
    """Their rooms are empty when they have gone, and only those of victims that stay were read again."""
    report = await attacked(Plant(forgets="-new-"), {"idle-connect": 3}, victims=1, newcomers_per_s=10.0)
    assert _blames(report, "acknowledged_lost"), report.verdict


async def test_victims_that_fetch_a_page_show_no_rooms_to_post_in() -> None:
    """Nobody reads the answers: joins and posts of 4 KB that a server without rooms refuses would look like work."""
    with serving("static") as (url, _):
        (row,) = (await play_attack(url, {"request-reset": 3}, victims={"get": 1}, seconds=0.5)).cohorts
    assert row.opened >= 3
    assert row.sent_bytes < 1000 * row.opened


async def test_without_victims_there_is_no_run() -> None:
    """No chat is at this path, which is no fault of a server's. With a page in the mix, nobody was told what to do."""
    said = r"1 of 3 victims could do their work before the attack: answered 404.*--victim.*--header"
    with pytest.raises(InvalidRunError, match=said), planted() as server:
        await play_attack(server.url, {"slow-head": 5}, victims={"ws": 2, "get": 1}, websocket_path="/none")


async def test_victims_that_are_turned_away_before_the_attack_make_a_server_fall_short() -> None:
    """As the clients of a run do; the attack was invalid, as if this machine were the cause."""
    report = await attacked(Plant(refuse=True), {"slow-head": 5})
    assert report.outcome is Outcome.FELL_SHORT
    assert report.verdict.reasons == ["only 0 of 3 victims could do their work before the attack: answered 503"]
    assert not report.phases


@pytest.mark.parametrize("why", ["no answer", "answered 500"])
async def test_victims_that_are_accepted_and_not_served_do_no_work(
    why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A victim that fetches a page was counted as soon as it was connected."""
    if why == "no answer":
        monkeypatch.setattr("loadgen.net.target.PROBE_SECONDS", 0.5)
        monkeypatch.setattr("loadgen.run.session.SAID_AFTER_SECONDS", 0.0)
        monkeypatch.setattr("loadgen.run.player.CONNECT_LIMIT_SECONDS", 0.5)
    kinds = [registry()["slow-head"], registry()["idle-connect"]]
    with planted(Plant(page=500)) as server, socket.create_server(("127.0.0.1", 0)) as silent:
        url = server.url if why != "no answer" else f"http://127.0.0.1:{silent.getsockname()[1]}"
        report = await Scorecard(plan(url), config({}, victims={"get": 3}), kinds, 5).play()
    outcome = Outcome.INVALID if why == "no answer" else Outcome.FELL_SHORT
    assert report.outcome is outcome
    [reason] = report.verdict.reasons
    assert reason.startswith(f"slow-head {outcome}: only 0 of 3 victims could do their work before the attack: {why}")
    assert len(report.parts) == 1, "each further row would take as long and say the same"
    assert why != "no answer" or "GET / is not answered yet" in capsys.readouterr().err


async def test_a_dead_server_is_not_said_to_speak_something_else() -> None:
    """It was told to use --victim, which was in use, where nothing listened any more."""
    with planted() as server:
        url = server.url
    report = await play_attack(url, {"idle-connect": 1}, victims=2, newcomers_per_s=0.0)
    assert report.outcome is Outcome.FELL_SHORT
    assert "nothing listens at 127.0.0.1" in report.verdict.reasons[0]
    assert "--victim" not in report.verdict.reasons[0]


async def test_a_server_that_has_no_time_to_accept_is_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its backlog was full on a machine that others kept busy, and nothing was said to listen there any more."""
    monkeypatch.setattr("loadgen.net.target.PROBE_SECONDS", 0.1)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # more than may wait
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        here = plan(f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert not target.is_open(here.target)
        assert await cause_of_death(here) == ""
    assert "nothing listens" in await cause_of_death(here)


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
    one go: the other members have a buffer for that.
    """
    for quick in ("sleepy-tab", "chat"):
        monkeypatch.setattr(registry()[quick], "receive_buffer_bytes", 200_000)
    monkeypatch.setattr("loadgen.run.experiment.NEIGHBOURS_RATE", 10.0)
    monkeypatch.setattr("loadgen.run.experiment.NEIGHBOURS_TEXT_BYTES", 2000)
    neighbours = {"phone-2g": 3, "sleepy-tab": 2}
    report = await attacked(Plant(send_buffer=16_384), {"idle-connect": 5}, neighbours=neighbours, seconds=4.0)
    assert report.figures["neighbours"] == 5, "without the one who speaks to them"
    assert _blames(report, "collateral"), report.verdict
    hurt = {row.persona for row in report.cohorts if row.ended or row.failed}
    assert "phone-2g" in hurt
    assert "sleepy-tab" not in hurt


async def test_honest_slow_clients_that_are_never_let_in_are_collateral(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were neither refused nor ended, only never answered, and were not counted."""
    monkeypatch.setattr("loadgen.run.experiment.NEIGHBOURS_SECONDS", 0.3)
    monkeypatch.setattr("loadgen.run.player.CONNECT_LIMIT_SECONDS", 5.0)
    report = await attacked(Plant(unanswered_room="lobby"), {"idle-connect": 5}, neighbours={"sleepy-tab": 3})
    assert report.figures["collateral"] == 4, "three, and the one who was to speak to them"
    assert _blames(report, "collateral"), report.verdict
