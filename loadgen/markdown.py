"""Tables as Markdown, as docs want them, in the file that `--markdown` names.

Owns: how a table becomes lines, and the file. May not: know what a table is of.
"""

from collections.abc import Iterable
from pathlib import Path

from loadgen.report import Table
from loadgen.target import UsageError


def require(file: str | None) -> None:
    """Refuse a file that cannot be written, before anything is measured."""
    if file is not None and not Path(file).parent.is_dir():
        raise UsageError(f"--markdown: there is no folder for {file!r}")


def write(file: str, tables: Iterable[Table]) -> None:
    """Write the tables, over those of a former run."""
    Path(file).write_text(markdown(tables), encoding="utf-8")


def markdown(tables: Iterable[Table]) -> str:
    """One table after the other."""
    return "\n".join(_table(table) for table in tables)


def _table(table: Table) -> str:
    lines = [f"### {table.title}", "", _line(table.columns), "|" + " --- |" * len(table.columns)]
    lines += [_line(row) for row in table.rows]
    lines += ["", *(f"{note}\n" for note in table.notes)]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
