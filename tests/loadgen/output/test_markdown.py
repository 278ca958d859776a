"""The report as Markdown."""

from loadgen.output.exports import markdown, markdown_of
from loadgen.output.sections import from_table
from loadgen.report.schema import Report, Table
from tests.loadgen import reports


def rows_of(report: Report) -> list[dict[str, str]]:
    """The rows of the last table, by column."""
    lines = [line for line in markdown_of(report).rpartition("\n### ")[2].splitlines() if line[:1] == "|"]
    columns, _, *rows = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_a_table_has_its_notes_below_it_and_no_text_breaks_a_row() -> None:
    made = Table(title="Idle", columns=["server", "B"], rows=[["a|b", "1\n2"]], notes=["One.", "Two."])
    assert markdown([from_table(made)]).splitlines() == [
        "### Idle", "", "| server | B |", "| --- | --- |", "| a\\|b | 1 2 |", "", "One.", "", "Two.",
    ]  # fmt: skip


def test_no_text_of_a_target_becomes_html_or_a_cell() -> None:
    """The beginning of an answer that is no HTTP stands in reasons: a reader of the report loaded its image."""
    made = Table(title="<b>", columns=["a"], rows=[["<img src=x>\\|held"]], notes=["\\<i>"])
    text = markdown([from_table(made)])
    assert text.splitlines()[::2] == ["### \\<b>", "| a |", "| \\<img src=x>\\\\\\|held |", "\\\\\\<i>"]
    report = reports.scorecard(count=1)
    report.verdict.reasons.append("<img src=x>")
    assert "- \\<img src=x>\n" in markdown_of(report)


def test_it_begins_with_the_verdict_and_how_to_repeat_it(report: Report) -> None:
    text = markdown_of(report)
    assert text.startswith(f"## {report.command}: {report.outcome}\n\n- ")
    assert "--seed 5" in text or report.seed != 5
    assert "\x1b" not in text


def test_a_row_has_all_that_an_attack_is_judged_by() -> None:
    report = reports.scorecard(count=1)
    [part] = report.parts
    part.figures |= {"attackers_held": 12.0, "recovery_p50_ms": None}
    [row] = rows_of(report)
    expected = {
        "victims, %": "100",
        "p50, ms": "1.12 → 1.61 → ?",
        "the floor's p99, ms": "1.90 → 8",
        "sent, B/s": "4,000",
        "at the end": "12",
        "server CPU, % of a core": "18.4",
        "memory": "529 KiB",
        "the host took, %": "0.42 → 2.07",
    }
    assert {name: row[name] for name in expected} == expected


def test_what_nobody_measured_has_no_column_and_nothing_is_not_that() -> None:
    report = reports.scorecard(count=1)
    figures = report.parts[0].figures
    figures |= dict.fromkeys(("floor_baseline_p99_ms", "floor_p99_ms", "baseline_steal_percent", "steal_percent"))
    assert rows_of(report)[0].keys().isdisjoint({"the floor's p99, ms", "the host took, %"})
    figures |= {"baseline_steal_percent": 0.0, "steal_percent": 0.0}
    assert rows_of(report)[0]["the host took, %"] == "0 → 0"
