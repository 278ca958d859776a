"""loadgen's workers, forked as tests/support/forking.py does it: a run starts two, and the tests play some 150 runs.

How the program itself starts them is `test_processes.py`'s and `test_cli.py`'s, where nothing is forked.
"""

from __future__ import annotations

import os

import trio

from tests.support.forking import Forked, fork

_NEEDS = ("loadgen.crowd", "loadgen.victims.runner")

#: Workers that were forked and not yet waited for, by what they play.
playing: dict[str, set[int]] = {"crowd": set(), "victims": set()}


class Process:
    """What `loadgen.workers` needs of a `trio.Process`."""

    def __init__(self, part: str, forked: Forked, given: int, told: int) -> None:
        self.pid = forked.pid
        self.stdin = trio.lowlevel.FdStream(given)
        self.stdout = trio.lowlevel.FdStream(told)
        self._part = part
        self._forked = forked
        playing[part].add(self.pid)

    @property
    def returncode(self) -> int | None:
        return self._forked.returncode

    async def wait(self) -> int:
        """Wait for its end."""
        if self.returncode is None:
            await trio.lowlevel.wait_readable(self._forked.ended)
        playing[self._part].discard(self.pid)
        return self._forked.wait()

    def kill(self) -> None:
        """End it at once."""
        playing[self._part].discard(self.pid)
        self._forked.kill()


async def start(part: str) -> Process:
    """As `loadgen.workers.start`."""
    (its_input, given), (told, its_output) = os.pipe(), os.pipe()
    try:
        forked = fork("loadgen.worker", part, stdin=its_input, stdout=its_output, needs=_NEEDS)
    finally:
        os.close(its_input)
        os.close(its_output)
    return Process(part, forked, given, told)
