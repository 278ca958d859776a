import xml.etree.ElementTree as ET

import pytest

from loadgen.exports import junit_of
from loadgen.report import Outcome, Report, verdict
from tests.loadgen import reports


def written(report: Report) -> ET.Element:
    suite = ET.fromstring(junit_of(report)).find("testsuite")
    assert suite is not None
    return suite


def test_each_attack_of_a_scorecard_is_a_case() -> None:
    suite = written(reports.scorecard())
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert list(cases)[:3] == ["slow-head", "idle-connect", "slow-read"]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("6", "1", "0")
    assert cases["slow-head"].find("failure") is None
    failure = cases["slow-read"].find("failure")
    assert failure is not None
    assert failure.get("message") == "p99_over_bar_ms is 483 (p99_over_bar_ms>0)"
    assert failure.text is not None
    assert "success_percent" in failure.text, "every reason is in the text"


@pytest.mark.parametrize(
    ("outcome", "element"),
    [
        (Outcome.HELD, None),
        (Outcome.FELL_SHORT, "failure"),
        (Outcome.INVALID, "error"),
        (Outcome.INTERRUPTED, "error"),
    ],
)
def test_outcomes(outcome: Outcome, element: str | None) -> None:
    report = reports.run()
    report.verdict = verdict(outcome, [])
    [case] = written(report).findall("testcase")
    found = [child.tag for child in case if child.tag != "system-out"]
    assert found == ([element] if element else [])
    assert all(child.get("message") for child in case if child.tag != "system-out")


def test_figures_and_the_replay_are_there() -> None:
    suite = written(reports.attack())
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert properties["seed"] == "7"
    assert "--kind slow-head,idle-connect" in (properties["replay"] or "")
    told = suite.findtext("testcase/system-out") or ""
    assert "attack_p99_ms: 9.13 ms" in told
    assert "first_failure_s" not in told, "it was not measured"


@pytest.mark.parametrize("kind", sorted(reports.KINDS))
def test_it_is_xml_whatever_is_in_it(kind: str) -> None:
    suite = written(reports.KINDS[kind]())
    assert int(suite.get("tests", "0")) == len(suite.findall("testcase")) >= 1


def test_a_comparison_cannot_fail() -> None:
    suite = written(reports.comparison())
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "0", "0")
    names = [case.get("name") for case in suite.findall("testcase")]
    assert len(set(names)) == 4
