"""Tables as Markdown, and the file that they are written to."""

from pathlib import Path

import pytest

from loadgen import markdown
from loadgen.report import Table
from loadgen.target import UsageError

MADE = Table(title="Idle", columns=["server", "B"], rows=[["a|b", "1"]], notes=["One.", "Two."])
LINES = [
    "### Idle", "", "| server | B |", "| --- | --- |", "| a\\|b | 1 |", "", "One.", "", "Two.",
]  # fmt: skip


def test_a_table_as_lines() -> None:
    assert markdown.markdown([MADE]).splitlines() == LINES


def test_a_file_is_written_anew(tmp_path: Path) -> None:
    file = str(tmp_path / "tables.md")
    for _ in range(2):
        markdown.write(file, [MADE])
    assert Path(file).read_text(encoding="utf-8").splitlines() == LINES


def test_a_folder_that_is_not_there_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    markdown.require(None)
    markdown.require(str(tmp_path / "tables.md"))
    with pytest.raises(UsageError, match="--markdown: there is no folder for"):
        markdown.require(str(tmp_path / "nowhere" / "tables.md"))
