"""That verdicts are right: a fault that is really there is blamed, through the command line; a sound server is not."""

import pytest

from tests.loadgen.commandline import attack, attack_while, run, scorecard
from tests.loadgen.planted import Plant, planted_process
from tests.loadgen.planted_web import Site, serving


def test_a_sound_chat_is_held() -> None:
    with planted_process() as (url, _):
        ended = attack(url, "slow-head")
    assert ended.is_sound(), ended


def test_v3_victims_that_are_cut_and_locked_out_go_on_to_fail() -> None:
    with planted_process(Plant(locks_out=True)) as (url, _):
        ended = attack(url, "idle-connect")
    assert ended.code == 1, ended
    assert ended.verdict.startswith("FELL SHORT")
    assert "attack_failed is " in ended.verdict
    assert ended.figure("attack_p99_ms") >= 2000, "a failure took the whole timeout"


def test_v2_nobody_new_is_let_in() -> None:
    """Those who are in are served: only who tries to come in notices."""
    with planted_process(Plant(no_newcomers=True)) as (url, _):
        ended = attack(url, "idle-connect")
    assert ended.code == 1, ended
    assert "newcomers_failed is " in ended.verdict
    assert "attack_failed" not in ended.verdict


def test_v12_one_failure_is_one() -> None:
    with planted_process(Plant(fails_one=True, crowd=60)) as (url, _):
        ended = attack(url, "idle-connect", victims=20, clients=80)
    assert ended.code == 1, ended
    assert "attack_failed is 1 " in ended.verdict


@pytest.mark.parametrize(
    ("plant", "figure"),
    [
        (Plant(leak_bytes=100_000), "server_bytes_over_bar"),
        (Plant(leaks_descriptors=True), "server_descriptors_left"),
    ],
)
def test_v8_what_an_attack_leaves_behind(plant: Plant, figure: str) -> None:
    with planted_process(plant) as (url, pid):
        ended = attack(url, "idle-connect", "--server-pid", str(pid), clients=80)
    assert ended.code == 1, ended
    assert f"{figure} is " in ended.verdict


def test_v8_acknowledged_messages_are_gone() -> None:
    with planted_process(Plant(forgets=True)) as (url, _):
        ended = attack(url, "idle-connect")
    assert ended.code == 1, ended
    assert "acknowledged_lost is " in ended.verdict


def test_v8_one_victim_of_twenty_waits() -> None:
    """At 600 ms each of its operations is late and none fails; in the 99th percentile of all it would be seen late."""
    with planted_process(Plant(one_waits=0.6, crowd=60)) as (url, _):
        ended = attack(url, "idle-connect", "--victim", "ws", victims=20, clients=80)
    assert "worst_victim_over_bar_ms is " in ended.verdict, ended
    assert ended.code in {1, 3}


def test_v8_answers_are_late_after_the_attack() -> None:
    with planted_process(Plant(slow_afterwards=0.6)) as (url, _):
        ended = attack(url, "idle-connect", "--victim", "ws", recovery=3.0)
    assert "recovery_p99_over_bar_ms is " in ended.verdict, ended
    assert ended.code in {1, 3}


def test_v16_smuggling_that_is_taken() -> None:
    with planted_process(Plant(takes_anything=True)) as (url, _):
        ended = attack(url, "malformed-http", clients=70, duration=4.0)
    assert ended.code == 1, ended
    assert "malformed_accepted is " in ended.verdict
    assert "two lengths" in ended.verdict


# V1: servers that know nothing of chat.v1

HELD_BY_ANYBODY = ("slow-head", "idle-connect")


def test_v1_a_plain_web_server_is_held() -> None:
    """With its neighbours: one who types a request by hand is served, and those who chat are not asked to come."""
    with serving("static") as (url, _):
        ended = attack(url, "slow-head", "--victim", "GET /", neighbours=2, duration=25.0)
    assert ended.is_sound(), ended
    assert "collateral 0" in ended.text


@pytest.mark.parametrize("kind", [*HELD_BY_ANYBODY, "slow-frame"])
def test_v1_a_plain_echo_server_is_held(kind: str) -> None:
    with serving("echo") as (url, _):
        ended = attack(url, kind, "--victim", "ws-echo", "--ws-path", "/", neighbours=2)
    assert ended.is_sound(), ended
    assert "not exercised: slow-typist beside the attack: GET was answered 400" in ended.text


@pytest.mark.parametrize(("kind", "victim"), [("static", "GET /"), ("echo", "ws-echo")])
def test_v14_a_slow_but_sound_server_is_held(kind: str, victim: str) -> None:
    """400 ms for each answer, before the attack as well: as far away as another continent."""
    with serving(kind, Site(late=0.4)) as (url, _):
        ended = attack(url, "slow-head", "--victim", victim, "--ws-path", "/", victims=3)
    assert ended.is_sound(), ended


def test_v1_what_needs_a_chat_is_not_exercised_at_a_web_server() -> None:
    with serving("static") as (url, _):
        ended = attack(url, "tiny-frames", "--victim", "GET /")
    assert ended.code == 3, ended
    assert ended.verdict.startswith("NOT EXERCISED")
    assert "tiny-frames needs chat.v1" in ended.verdict


# V5: an attack that did not take place


def test_v5_an_attack_that_met_nothing() -> None:
    with serving("static") as (url, _):
        ended = attack(url, "slow-body", "--victim", "GET /")
    assert ended.code == 3, ended
    assert ended.verdict.startswith("NOT EXERCISED")
    assert "answered 405" in ended.verdict


def test_v5_a_third_of_the_attack_arrived() -> None:
    with serving("echo") as (url, _):
        ended = attack(url, "slow-head", "--victim", "ws-echo", "--ws-path", "/", "--connect-rate", "4", clients=40)
    assert ended.code == 3, ended
    assert "of 40 came" in ended.verdict


# V11: the row that did it


def test_v11_the_server_dies() -> None:
    with planted_process(Plant(dies=True)) as (url, pid):
        ended = attack(url, "idle-connect", "--server-pid", str(pid))
    assert ended.code == 1, ended
    assert "the server died: process" in ended.verdict


def test_v11_the_row_that_did_it_is_blamed() -> None:
    with planted_process(Plant(dies=True)) as (url, _):
        ended = scorecard(url, "slow-head,idle-connect")
    assert ended.code == 1, ended
    [first] = [line for line in ended.text.splitlines() if line.startswith("verdicts: slow-head")]
    [second] = [line for line in ended.text.splitlines() if line.startswith("verdicts: idle-connect")]
    assert "fell short" in first
    assert "the server died: nothing listens" in first
    assert "not exercised" in second
    assert "gone before this attack" in second


# V13: honest load


def test_v13_a_sound_chat_holds_honest_load() -> None:
    with planted_process() as (url, _):
        ended = run(url)
    assert ended.is_sound(), ended


@pytest.mark.parametrize(
    ("plant", "figure"),
    [(Plant(deaf_every=10), "missed is "), (Plant(drop_every=20), "unreturned is ")],
)
def test_v13_deliveries_are_lost(plant: Plant, figure: str) -> None:
    with planted_process(plant) as (url, _):
        ended = run(url)
    assert ended.code == 1, ended
    assert figure in ended.verdict


def test_v13_messages_come_late() -> None:
    """Acknowledged at once, and 800 ms later where they were to go."""
    with planted_process(Plant(echo_delay=0.8)) as (url, _):
        ended = run(url)
    assert "echo_p99_ms is " in ended.verdict, ended
    assert "ack_p99_ms is " not in ended.verdict or ended.code == 3
    assert ended.code in {1, 3}


# V4: honest slow clients


def test_v4_three_hundred_behind_one_address_are_turned_away() -> None:
    """And the attack lasts until all of them have done what they do: it was asked to last three seconds."""
    with planted_process(Plant(per_address=100)) as (url, _):
        ended = attack(url, "idle-connect", neighbours=1, fixed_duration=False)
    assert ended.code == 1, ended
    assert "collateral is 20" in ended.verdict
    assert "not exercised" not in ended.verdict
    assert "attack: 1 min" in ended.errors or "attack: 58 s" in ended.errors


def test_v4_a_sound_chat_hurts_none_of_them() -> None:
    with planted_process() as (url, _):
        ended = attack(url, "idle-connect", neighbours=1, fixed_duration=False)
    assert ended.is_sound(), ended
    assert ended.figure("collateral") == 0
    assert ended.figure("neighbours") == 306


def test_v4_an_attack_that_is_too_short_for_them_says_so() -> None:
    with planted_process(Plant(per_address=100)) as (url, _):
        ended = attack(url, "idle-connect", neighbours=1)
    assert "tunnel 40 s, " in ended.verdict or "tunnel 40 s: 5 s" in ended.verdict
    assert "not exercised: collateral of " in ended.verdict
    assert "figure collateral" not in ended.text


# V9: the generator


def test_v9_a_generator_that_stood_still_is_invalid() -> None:
    with planted_process() as (url, _):
        ended = attack_while(url, "idle-connect", stopped="victims")
    assert ended.code == 3, ended
    assert ended.verdict.startswith("INVALID")
    assert "the generator's own schedule was" in ended.verdict


def test_v9_a_late_crowd_alone_is_not() -> None:
    with planted_process() as (url, _):
        ended = attack_while(url, "idle-connect", stopped="crowd")
    assert ended.is_sound(), ended
    assert ended.figure("lag_max_ms") < 1000


# V10: --fail-if adds, --no-bar removes


def test_v10_what_was_asked_for_is_judged_beside_the_bar() -> None:
    with planted_process(Plant(fails_one=True, crowd=60)) as (url, _):
        ended = attack(url, "idle-connect", "--fail-if", "attackers_held>0", victims=20, clients=80)
    assert ended.code == 1, ended
    assert "attack_failed is 1 " in ended.verdict
    assert "attackers_held is 80" in ended.verdict


def test_v10_without_the_bar_only_what_was_asked_for_is_judged() -> None:
    with planted_process(Plant(no_newcomers=True)) as (url, _):
        ended = attack(url, "idle-connect", "--no-bar", "--fail-if", "attackers_came<1")
    assert ended.code in {0, 3}, ended
    assert "newcomers_failed" not in ended.verdict


# V15: the baseline


def test_v15_a_loud_baseline_allows_nothing() -> None:
    """It stalls before the attack and not during it, in which each answer is 150 ms late: the bar was 1.5 stalls."""
    plant = Plant(stalls_every=0.4, stall=0.3, slow_when_crowded=0.15)
    with planted_process(plant) as (url, _):
        ended = attack(url, "idle-connect", "--victim", "ws")
    assert ended.code == 3, ended
    assert "the baseline is too loud to tell" in ended.verdict


def test_v15_a_server_that_fails_before_the_attack_is_told() -> None:
    with planted_process(Plant(drop_every=20)) as (url, _):
        ended = attack(url, "idle-connect", "--victim", "ws")
    assert ended.code == 1, ended
    assert "baseline_failed is " in ended.verdict
