"""How much is done in one step of a task."""

from itertools import count

import pytest
import trio

from chatserver import fair

#: Of what is done with `in_steps`, after `few_in_a_step`.
FEW = 4


def few_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that is read after each."""
    monkeypatch.setattr(fair, "perf_counter", count(step=fair.STEP / (FEW - 0.5)).__next__)


class StepCounts(trio.abc.Instrument):
    """A count for each step of a task; the test adds to the last one what it counts."""

    def __init__(self) -> None:
        self.counts = [0]

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.counts.append(0)
