"""The notes of a report, which decide nothing: how hard the attack was, what was left out, what helps."""

from dataclasses import replace

from loadgen.clients.messages import Reread
from loadgen.personas import registry
from loadgen.report.schema import Outcome
from loadgen.run import experiment
from loadgen.run.findings import report_of
from loadgen.run.span import Size
from tests.loadgen.plays import config
from tests.loadgen.readings import at_floor, attacked, group, loaded, more, operations, total, traffic


def test_how_hard_an_attack_was_and_what_was_left_out_is_noted() -> None:
    found = attacked()
    found.spans = [span._replace(opening_seconds=2.5 * (span.name == "attack")) for span in found.spans]
    found.plan = replace(found.plan, connect_rate=50.0)
    found.left_out = ["not exercised: tunnel"]
    found.floor = at_floor(attempts_per_s=20.0, attacker_bytes_per_s=2048.0, attack_p99_ms=30.0)
    more(operations("attack", "ws", 131.0711))(found)
    attackers = found.session.totals.groups[0]
    total(found, groups=[attackers], reread=Reread(asked=5, unreadable="answered 500"), sent_again=2)
    *notes, what_helps = report_of(found).verdict.notes
    assert "--no-bar" in what_helps, "it is invalid"
    assert notes == [
        (
            "100 of 100 attackers came at 40/s (--connect-rate 50), from one address; over the whole attack"
            " 10 connections/s and 300 B/s sent; at the floor 20/s and 2,048 B/s"
        ),
        "not exercised: tunnel",
        "connections waited, as in a full backlog: 2 clients sent packets again before the attack",
        "late at the 99th percentile: victims in the attack 131 ms (bar 26)",
        "not exercised: newcomers, none came",
        "not exercised: collateral, no honest slow client was beside the attack",
        "not exercised: acknowledged messages could not all be read again (answered 500)",
    ]
    assert report_of(found).figures["floor_p99_ratio"] == 4.369
    found.plan = replace(found.plan, target=replace(found.plan.target, address="192.0.2.1"))
    notes = report_of(found).verdict.notes
    assert "the network loses packets: 2 clients sent packets again before the attack" in notes
    assert "victims came from the attackers' address: a limit for each address hurts them too" in notes
    alone = attacked()
    alone.floor = at_floor("it fell", attempts_per_s=20.0)
    alone.memory = {"baseline": [Size(0.0, 0)], "attack": [Size(5.0, 10 * 2**20)]}
    intensity = report_of(alone).verdict.notes[0]
    assert "--connect-rate" not in intensity, "as fast as the target takes them"
    assert "at the floor" not in intensity, "it has no figures"
    assert report_of(alone).verdict.notes[1:] == [
        "9,528 KiB of memory above the limit; if the server keeps messages in memory, these count",
        "nothing to compare with at the floor: it fell",
    ]
    assert report_of(loaded()).verdict.notes == []
    alone.experiment = config({"slow-head": 100}, victims={"get": 4}, neighbours={"sleepy-tab": 2})
    assert not any("of memory above" in note for note in report_of(alone).verdict.notes), "pages are no messages"
    alone.attacker_addresses = 64
    assert "100 of 100 attackers came, from 64 addresses; " in report_of(alone).verdict.notes[0]
    total(quiet := attacked(), reread=Reread(asked=5, lost=0, refused="answered 503"))
    told = "acknowledged messages could not all be read again (answered 503)"
    assert report_of(quiet).verdict.notes[1:] == [told]


def test_what_was_taken_and_must_be_refused_is_named() -> None:
    found = attacked()
    found.experiment = config({"malformed-http": 10})
    counts = {"came": 10, "opened": 10, "sent_bytes": 1, "due": 10, "answers": {"two lengths: answered 200": 1}}
    attackers = group("malformed-http", "attackers", **counts)
    total(found, groups=[attackers])
    found.standing.look([attackers], 1.0)
    report = report_of(found)
    assert report.verdict.reasons == ["malformed_accepted is 1 (malformed_accepted>0)"]
    assert "accepted although they must be refused: two lengths" in report.verdict.notes
    found.experiment = config({})
    total(found, groups=[])
    assert "attackers came" not in "; ".join(report_of(found).verdict.notes)


def test_no_advice_is_given_that_would_change_nothing() -> None:
    found = attacked()
    more(operations("attack", "ws", 5000, failed=1))(found)
    total(found, phases=[each for each in found.session.totals.phases if each.phase != "recovery"], groups=[])
    found.plan = replace(found.plan, target=replace(found.plan.target, address="192.0.2.1"), no_bar=True)
    found.experiment = config({})
    verdict = report_of(found).verdict
    assert verdict.outcome is Outcome.INVALID
    assert not [note for note in verdict.notes if "--no-bar" in note or "attackers' address" in note]
    for persona, rate, acknowledged in (("chat", 1, 0), ("echo", 0, 0), ("echo", 1, 2)):
        found = loaded()
        found.experiment = experiment.honest_load({registry()[persona]: 10}, rate=rate, seconds=10)
        total(found, groups=[group(persona, "crowd")])
        traffic(found, acknowledged_in={"lobby": acknowledged} if acknowledged else {})
        assert not any("--ws-path" in note for note in report_of(found).verdict.notes)
