"""From what was read and counted to a verdict, without a run: one fact is changed in a sound one."""

import os
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pytest

from loadgen.clients.messages import PhaseResult, Reread, TrafficResult
from loadgen.net.answers import UNANSWERED
from loadgen.personas import registry
from loadgen.report.conditions import Condition
from loadgen.report.latency import Late
from loadgen.report.schema import Outcome, Report
from loadgen.run import experiment
from loadgen.run.findings import report_of
from loadgen.run.measured import Measured
from loadgen.run.procfs import Process
from loadgen.run.span import Size
from tests.loadgen.readings import (
    Change,
    at_floor,
    attacked,
    group,
    lasted,
    late,
    loaded,
    more,
    operations,
    read,
    total,
    traffic,
)


def hurt(found: Measured, *, how: str = "closed", still_ms: float = 1.0) -> None:
    [attackers, tab] = found.session.totals.groups
    lags = [("victims", "attack", late(1.0)), ("crowd", "attack", late(still_ms))]
    total(found, groups=[attackers, msgspec.structs.replace(tab, ended={how: 1})], lags=lags)


def is_far_away(found: Measured) -> None:
    found.round_trip_seconds = 0.4
    traffic(found, acks=lasted(600), echoes=lasted(600))


def is_far(found: Measured) -> None:
    found.round_trip_seconds = 0.1


def stops(found: Measured) -> None:
    found.session.stopped = True
    total(found, own_faults={"no ports": 3})


def has_no_bar(found: Measured) -> None:
    more(operations("attack", "ws", 5000, failed=1))(found)
    found.plan = replace(found.plan, no_bar=True, conditions=(Condition("attackers_came", "<", 50),))


def is_late_beside(floor: Report) -> Change:
    def change(found: Measured) -> None:
        more(operations("attack", "ws", 90))(found)
        found.floor = floor

    return change


def overloaded(
    *kinds: str,
    outage: bool = False,
    before_ms: float = 300,
    busy: float = 2.0,
    cpu: float | None = 0.1,
    how: str = UNANSWERED,
) -> Change:
    """An operation of each of these kinds gets no answer in time, at a server that was as late before the attack."""

    def change(found: Measured) -> None:
        failed = (
            operations(phase, kind, 5000, failed=1, how=how, outage=outage)
            for kind in kinds
            for phase in ("attack", "recovery")
        )
        more(operations("baseline", "ws", before_ms, before_ms), operations("attack", "ws", 1), *failed)(found)
        [baseline, *later] = found.spans
        before, after = baseline.before._replace(pressure=0.0), read(2.0, memory=2**20, cpu=cpu or 0.0, pressure=busy)
        if cpu is None:  # nobody knows the server's process
            after = after._replace(server=None)
        found.spans[:] = [baseline._replace(before=before, after=after), *later]

    return change


def came(number: int) -> Change:
    return partial(total, groups=[group("slow-head", "attackers", wanted=100, came=number)])


def lags(part: str, lateness: Late) -> Change:
    return partial(total, lags=[(part, "attack", lateness)])


def grows(*, came: int) -> Change:
    """The server's memory grows by far more than attackers may cost, and so many of them came."""

    def change(found: Measured) -> None:
        found.plan = replace(found.plan, server=Process(os.getpid()))
        found.memory = {"baseline": [Size(1.0, 0)], "attack": [Size(5.0, 10 * 2**20)]}
        found.descriptors_after = 0
        total(found, groups=[group("slow-head", "attackers", wanted=100, came=came)])

    return change


def both(*changes: Change) -> Change:
    def change_all(found: Measured) -> None:
        for change in changes:
            change(found)

    return change_all


def failed(phase: str, kind: str = "ws") -> PhaseResult:
    return operations(phase, kind, 1, 5000, failed=1)


def rereads(asked: int, lost: int = 0, **why: Any) -> Change:
    return partial(total, reread=Reread(asked=asked, lost=lost, **why))


LATE, QUICK = more(operations("attack", "ws", 90)), more(operations("attack", "ws", 2))
SILENT = rereads(0, unreadable=UNANSWERED)
LATE_FLOOR, FALLEN_FLOOR = at_floor(attack_p99_ms=5000.0), at_floor("it fell")
UNKNOWN = "acknowledged_lost was not measured, so acknowledged_lost>0 cannot be judged"


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (more(failed("attack")), ["attack_failed is 1 (attack_failed>0)"]),
        (more(failed("recovery")), ["recovery_failed is 1"]),
        (both(QUICK, more(failed("attack", "new-ws"))), ["newcomers_failed is 1"]),
        (more(failed("baseline")), ["baseline_failed is 1"]),
        (LATE, ["p99_over_bar_ms is "]),
        (both(LATE, SILENT), ["p99_over_bar_ms is "]),  # a history that is not given does not excuse late answers
        (is_late_beside(at_floor(attack_p99_ms=3.0)), ["p99_over_bar_ms is "]),
        # a target 400 ms away may take that much more, and so may one that took as long before
        (both(is_far_away, more(operations("attack", "ws", 660))), ["(attack_p99_ms>650)"]),
        (more(operations("baseline", "ws", 400), operations("attack", "ws", 660)), ["(attack_p99_ms>650)"]),
        (rereads(5, lost=1), ["acknowledged_lost is 1"]),
        (rereads(5, lost=2, refused="answered 503"), ["acknowledged_lost is 2"]),
        (rereads(5, refused="answered 503"), [UNKNOWN]),
        (rereads(0, refused="answered 503"), [UNKNOWN]),
        (rereads(5, rooms=2, members_wrong=1), ["members_wrong is 1 (members_wrong>0)"]),
        (grows(came=1), ["server_bytes_over_bar is 9,756,672"]),
        # by memory it fell short, and of its latency nothing is known
        *(
            (both(grows(came=1), doubt), ["server_bytes_over_bar is", f"latency not judged: {why}"])
            for doubt, why in (
                (is_late_beside(FALLEN_FLOOR), "the floor itself gave no figures"),
                (is_late_beside(LATE_FLOOR), "the floor itself was late: 5,000 ms"),
                (both(LATE, lags("victims", late(30.0))), "the generator itself was 30"),
            )
        ),
        (overloaded("ws", how="closed"), ["attack_failed is 1", "recovery_failed is 1"]),
        (overloaded("ws", before_ms=240), ["attack_failed is 1", "recovery_failed is 1"]),
        (both(overloaded("ws"), is_far), ["attack_failed is 1", "recovery_failed is 1"]),  # its way took 100 ms of 300
        # it was quick before, with those that it answered; the others counted as late on a busy machine
        (
            both(
                overloaded("ws", before_ms=1),
                more(operations("baseline", "ws", 1, 5000, 5000, failed=2, how=UNANSWERED)),
            ),
            ["baseline_failed is 2", "attack_failed is 1"],
        ),
        # no others had the processors, whatever else may have made answers late
        (both(overloaded("ws", busy=0.0), lags("victims", late(10.0))), ["attack_failed is 1", "recovery_failed is 1"]),
        # `php -S` answered everybody before an attack, however late, and none of 810 after it
        (overloaded("ws", outage=True), ["attack_failed is 1", "recovery_failed is 1"]),
        (overloaded("new-ws", outage=True), ["newcomers_failed is 2"]),
        (both(overloaded("ws", outage=True), lags("victims", late(2600))), ["recovery_failed is 1"]),
        (overloaded("ws", cpu=1.2), ["attack_failed is 1", "recovery_failed is 1"]),  # it was busy itself
        (hurt, ["collateral is 1 (collateral>0)"]),
        (both(overloaded(), hurt), ["collateral is 1"]),
        (lambda found: setattr(found, "down", "it died"), ["it died"]),
    ],
)
def test_a_target_falls_short_by(change: Change, reasons: list[str]) -> None:
    told = decided(found := attacked(), change, Outcome.FELL_SHORT)
    assert all(any(reason in each for each in told) for reason in reasons), told
    assert "collateral" in reasons[0] or not any("collateral is" in each for each in told), told
    if "latency" in reasons[-1]:
        assert not any("_ms is " in each for each in told), told
        assert any(note.startswith("p99_over_bar_ms is ") for note in report_of(found).verdict.notes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (SILENT, "acknowledged messages could not be read again: no answer in time"),
        (is_late_beside(FALLEN_FLOOR), "the floor itself gave no figures"),
        (is_late_beside(LATE_FLOOR), "the floor itself was late: 5,000"),
        (both(LATE, more(operations("baseline", "ws", 1, 1, 300, 300))), "too late to judge"),
        (more(operations("baseline", "ws", 5000, failed=1, how=UNANSWERED)), "there is nothing to compare with"),
        # http.server was blamed for the timeouts of a machine whose processors others had: 0.1 s of two were its own
        (overloaded("ws", "new-ws"), "programs waited for processors: 100% of the time before the attack"),
        (overloaded("ws"), "recovery_failed is 1 (recovery_failed>0)"),
        (overloaded("new-ws"), "newcomers_failed is 2 (newcomers_failed>0)"),
        (overloaded("ws", cpu=None), "programs waited for processors: 100% of the time before the attack"),
        # they waited for the same processors as the victims
        (
            both(overloaded(), partial(hurt, how=f"{UNANSWERED}: nothing came in 10 s")),
            "collateral is 1 (collateral>0)",
        ),
        (partial(hurt, still_ms=2500), "1 honest slow clients were hurt, but their own process was 2.5 s late"),
        (lags("victims", late(2600)), "the generator itself stood still for 2.6 s"),
        (
            both(overloaded("ws", outage=True), lags("victims", late(5100))),
            "the generator itself stood still for 5.1 s",
        ),
        (  # one operation may be begun so late and read so late: nginx was blamed for the sum
            lags("victims", late(1300)._replace(reading=lasted(1300))),
            "the generator itself stood still for 1.3 s and data for the generator lay unread for 1.3 s",
        ),
        (partial(total, own_faults={"no ports": 3}), "no ports: a limit here, for 3 connections"),
    ],
)
def test_a_run_is_no_measurement_because(change: Change, reason: str) -> None:
    told = "; ".join(decided(attacked(), change, Outcome.INVALID))
    assert reason in told
    assert "collateral" in reason or "collateral is" not in told


@pytest.mark.parametrize(
    ("change", "helps"), [(is_late_beside(LATE_FLOOR), True), (lags("victims", late(2600)), False)]
)
def test_who_has_no_quiet_machine_is_told_how_to_judge_counts(change: Change, helps: bool) -> None:
    """Each run on a busy one was invalid, with six reasons and nothing to do about them."""
    found = attacked()
    decided(found, change, Outcome.INVALID)
    told = [note for note in report_of(found).verdict.notes if "--no-bar --fail-if" in note]
    assert bool(told) is helps
    named = [text.partition(">")[0] for note in told for text in note.split("'")[1].split(",")]
    assert set(named) <= report_of(found).figures.keys()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda found: found.spans.clear(), "not exercised: the attack was not played"),
        (came(9), "not exercised: slow-head: only 9 of 100 came"),
        # a server without TLS, which no `tls-half-message` can attack, was blamed for what it grew by anyway
        (grows(came=0), "not exercised: slow-head: only 0 of 100 came"),
    ],
)
def test_an_attack_did_not_take_place_because(change: Change, reason: str) -> None:
    assert reason in "; ".join(decided(attacked(), change, Outcome.NOT_EXERCISED))


@pytest.mark.parametrize("change", [lambda found: None, lags("crowd", late(2500)), has_no_bar])
def test_a_target_is_held(change: Change) -> None:
    assert decided(attacked(), change, Outcome.HELD) == []


@pytest.mark.parametrize("compares", [True, False])
def test_a_baseline_with_the_whole_load_in_it_is_no_measure(compares: bool) -> None:
    """Newcomers of which 3% took 120 ms had no capacity: their baseline was 'too late to judge by'."""
    found = attacked()
    found.experiment = replace(found.experiment, compares=compares)
    mixed = [*[2] * 485, *[120] * 15]
    change = more(operations("attack", "new-ws", *mixed), operations("recovery", "new-ws", *[2] * 500))
    more(operations("baseline", "ws", *[2] * 200), operations("baseline", "new-ws", *mixed))(found)
    change(found)
    more_victims = [operations(phase, "ws", *[2] * 200) for phase in ("attack", "recovery")]
    total(found, phases=[*found.session.totals.phases, *more_victims])
    found.plan = replace(found.plan, conditions=(Condition("newcomers_p99_ms", ">", 252.0),))
    assert report_of(found).outcome is (Outcome.INVALID if compares else Outcome.HELD), report_of(found).verdict
    found = attacked()
    found.experiment = replace(found.experiment, compares=compares)
    decided(found, LATE, Outcome.FELL_SHORT if compares else Outcome.HELD)


def test_what_was_stopped_is_interrupted_whatever_was_found() -> None:
    told = decided(attacked(), both(stops, more(failed("attack"))), Outcome.INTERRUPTED)
    assert told == ["stopped before the end; the figures cover what was done"]


def decided(found: Measured, change: Change, outcome: Outcome) -> list[str]:
    change(found)
    report = report_of(found)
    assert report.outcome is outcome, report.verdict
    return report.verdict.reasons


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (partial(traffic, unacknowledged=1), "unacknowledged is 1"),
        (partial(traffic, unreturned=1), "unreturned is 1"),
        (partial(traffic, acks=lasted(300)), "(ack_p99_ms>250)"),
        (partial(traffic, errors={"answered 500": 1}), "message_errors is 1"),
        (partial(total, listeners=[("lobby", 1, 0, 1)]), "missed is 1"),
        (partial(total, listeners=[("lobby", 3, 0, 1)]), "surplus is 1"),
        *(
            (partial(total, groups=[group("chat", "crowd", **{fate: {"closed": 1}})]), f"{fate} is 1")
            for fate in ("refused", "failed", "ended")
        ),
    ],
)
def test_a_target_falls_short_under_load_by(change: Change, reason: str) -> None:
    assert reason in "; ".join(decided(loaded(), change, Outcome.FELL_SHORT))


def test_a_load_is_held_or_measured_nothing() -> None:
    assert decided(loaded(), lambda found: None, Outcome.HELD) == []
    assert decided(loaded(), is_far_away, Outcome.HELD) == []
    found = loaded()
    assert not report_of(found).verdict.notes
    total(found, groups=[group("chat", "crowd", opened=41, came=10)])
    again = "made again, after planned ends or between two requests: 31 connections"
    assert report_of(found).verdict.notes == [again], "a server that ended all idle clients was held without a word"
    nothing = partial(traffic, errors={"answered 404": 2}, acknowledged_in={})
    assert "no message was served: answered 404: 2" in decided(loaded(), nothing, Outcome.INVALID)[0]
    nothing = partial(traffic, errors={"forbidden": 2}, acknowledged_in={})  # guests of this chat may only read
    assert "no message was served: forbidden: 2" in decided(loaded(), nothing, Outcome.INVALID)[0]
    found = loaded()
    found.experiment = experiment.honest_load({registry()["echo"]: 10}, rate=1, seconds=10)
    total(found, groups=[group("echo", "crowd")])
    decided(found, partial(traffic, acknowledged_in={}, unacknowledged=2), Outcome.FELL_SHORT)
    assert any("name with --ws-path where the target echoes" in note for note in report_of(found).verdict.notes)


@pytest.mark.parametrize("hurt", ["ended", "unacknowledged", "unreturned", "missed", ""])
@pytest.mark.parametrize(
    ("what", "words"),
    [("schedule", "the generator itself stood still for "), ("reading", "data for the generator lay unread for ")],
)
@pytest.mark.parametrize("late_ms", [2500, 1500])
def test_a_load_whose_process_stood_still_blames_nobody(hurt: str, what: str, words: str, late_ms: float) -> None:
    """Clients that answer no pings are ended, and answers that are not read in time are never read."""
    found = loaded()
    crowd = late(1.0)._replace(**{what: lasted(late_ms)})
    members = [("lobby", 0, 0, 1)] if hurt == "missed" else []
    booked = {hurt: 1} if hurt.startswith("un") else {}
    counts = {"ended": {"closed": 1}} if hurt == "ended" else {}
    traffic(found, **booked)
    total(found, lags=[("crowd", "steady", crowd)], listeners=members, groups=[group("chat", "crowd", **counts)])
    told = f"{words}{late_ms / 1000:g} s" in report_of(found).verdict.reasons
    assert told is (late_ms > 2000 and bool(hurt))


@pytest.mark.parametrize(("persona", "rate"), [("chat", 0), ("request", 1)])
def test_who_says_nothing_or_gets_nothing_back_is_not_judged_by_that(persona: str, rate: float) -> None:
    found = loaded()
    counts = {registry()[persona]: 10}
    found.experiment = experiment.honest_load(counts, rate=rate, seconds=10)
    total(found, groups=[group(persona, "crowd")], traffic=TrafficResult(acks=lasted(1), acknowledged_in={"a": 1}))
    assert report_of(found).outcome is Outcome.HELD, report_of(found).verdict
    # on a busy machine no number of idle connections was ever held, although no time was judged
    total(found, lags=[("crowd", "steady", late(30.0))])
    assert report_of(found).outcome is (Outcome.INVALID if rate else Outcome.HELD)
    assert any(
        "was 30" in why for why in (report_of(found).verdict.reasons if rate else report_of(found).verdict.notes)
    )


@pytest.mark.parametrize("has_failed", [False, True])
def test_a_phase_without_an_operation_is_not_the_targets_fault(has_failed: bool) -> None:
    """A recovery of 0.12 s fell short: "recovery_failed was not measured". What did fail still counts."""
    found = attacked()
    phases = [each for each in found.session.totals.phases if each.phase != "recovery"]
    total(found, phases=[*phases, *([failed("attack")] if has_failed else [])])
    verdict = report_of(found).verdict
    assert verdict.outcome is (Outcome.FELL_SHORT if has_failed else Outcome.INVALID)
    told = "attack_failed is 1" if has_failed else "no operation was due in the recovery: longer phases or more victims"
    assert verdict.reasons[0].startswith(told)
    assert not any("was not measured" in reason for reason in verdict.reasons)


def test_of_a_server_that_died_its_last_known_size_counts() -> None:
    found = attacked()
    grows(came=100)(found)
    found.spans = [span._replace(after=span.after._replace(server=None)) for span in found.spans]
    assert report_of(found).figures["server_bytes_grown"] == 10 * 2**20
