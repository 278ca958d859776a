"""The report as Markdown, for documents: the sections of the terminal, with all columns that figures.py declares.

Owns: how a section becomes lines. May not: measure or judge.
"""

from collections.abc import Iterable

from loadgen.output import sections, wording
from loadgen.output.sections import Section
from loadgen.report import format as fmt
from loadgen.report.schema import Report


def markdown_of(report: Report) -> str:
    facts = [*wording.main_reasons(report), *report.verdict.notes, f"`{wording.replay(report)}`, {report.started}"]
    lines = [f"## {report.command}: {report.outcome}", "", *(f"- {fact}" for fact in facts), ""]
    return fmt.printable_lines("\n".join(lines)) + "\n" + markdown(sections.everything(report, wide=True))


def markdown(found: Iterable[Section]) -> str:
    return "\n".join(map(_lines, found))


def _lines(section: Section) -> str:
    lines = [f"### {section.title}", "", _line(column.name for column in section.columns)]
    lines += ["|" + " --- |" * len(section.columns), *map(_line, section.rows)]
    lines += ["", *(f"{note}\n" for note in section.notes)]
    return fmt.printable_lines("\n".join(lines))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
