"""What this machine tells of its processors: time that its host took, and time in which programs waited for one.

Why: a server that waits for a processor that is not there looks as slow as a slow server, to every clock in here. A
reader of a loud row needs to know which it was.

Owns: reading /proc/stat and /proc/pressure/cpu. May not: judge. Much taken does not make a server good, and nothing
taken does not make it bad; many a host does not tell its guests what it takes.
"""

import re
from pathlib import Path
from typing import Final, NamedTuple

_STAT: Final = Path("/proc/stat")
_PRESSURE: Final = Path("/proc/pressure/cpu")
_SOME: Final = re.compile(r"^some .*total=(\d+)$", re.MULTILINE)

#: user nice system idle iowait irq softirq steal. A guest's time, which follows, is in `user` and `nice` already.
_FIELDS: Final = 8


class Ticks(NamedTuple):
    """How all processors together have spent their time so far, in the kernel's ticks, mostly of 10 ms."""

    total: int
    stolen: int


def ticks() -> Ticks | None:
    """What this machine's kernel tells now; `None` if it does not tell."""
    try:
        return parse(_STAT.read_text())
    except OSError:  # macOS has no /proc
        return None


def parse(text: str) -> Ticks | None:
    line = next((line for line in text.splitlines() if line.startswith("cpu ")), "")
    found = [int(field) for field in line.split()[1 : _FIELDS + 1]]
    return Ticks(sum(found), found[-1]) if len(found) == _FIELDS else None


def stolen_percent(before: Ticks | None, after: Ticks | None) -> float | None:
    """What was taken between two readings, of all the processors' time; `None` where no tick was between them."""
    if before is None or after is None or after.total <= before.total:
        return None
    return round(100 * (after.stolen - before.stolen) / (after.total - before.total), 2)


def pressure() -> float | None:
    """Seconds so far in which a program was ready to run and had no processor; older kernels do not tell."""
    try:
        found = _SOME.search(_PRESSURE.read_text())
    except OSError:
        return None
    return int(found[1]) / 1e6 if found else None
