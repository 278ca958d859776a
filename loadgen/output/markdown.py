"""Tables as Markdown, for documents, in the file that `--markdown` names.

Owns: how a table becomes lines, the file, and the tables of a scorecard: one for each threat, with a row for each
attack and all columns that figures.py declares. May not: measure or judge.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from loadgen import flags
from loadgen.clients.client import Threat
from loadgen.output import wording
from loadgen.personas import registry
from loadgen.report import figures
from loadgen.report.schema import Report, Table


def require(file: str | None) -> None:
    """Make the file, if any, before anything is measured, so that no run ends without its tables."""
    if file is not None:
        with flags.writing("--markdown", file):
            Path(file).open("a").close()


def write(file: str, tables: Iterable[Table]) -> None:
    with flags.writing("--markdown", file):
        Path(file).write_text(markdown(tables), encoding="utf-8")


def markdown(tables: Iterable[Table]) -> str:
    return "\n".join(_lines(table) for table in tables)


def _lines(table: Table) -> str:
    lines = [f"### {table.title}", "", _line(table.columns), "|" + " --- |" * len(table.columns)]
    lines += [_line(row) for row in table.rows]
    lines += ["", *(f"{note}\n" for note in table.notes)]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def by_threat(report: Report) -> list[Table]:
    """The tables of a scorecard, one for each threat that was played."""
    known = registry()
    grouped = {threat: [part for part in report.parts if known[part.command].threat is threat] for threat in Threat}
    return [_table(threat, parts, report) for threat, parts in grouped.items() if parts]


def _table(threat: Threat, parts: Sequence[Report], report: Report) -> Table:
    columns = figures.columns()
    headings = ["attack", *(column.name for column in columns), "verdict"]
    rows = [
        [f"`{part.command}`", *(wording.cell(part, names) for names in columns.values()), _verdict(part)]
        for part in parts
    ]
    shown = [at for at in range(len(headings)) if any(row[at] for row in rows)]
    return Table(
        title=threat.value.capitalize(),
        columns=[headings[at] for at in shown],
        rows=[[row[at] for at in shown] for row in rows],
        notes=[f"{report.started}, `{wording.replay(report)}`"],
    )


def _verdict(part: Report) -> str:
    """The outcome and the reasons without their details, which report.json has."""
    short = dict.fromkeys(reason.partition(" (")[0].partition(": ")[0] for reason in wording.main_reasons(part))
    return ": ".join(filter(None, (part.outcome, "; ".join(short))))
