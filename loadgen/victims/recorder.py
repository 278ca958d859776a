"""The recorder: every operation of every victim, by kind and by phase.

Owns: which phase an operation belongs to, the one in which it was *due*, whenever it ends. An operation that was due
before the attack and came back during it was delayed by the attack, but to book it there would flatter the attack.
"""

from collections import Counter
from typing import Final

from loadgen.interval import Window
from loadgen.latency import Latency
from loadgen.messages import PhaseResult
from loadgen.timers import now

#: Before the first phase that is reported.
WARM_UP: Final = "warm-up"


class _Entry:
    """One kind in one phase."""

    def __init__(self) -> None:
        self.latency = Latency()
        self.failed: Counter[str] = Counter()
        self.first_failure: float | None = None


class Recorder:
    """All phases so far."""

    def __init__(self) -> None:
        self.window = Window()
        self._phases: list[tuple[float, str]] = [(now(), WARM_UP)]
        self._entries: dict[tuple[str, str], _Entry] = {}

    def begin(self, phase: str) -> None:
        """Begin a phase now."""
        self._phases.append((now(), phase))

    def _entry(self, kind: str, due: float) -> _Entry:
        phase = next((name for begun, name in reversed(self._phases) if begun <= due), WARM_UP)
        return self._entries.setdefault((phase, kind), _Entry())

    def succeeded(self, kind: str, due: float) -> None:
        """Book an operation that ends now."""
        took = now() - due
        self._entry(kind, due).latency.record(took)
        self.window.succeeded(took)

    def failed(self, kind: str, due: float, reason: str) -> None:
        """Book an operation that came to nothing."""
        entry = self._entry(kind, due)
        entry.failed[reason] += 1
        if entry.first_failure is None:
            entry.first_failure = due
        self.window.failed()

    def phases(self) -> list[PhaseResult]:
        """Everything, for the conductor."""
        return [
            PhaseResult(
                phase=phase,
                kind=kind,
                latency=entry.latency.recording(),
                failed=dict(entry.failed),
                first_failure=entry.first_failure,
            )
            for (phase, kind), entry in self._entries.items()
        ]
