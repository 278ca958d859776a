"""The report for a person: tables on a terminal, one fact a line elsewhere.

Owns: every word that is printed about a report on standard output. The two forms carry the same facts; the plain one
is made to be read in a log and cut with grep. What was not measured is not mentioned.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadgen import wording
from loadgen.report import CohortRow, Outcome, PhaseRow, Report

COLOURS: Final[Mapping[Outcome, str]] = {
    Outcome.HELD: "bold green",
    Outcome.FELL_SHORT: "bold red",
    Outcome.INVALID: "bold yellow",
    Outcome.INTERRUPTED: "bold yellow",
}

#: Of the target's own counters a terminal shows so many; the others are in report.json.
METRICS_SHOWN: Final = 20

#: What the verdict table of a scorecard says beside the verdict: heading, and the figure that it is.
PART_FIGURES: Final = (
    ("victims", "success_percent"),
    ("p99 before", "baseline_p99_ms"),
    ("p99 during", "attack_p99_ms"),
    ("ack p99", "ack_p99_ms"),
    ("killed", "attackers_killed"),
    ("killed after", "kill_p50_s"),
    ("collateral", "collateral"),
)


#: Cells that a table puts beside each column.
_BETWEEN: Final = 3

#: Narrower than this a column of words is not worth having.
_WORDS: Final = 24


class Column(NamedTuple):
    """A column: its name, and whether a narrow terminal may lose it (the highest goes first)."""

    name: str
    spare: int = 0


class Section(NamedTuple):
    """Rows of one kind. The first cell names the row."""

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str] = ()


def show(report: Report, console: Console) -> None:
    """Print a report."""
    for section in sections(report):
        if console.is_terminal:
            _print_table(_fitting(section, console.width), console)
        else:
            _print_lines(section, console)
    reasons = "; ".join(report.verdict.reasons) or wording.SENTENCES[report.outcome]
    _print(_text(f"replay: {wording.replay(report)}", "dim"), console)
    _print(_text(report.verdict.outcome.upper(), COLOURS[report.outcome]) + _text(f"  {reasons}"), console)


def _print(line: Text, console: Console) -> None:
    console.print(line, soft_wrap=True)


def _text(words: str, style: str = "") -> Text:
    """Words that may come from outside, made harmless."""
    text = Text()
    return text.append(wording.printable(words), style)


def _print_table(section: Section, console: Console) -> None:
    _print(_text(section.title, "bold"), console)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, header_style="dim")
    for number, column in enumerate(section.columns):
        numeric = _numeric(section.rows, number)
        # words may wrap, numbers may not: half a number is a wrong one
        table.add_column(_text(column.name), justify="right" if numeric else "left", no_wrap=numeric)
    former = ""
    for row in section.rows:
        table.add_row(_text("" if row[0] == former else row[0]), *map(_cell, row[1:]))
        former = row[0]
    console.print(table)
    for note in section.notes:
        _print(_text(f" {note}", "dim"), console)
    console.line()


def _cell(words: str) -> Text:
    outcome = words.upper().replace(" ", "_")
    return _text(words, COLOURS[Outcome[outcome]] if outcome in Outcome.__members__ else "")


def _print_lines(section: Section, console: Console) -> None:
    for row in section.rows:
        facts = "".join(
            f"  {column.name} {value}" if column.name else f" {value}"
            for column, value in zip(section.columns[1:], row[1:], strict=True)
            if value
        )
        _print(_text(f"{section.title}: {row[0]}{facts}"), console)
    for note in section.notes:
        _print(_text(f"{section.title}: {note}"), console)


def _fitting(section: Section, width: int) -> Section:
    """The section without the columns that a terminal of this width has no room for."""
    columns = list(range(len(section.columns)))
    by_spare = sorted((at for at in columns if section.columns[at].spare), key=lambda at: -section.columns[at].spare)
    for drop in by_spare:
        if sum(_width(section, at) + _BETWEEN for at in columns) > width:
            columns.remove(drop)
    return section._replace(
        columns=tuple(section.columns[at] for at in columns),
        rows=[tuple(row[at] for at in columns) for row in section.rows],
    )


def _width(section: Section, column: int) -> int:
    widest = max(cell_len(text) for text in (section.columns[column].name, *(row[column] for row in section.rows)))
    return widest if _numeric(section.rows, column) else min(widest, _WORDS)


def _numeric(rows: Sequence[tuple[str, ...]], column: int) -> bool:
    return column > 0 and all(not row[column] or row[column].lstrip("-")[:1].isdecimal() for row in rows)


def sections(report: Report) -> list[Section]:
    """Everything that a report says, without what is empty: rows, and columns in which no row has anything."""
    attackers = [row for row in report.cohorts if not row.honest]
    slow = [row for row in report.cohorts if row.honest and row.slow]
    clients = [row for row in report.cohorts if row.honest and not row.slow]
    everything = [
        _latency(report.phases),
        _server(report.phases),
        _cohorts("attackers", attackers, ended="killed"),
        _cohorts("honest slow clients", slow, ended="ended"),
        _cohorts("clients", clients, ended="ended"),
        _reasons(report),
        _figures(report),
        _metrics(report.metrics),
        *(
            Section(table.title, tuple(map(Column, table.columns)), list(map(tuple, table.rows)), table.notes)
            for table in report.tables
        ),
        _parts(report.parts),
    ]
    return [_without_empty_columns(section) for section in everything if section.rows]


def _without_empty_columns(section: Section) -> Section:
    kept = [at for at in range(len(section.columns)) if at == 0 or any(row[at] for row in section.rows)]
    return section._replace(
        columns=tuple(section.columns[at] for at in kept),
        rows=[tuple(row[at] for at in kept) for row in section.rows],
    )


def _latency(phases: Iterable[PhaseRow]) -> Section:
    groups: dict[str, list[PhaseRow]] = {}
    for row in phases:
        groups.setdefault(row.what, []).append(row)
    columns = (
        Column(""),
        Column("phase"),
        Column("succeeded", 3),
        Column("failed"),
        Column("%", 2),
        Column("p50 ms"),
        Column("p90 ms", 4),
        Column("p99 ms"),
        Column("p99.9 ms", 5),
        Column("max ms"),
    )
    return Section("latency", columns, [_phase(row) for rows in groups.values() for row in rows])


def _phase(row: PhaseRow) -> tuple[str, ...]:
    spread = row.spread
    return (
        row.what,
        row.name,
        f"{row.succeeded:,}",
        f"{wording.total(row.failed):,}",
        wording.success_percent(row.succeeded, row.failed),
        *map(_fixed, (spread.p50_ms, spread.p90_ms, spread.p99_ms, spread.p999_ms, spread.max_ms)),
    )


def _server(phases: Iterable[PhaseRow]) -> Section:
    """What the server used in each phase: the same in all rows of a phase, so one is enough."""
    first: dict[str, PhaseRow] = {}
    for row in phases:
        first.setdefault(row.name, row)
    rows = [
        (
            name,
            "" if row.server_cpu_percent is None else f"{row.server_cpu_percent:,.1f}",
            "" if row.server_pss_bytes is None else f"{row.server_pss_bytes / 2**20:,.1f}",
        )
        for name, row in first.items()
        if row.server_cpu_percent is not None or row.server_pss_bytes is not None
    ]
    return Section("server", (Column("phase"), Column("CPU %"), Column("memory MiB")), rows)


def _cohorts(title: str, cohorts: Iterable[CohortRow], *, ended: str) -> Section:
    columns = (
        Column("persona"),
        Column("wanted"),
        Column("held"),
        Column("peak", 4),
        Column("opened", 5),
        Column("refused"),
        Column("failed"),
        Column(ended),
        Column("at age p50 s", 1),
        Column("p99 s", 3),
        Column("max s", 2),
        Column("left", 6),
        Column("sent", 8),
        Column("received", 8),
        Column("deliveries", 7),
    )
    return Section(title, columns, [_cohort(row) for row in cohorts])


def _cohort(row: CohortRow) -> tuple[str, ...]:
    ages = (row.lifetime.p50_ms, row.lifetime.p99_ms, row.lifetime.max_ms)
    return (
        row.persona,
        f"{row.wanted:,}",
        f"{row.held:,}",
        f"{row.peak:,}",
        f"{row.opened:,}",
        f"{wording.total(row.refused):,}",
        f"{wording.total(row.failed):,}",
        f"{wording.total(row.ended):,}",
        *(_fixed(None if age is None else age / 1000) for age in ages),
        f"{row.left:,}" if row.left else "",
        str(wording.size(row.sent_bytes)) if row.sent_bytes else "",
        str(wording.size(row.received_bytes)) if row.received_bytes else "",
        f"{row.deliveries:,}" if row.deliveries else "",
    )


def _reasons(report: Report) -> Section:
    clients = [
        (row.persona, f"{kind}: {reason}", f"{number:,}")
        for row in report.cohorts
        for kind, reasons in (("refused", row.refused), ("failed", row.failed), ("ended", row.ended))
        for reason, number in reasons.items()
    ]
    victims = [
        (f"{row.what}, {row.name}", f"failed: {reason}", f"{number:,}")
        for row in report.phases
        for reason, number in row.failed.items()
    ]
    return Section("why", (Column("who"), Column("what"), Column("count")), victims + clients)


def _figures(report: Report) -> Section:
    columns = (Column(""), Column("figure"), Column(""), Column(""), Column("meaning", 1))
    rows = [
        (group.title, name, *wording.figure(name, value), report.meanings.get(name, ""))
        for group in wording.grouped(report.figures)
        for name, value in group.figures.items()
    ]
    return Section("figures", columns, rows)


def _metrics(metrics: Mapping[str, float]) -> Section:
    grown = {name: value for name, value in sorted(metrics.items()) if value}
    shown = sorted(grown, key=lambda name: -abs(grown[name]))[:METRICS_SHOWN]
    rows = [(name, wording.number(value)) for name, value in grown.items() if name in shown]
    more = len(grown) - len(rows)
    notes = [f"… and {more} smaller ones in report.json"] if more else []
    return Section("the target's own counters", (Column("series"), Column("grew by")), rows, notes)


def _parts(parts: Sequence[Report]) -> Section:
    columns = (
        Column("part"),
        Column("verdict"),
        *(Column(heading, spare) for spare, (heading, _) in enumerate(PART_FIGURES, start=1)),
        Column("why"),
    )
    rows = [
        (
            name,
            part.verdict.outcome,
            *(part_figure(part, figure) for _, figure in PART_FIGURES),
            "; ".join(part.verdict.reasons),
        )
        for name, part in zip(wording.part_names(parts), parts, strict=True)
    ]
    return Section("verdicts", columns, rows)


def part_figure(part: Report, figure: str) -> str:
    """One figure of a part with its unit, empty if it was not measured."""
    value = part.figures.get(figure)
    return "" if value is None else str(wording.figure(figure, value))


def _fixed(value: float | None) -> str:
    """Two decimals, so that the points stand below each other."""
    return "" if value is None else f"{value:,.2f}"
