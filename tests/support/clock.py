"""A clock that jumps to the next deadline whenever no task has anything left to do.

Owns: the run of tests marked `jumping_clock`. Deadlines of seconds pass in milliseconds, and a busy machine does not
miss one, because time is slow while there is work. Not for tests with a thread, another process or timers of the
kernel, since time would run ahead of those, nor for peers that never pause.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

import trio
import trio.testing

from chatserver.chat import principal

#: Real seconds without work after which time jumps: loopback delivers within microseconds, later on a busy machine.
QUIET = 0.002
#: Seconds that pass in a real one while there is work: a machine five times slower than usual is not late.
PACE = 0.2


def run_with_jumps(
    test: Callable[[], Awaitable[Any]], *, clock: trio.abc.Clock | None, instruments: Sequence[trio.abc.Instrument],
    pace: float = PACE, quiet: float = QUIET,
) -> Any:  # fmt: skip
    """Called by pytest-trio in place of `trio.run`. Sign-ins, which end by the wall clock, end by this one too."""
    jumping = clock or trio.testing.MockClock(rate=pace, autojump_threshold=quiet)
    began = time.time()
    with patch.object(principal, "wall", lambda: began + trio.current_time()):
        return trio.run(test, clock=jumping, instruments=instruments)


#: For tests without sockets: time stands still while there is work, and jumps as soon as there is none.
run_at_once = partial(run_with_jumps, pace=0.0, quiet=0.0)
