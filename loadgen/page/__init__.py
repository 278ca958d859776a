"""report.html: one file that tells what a command found, to be mailed, archived and printed.

Owns: everything about how the page looks. It is built from the `Report` alone; it has no script, loads nothing, and
is made of elements rather than text, so that nothing a server said can become markup.

    page.write(report, Path("report.html"))
"""

from pathlib import Path

from loadgen.page.document import html_of
from loadgen.page.elements import serialised
from loadgen.report import Report

__all__ = ["write"]


def write(report: Report, path: Path) -> None:
    """Write the page of a report."""
    path.write_text(serialised(html_of(report)), encoding="utf-8")
