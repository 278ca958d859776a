"""The report of a conformance run, from plain results."""

import pytest

from loadgen.conform.judge import Finding, Mark
from loadgen.conform.suite import select
from loadgen.conform.summary import Options, Result, make_report
from loadgen.net import target
from loadgen.report.schema import Report, Started

FRAMES, [PING] = select(["1.1.*"]), select(["2.1"])
OPTIONS = Options(target=target.find("http://127.0.0.1:1"), path="/echo")


def _report(*results: tuple[Mark, str]) -> Report:
    """A run of the first cases with these results, and of a ping that was answered."""
    found = [Result(case, Finding(*each), 1.0) for case, each in zip(FRAMES, results, strict=False)]
    return make_report(OPTIONS, [*found, Result(PING, Finding(Mark.OK), 1.0)], started=Started(), stopped=False)


@pytest.mark.parametrize(("wrong", "more"), [(5, []), (6, ["and 1 more"])])
def test_what_is_wrong_is_told_and_of_much_the_first(wrong: int, more: list[str]) -> None:
    report = _report(*[(Mark.WRONG, "says no")] * wrong, (Mark.NON_STRICT, "notices late"), (Mark.OK, ""))
    families, not_ok = report.tables
    assert families.rows == [
        ["1 frames", "fell short", f"{wrong + 2}", "1", "1", f"{wrong}", "0"],
        ["2 pings and pongs", "held", "1", "1", "0", "0", "0"],
    ]
    named = [f"{case.title} ({case.id})" for case in FRAMES]
    assert not_ok.rows == [
        ["wrong", f"{wrong}", "says no", "; ".join([*named[:5], *["..."] * len(more)])],
        ["non-strict", "1", "notices late", named[wrong]],
    ]
    assert report.verdict.reasons == [*(f"{case.id} {case.title}: says no" for case in FRAMES[:5]), *more]
    assert report.verdict.notes == [f"2 ok, 1 non-strict, {wrong} wrong"]
    assert [part.seconds for part in report.parts] == [wrong + 2, 1]


def test_of_a_server_that_died_it_is_told_what_was_wrong_before() -> None:
    wrong, unplayed = (Result(FRAMES[0], Finding(mark, "no"), 1.0) for mark in (Mark.WRONG, Mark.NOT_EXERCISED))
    for found, more in ((wrong, [f"{FRAMES[0].id} {FRAMES[0].title}: no"]), (unplayed, [])):
        verdict = make_report(OPTIONS, [found], started=Started(), stopped=False, why_gone="it is not there").verdict
        assert (verdict.outcome, verdict.reasons) == ("fell short", ["the server died: it is not there", *more])


def test_of_a_run_that_was_stopped_at_once_there_is_nothing_to_tell() -> None:
    """There was an empty note."""
    verdict = make_report(OPTIONS, [], started=Started(), stopped=True).verdict
    assert (verdict.outcome, verdict.notes) == ("interrupted", [])
