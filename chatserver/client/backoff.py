"""How long to wait before the next attempt, so that ten thousand clients do not come back at once.

Owns: the delays. May not: sleep. Exponential with full jitter as AWS's architecture blog recommends; what
the server asked for (`Retry-After`, `goaway`) comes first, and is spread a little as well.
"""

import random
from collections.abc import Callable

FIRST_DELAY = 0.5  # s; the mean first wait is half of it
LONGEST_DELAY = 30.0  # s; Phoenix 5, Centrifugo and Engine.IO 5-20; a restart takes less
ASKED_SPREAD = 0.25  # of what the server asked for, on top
STEADY_AFTER = 10.0  # s a connection must live for earlier failures to be forgotten


class Backoff:
    """Counts failures in a row and turns them into delays."""

    def __init__(self, *, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._failures = 0

    def delay(self, *, asked: float | None) -> float:
        """Return the seconds to wait now; `asked` is what the server wants, if it said so."""
        ceiling = min(LONGEST_DELAY, FIRST_DELAY * 2.0**self._failures)
        self._failures = min(self._failures + 1, 10)
        if asked is not None:
            return asked * (1 + ASKED_SPREAD * self._jitter())
        return ceiling * self._jitter()

    def lived(self, seconds: float) -> None:
        """Note how long a connection lasted."""
        if seconds >= STEADY_AFTER:
            self._failures = 0
