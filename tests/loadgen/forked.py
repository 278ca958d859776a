"""loadgen's workers, forked as tests/support/forking.py does it: a run starts two, and the tests play some 150 runs.

How the program itself starts them is `test_processes.py`'s and `test_cli.py`'s, where nothing is forked.
"""

import os

from loadgen.personas import registry
from tests.support.forking import Forked, Running, fork

#: The personas too, without those of tests: to import them is a third of what a small crowd costs.
_PERSONAS = sorted({each.__module__ for each in registry().values() if each.__module__.startswith("loadgen.")})
_NEEDS = ("loadgen.run.crowd", "loadgen.run.runner", *_PERSONAS)

#: Workers that were forked and not yet waited for, by what they play.
playing: dict[str, set[int]] = {"crowd": set(), "victims": set()}


class Process(Running):
    """One that is among those `playing` until somebody has waited for it, or killed it."""

    def __init__(self, part: str, forked: Forked, given: int, told: int) -> None:
        super().__init__(forked, given, told, -1)
        self._part = part
        playing[part].add(self.pid)

    async def wait(self) -> int:
        code = await super().wait()
        playing[self._part].discard(self.pid)
        return code

    def kill(self) -> None:
        playing[self._part].discard(self.pid)
        super().kill()


async def start(part: str) -> Process:
    """As `loadgen.run.workers.start`."""
    (its_input, given), (told, its_output) = os.pipe(), os.pipe()
    try:
        forked = fork("loadgen.run.worker", part, stdin=its_input, stdout=its_output, needs=_NEEDS)
    finally:
        os.close(its_input)
        os.close(its_output)
    return Process(part, forked, given, told)
