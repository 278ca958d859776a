"""How late a process of the generator's own was, by phase.

Owns: one histogram a phase. A process that was busy while the crowd connected and on time while victims were measured
measured them well; one histogram over everything hides both.
"""

from typing import Final

from loadgen.latency import Latency, PhaseLag

#: Before the first phase that is announced.
BEFORE: Final = "before"


class Lag:
    """Lateness so far."""

    __slots__ = ("_current", "_phases")

    def __init__(self) -> None:
        self._current = Latency()
        self._phases = {BEFORE: self._current}

    def begin(self, phase: str) -> None:
        """Begin a phase now."""
        self._current = self._phases.setdefault(phase, Latency())

    def record(self, seconds: float) -> None:
        """Add one lateness."""
        self._current.record(seconds)

    def results(self) -> list[PhaseLag]:
        """Everything, for the conductor."""
        return [PhaseLag(phase=phase, lag=latency.recording()) for phase, latency in self._phases.items()]
