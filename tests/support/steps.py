"""How much is done in one step of a task."""

import trio


class StepCounts(trio.abc.Instrument):
    """A count for each step of a task; the test adds to the last one what it counts."""

    def __init__(self) -> None:
        self.counts = [0]

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.counts.append(0)
