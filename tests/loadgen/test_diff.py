"""`loadgen diff`: chance is not called worse, what is worse is, and bad input is one line.

The recorded reports are of equal runs against one chatserver on a machine with other work to do; their phases and
timelines were left out. What must be found is put into them.
"""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from loadgen.diff import compare
from loadgen.report.schema import Outcome, Report, verdict
from tests.loadgen import reports
from tests.loadgen.commandline import exit_code

RECORDED = Path(__file__).parent / "recorded"
COMPARISON = reports.comparison()


def recorded(name: str) -> Report:
    return msgspec.json.decode((RECORDED / f"{name}.json").read_bytes(), type=Report)


def changed(report: Report, **figures: float | None) -> Report:
    other = deepcopy(report)
    assert figures.keys() <= other.figures.keys()
    other.figures |= figures
    return other


def moved(a: Report, b: Report) -> dict[str, str]:
    """The mark of each figure that moved, by part and name."""
    return {" ".join(filter(None, row[:2])): row[-1] for row in compare(a, b, "a to b").tables[0].rows}


def worse(a: Report, b: Report) -> set[str]:
    return {name for name, mark in moved(a, b).items() if mark == "worse"}


@pytest.mark.parametrize(("a", "b"), [("run-a", "run-b"), ("attack-a", "attack-b")])
def test_equal_runs_differ_by_chance(a: str, b: str) -> None:
    for one, other in ((a, b), (b, a), (a, a)):
        report = compare(recorded(one), recorded(other), "a to b")
        assert report.outcome is Outcome.HELD, report.tables
        assert "nothing got worse" in report.verdict.reasons[0]
    assert moved(recorded(a), recorded(a)) == {}


@pytest.mark.parametrize(
    ("name", "figures", "mark"),
    [
        ("run-a", {"unacknowledged": 1.0}, "worse"),
        ("run-a", {"held": 199.0}, "worse"),
        ("run-a", {"ack_p99_ms": 41.0}, "worse"),  # 15.5 before: 25 ms more are allowed
        ("run-a", {"messages_per_s": 30.0}, "worse"),
        ("run-a", {"messages_per_s": 50.0}, "better"),
        ("run-a", {"server_cpu_us_per_connection_s": 700.0}, "worse"),
        ("run-a", {"server_cpu_us_per_connection_s": 200.0}, "better"),
        ("run-a", {"server_bytes_per_connection": 2000.0}, "worse"),
        ("run-a", {"lag_p99_ms": 90.0}, "moved"),
        ("run-a", {"ack_max_ms": 900.0}, "moved"),
        ("attack-a", {"success_percent": 99.98}, "worse"),
        ("attack-a", {"acknowledged_lost": 1.0}, "worse"),
        ("attack-a", {"recover_s": 4.0}, "worse"),
        ("attack-a", {"server_descriptors_left": 17.0}, "worse"),
        ("attack-a", {"server_bytes_left": 1e6}, "worse"),
        ("attack-a", {"p99_over_bar_ms": 12.0}, "worse"),
        ("attack-a", {"attackers_killed": 100.0}, "moved"),
    ],
)
def test_what_is_beyond_chance_is_found(name: str, figures: Mapping[str, float], mark: str) -> None:
    one = recorded(name)
    other = changed(one, **figures)
    assert moved(one, other) == dict.fromkeys(figures, mark)
    opposite = {"worse": "better", "better": "worse", "moved": "moved"}[mark]
    assert moved(other, one) == dict.fromkeys(figures, opposite)


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("run-a", {"ack_p99_ms": 39.0}),
        ("run-a", {"messages_per_s": 37.0}),
        ("run-a", {"server_bytes_per_connection": 1700.0}),
        ("attack-a", {"server_descriptors_left": 16.0}),
        ("attack-a", {"attack_p99_ms": None}),  # not measured is no measurement
    ],
)
def test_what_is_within_chance_is_not(name: str, figures: Mapping[str, float | None]) -> None:
    assert moved(recorded(name), changed(recorded(name), **figures)) == {}


def test_only_what_was_measured_in_both_is_said_to_be_compared() -> None:
    """Of a report without the server's process, "0 of 68 figures moved" counted its memory and CPU."""
    one = recorded("attack-a")
    one.figures = {"attack_failed": 0.0, "server_bytes_left": 92_689.0, "acknowledged_lost": None}
    for other in (changed(one, server_bytes_left=None), changed(one, acknowledged_lost=0.0, server_bytes_left=None)):
        assert compare(one, other, "a to b").verdict.reasons == ["nothing got worse; 0 of 1 figures moved"]


def test_a_verdict_that_turned_is_worse() -> None:
    one, other = recorded("attack-a"), recorded("attack-a")
    other.verdict = verdict(Outcome.FELL_SHORT, ["collateral"])
    assert compare(one, other, "a to b").tables[0].rows == [["", "verdict", "held", "fell short", "worse"]]
    assert moved(other, one) == {"verdict": "better"}


def test_attacks_of_a_scorecard_are_compared_one_by_one() -> None:
    one, other = reports.scorecard(3), reports.scorecard(4)
    other.target = other.parts[0].target = "http://127.0.0.1:9999"  # of the same command, wherever it was
    for part in other.parts:
        part.target = other.target
    other.parts[0].figures |= {"collateral": 1.0}
    other.parts[1].verdict = verdict(Outcome.INVALID, ["the generator was late"])
    report = compare(one, other, "a to b")
    assert report.outcome is Outcome.FELL_SHORT
    assert report.verdict.reasons == ["slow-head collateral got worse"]
    left_out = "not in both, or not validly measured in one: idle-connect, ping-flood"
    assert report.verdict.notes == compare(other, one, "b to a").verdict.notes == [left_out]


def _rounds(values: list[float]) -> Report:
    """A comparison of one server in so many rounds."""
    part = COMPARISON.parts[0]
    return replace(COMPARISON, parts=[replace(part, figures={"attack_p99_ms": value}) for value in values])


def test_rounds_that_are_further_apart_than_wide_are_beyond_chance() -> None:
    before = _rounds([2.0, 2.2, 2.6])
    assert worse(before, _rounds([3.3, 3.5, 3.7])) == {"slow-head, ours attack_p99_ms"}
    assert moved(before, _rounds([3.1, 3.5, 3.7])) == moved(before, _rounds([1.0, 1.1, 1.5])) == {}
    assert moved(before, _rounds([1.0, 1.1, 1.3])) == {"slow-head, ours attack_p99_ms": "better"}
    assert moved(before, _rounds([3.3, 3.5])) == {}, "two rounds are chance"


def test_rounds_of_one_server_seldom_differ() -> None:
    """Of 48 comparisons of two draws of one distribution 46 fell short: three rounds often do not overlap by chance."""
    random = Random(1)
    worsened = sum(
        bool(worse(_rounds([random.gauss(100, 3) for _ in "abc"]), _rounds([random.gauss(100, 3) for _ in "abc"])))
        for _ in range(500)
    )
    assert worsened <= 5


def test_an_invalid_run_is_not_compared() -> None:
    report = compare(recorded("run-a"), recorded("run-invalid"), "a to b")
    assert report.outcome is Outcome.NOT_EXERCISED
    assert report.verdict.reasons == ["nothing could be compared"]
    assert report.verdict.notes[0] == "not in both, or not validly measured in one: run"


def test_what_was_not_asked_the_same_is_told() -> None:
    one, other = recorded("attack-a"), recorded("attack-b")
    assert compare(one, other, "a to b").verdict.notes == []
    one.arguments, other.arguments = "loadgen attack http://a", "loadgen attack http://b"
    told = "the first is of `loadgen attack http://a`, the second of `loadgen attack http://b`"
    assert compare(one, other, "a to b").verdict.notes == [told]


def _as_json(change: Callable[[dict[str, Any]], object]) -> bytes:
    told = json.loads((RECORDED / "run-a.json").read_bytes())
    change(told)
    return json.dumps(told).encode()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "is no report of loadgen"),
        (b"[]", "is no report of loadgen"),
        (b"{}", "its schema is not 5"),
        (_as_json(lambda told: told.update(schema=2)), "its schema is not 5"),
        (_as_json(lambda told: told.pop("verdict")), "is no report of loadgen"),
        # nobody had written these but a person; they were a fault of the generator's own, with a traceback
        (
            _as_json(lambda told: told["verdict"].update(outcome="splendid")),
            "is no report of loadgen: Invalid enum value 'splendid'",
        ),
        (_as_json(lambda told: told.update(command="fingerprint")), "of `loadgen run`, the second of `loadgen finger"),
        # Python 3.14 has no limit of depth, but says that the stack overflows
        (b'{"schema": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", "while deserializing an object"),
        (None, "no such file or directory"),
    ],
)
def test_what_is_no_report_is_named_in_one_line(
    data: bytes | None, error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.json"
    if data is not None:
        path.write_bytes(data)
    asked = path if data is not None else tmp_path  # a directory without a report is named by the file that it lacks
    assert exit_code("diff", str(RECORDED / "run-a.json"), str(asked)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert error in err
    assert str(path) in err


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_bytes(msgspec.json.encode(changed(recorded("run-a"), missed=7.0)))
    before = str(RECORDED / "run-a.json")
    assert exit_code("diff", before, str(tmp_path)) == 1, "a directory is what --report made"
    told = capsys.readouterr().out
    assert "figure missed  before 0  after 7  mark worse" in told
    assert told.splitlines()[-1].startswith("FELL SHORT  missed got worse")
    assert exit_code("diff", before, str(tmp_path), "--json") == 1
    rows = msgspec.json.decode(capsys.readouterr().out, type=Report).tables[0].rows
    assert rows == [["", "missed", "0", "7", "worse"]]
    assert exit_code("diff", before, before) == 0


@pytest.mark.parametrize(
    ("figure", "before", "after", "mark"),
    [
        ("malformed_accepted", 1.0, 20.0, "worse"),  # counted at the attackers, and judged
        ("own_cpu_us_per_client", 50.0, 900.0, "moved"),  # the generator's, not the server's
        ("received_bytes_per_s", 1000.0, 10_000.0, "moved"),
        ("head_deadline_s", 10.0, 30.0, "moved"),  # a deadline may be too long or too short
        ("limits_good", 3.0, 2.0, "worse"),
        ("of_a_later_loadgen", 3.0, 9.0, "moved"),  # nothing says which is better
    ],
)
def test_whose_a_figure_is(figure: str, before: float, after: float, mark: str) -> None:
    one = reports.run()
    one.figures = {figure: before}
    assert moved(one, changed(one, **{figure: after})) == {figure: mark}


def test_a_higher_capacity_is_better() -> None:
    one = reports.fingerprint()
    one.command, one.figures = "capacity", {"capacity": 400.0, "fell_short_at": 500.0}
    better = {"capacity": "better", "fell_short_at": "better"}
    assert moved(one, changed(one, capacity=800.0, fell_short_at=900.0)) == better
    assert worse(changed(one, capacity=800.0, fell_short_at=900.0), one) == {"capacity", "fell_short_at"}
    assert moved(one, changed(one, capacity=450.0, fell_short_at=480.0)) == {}, "it is known to a tenth only"
    most = changed(one, capacity=100.0, fell_short_at=None)
    assert moved(one, most) == moved(most, one) == {"capacity": "moved"}, "the generator was the limit, or --most"
