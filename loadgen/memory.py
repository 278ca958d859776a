"""How much memory attackers cost a server, beside what it needs for its victims' messages.

Owns: the arithmetic on samples. May not: read them, see procfs.py, or know what an attack is.

A server that keeps the newest messages of each room grows while its victims chat, attacked or not: by 200 KB a second
for 50 of them, which over twelve seconds is more than many attacks cost. So the growth that the baseline shows is
carried on and taken off.
"""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

#: Steps that show a rate; with fewer, what a process needs for its first work would be taken for one.
_ENOUGH: Final = 3


class Size(NamedTuple):
    """What a server used at a moment."""

    moment: float  # s, of any clock
    resident: int  # bytes


class Growth:
    """Samples of a baseline, and what they say of later ones."""

    def __init__(self, baseline: Sequence[Size]) -> None:
        self._last = baseline[-1] if baseline else None
        self.rate = _rate(baseline)

    def beyond(self, sample: Size) -> int | None:
        """Bytes that the baseline does not explain; None without a baseline."""
        if self._last is None:
            return None
        return sample.resident - self._last.resident - round(self.rate * (sample.moment - self._last.moment))

    def most(self, samples: Sequence[Size]) -> int | None:
        """The same at its worst moment."""
        return max((found for found in map(self.beyond, samples) if found is not None), default=None)


def _rate(baseline: Sequence[Size]) -> float:
    """Bytes a second, as it usually went: one jump is no rate. Never less than none."""
    steps = [
        (later.resident - earlier.resident) / (later.moment - earlier.moment) for earlier, later in pairwise(baseline)
    ]
    return max(median(steps), 0.0) if len(steps) >= _ENOUGH else 0.0
