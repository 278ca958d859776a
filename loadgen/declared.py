"""Every figure of every command, by name: how a report is written, and which of two is better.

Owns: the whole list. A report that another loadgen wrote may have figures that this one does not know.
"""

from types import MappingProxyType
from typing import Final

from loadgen import figures
from loadgen.conform import summary
from loadgen.figures import Better, Figure
from loadgen.fingerprint import probes

_ALL: Final = MappingProxyType(
    {**figures.SCORECARD, **summary.FIGURES, **probes.FIGURES, **figures.CAPACITY, **figures.ALL}
)


def figure(name: str) -> Figure:
    return _ALL.get(name) or Figure(name, "", "", better=Better.NEITHER)
