"""One phase of an attack: how long it was, and what the server and the machine did meanwhile.

Owns: readings at both ends and what they come to. May not: take them.
"""

from typing import NamedTuple

from loadgen import cpu_steal
from loadgen.procfs import Usage
from loadgen.scenario import per


class Span(NamedTuple):
    """How long a phase was, what the server had used before and after it, and what the machine took meanwhile."""

    begun: float
    seconds: float
    before: Usage | None
    after: Usage | None
    crowd_cpu_seconds: float  # what the attackers' own processes used
    ticks_before: cpu_steal.Ticks | None
    ticks_after: cpu_steal.Ticks | None
    pressure_before: float | None
    pressure_after: float | None

    @property
    def cpu_share(self) -> float | None:
        """CPU seconds a second."""
        if self.before is None or self.after is None:
            return None
        return per(self.after.cpu_seconds - self.before.cpu_seconds, self.seconds)

    @property
    def cpu_percent(self) -> float | None:
        """The server's, of one core."""
        return None if self.cpu_share is None else round(100 * self.cpu_share, 1)

    @property
    def steal_percent(self) -> float | None:
        """What the host took from this machine's processors meanwhile."""
        return cpu_steal.percent(self.ticks_before, self.ticks_after)

    @property
    def pressure_percent(self) -> float | None:
        """In how much of it a program waited for a processor."""
        if self.pressure_before is None or self.pressure_after is None:
            return None
        return per(100 * (self.pressure_after - self.pressure_before), self.seconds)
