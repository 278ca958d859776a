"""A scorecard as the tables that a page of docs shows: a row for each attack, a table for each threat.

Owns: the columns. The terminal and report.html have what a reader can look up; here everything that an attack is
judged by stands in one line. May not: measure or judge.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from loadgen import format as fmt
from loadgen.client import Threat
from loadgen.personas import registry
from loadgen.report import Report, Table

_ARROW: Final = " \N{RIGHTWARDS ARROW} "


class _Column(NamedTuple):
    title: str
    cell: Callable[[Report], str]


def by_threat(report: Report) -> list[Table]:
    """The tables, those of threats that were played."""
    known = registry()
    grouped = {threat: [part for part in report.parts if known[part.command].threat is threat] for threat in Threat}
    return [_table(threat, parts, report) for threat, parts in grouped.items() if parts]


def _table(threat: Threat, parts: Sequence[Report], report: Report) -> Table:
    rows = [[column.cell(part) for column in _COLUMNS] for part in parts]
    told = [at for at in range(len(_COLUMNS)) if any(row[at] for row in rows)]
    return Table(
        title=threat.value.capitalize(),
        columns=[_COLUMNS[at].title for at in told],
        rows=[[row[at] for at in told] for row in rows],
        notes=[f"{report.started}, `{fmt.replay(report)}`"],
    )


def _figures(*names: str) -> Callable[[Report], str]:
    """Figures with arrows between; empty where none was measured."""

    def cell(part: Report) -> str:
        values = [part.figures.get(name) for name in names]
        if all(value is None for value in values):
            return ""
        return _ARROW.join(
            "?" if value is None else _number(name, value) for name, value in zip(names, values, strict=True)
        )

    return cell


def _number(name: str, value: float) -> str:
    """Without its unit, which the heading has."""
    return fmt.percent(value) if "percent" in name else fmt.number(value)


def _server_cpu(part: Report) -> str:
    return next(
        (
            fmt.number(row.server_cpu_percent)
            for row in part.phases
            if row.name == "attack" and row.server_cpu_percent is not None
        ),
        "",
    )


def _megabytes(name: str) -> Callable[[Report], str]:
    def text(part: Report) -> str:
        figure = part.figures.get(name)
        return "" if figure is None else fmt.number(figure / 1e6)

    return text


def _verdict(part: Report) -> str:
    """The outcome, and the reasons without what they explain: report.json has them at length."""
    short = [reason.partition(" (")[0].partition(": ")[0] for reason in part.verdict.reasons]
    return ": ".join(filter(None, (part.verdict.outcome, "; ".join(short))))


_COLUMNS: Final = (
    _Column("attack", lambda part: f"`{part.command}`"),
    _Column("attackers asked", _figures("attackers_asked")),
    _Column("came", _figures("attackers_came")),
    _Column("attempts/s", _figures("attempts_per_s")),
    _Column("sent, B/s", _figures("attacker_bytes_per_s")),
    _Column("at one moment", _figures("attackers_peak")),
    _Column("at the end", _figures("attackers_held")),
    _Column("thrown out after, s", _figures("kill_p50_s")),
    _Column("victims, %", _figures("success_percent")),
    _Column("newcomers, %", _figures("newcomers_success_percent")),
    _Column("p50, ms", _figures("baseline_p50_ms", "attack_p50_ms", "recovery_p50_ms")),
    _Column("p99, ms", _figures("baseline_p99_ms", "attack_p99_ms", "recovery_p99_ms")),
    _Column("the floor's p99, ms", _figures("floor_baseline_p99_ms", "floor_p99_ms")),
    _Column("ratio to the floor", _figures("floor_p99_ratio")),
    _Column("memory, MB", _megabytes("server_bytes_grown")),
    _Column("an attacker, B", _figures("server_bytes_per_attacker")),
    _Column("left, MB", _megabytes("server_bytes_left")),
    _Column("server CPU, % of a core", _server_cpu),
    _Column("collateral", _figures("collateral")),
    _Column("the host took, %", _figures("baseline_steal_percent", "steal_percent")),
    _Column("verdict", _verdict),
)
