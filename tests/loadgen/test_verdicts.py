"""That verdicts are right: a fault that is really there is blamed, through the command line; a sound server is not."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from loadgen.clients.messages import Result
from loadgen.net.answers import NO_TURN
from loadgen.personas import registry
from loadgen.personas.askers import bad_token
from loadgen.protocols import chat_v1
from loadgen.report.schema import Outcome
from loadgen.run import experiment
from loadgen.run.workers import Worker
from tests.loadgen.commandline import (
    COUNTS,
    IMPATIENT,
    KEPT,
    Ended,
    attack,
    attacked,
    falls_short,
    held,
    is_late,
    loadgen,
    run,
    tried,
    with_short_cycles,
)
from tests.loadgen.planted import Plant, planted_process
from tests.loadgen.planted_web import NGINX, Site, nginx, serving


@pytest.mark.usefixtures("quiet_machine")
def test_v3_victims_that_are_cut_and_locked_out_go_on_to_fail() -> None:
    ended = falls_short(Plant(locks_out=True), blamed=("attack_failed",), timeout=IMPATIENT)
    assert ended.figure("attack_p99_ms") >= 1000 * IMPATIENT, "a failure took the whole timeout"
    assert ended.figure("first_failure_s") >= 0


def test_v2_and_v8_nobody_new_is_let_in_and_what_the_attack_leaves_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Established clients are served: only newcomers notice."""
    monkeypatch.setattr("loadgen.run.player.RETURN_SECONDS", 1.0)  # its descriptors never return
    plant = Plant(no_newcomers=True, forgets="-", leak_bytes=100_000, leaks_descriptors=True)
    blamed = ("newcomers_failed", "acknowledged_lost", "server_bytes_over_bar", "server_descriptors_left")
    ended = falls_short(plant, blamed=blamed, watched=True, baseline=1.0)
    assert not ended.blames("attack_failed"), ended


@pytest.mark.parametrize("kind", ["poll", "sse"])
def test_v2_a_server_that_lets_in_those_with_websockets_only(kind: str) -> None:
    """All newcomers of a chat had one."""
    falls_short(Plant(only_websockets=True), "idle-connect", "--victim", kind, blamed=("newcomers_failed",))


def test_v2_a_server_that_lets_nobody_in_whose_address_it_does_not_know() -> None:
    """Newcomers had the same addresses before the attack: it was held."""
    plant = Plant(knows_its_own=True)
    falls_short(plant, "idle-connect", "--victim", "ws", newcomers=50.0, baseline=2.0, blamed=("newcomers_failed",))


def test_v10_and_v12_one_failure_is_one_beside_what_was_asked_for() -> None:
    def failed(ended: Ended) -> int:
        """What the server did, and no operation that a loaded machine cost."""
        return sum(row.failed.get("error oops", 0) for row in ended.report.phases if row.name == "attack")

    ended = falls_short(
        Plant(fails_one=True), "idle-connect", "--fail-if", "attackers_held>0",
        duration=4.0,
        blamed=("attack_failed", "attackers_held"),
    )  # fmt: skip
    assert failed(ended) == 1
    assert ended.figure("success_percent") < 100


def test_v10_without_the_bar_only_what_was_asked_for_is_judged() -> None:
    ended = attacked(
        partial(planted_process, Plant(no_newcomers=True)), "idle-connect",
        "--no-bar", "--fail-if", "newcomers_came<1",
        good=lambda ended: bool(ended.report.figures["newcomers_failed"]) and ended.outcome is Outcome.HELD,
    )  # fmt: skip
    assert (ended.code, ended.outcome) == (0, Outcome.HELD), ended
    assert ended.figure("newcomers_failed") > 0
    assert not ended.blames("newcomers_failed")


def test_v8_one_victim_of_twenty_waits_and_answers_are_late_afterwards() -> None:
    """At 1.5 s each of its operations is late and none fails; in the 99th percentile of all it would be seen late."""
    plant = Plant(one_waits=1.5, slow_afterwards=1.5)
    is_late(plant, blamed=("worst_victim_over_bar_ms", "recovery_p99_over_bar_ms"), victims=20, recovery=1.5)


def test_v14_a_server_that_stalls_now_and_then() -> None:
    """A second in every two, before the attack as well: no comparison with the baseline would find it."""
    is_late(Plant(stalls_every=1.0, stall=1.0), blamed=("attack_p99_ms",), baseline=2.0, duration=2.5)


def test_v16_smuggling_that_is_taken() -> None:
    ended = falls_short(
        Plant(takes_anything=True), "malformed-http", blamed=("malformed_accepted",), clients=70, duration=2.0
    )
    assert "two lengths" in ended.notes
    assert "the server died" not in ended.reasons


# V1: servers that know nothing of chat.v1


@pytest.mark.parametrize(
    "is_nginx", [False, pytest.param(True, marks=pytest.mark.skipif(NGINX is None, reason="nginx is not here"))]
)
def test_v1_and_v4_a_web_server_is_held_with_its_neighbours(is_nginx: bool, tmp_path: Path) -> None:
    """A request that is typed by hand is served, and the honest slow that need a chat are not asked to come."""
    server = partial(nginx, tmp_path) if is_nginx else partial(serving, "static")
    with with_short_cycles(2.0):
        ended = held(server, "slow-head", "--victim", "GET /", neighbours=2, counts=(*COUNTS, "collateral"))
    assert ended.figure("collateral") == 0


def test_v1_a_web_server_is_held_over_tls_as_well() -> None:
    server = partial(serving, "static", Site(tls=True))
    ended = held(server, "slow-head,slow-tls", "--victim", "GET /", command="scorecard", victims=2, newcomers=2.0)
    assert all(part.figures["attackers_came"] and part.figures["newcomers_came"] for part in ended.report.parts)


def test_v1_and_v14_a_slow_but_sound_echo_server_is_held() -> None:
    """400 ms for each answer, before the attack as well."""
    slow, kinds = partial(serving, "echo", Site(late=0.4)), "slow-head,idle-connect,slow-frame"
    echo = ("--victim", "ws-echo", "--ws-path", "/")
    ended = held(slow, kinds, *echo, victims=3, neighbours=2)
    assert ended.figure("attack_p50_ms") >= 400
    assert "not exercised: slow-typist beside the attack: GET was answered 400" in ended.notes


@pytest.mark.parametrize(
    ("site", "blamed"),
    [
        (Site(stops_reading=True), ("newcomers_failed",)),
        # what is answered is not what was asked for
        (Site(empties=True), ("attack_failed", "newcomers_failed")),
        (Site(excuses=True), ("attack_failed", "newcomers_failed")),
    ],
    ids=["answers nobody new", "answers with empty pages", "answers with excuses"],
)
@pytest.mark.usefixtures("quiet_machine")
def test_v2_a_web_server_that_fails_under_attack(site: Site, blamed: tuple[str, ...]) -> None:
    ended = attacked(
        partial(serving, "static", site), "slow-head", "--victim", "GET /", timeout=IMPATIENT,
        good=lambda ended: ended.code == 1 and ended.blames(*blamed),
    )  # fmt: skip
    assert ended.code == 1, ended
    assert ended.blames(*blamed), ended


def test_v8_pages_that_come_slowly_are_late_and_none_fails() -> None:
    """A queue grows before each victim, and what waits in it longer than its timeout was called a failure."""
    ended = attacked(
        partial(serving, "static", Site(slows=0.3)), "slow-head", "--victim", "GET /", duration=2.5, timeout=1.0,
        good=lambda ended: ended.blames("attack_p99_ms") and not ended.blames("attack_failed"),
    )  # fmt: skip
    assert ended.blames("attack_p99_ms"), ended
    assert ended.code == 1 or (ended.code == 3 and ended.was_disturbed), ended
    assert not ended.blames("attack_failed") or ended.was_disturbed, ended
    assert any(NO_TURN in row.failed for row in ended.report.phases), ended


def test_v1_what_cannot_be_played_at_a_web_server_is_told_before() -> None:
    with serving("static") as (url, _):
        ended = attack(url, "tiny-frames", "--victim", "GET /")
        [row] = attack(url, "tiny-frames", "--victim", "GET /", command="scorecard").report.parts
        nothing = attack(url, "slow-head", "--victim", "GET /none")
    assert row.verdict.reasons == ended.report.verdict.reasons
    assert (ended.code, ended.outcome) == (3, Outcome.NOT_EXERCISED), ended
    assert "tiny-frames needs chat.v1" in ended.reasons
    assert "unacknowledged" not in ended.report.figures, "there was no honest load"
    assert (nothing.code, nothing.outcome) == (3, Outcome.INVALID)
    assert "GET /none was answered 404 before anything else" in nothing.reasons
    for each in (ended, nothing):
        assert set(each.report.figures.values()) == {None}, "a program that reads it learns why there is nothing"


# V5 and V6: an attack that did not take place, or a weaker one; all of its reasons are in test_exercise.py


def test_v6_an_attack_that_was_complete_only_at_its_end() -> None:
    with serving("static") as (url, _):
        ended = attack(url, "slow-head", "--victim", "GET /", "--connect-rate", "10", duration=4.0)
    assert ended.figure("attackers_came") >= 29, ended
    assert ended.outcome is Outcome.NOT_EXERCISED, ended
    assert "slow-head: they had come for only " in ended.reasons


def test_v6_a_server_that_is_slow_to_accept_met_less_than_was_asked_for() -> None:
    """It takes 20 ms for each of a flood, and few may wait: the kernel turns the others away for a second or more."""
    with planted_process(Plant(accepts_every=0.02, backlog=2)) as (url, _):
        ended = attack(
            url, "connect-flood", "--victim", "ws", "--connect-rate", "500", clients=10, victims=2, timeout=IMPATIENT,
            duration=4.0,  # longer than the kernel's second try to connect takes: on a busy machine all wait for it
        )  # fmt: skip
    assert "/s (--connect-rate 500), from" in ended.notes
    assert 0 < ended.figure("attempts_per_s") <= 100


# V11: the row that did it


_DEADLY = {
    "sign-outs": partial(planted_process, Plant(dies_of="DELETE /session")),
    "bad-tokens": partial(planted_process, Plant(dies_of=f"Bearer {bad_token(3).split('.')[0]}")),
    "tls-key-updates": partial(serving, "static", Site(tls=True, dies_of_key_updates=True)),
}


@pytest.mark.parametrize("kind", _DEADLY)
@pytest.mark.usefixtures("quiet_machine")
def test_v11_the_row_that_did_it_is_blamed(kind: str) -> None:
    """Whether its process is known, or nothing listens any more. On a loaded machine an attack may come too late."""

    def play() -> Ended:
        with _DEADLY[kind]() as (url, pid):
            watched = ("--server-pid", str(pid)) if kind == "bad-tokens" else ()
            victim = ("--victim", "GET /") if kind == "tls-key-updates" else ()
            return attack(
                url, f"{kind},slow-head", *watched, *victim, command="scorecard", timeout=IMPATIENT,
                clients=10, baseline=0.4, recovery=0.4, duration=1.5,
            )  # fmt: skip

    ended = tried(play, lambda ended: ended.code == 1)
    assert ended.code == 1, ended
    first, second = ended.report.parts
    cause = r"process \d+ is gone" if kind == "bad-tokens" else r"nothing listens at 127\.0\.0\.1 port \d+"
    assert (first.command, first.outcome) == (kind, Outcome.FELL_SHORT)
    assert re.match(f"the server died: {cause}", first.verdict.reasons[0])
    assert (second.command, second.outcome) == ("slow-head", Outcome.NOT_EXERCISED)
    assert "gone before this attack" in second.verdict.reasons[0]
    assert "Traceback" not in ended.errors


def test_v11_a_server_that_dies_while_it_is_read_again_is_not_held() -> None:
    """It was looked for before that, and what could not be read was a note."""
    with planted_process(Plant(dies_of="&limit=50")) as (url, _):
        ended = attack(url, "idle-connect", "--victim", "ws", duration=1.0)
    assert ended.outcome is Outcome.FELL_SHORT, ended
    assert ended.reasons.startswith("the server died: nothing listens at 127.0.0.1 port ")


# V13: honest load


@pytest.fixture
def brief_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never comes is waited for in full: first by its author, then by the other members."""
    usual = experiment.honest_load
    monkeypatch.setattr(
        experiment, "honest_load", lambda *counts, **how: replace(usual(*counts, **how), drain_seconds=2.0)
    )


@pytest.mark.usefixtures("brief_drain")
@pytest.mark.parametrize(
    ("plant", "blamed", "figures"),
    [
        # acknowledged at once, 800 ms later where they were to go, and of ten one only to its author
        (Plant(deaf_every=10, echo_delay=0.8), ("missed", "echo_p99_ms"), {"unreturned": 0}),
        (Plant(drop_every=20), ("unreturned",), {"unacknowledged": 0}),
        (Plant(tells_everybody=True), ("surplus",), {"missed": 0, "unacknowledged": 0}),
        # one twice and the next never: each member got as many as were due
        (Plant(repeats_every=10), ("missed", "surplus"), {"unreturned": 0, "unacknowledged": 0}),
        # each member is told to come back, and of what it missed meanwhile one is left out
        (
            Plant(close_members_after=0.8, closes_with=1012, resumes_late=0.2, skips=1),
            ("missed",),
            {},  # a busy machine may publish while a member is away
        ),
        (Plant(mislabels=True), ("ended",), {"message_errors": 0}),
        (Plant(acknowledges_twice=True), ("message_errors",), {"unacknowledged": 0, "unreturned": 0, "ended": 0}),
        (Plant(reverses=0.3), ("message_errors",), {"unacknowledged": 0, "ended": 0}),
    ],
)
def test_v13_messages_are_lost_and_come_late(plant: Plant, blamed: tuple[str, ...], figures: dict[str, float]) -> None:
    def play() -> Ended:
        with planted_process(plant) as (url, _):
            return run(url)

    def found(ended: Ended) -> dict[str, float]:
        return {name: ended.figure(name) for name in figures}

    ended = tried(play, lambda ended: ended.code == 1 and ended.blames(*blamed) and found(ended) == figures)
    assert ended.code == 1, ended
    assert ended.blames(*blamed), ended
    assert found(ended) == figures
    if plant.echo_delay:
        assert not ended.blames("ack_p99_ms") or ended.was_disturbed, ended
    if plant.drop_every:
        assert ended.figure("unreturned") == ended.report.phases[0].succeeded // plant.drop_every


def test_v13_an_echo_that_comes_twice_is_one_too_many() -> None:
    """A victim had no operation outstanding when the second came, so none failed, and the server was held.

    Victims come back after each, and of several, seldom all were connected at once: the run was invalid.
    """
    twice = partial(serving, "echo", Site(repeats_every=1))
    ended = attacked(
        twice, "slow-head", "--victim", "ws-echo", "--ws-path", "/", victims=8,
        good=lambda ended: ended.code == 1 and ended.blames("attack_failed"),
    )  # fmt: skip
    assert ended.code == 1, ended
    assert ended.blames("attack_failed"), ended
    assert any("a message came twice" in row.failed for row in ended.report.phases), ended
    with twice() as (url, _):
        ended = loadgen(
            "run", url, "--ws-path", "/", "--mix", "echo=100", "--clients", "3", "--rate", "20", "--duration", "1"
        )
    assert ended.blames("message_errors"), ended
    assert any("an echo came twice, or to another client" in row.failed for row in ended.report.phases), ended


def test_v13_requests_that_are_read_and_never_answered() -> None:
    """Each was sent once more, so that a worker that died of every third request was held, with a note."""
    with serving("static", Site(drops_every=3)) as (url, _):
        ended = loadgen(
            "run", url, "--request", "GET /", "--clients", "3", "--rate", "30", "--duration", "1", "--seed", "1"
        )
    assert ended.code == 1, ended
    assert ended.blames("message_errors"), ended
    assert ended.figure("message_errors") >= 8


# V4: honest slow clients


def test_v4_three_hundred_behind_one_address_are_turned_away() -> None:
    """And the attack lasts until all of them have done what they do: it was asked to last two seconds."""
    with with_short_cycles(6.0):
        ended = attacked(
            partial(planted_process, Plant(per_address=100)), "idle-connect", neighbours=1, fixed_duration=False,
            good=lambda ended: ended.blames("collateral"),
        )  # fmt: skip
    assert ended.blames("collateral") or "but their own process was " in ended.reasons, ended
    assert ended.figure("collateral") >= 200
    assert "3.2 s were asked for, but " in ended.errors
    assert "not exercised: collateral" not in ended.notes
    assert all(row.seconds >= 4 for row in ended.report.phases if row.name == "attack")


@pytest.fixture
def small_office(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 who do in seconds what they do in minutes are seven times the work of a usual run."""
    monkeypatch.setattr(registry()["office"], "usual_clients", 30)


@pytest.mark.usefixtures("small_office")
def test_v4_a_sound_chat_hurts_none_of_them() -> None:
    with with_short_cycles(2.0):
        ended = held(planted_process, "idle-connect", neighbours=1, counts=(*COUNTS, "collateral", *KEPT))
    assert ended.figure("collateral") == 0
    assert ended.figure("neighbours") == 37


@pytest.mark.usefixtures("small_office")
def test_v4_a_chat_that_refuses_what_is_sent_at_once_hurts_one_of_them() -> None:
    with with_short_cycles(1.0):
        ended = falls_short(Plant(refuses_pipelined=True), neighbours=1, blamed=("collateral",), duration=1.0)
    assert ended.figure("collateral") == 1


def test_v4_a_sound_chat_is_held_and_an_attack_that_is_too_short_for_neighbours_says_so() -> None:
    ended = held(planted_process, "slow-head", neighbours=1, counts=(*COUNTS, *KEPT))
    assert "not exercised: collateral of " in ended.notes
    assert "tunnel 35 s" in ended.notes
    assert ended.report.figures["collateral"] is None


# What is answered is not what was asked for


@pytest.mark.usefixtures("quiet_machine")
def test_messages_that_are_never_acknowledged_are_no_success() -> None:
    """They come back to their sender as ever."""
    plant = Plant(acknowledges_nothing=True)
    blamed = ("attack_failed", "newcomers_failed")
    falls_short(plant, "idle-connect", "--victim", "ws", blamed=blamed, timeout=1.0, duration=1.5)


@pytest.mark.parametrize("plant", [Plant(acknowledges_twice=True), Plant(one_offset=1)])
def test_receipts_that_come_twice_and_offsets_that_name_several_messages_are_no_success(plant: Plant) -> None:
    """A second receipt overwrote the first, and nobody compared one message with another."""
    falls_short(plant, "idle-connect", "--victim", "ws", blamed=("attack_failed",), duration=1.0)


@pytest.mark.usefixtures("quiet_machine")
def test_edits_that_are_acknowledged_and_told_to_nobody_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """No load had any. A server that does not know them is asked for one, and held."""
    monkeypatch.setattr(chat_v1, "CHANGES_EVERY", 2)
    plant = Plant(loses_edits=True)
    falls_short(plant, "idle-connect", "--victim", "ws", blamed=("attack_failed",), timeout=1.0, duration=1.5)
    ended = held(partial(planted_process, Plant(knows=("publish",))), "idle-connect", "--victim", "ws", duration=1.0)
    assert ended.figure("acknowledged_lost") == ended.figure("attack_failed") == 0


@pytest.mark.parametrize(
    ("plant", "victim"),
    [(Plant(starts_anew=True), "ws"), (Plant(cannot_read=500), "ws"), (Plant(cannot_read=404), "poll")],
)
def test_a_server_that_starts_anew_or_cannot_read_has_lost_what_it_acknowledged(plant: Plant, victim: str) -> None:
    """It says so, and as of a server that keeps the latest only, no message older than that would be asked for.

    A room that was polled and is not found any more was taken for one of a server that keeps no history.
    """
    falls_short(plant, "idle-connect", "--victim", victim, blamed=("acknowledged_lost",), duration=1.0)


def test_a_server_that_reads_its_log_slowly_has_the_time_to_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator's own process did not answer meanwhile, and the run was invalid for that."""
    asked = []

    async def send_result(worker: Worker) -> Result:
        asked.append(worker.up_to_date)
        return await usual(worker)

    usual = Worker.send_result
    monkeypatch.setattr(Worker, "send_result", send_result)
    with planted_process(Plant(reads_late=1.0)) as (url, _):
        ended = attack(url, "idle-connect", "--victim", "ws", duration=1.0)
    assert asked == [True, True], "what is asked for a result has nothing else to do"
    assert ended.figure("acknowledged") > 0
    assert ended.figure("acknowledged_lost") == 0
