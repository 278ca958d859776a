"""Progress on standard error: a live line on a terminal, now and then a plain one elsewhere."""

from typing import Final

from rich.console import Console
from rich.status import Status

from loadgen.timers import now

#: Between plain lines: a log of a run should be short.
PLAIN_EVERY_SECONDS: Final = 5.0


class Progress:
    """Tells a person who waits what goes on; never on standard output, which belongs to the report."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._last_tick = 0.0

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, markup=False, soft_wrap=True)
        self._last_tick = now()

    def tick(self, text: str) -> None:
        """Show how things stand."""
        if self._console.is_terminal:
            if self._status is None:
                self._status = self._console.status(text)
                self._status.start()
            self._status.update(text)
        elif now() - self._last_tick >= PLAIN_EVERY_SECONDS:
            self.say(text)

    def done(self) -> None:
        """Leave the terminal as it was."""
        if self._status is not None:
            self._status.stop()
            self._status = None
