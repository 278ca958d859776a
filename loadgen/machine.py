"""The kernel's figures on this machine's processors: time taken by the host (steal), and time programs waited for one.

To every clock here, a server that waits for a processor looks like a slow server. These figures tell the two apart.

Owns: reading /proc/stat and /proc/pressure/cpu. May not: judge; and many hosts do not report to their guests what they
take.
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
    """Processor time so far, of all processors together, in the kernel's ticks, mostly of 10 ms."""

    total: int
    stolen: int


def ticks() -> Ticks | None:
    """The present count of ticks; `None` if the kernel does not report it."""
    try:
        return parse(_STAT.read_text())
    except OSError:  # macOS has no /proc
        return None


def parse(text: str) -> Ticks | None:
    line = next((line for line in text.splitlines() if line.startswith("cpu ")), "")
    found = [int(field) for field in line.split()[1 : _FIELDS + 1]]
    return Ticks(sum(found), found[-1]) if len(found) == _FIELDS else None


def stolen_percent(before: Ticks | None, after: Ticks | None) -> float | None:
    """The share of processor time that the host took between two readings; `None` without a tick in between."""
    if before is None or after is None or after.total <= before.total:
        return None
    return round(100 * (after.stolen - before.stolen) / (after.total - before.total), 2)


def pressure() -> float | None:
    """Seconds so far in which a program was ready to run and had no processor; `None` on older kernels."""
    try:
        found = _SOME.search(_PRESSURE.read_text())
    except OSError:
        return None
    return int(found[1]) / 1e6 if found else None
