"""Every figure of every command, by name: how a report is written, and which of two is better.

Owns: the whole list. A report that another loadgen wrote may have figures that this one does not know.
"""

from collections.abc import Mapping
from functools import cache

from loadgen.report import figures
from loadgen.report.figures import Better, Figure


@cache
def _all() -> Mapping[str, Figure]:
    from loadgen.conform import summary  # noqa: PLC0415  (quick --help of the other commands)
    from loadgen.fingerprint import probes  # noqa: PLC0415

    return {**figures.SCORECARD, **summary.FIGURES, **probes.FIGURES, **figures.CAPACITY, **figures.ALL}


def figure(name: str) -> Figure:
    return _all().get(name) or Figure(name, "", "", better=Better.NEITHER)
