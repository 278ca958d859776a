"""The figures for other programs, read by those programs' own libraries."""

import csv
import io

import msgspec
import pytest
from hdrh.histogram import HdrHistogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from loadgen import figures
from loadgen.exports import csv_of, hdr_log_of, openmetrics_of
from loadgen.latency import Latency
from tests.loadgen import reports


@pytest.mark.parametrize("kind", sorted(reports.KINDS))
def test_csv_has_each_figure_of_each_part(kind: str) -> None:
    report = reports.KINDS[kind]()
    rows = list(csv.DictReader(io.StringIO(csv_of(report))))
    parts = report.parts or [report]
    assert len(rows) == sum(len(part.figures) for part in parts)
    if kind == "attack":
        [row] = [row for row in rows if row["figure"] == "attack_p99_ms"]
        assert (row["value"], row["unit"]) == ("9.127", "ms")
        assert row["meaning"] == figures.ALL["attack_p99_ms"].meaning
        [row] = [row for row in rows if row["figure"] == "first_failure_s"]
        assert row["value"] == "", "not measured is not zero"


@pytest.mark.parametrize("kind", sorted(reports.KINDS))
def test_openmetrics_is_read_by_prometheus_own_parser(kind: str) -> None:
    report = reports.KINDS[kind]()
    parsed = text_string_to_metric_families(openmetrics_of(report))  # type: ignore[no-untyped-call]
    families = {family.name: family for family in parsed}
    measured = {
        name for part in report.parts or [report] for name, value in part.figures.items()
        if value is not None and name in figures.ALL
    }  # fmt: skip
    assert set(families) == {f"loadgen_{name}" for name in measured}
    if kind == "scorecard":
        samples = families["loadgen_attack_p99_ms"].samples
        assert [sample.labels["part"] for sample in samples] == [part.command for part in report.parts]


def test_an_hdr_log_has_the_whole_distribution() -> None:
    report = reports.attack()
    latency = Latency()
    for milliseconds in range(1, 101):
        latency.record(milliseconds / 1000)
    row = msgspec.structs.replace(report.phases[0], histogram=latency.encoded())
    report.phases = [row]
    text = hdr_log_of(report)
    assert f"Tag=attack:_{row.what.replace(' ', '_')}:_{row.name}," in text
    found = HdrHistogram.decode(text.splitlines()[-1].rpartition(",")[2])
    assert found.get_total_count() == 100
    assert found.get_value_at_percentile(50) == pytest.approx(50_000, rel=0.01)


def test_nothing_from_outside_breaks_a_line() -> None:
    for text in (csv_of(reports.hostile()), openmetrics_of(reports.hostile()), hdr_log_of(reports.hostile())):
        assert not set(text) & set("\x1b\x00\u202e")
