"""The recorder: every operation of every victim, by kind and by phase.

Owns: which phase an operation belongs to: the one in which it was *due*, whenever it ends. An operation that was due
before the attack and answered during it was delayed by the attack, but to book it there would flatter the attack.
A failure counts with the whole timeout as its duration: percentiles without failures improve the more there are.
"""

from array import array
from collections import Counter
from statistics import median
from typing import Final

from loadgen.latency import Latency, Recent
from loadgen.messages import PhaseResult
from loadgen.timers import now

#: Before the first phase that is reported.
WARM_UP: Final = "warm-up"


class _Entry:
    def __init__(self) -> None:
        self.latency = Latency()
        self.failed: Counter[str] = Counter()
        self.first_failure: float | None = None
        self.by_victim: dict[int, array[float]] = {}

    def record(self, victim: int, seconds: float) -> None:
        self.latency.record(seconds)
        self.by_victim.setdefault(victim, array("d")).append(seconds)


class Recorder:
    def __init__(self) -> None:
        self.recent = Recent()
        self.timeout_seconds = 0.0  # of an operation
        self.phases: list[tuple[float, str]] = [(now(), WARM_UP)]
        self._entries: dict[tuple[str, str], _Entry] = {}

    def begin(self, phase: str) -> None:
        self.phases.append((now(), phase))

    @property
    def phases_begun(self) -> int:
        """Phases that are reported, the present one included."""
        return len(self.phases) - 1

    def _entry(self, kind: str, due: float) -> _Entry:
        phase = next((name for begun, name in reversed(self.phases) if begun <= due), WARM_UP)
        return self._entries.setdefault((phase, kind), _Entry())

    def book(self, kind: str, victim: int, due: float, reason: str = "") -> None:
        """Book an operation that ends now; a reason means that it failed."""
        entry, took = self._entry(kind, due), now() - due
        if not reason:
            entry.record(victim, took)
            self.recent.latency.record(took)
            return
        entry.record(victim, max(took, self.timeout_seconds))
        entry.failed[reason] += 1
        entry.first_failure = due if entry.first_failure is None else min(due, entry.first_failure)
        self.recent.failed += 1

    def results(self, expected: Counter[tuple[str, str]]) -> list[PhaseResult]:
        """Return all results; `expected` is the number of operations that the schedules have by phase and kind."""
        found = []
        for phase, kind in sorted(expected.keys() | self._entries.keys()):
            entry = self._entries.get((phase, kind), _Entry())
            found.append(
                PhaseResult(
                    phase=phase,
                    kind=kind,
                    expected=expected[phase, kind],
                    latency=entry.latency,
                    failed=dict(entry.failed),
                    first_failure=entry.first_failure,
                    worst_median=max(map(median, entry.by_victim.values()), default=None),
                )
            )
        return found
