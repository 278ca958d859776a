"""What goes on, on standard error: a live view on a terminal, now and then a plain line elsewhere.

Owns: the terminal while a command runs, and the banner before it. The view is drawn by the caller of `tick`, on its
time; there is no thread. May not: write to standard output, which belongs to the report, or end a run: where
a terminal is too narrow, too short or too dumb, less is shown.

    progress.banner(["attack http://127.0.0.1:8000 with ..."])
    progress.plan([("baseline", 5), ("attack", 20), ("recovery", 5)], attackers={"slow-head"})
    progress.phase("baseline")
    progress.tick(sample)  # about five times a second
    progress.done()
"""

from collections.abc import Collection, Sequence
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from loadgen import format as fmt
from loadgen import liveview
from loadgen.liveview import Course
from loadgen.report import Sample

#: Between plain lines: a log of a run should be short.
PLAIN_EVERY_SECONDS: Final = 5.0


class Progress:
    """Tells the user what goes on."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = Console(stderr=True, highlight=False) if console is None else console
        self._live: Live | None = None
        self._course = Course()
        self._told = 0.0  # when the last plain line was, in seconds of the run

    def banner(self, lines: Sequence[str]) -> None:
        """Say what will be done to which target, before it is."""
        for number, line in enumerate(lines):
            self._print(line, "bold" if number == 0 else "dim")

    def plan(self, phases: Sequence[tuple[str, float]], *, attackers: Collection[str] = ()) -> None:
        """Name the phases to come with their seconds, and the personas that are to be thrown out.

        What is refused or ended of all others is shown as the failure that it is. A new plan begins a new view: a
        scorecard has one for each attack.
        """
        self._course = Course(phases, attackers=attackers)
        self._told = 0.0

    def phase(self, name: str) -> None:
        """Begin the next phase of this name; an unplanned phase takes no part in the bar."""
        course = self._course
        course.enter(name)
        if not self._is_live:
            self._print(f"{name}: {fmt.span(course.phase_seconds)}" if course.phase_seconds else name)
            self._told = course.seconds

    def tick(self, sample: Sample) -> None:
        """Show how things stand. The counts of a sample may go on from the former's, within the same second."""
        self._course.add(sample)
        if self._is_live:
            self._draw()
        elif sample.seconds - self._told >= PLAIN_EVERY_SECONDS:
            self._print(liveview.line(self._course))
            self._told = sample.seconds

    def say(self, text: str) -> None:
        """Print a line that stays, above the view."""
        self._print(text)

    def done(self) -> None:
        """Take the view away and give the cursor back; harmless when there is none."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def _is_live(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(fmt.printable(text), style), soft_wrap=True)

    def _draw(self) -> None:
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        options = self._console.options
        view = liveview.draw(self._course, self._console.width, ascii_only=options.ascii_only)
        self._live.update(view, refresh=True)
