"""The amount of work in one step of a task."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import trio

from chatserver import fair

#: Items in one step of `in_steps` after `few_in_a_step`.
FEW = 4


def few_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit the steps by a faked clock, which is read after each item."""
    monkeypatch.setattr(fair, "perf_counter", count(step=fair.STEP / (FEW - 0.5)).__next__)


class StepCounts(trio.abc.Instrument):
    """A count for each step of a task; the test adds to the last one."""

    def __init__(self) -> None:
        self.counts = [0]

    def __enter__(self) -> "StepCounts":
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self)

    def count(self, *_: object) -> None:
        """One more in this step."""
        self.counts[-1] += 1

    def counted(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose calls are counted."""

        def act_and_count(*arguments: Any) -> Any:
            self.count()
            return act(*arguments)

        return act_and_count

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.counts.append(0)
