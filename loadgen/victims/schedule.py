"""When operations are due: at fixed moments, connected or not, however the last one went.

Owns: the moments of one victim and how many of them fall into a phase. May not: send anything. The count is arithmetic
on the schedule alone, so that it checks what was booked rather than repeats it.
"""

import math
from typing import NamedTuple


class Schedule(NamedTuple):
    """Moments at a fixed interval."""

    first: float  # when the first operation is due
    interval: float  # seconds between two

    def due(self, number: int) -> float:
        """When an operation is due."""
        return self.first + number * self.interval

    def count_between(self, begin: float, end: float) -> int:
        """How many operations are due from `begin` on and before `end`."""
        return max(self._count_before(end) - self._count_before(begin), 0)

    def _count_before(self, moment: float) -> int:
        number = max(math.ceil((moment - self.first) / self.interval), 0)
        # rounding may be one off at a moment that is exactly due
        while number > 0 and self.due(number - 1) >= moment:
            number -= 1
        while self.due(number) < moment:
            number += 1
        return number
