"""Progress on standard error: a live line on a terminal, now and then a plain one elsewhere."""

from typing import Final

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType

from loadgen.timers import now

#: Between plain lines: a log of a run should be short.
PLAIN_EVERY_SECONDS: Final = 5.0

_ERASE: Final = Control((ControlType.ERASE_IN_LINE, 2), ControlType.CARRIAGE_RETURN)


class Progress:
    """Tells a person who waits what goes on; never on standard output, which belongs to the report.

    The live line is written by whoever calls `tick`. rich's own live displays bring a thread that redraws them, and its
    turns at the interpreter would be in the latencies.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._last_tick = 0.0

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.done()
        self._console.print(text, markup=False, soft_wrap=True)
        self._last_tick = now()

    def tick(self, text: str) -> None:
        """Show how things stand."""
        if self._console.is_terminal:
            self.done()
            self._console.print(text, markup=False, end="", no_wrap=True, overflow="ellipsis")
        elif now() - self._last_tick >= PLAIN_EVERY_SECONDS:
            self.say(text)

    def done(self) -> None:
        """Take the live line away."""
        if self._console.is_terminal:
            self._console.control(_ERASE)
