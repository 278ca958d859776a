"""The report for other programs, read by those programs' own libraries, and the files of --report."""

import csv
import io
import json
import resource
import xml.etree.ElementTree as ET
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from loadgen.common import Common, finish
from loadgen.net.target import UsageError
from loadgen.output import exports
from loadgen.output.exports import csv_of, hdr_log_of, junit_of, openmetrics_of
from loadgen.report import figures
from loadgen.report.latency import Latency
from loadgen.report.schema import Outcome, Report, verdict
from tests.loadgen import reports


def test_csv_has_each_figure_of_each_part(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_of(report))))
    assert len(rows) == sum(len(part.figures) for part in report.parts or [report])
    found = {row["figure"]: row for row in rows}
    if report.command == "attack" and report.seed == 7 and report.outcome is Outcome.HELD:
        row = found["attack_p99_ms"]
        assert (row["value"], row["unit"], row["meaning"]) == ("9.127", "ms", figures.ALL["attack_p99_ms"].meaning)
        assert found["first_failure_s"]["value"] == "", "not measured is not zero"


def test_openmetrics_is_read_by_prometheus_own_parser(report: Report) -> None:
    parsed = text_string_to_metric_families(openmetrics_of(report))  # type: ignore[no-untyped-call]
    families = {family.name: family for family in parsed}
    measured = {
        name for part in report.parts or [report] for name, value in part.figures.items()
        if value is not None and name.isidentifier()
    }  # fmt: skip
    assert set(families) == {f"loadgen_{name}" for name in measured}
    if report.command == "scorecard":
        samples = families["loadgen_attack_p99_ms"].samples
        assert [sample.labels["part"] for sample in samples] == [part.command for part in report.parts]


def test_an_hdr_log_has_the_whole_distribution() -> None:
    report = reports.attack()
    latency = Latency()
    for milliseconds in range(1, 101):
        latency.record(milliseconds / 1000)
    row = msgspec.structs.replace(report.phases[0], histogram=latency.encoded(), spread=latency.spread())
    report.phases = [row]
    tag = f"attack:_{row.what.replace(' ', '_')}:_{row.name}"
    line = f"Tag={tag},0.000000,{row.seconds:f},100.000000,{latency.encoded()}"
    assert hdr_log_of(report).splitlines()[-1] == line


def test_nothing_from_outside_breaks_a_line() -> None:
    for text in (csv_of(reports.hostile()), openmetrics_of(reports.hostile()), hdr_log_of(reports.hostile())):
        assert not set(text) & set("\x1b\x00\u202e")


# -- junit.xml ---------------------------------------------------------------------------------------------------------


def written(report: Report) -> ET.Element:
    suite = ET.fromstring(junit_of(report)).find("testsuite")
    assert suite is not None
    return suite


def test_each_attack_of_a_scorecard_is_a_case() -> None:
    suite = written(reports.scorecard())
    cases = {case.get("name"): case.find("failure") for case in suite.findall("testcase")}
    assert list(cases)[:3] == ["slow-head", "idle-connect", "slow-read"]
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["6", "1", "0"]
    assert cases["slow-head"] is None
    assert (failure := cases["slow-read"]) is not None
    assert failure.get("message") == "p99_over_bar_ms is 483 (p99_over_bar_ms>0)"
    assert "success_percent" in (failure.text or ""), "every reason is in the text"


def test_the_name_of_a_scenario_breaks_no_xml() -> None:
    report = reports.run()
    report.command = "night\x01ly"
    assert written(report).get("name") == "loadgen night\N{REPLACEMENT CHARACTER}ly"


def test_each_outcome_has_its_element_in_junit() -> None:
    report = reports.run()
    for outcome, elements in (
        (Outcome.HELD, []), (Outcome.FELL_SHORT, ["failure"]), (Outcome.INVALID, ["error"]),
        (Outcome.INTERRUPTED, ["error"]),
    ):  # fmt: skip
        report.verdict = verdict(outcome, [])
        [case] = written(report).findall("testcase")
        found = [child for child in case if child.tag != "system-out"]
        assert [child.tag for child in found] == elements
        assert all(child.get("message") for child in found)


def test_figures_and_the_replay_are_there() -> None:
    suite = written(reports.attack())
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert properties["seed"] == "7"
    assert "--kind slow-head,idle-connect" in (properties["replay"] or "")
    told = suite.findtext("testcase/system-out") or ""
    assert "attack_p99_ms: 9.13 ms" in told
    assert "first_failure_s" not in told, "it was not measured"


def test_a_comparison_cannot_fail_but_it_may_measure_nothing() -> None:
    """It had no error where every cell was withheld."""
    report = reports.comparison()
    report.parts[0].verdict = verdict(Outcome.INVALID, ["late"])
    suite = written(report)
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "0", "1")
    names = [case.get("name") for case in suite.findall("testcase")]
    assert len(set(names)) == 4


# --report


FILES = {"report.html", "report.md", "report.json", "junit.xml", "figures.csv", "metrics.txt", "latencies.hlog"}


def test_all_files_are_written(tmp_path: Path, report: Report) -> None:
    directory = tmp_path / "a" / "b"
    exports.save(report, str(directory))
    assert {path.name for path in directory.iterdir()} == FILES
    read = msgspec.json.decode((directory / "report.json").read_bytes(), type=Report)
    assert json.loads(msgspec.json.encode(read)) == json.loads(msgspec.json.encode(report))
    assert (directory / "report.html").read_text().startswith("<!DOCTYPE html>")
    ET.parse(directory / "junit.xml")


def test_a_run_begins_with_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    """One that ended before it measured anything left the report of another, which had held."""
    exports.save(reports.attack(), str(tmp_path))
    (tmp_path / "notes.txt").touch()
    exports.require(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_cannot_be_a_directory_or_written_is_known_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        for use in (exports.require, lambda directory: exports.save(reports.run(), directory)):
            with pytest.raises(UsageError, match=r"^--report: cannot write .*file"):
                use(str(place))
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(UsageError, match=r"--report: .*Permission denied"):
        exports.require(str(tmp_path))


@pytest.mark.parametrize("most", [0, 4096, 20_000])
def test_what_a_full_disk_leaves_is_whole(tmp_path: Path, most: int) -> None:
    """The page ended in the middle, as if it were all of it."""
    exports.save(reports.attack(), str(tmp_path / "whole"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))  # of a file's bytes
    try:
        with pytest.raises(UsageError, match="--report: cannot write"):
            exports.save(reports.attack(), str(tmp_path / "full"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for file in (tmp_path / "full").iterdir():
        assert file.read_bytes() == (tmp_path / "whole" / file.name).read_bytes()


def test_a_report_is_written_also_if_nobody_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`loadgen scorecard | head` ended an hour's run without the report that it was asked for."""
    monkeypatch.setattr("sys.stdout", Mock(write=Mock(side_effect=BrokenPipeError)))
    with pytest.raises(BrokenPipeError):
        finish(reports.run(), Common(json=True, report=str(tmp_path)))
    assert {path.name for path in tmp_path.iterdir()} == FILES
