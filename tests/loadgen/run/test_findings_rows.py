"""The rows of a report: which phases, and what of them; and some notes beside its verdict."""

from dataclasses import replace

from loadgen.net.answers import NO_TURN
from loadgen.report.schema import Sample
from loadgen.run import experiment
from loadgen.run.experiment import Counts
from loadgen.run.findings import report_of
from loadgen.run.span import Span
from tests.loadgen.plays import config
from tests.loadgen.readings import attacked, group, lasted, loaded, more, operations, read, total, traffic


def test_rows_are_those_of_the_phases_with_what_failed() -> None:
    """And of those alone, without kinds that did nothing in them."""
    found = attacked()
    more(operations("warm-up", "ws", 1), operations("attack", "poll"), operations("attack", "ws", 2, 5000, failed=1))(
        found
    )
    rows = [(row.name, row.what, row.seconds, row.succeeded, row.failed) for row in report_of(found).phases]
    assert rows == [
        ("baseline", "WebSocket round trip", 2.0, 2, {}),
        ("attack", "WebSocket round trip", 10.0, 1, {"answered 500": 1}),
        ("recovery", "WebSocket round trip", 2.0, 1, {}),
    ]
    samples = [Sample(seconds=at, phase="recovery", held={}, ended={}, refused={}, succeeded=9) for at in (12.0, 13.0)]
    found.session.timeline += samples
    report = report_of(found)
    assert report.figures["recover_s"] == 0.0
    assert (report.timeline, report.seed) == (samples, found.plan.seed)
    attack = report.phases[1]
    assert (attack.server_cpu_percent, attack.server_pss_bytes) == (10.0, 2**21)
    assert attack.histogram == lasted(2, 5000).encoded()
    assert [(row.persona, row.group, row.honest, row.slow) for row in report.cohorts] == [
        ("slow-head", "attackers", False, False),
        ("sleepy-tab", "neighbours", True, True),
    ]


def test_rows_of_a_load_are_of_its_whole_time() -> None:
    found = loaded()
    # a server that told all members of one message had "succeeded -232": their echoes count as errors, each
    errors = {"answered 500": 0, "an echo came twice": 4}
    traffic(found, unacknowledged=1, unsent=2, errors=errors, acknowledged_in={"lobby": 1}, unreturned=1)
    rows = [(row.name, row.what, row.succeeded, row.failed) for row in report_of(found).phases]
    failed = {"unacknowledged": 1, "not sent: nobody was connected": 2, "an echo came twice": 4}
    assert rows == [("steady", "acknowledged", 1, failed), ("steady", "own message back", 1, {"unreturned": 1})]
    found.spans.append(Span("later", Counts.LOAD, read(10.0), read(20.0)))
    assert {(row.name, row.seconds) for row in report_of(found).phases} == {("steady to later", 20.0)}


def test_what_is_said_beside_an_attack_is_of_all_the_time_in_which_it_is_said() -> None:
    """A scenario with 50 messages a second told of 102, because only those seconds counted that it attacked for."""
    found = loaded()
    calm = experiment.Phase(name="calm", seconds=6.0, counts_as=Counts.BASELINE, rate=1.0)
    wave = experiment.Phase(name="wave", seconds=4.0)
    found.experiment = replace(found.experiment, phases=(calm, wave))
    found.spans[:] = [
        Span("calm", Counts.BASELINE, read(0.0), read(6.0)),
        Span("wave", Counts.LOAD, read(6.0), read(10.0, acknowledged=2)),
    ]  # fmt: skip
    assert report_of(found).figures["messages_per_s"] == 0.2
    assert {(row.name, row.seconds) for row in report_of(found).phases} == {("calm to wave", 10.0)}


def test_why_something_failed_is_said_beside_the_verdict() -> None:
    """ "message_errors is 42" was all, and why was in a table of the report."""
    found = loaded()
    traffic(found, errors={"closed": 2, "answered 503": 40, "answered 500": 0})
    total(found, groups=[group("chat", "crowd", held=7, refused={"answered 503": 1}, ended={"reset": 2})])
    why = ["operations failed: answered 503: 40, closed: 2", "clients failed: reset: 2, answered 503: 1"]
    assert report_of(found).verdict.notes == why
    found = attacked()
    waited = operations("recovery", "poll", 5000, failed=1, how=NO_TURN)  # which counts as late alone
    more(operations("attack", "ws", 5000, failed=1), waited)(found)
    assert "operations failed: answered 500: 1" in report_of(found).verdict.notes


def test_a_crowd_of_malformed_frames_is_not_said_to_be_judged() -> None:
    """A server that ignored all of them was held without a remark."""
    found = attacked()
    found.experiment = config({"malformed-frames": 10})
    total(found, groups=[group("malformed-frames", "attackers", came=10, opened=10, sent_bytes=1, due=10)])
    told = "the answers to malformed frames are not judged: `loadgen conform` does that"
    assert told in report_of(found).verdict.notes


def test_a_load_that_was_stopped_before_it_spoke_has_no_row() -> None:
    found = loaded()
    assert [row.what for row in report_of(found).phases] == ["acknowledged", "own message back"]
    found.spans.clear()
    assert report_of(found).phases == []
