"""What the host of a virtual machine took from it: time in which its processors had work and did not run.

Why: a server that waits for a processor that is not there looks as slow as one that is slow, to every clock in here.
Who reads a loud row needs to know which it was.

Owns: which fields of /proc/stat make up the whole. May not: judge. Much taken does not make a server good, and nothing
taken does not make it bad; many a host does not tell its guests what it takes.
"""

from pathlib import Path
from typing import Final, NamedTuple

_STAT: Final = Path("/proc/stat")

#: user nice system idle iowait irq softirq cpu_steal. A guest's time, which follows, is in `user` and `nice` already.
_FIELDS: Final = 8


class Ticks(NamedTuple):
    """How all processors together have spent their time so far, in the kernel's ticks, mostly of 10 ms."""

    total: int
    stolen: int


def read() -> Ticks | None:
    """What this machine's kernel tells now; `None` if it does not tell."""
    try:
        return parse(_STAT.read_text())
    except OSError:  # macOS has no /proc
        return None


def parse(text: str) -> Ticks | None:
    """The ticks in a text like /proc/stat; `None` without the field."""
    line = next((line for line in text.splitlines() if line.startswith("cpu ")), "")
    ticks = [int(field) for field in line.split()[1 : _FIELDS + 1]]
    return Ticks(sum(ticks), ticks[-1]) if len(ticks) == _FIELDS else None


def percent(before: Ticks | None, after: Ticks | None) -> float | None:
    """What was taken between two readings, of all the processors' time; `None` where no tick was between them."""
    if before is None or after is None or after.total <= before.total:
        return None
    return round(100 * (after.stolen - before.stolen) / (after.total - before.total), 2)
