"""The contents of a report as rows of text, the same on the terminal and on the page.

Owns: which facts are shown, under which headings, in which order. May not: know how a row is drawn.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from loadgen.output import wording
from loadgen.report import figures as known
from loadgen.report import format as fmt
from loadgen.report.figures import MARKDOWN_ONLY, TIMES, Column
from loadgen.report.schema import CohortRow, PhaseRow, Report, Table, Tone

T = TypeVar("T")

#: A number, with its range, its ratio or the numbers after an arrow, and its unit; "14 of 14" and "400, FIN" are words.
_NUMBER: Final = re.compile(rf"-?[\d?][-\d.,?()\s·→{TIMES}%]*(B|[KMG]iB|B/s|/s|[mµ]?s)?")

#: Columns whose cells are verdicts or marks.
_JUDGING: Final = frozenset({"verdict", "mark"})


class Section(NamedTuple):
    """Rows of one kind. The first cell says what the row is about."""

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str] = ()

    def is_numeric(self, column: int) -> bool:
        return column > 0 and all(not row[column] or _NUMBER.fullmatch(row[column]) for row in self.rows)

    def tone(self, column: int, cell: str) -> Tone | None:
        """Whether a cell is good or bad; most are neither."""
        if self.columns[column].alarming and cell not in {"", "0"}:
            return Tone.BAD
        return wording.WORDS.get(cell) if self.columns[column].name in _JUDGING else None

    def without(self, dropped: Iterable[int]) -> "Section":
        kept = sorted(set(range(len(self.columns))) - set(dropped))
        return self._replace(
            columns=tuple(self.columns[at] for at in kept),
            rows=[tuple(row[at] for at in kept) for row in self.rows],
        )


def everything(report: Report, *, wide: bool = False) -> list[Section]:
    found = [*measured(report), figures(report), *tables(report), verdicts(report, wide=wide)]
    return [section for section in found if section.rows]


def measured(report: Report) -> list[Section]:
    """The results of victims, attackers, honest clients and the server; empty sections are left out."""
    who = _names(report.cohorts)
    attackers = [row for row in report.cohorts if not row.honest]
    slow = [row for row in report.cohorts if row.honest and row.slow]
    clients = [row for row in report.cohorts if row.honest and not row.slow]
    found = (
        _latency(report.phases),
        _server(report.phases),
        _cohorts("attackers", who, attackers, honest=False),
        _cohorts("honest slow clients", who, slow, honest=True),
        _cohorts("clients", who, clients, honest=True),
        _reasons(report, who),
    )
    return [_without_empty_columns(section) for section in found if section.rows]


def _names(cohorts: Sequence[CohortRow]) -> Callable[[CohortRow], str]:
    """The persona, and its group if several have it."""
    often = Counter(row.persona for row in cohorts)
    return lambda row: f"{row.persona}, {row.group}" if often[row.persona] > 1 else row.persona


def _without_empty_columns(section: Section) -> Section:
    return section.without(at for at in range(1, len(section.columns)) if not any(row[at] for row in section.rows))


def _table_of(title: str, rows: Iterable[T], columns: Sequence[tuple[Column, Callable[[T], str]]]) -> Section:
    """Make a section; each column comes with the function that makes its cell."""
    cells = [tuple(cell_of(row) for _, cell_of in columns) for row in rows]
    return Section(title, tuple(column for column, _ in columns), cells)


def _latency(phases: Sequence[PhaseRow]) -> Section:
    groups = list(dict.fromkeys(row.what for row in phases))
    rows = sorted(phases, key=lambda row: groups.index(row.what))
    columns: list[tuple[Column, Callable[[PhaseRow], str]]] = [
        (Column("of"), lambda row: row.what),
        (Column("phase"), lambda row: row.name),
        (Column("succeeded", 3), lambda row: f"{row.succeeded:,}"),
        (Column("failed", alarming=True), lambda row: f"{sum(row.failed.values()):,}"),
        (Column("%", 2), lambda row: fmt.success_percent(row.succeeded, row.failed)),
        (Column("p50 ms"), lambda row: _fixed(row.spread.p50_ms)),
        (Column("p90 ms", 4), lambda row: _fixed(row.spread.p90_ms)),
        (Column("p99 ms"), lambda row: _fixed(row.spread.p99_ms)),
        (Column("p99.9 ms", 5), lambda row: _fixed(row.spread.p999_ms)),
        (Column("max ms"), lambda row: _fixed(row.spread.max_ms)),
    ]
    return _table_of("latency", rows, columns)


def _server(phases: Iterable[PhaseRow]) -> Section:
    """The server's use in each phase, from the first row of the phase, because all rows of a phase have the same."""
    first: dict[str, PhaseRow] = {}
    for row in phases:
        first.setdefault(row.name, row)
    rows = [row for row in first.values() if row.server_cpu_percent is not None or row.server_pss_bytes is not None]
    columns: list[tuple[Column, Callable[[PhaseRow], str]]] = [
        (Column("phase"), lambda row: row.name),
        (Column("CPU %"), lambda row: _fixed(row.server_cpu_percent, digits=1)),
        (Column("memory MiB, PSS"), lambda row: _fixed(row.server_pss_bytes, 2**20, digits=1)),
    ]
    return _table_of("server", rows, columns)


def _cohorts(title: str, who: Callable[[CohortRow], str], cohorts: Iterable[CohortRow], *, honest: bool) -> Section:
    columns: list[tuple[Column, Callable[[CohortRow], str]]] = [
        (Column("persona"), who),
        (Column("wanted"), lambda row: f"{row.wanted:,}"),
        (Column("held"), lambda row: f"{row.held:,}"),
        (Column("peak", 4), lambda row: f"{row.peak:,}"),
        (Column("opened", 5), lambda row: f"{row.opened:,}"),
        (Column("refused", alarming=honest), lambda row: f"{sum(row.refused.values()):,}"),
        (Column("failed", alarming=honest), lambda row: f"{sum(row.failed.values()):,}"),
        (Column("ended" if honest else "killed", alarming=honest), lambda row: f"{sum(row.ended.values()):,}"),
        (Column("at age p50 s", 1), lambda row: _fixed(row.lifetime.p50_ms, 1000)),
        (Column("p99 s", 3), lambda row: _fixed(row.lifetime.p99_ms, 1000)),
        (Column("max s", 2), lambda row: _fixed(row.lifetime.max_ms, 1000)),
        (Column("left", 6), lambda row: f"{row.left:,}" if row.left else ""),
        (Column("sent", 8), lambda row: str(fmt.size(row.sent_bytes)) if row.sent_bytes else ""),
        (Column("received", 8), lambda row: str(fmt.size(row.received_bytes)) if row.received_bytes else ""),
        (Column("deliveries", 7), lambda row: f"{row.deliveries:,}" if row.deliveries else ""),
    ]
    return _table_of(title, cohorts, columns)


def _reasons(report: Report, who: Callable[[CohortRow], str]) -> Section:
    victims = [
        (f"{row.what}, {row.name}", f"failed: {reason}", f"{number:,}")
        for row in report.phases
        for reason, number in row.failed.items()
    ]
    clients = [
        (who(row), f"{kind}: {reason}", f"{number:,}")
        for row in report.cohorts
        for kind, reasons in _fates(row)
        for reason, number in reasons.items()
    ]
    return Section("why", (Column("who"), Column("what"), Column("count")), victims + clients)


def _fates(row: CohortRow) -> Iterable[tuple[str, Mapping[str, int]]]:
    """What became of clients, by kind. An answer that ended every client that got it is in `ended` already."""
    answers = {answer: number for answer, number in row.answers.items() if number != row.ended.get(answer)}
    return ("refused", row.refused), ("failed", row.failed), ("ended", row.ended), ("told", answers)


def figures(report: Report) -> Section:
    columns = (Column("of"), Column("figure"), Column("value"), Column("unit"), Column("meaning", 1, readable=44))
    rows = [
        (title, name, *wording.figure(name, value), report.meanings.get(name, ""))
        for title, group in wording.grouped(report).items()
        for name, value in group.items()
    ]
    return Section("figures", columns, rows)


def tables(report: Report) -> list[Section]:
    return [from_table(table) for table in report.tables if table.rows]


def from_table(table: Table) -> Section:
    return Section(table.title, tuple(map(Column, table.columns)), list(map(tuple, table.rows)), table.notes)


def verdicts(report: Report, *, brief: bool = False, wide: bool = False) -> Section:
    """One row for each part, if the parts judge the report's target and no table has these rows already.

    A brief one leaves out why, for a reader who finds that above it and with each part; a wide one has all columns.
    """
    names = wording.part_names(report.parts)
    shown = [(column, which) for column, which in known.columns().items() if wide or column.spare < MARKDOWN_ONLY]
    columns = (Column("part"), Column("verdict"), *(column for column, _ in shown), Column("why"))
    rows = [
        (
            name,
            part.outcome,
            *(wording.cell(part, which) for _, which in shown),
            "" if brief else "; ".join(part.verdict.explanation),
        )
        for name, part in zip(names, report.parts, strict=True)
    ]
    told_already = any([row[0] for row in table.rows] == names for table in report.tables)
    needed = wording.judges_parts(report) and not told_already
    return _without_empty_columns(Section("verdicts", columns, rows if needed else []))


def _fixed(value: float | None, unit: float = 1.0, *, digits: int = 2) -> str:
    """As many decimals in each row, so that the decimal points align."""
    return "" if value is None else f"{value / unit:,.{digits}f}"
