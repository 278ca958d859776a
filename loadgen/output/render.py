"""The report for a person: tables on a terminal, one row a line elsewhere.

Owns: how a report looks on standard output. Both forms have the same facts (`sections.py`); the plain one is for logs
and grep.
"""

from collections.abc import Mapping
from typing import Final, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadgen.output import sections, wording
from loadgen.output.sections import Section
from loadgen.report import format as fmt
from loadgen.report.schema import Report, Tone

_COLOURS: Final[Mapping[Tone | None, str]] = {
    Tone.GOOD: "bold green",
    Tone.DOUBT: "bold yellow",
    Tone.BAD: "bold red",
    None: "",
}

#: Terminal cells of padding beside each column of a table.
_BETWEEN: Final = 3

#: A word longer than this may be broken: it is a URL, or nonsense.
_LONGEST: Final = 40


def show(report: Report, console: Console) -> None:
    """Print a report, with the verdict last, where the reader looks when a program ends."""
    for section in sections.everything(report):
        fitting = _fitting(section, console.width)
        if console.is_terminal and fitting is not None:
            _print_table(fitting, console)
        else:
            _print_lines(section, console)
    reasons = "; ".join(wording.main_reasons(report)) or report.outcome.sentence
    for line in (f"replay: {wording.replay(report)}", *(f"note: {note}" for note in report.verdict.notes)):
        _print(_text(line, "dim"), console)
    _print(_text(report.outcome.upper(), _COLOURS[report.outcome.tone]) + _text(f"  {reasons}"), console)


def _print(line: Text, console: Console) -> None:
    console.print(line, soft_wrap=True)


def _text(words: str, style: str = "") -> Text:
    """Text that may come from outside, made printable."""
    return Text().append(fmt.printable(words), style)


def _print_table(section: Section, console: Console) -> None:
    _print(_text(section.title, "bold"), console)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, header_style="dim")
    for number, column in enumerate(section.columns):
        numeric = section.is_numeric(number)
        # words may wrap, numbers may not: half a number would be a wrong number
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(_text(column.name), justify=justify, no_wrap=numeric, overflow="fold")
    former = ""
    for row in section.rows:
        about = "" if row[0] == former else row[0]
        table.add_row(_text(about), *(_text(row[at], _COLOURS[section.tone(at, row[at])]) for at in range(1, len(row))))
        former = row[0]
    console.print(table)
    for note in section.notes:
        _print(_text(f" {note}", "dim"), console)
    console.line()


def _print_lines(section: Section, console: Console) -> None:
    for row in section.rows:
        facts = "".join(
            f"  {column.name} {value}" for column, value in zip(section.columns[1:], row[1:], strict=True) if value
        )
        _print(_text(f"{section.title}: {row[0]}{facts}"), console)
    for note in section.notes:
        _print(_text(f"{section.title}: {note}"), console)


def _fitting(section: Section, width: int) -> Section | None:
    """Drop columns until the section fits a terminal of this width; `None` if it cannot."""
    taken = sum(_width(section, at) for at in range(len(section.columns)))
    spare = [at for at, column in enumerate(section.columns) if column.spare]
    dropped = []
    for at in sorted(spare, key=lambda at: -section.columns[at].spare):
        if taken > width:
            dropped.append(at)
            taken -= _width(section, at)
    return section.without(dropped) if taken <= width else None


def _width(section: Section, column: int) -> int:
    """The width that a column needs: all of it for numbers; for text, enough to read, and for its longest word."""
    cells = (section.columns[column].name, *(row[column] for row in section.rows))
    widest = max(map(cell_len, cells))
    if section.is_numeric(column):
        return widest + _BETWEEN
    longest = max((cell_len(word) for cell in cells for word in cell.split()), default=0)
    return min(widest, max(section.columns[column].readable, min(longest, _LONGEST))) + _BETWEEN
