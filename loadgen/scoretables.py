"""A scorecard as the tables that a page of docs shows: a row for each attack, a table for each threat.

Owns: which attacks share a table. Its columns are those that the figures declare (figures.py), all of them. May not:
measure or judge.
"""

from collections.abc import Sequence

from loadgen import figures
from loadgen import format as fmt
from loadgen.client import Threat
from loadgen.personas import registry
from loadgen.report import Report, Table


def by_threat(report: Report) -> list[Table]:
    """The tables, those of threats that were played."""
    known = registry()
    grouped = {threat: [part for part in report.parts if known[part.command].threat is threat] for threat in Threat}
    return [_table(threat, parts, report) for threat, parts in grouped.items() if parts]


def _table(threat: Threat, parts: Sequence[Report], report: Report) -> Table:
    columns = figures.columns()
    headings = ["attack", *(column.heading for column in columns), "verdict"]
    rows = [
        [f"`{part.command}`", *(fmt.cell(part, names) for names in columns.values()), _verdict(part)] for part in parts
    ]
    told = [at for at in range(len(headings)) if any(row[at] for row in rows)]
    return Table(
        title=threat.value.capitalize(),
        columns=[headings[at] for at in told],
        rows=[[row[at] for at in told] for row in rows],
        notes=[f"{report.started}, `{fmt.replay(report)}`"],
    )


def _verdict(part: Report) -> str:
    """The outcome, and the reasons without what they explain: report.json has them at length."""
    short = [reason.partition(" (")[0].partition(": ")[0] for reason in part.verdict.reasons]
    return ": ".join(filter(None, (part.verdict.outcome, "; ".join(short))))
