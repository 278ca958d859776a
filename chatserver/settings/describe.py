"""`chatserver limits`: every limit with its value, its unit and the reason for it.

Owns: the form of that list on a terminal and in a pipe. May not: know a limit by name; the list comes from fields.py,
so a new limit needs no change here.
"""

import shutil
from typing import IO

from rich.console import Console
from rich.table import Table

from chatserver.settings.fields import SPECS, Settings, flag_name, share
from chatserver.settings.spec import Section, Sharing, Spec, Unit, plain


def print_limits(settings: Settings, file: IO[str]) -> None:
    """Print a table that fits a terminal, or aligned lines of plain text."""
    if file.isatty():
        _print_table(settings, Console(file=file, width=shutil.get_terminal_size().columns))
        return
    rows = [_row(name, spec, settings) for name, spec in _limits()]
    flag_width = max(len(flag) for flag, *_ in rows)
    value_width = max(len(value) for _, value, *_ in rows)
    for flag, value, meaning, reason in rows:
        print(f"{flag:<{flag_width}}  {value:<{value_width}}  {meaning} [{reason}]", file=file)


def shown_value(name: str, value: object) -> str:
    """Return a value as people read it: `10 s`, `16,384 B`, `0 (no cap)`."""
    spec = SPECS[name]
    if not value and isinstance(value, str | tuple):
        return spec.zero or ""
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if value == 0 and spec.zero is not None:
        return f"0 ({spec.zero})"
    grouping = "" if spec.unit is Unit.NONE else ","  # a port is not a quantity
    return f"{plain(value, grouping)} {spec.unit.value}".rstrip()


def _print_table(settings: Settings, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", row_styles=["", "dim"])
    table.add_column("limit", no_wrap=True, style="cyan")
    table.add_column("value", no_wrap=True, justify="right")
    table.add_column("meaning", ratio=3)
    table.add_column("why", ratio=3)
    section = None
    for name, spec in _limits():
        if spec.section is not section:
            section = spec.section
            table.add_row(f"[bold]{section.value}[/]", style="default")
        table.add_row(*_row(name, spec, settings))
    console.print(table)


def _row(name: str, spec: Spec, settings: Settings) -> tuple[str, str, str, str]:
    """Flag, value, meaning and reason."""
    value = shown_value(name, getattr(settings, name))
    return f"--{flag_name(name)}", value, _meaning(name, spec, settings), spec.reason


def _meaning(name: str, spec: Spec, settings: Settings) -> str:
    """The meaning of a limit; with several workers also how it applies to them."""
    if spec.sharing is Sharing.SHARED and settings.shared:
        return f"{spec.meaning} With --shared: one rate for all processes."
    if settings.workers == 1 or spec.sharing is Sharing.ALIKE:
        return spec.meaning
    one = share(name, settings)
    if not one or spec.sharing is Sharing.SHARED:  # not divided
        return f"{spec.meaning} With {settings.workers} workers: in each worker by itself."
    each = shown_value(name, one)
    return f"{spec.meaning} With {settings.workers} workers: {spec.sharing.value}, {each} each."


def _limits() -> list[tuple[str, Spec]]:
    return [(name, spec) for name, spec in SPECS.items() if spec.section is not Section.SERVICE]
