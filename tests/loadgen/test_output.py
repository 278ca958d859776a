import json
import xml.etree.ElementTree as ET
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest

from loadgen import exports
from loadgen.common import Common, finish
from loadgen.report import Report
from loadgen.target import UsageError
from tests.loadgen import reports

FILES = {"report.html", "report.json", "junit.xml", "figures.csv", "metrics.txt", "latencies.hlog"}


@pytest.mark.parametrize("kind", sorted(reports.KINDS))
def test_all_files_are_written(tmp_path: Path, kind: str) -> None:
    report, directory = reports.KINDS[kind](), tmp_path / "a" / "b"
    exports.save(report, str(directory))
    assert {path.name for path in directory.iterdir()} == FILES
    read = msgspec.json.decode((directory / "report.json").read_bytes(), type=Report)
    assert json.loads(msgspec.json.encode(read)) == json.loads(msgspec.json.encode(report))
    assert (directory / "report.html").read_text().startswith("<!DOCTYPE html>")
    ET.parse(directory / "junit.xml")


def test_a_second_run_writes_over_the_first(tmp_path: Path) -> None:
    exports.save(reports.attack(), str(tmp_path))
    exports.save(reports.run(), str(tmp_path))
    assert b'"command": "run"' in (tmp_path / "report.json").read_bytes()


def test_what_cannot_be_a_directory_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        for use in (exports.require, lambda directory: exports.save(reports.run(), directory)):
            with pytest.raises(UsageError, match=r"^--report: cannot write into .*file"):
                use(str(place))


def test_a_report_is_written_also_if_nobody_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`loadgen scorecard | head` ended an hour's run without the report that it was asked for."""
    monkeypatch.setattr("sys.stdout", Mock(write=Mock(side_effect=BrokenPipeError)))
    with pytest.raises(BrokenPipeError):
        finish(reports.run(), Common(json=True, report=str(tmp_path)))
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_what_may_not_be_written_is_known_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(UsageError, match=r"--report: .*Permission denied"):
        exports.require(str(tmp_path))
