"""Tables as Markdown, and the file that they are written to."""

from pathlib import Path

import pytest

from loadgen.net.target import UsageError
from loadgen.output import markdown
from loadgen.output.markdown import by_threat
from loadgen.report.schema import Outcome, Table, verdict
from tests.loadgen import reports

MADE = Table(title="Idle", columns=["server", "B"], rows=[["a|b", "1"]], notes=["One.", "Two."])
LINES = [
    "### Idle", "", "| server | B |", "| --- | --- |", "| a\\|b | 1 |", "", "One.", "", "Two.",
]  # fmt: skip


def test_a_file_is_written_anew(tmp_path: Path) -> None:
    file = str(tmp_path / "tables.md")
    for _ in range(2):
        markdown.write(file, [MADE])
    assert Path(file).read_text(encoding="utf-8").splitlines() == LINES


def test_a_file_that_cannot_be_written_is_named_by_its_flag(tmp_path: Path) -> None:
    """Before anything is measured. A full disk was called a fault of standard output."""
    markdown.require(None)
    markdown.require(str(tmp_path / "tables.md"))
    for place in (tmp_path / "nowhere" / "tables.md", tmp_path):
        with pytest.raises(UsageError, match="--markdown: cannot write"):
            markdown.require(str(place))
    with pytest.raises(UsageError, match="--markdown: cannot write '/dev/full': No space left"):
        markdown.write("/dev/full", [MADE])


def test_each_threat_that_was_played_has_a_table() -> None:
    report = reports.scorecard()
    for part, name in zip(report.parts, ("malformed-chat", "ping-flood", "slow-head", "slow-tls"), strict=False):
        part.command = name
    report.parts = report.parts[:4]
    titles = {table.title: [row[0] for row in table.rows] for table in by_threat(report)}
    assert titles == {
        "Slow or silent": ["`slow-head`", "`slow-tls`"],
        "Greedy": ["`ping-flood`"],
        "Malformed": ["`malformed-chat`"],
    }


def test_a_row_has_all_that_an_attack_is_judged_by() -> None:
    report = reports.scorecard(count=1)
    [part] = report.parts
    part.figures |= {"attackers_held": 12.0, "recovery_p50_ms": None}
    [table] = by_threat(report)
    [row] = table.rows
    assert dict(zip(table.columns, row, strict=True)) == {
        "attack": f"`{part.command}`",
        "victims, %": "100",
        "new, %": "100",
        "p50, ms": "1.12 → 1.61 → ?",
        "p99, ms": "1.84 → 9.13 → 1.97",
        "the floor's p99, ms": "1.90 → 8",
        "ratio to the floor": "1.14",
        "collateral": "0",
        "attackers asked": "2,000",
        "came": "2,000",
        "attempts/s": "200",
        "sent, B/s": "4,000",
        "at one moment": "2,000",
        "at the end": "12",
        "killed at, s": "10.1",
        "server CPU, % of a core": "18.4",
        "memory": "529 KiB",
        "an attacker": "271 B",
        "left": "1,800 KiB",
        "the host took, %": "0.42 → 2.07",
        "verdict": "held",
    }
    assert "--seed 5" in table.notes[0]


def test_what_nobody_measured_has_no_column_and_nothing_is_not_that() -> None:
    report = reports.scorecard(count=1)
    figures = report.parts[0].figures
    figures |= dict.fromkeys(("floor_baseline_p99_ms", "floor_p99_ms", "baseline_steal_percent", "steal_percent"))
    [table] = by_threat(report)
    assert {"the floor's p99, ms", "the host took, %"}.isdisjoint(table.columns)
    assert all(len(row) == len(table.columns) for row in table.rows)
    figures |= {"baseline_steal_percent": 0.0, "steal_percent": 0.0}
    [table] = by_threat(report)
    assert dict(zip(table.columns, table.rows[0], strict=True))["the host took, %"] == "0 → 0"


def test_reasons_are_short() -> None:
    """Of an attack that did not take place nothing was told but "not exercised: not exercised"."""
    waited = "programs waited for processors: 95.1% of the time"
    for outcome, reasons, told in (
        (Outcome.INVALID, [f"{waited} before the attack", f"{waited} after the attack"],
         "invalid: programs waited for processors"),
        (Outcome.FELL_SHORT, ["attack_p99_ms is 483 (attack_p99_ms>250)",
                              "nothing to compare with at the floor: the floor ended with exit code 1: MemoryError"],
         "fell short: attack_p99_ms is 483; nothing to compare with at the floor"),
        (Outcome.NOT_EXERCISED,
         ["not exercised: slow-head: 50 of 50 requests were not served (answered 404); name a path"],
         "not exercised: 50 of 50 requests were not served"),
    ):  # fmt: skip
        report = reports.scorecard(count=1)
        report.parts[0].verdict = verdict(outcome, reasons)
        [table] = by_threat(report)
        assert table.rows[0][-1] == told
