"""The report for a person: tables on a terminal, one fact a line elsewhere.

Owns: every word that is printed about a report on standard output. The two forms carry the same facts; the plain one
is made to be read in a log and cut with grep.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadgen import figures
from loadgen.latency import Spread
from loadgen.report import CohortRow, PhaseRow, Report


class _Section(NamedTuple):
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


_COLOURS = {"held": "bold green", "fell short": "bold red", "invalid": "bold yellow", "interrupted": "bold yellow"}


def show(report: Report, console: Console) -> None:
    """Print a report."""
    for section in _sections(report):
        if not section.rows:
            continue
        if console.is_terminal:
            _print_table(section, console)
        else:
            _print_lines(section, console)
    verdict = Text(report.verdict.outcome.upper(), _COLOURS[report.verdict.outcome])
    verdict.append("  " + "; ".join(report.verdict.reasons), "none")
    console.print(verdict, soft_wrap=True)


def _print_table(section: _Section, console: Console) -> None:
    table = Table(title=section.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for number, column in enumerate(section.columns):
        table.add_column(column, justify="right" if _numeric(section.rows, number) else "left")
    for row in section.rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _print_lines(section: _Section, console: Console) -> None:
    for row in section.rows:
        facts = "  ".join(f"{name} {value}" for name, value in zip(section.columns[1:], row[1:], strict=True) if value)
        console.print(Text(f"{section.title}: {row[0]}  {facts}"), soft_wrap=True)


def _numeric(rows: Sequence[tuple[str, ...]], column: int) -> bool:
    return all(not row[column] or row[column][0] in "0123456789-" for row in rows)


def _sections(report: Report) -> list[_Section]:
    known = figures.RUN if report.command == "run" else figures.ATTACK
    return [
        _Section(
            "latency",
            (
                "phase",
                "what",
                "count",
                "failed",
                "success %",
                "p50 ms",
                "p90 ms",
                "p99 ms",
                "max ms",
                "server CPU %",
                "server MB",
            ),
            [_phase(row) for row in report.phases],
        ),
        _Section(
            "clients",
            (
                "persona",
                "wanted",
                "held",
                "peak",
                "refused",
                "failed",
                "ended by server",
                "age then p50 s",
                "max s",
                "deliveries",
            ),
            [_cohort(row) for row in report.cohorts],
        ),
        _Section(
            "why",
            ("persona", "what", "count"),
            [
                (row.persona, f"{kind}: {reason}", f"{number:,}")
                for row in report.cohorts
                for kind, reasons in (("refused", row.refused), ("failed", row.failed), ("ended", row.ended))
                for reason, number in reasons.items()
            ]
            + [
                (f"{row.name}, {row.what}", f"failed: {reason}", f"{number:,}")
                for row in report.phases
                for reason, number in row.failed.items()
            ],
        ),
        _Section(
            "figure",
            ("name", "value", "meaning"),
            [(name, _figure(value), known[name]) for name, value in report.figures.items() if value is not None],
        ),
    ]


def _phase(row: PhaseRow) -> tuple[str, ...]:
    failed = sum(row.failed.values())
    total = row.succeeded + failed
    spread = row.spread
    return (
        row.name,
        row.what,
        f"{row.succeeded:,}",
        f"{failed:,}",
        f"{100 * row.succeeded / total:.2f}" if total else "",
        *map(_number, (spread.p50_ms, spread.p90_ms, spread.p99_ms, spread.max_ms, row.server_cpu_percent)),
        "" if row.server_pss_bytes is None else f"{row.server_pss_bytes / 1e6:.1f}",
    )


def _cohort(row: CohortRow) -> tuple[str, ...]:
    return (
        row.persona,
        f"{row.wanted:,}",
        f"{row.held:,}",
        f"{row.peak:,}",
        _total(row.refused),
        _total(row.failed),
        _total(row.ended),
        *_ages(row.lifetime),
        f"{row.deliveries:,}",
    )


def _ages(spread: Spread) -> tuple[str, str]:
    return _number(_seconds(spread.p50_ms)), _number(_seconds(spread.max_ms))


def _seconds(value_ms: float | None) -> float | None:
    return None if value_ms is None else value_ms / 1000


def _total(reasons: Mapping[str, int]) -> str:
    return f"{sum(reasons.values()):,}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
