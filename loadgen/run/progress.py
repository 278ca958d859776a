"""The progress of a run, on standard error: a live line on a terminal, a plain line now and then elsewhere.

Owns: the terminal while a command runs, the banner before it, and the arithmetic of the time left. May not: write to
standard output, which belongs to the report, or end a run.
"""

import math
from collections.abc import Collection, Sequence
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from loadgen.report import format as fmt
from loadgen.report.schema import Sample

#: Interval of the plain lines, so that the log of a run stays short.
PLAIN_EVERY_SECONDS: Final = 5.0


class Course:
    def __init__(self, phases: Sequence[tuple[str, float]] = (), *, attackers: Collection[str] = ()) -> None:
        self.is_planned = bool(phases)
        self.attackers = frozenset(attackers)
        self.phase = ""
        self.phase_seconds = 0.0  # planned; 0 if it is not planned
        self.latest: Sample | None = None
        self.failed = 0  # operations of victims, so far
        self._ahead = list(phases)  # behind the current one
        self._phase_began = 0.0

    def enter(self, phase: str) -> None:
        """Begin a phase: the next planned one of this name, or an unplanned one."""
        self.phase, self.phase_seconds, self._phase_began = phase, 0.0, self.seconds
        for at, (name, seconds) in enumerate(self._ahead):
            if name == phase:
                self.phase_seconds = seconds
                del self._ahead[: at + 1]
                return

    @property
    def seconds(self) -> float:
        return self.latest.seconds if self.latest else 0.0

    @property
    def left(self) -> float:
        """Planned seconds to come; a phase that takes longer than planned waits at its end."""
        rest = max(self.phase_seconds - (self.seconds - self._phase_began), 0.0)
        return rest + sum(seconds for _, seconds in self._ahead)

    def line(self) -> str:
        """The progress line. Beside attackers, honest clients are named only if the server refused or ended some."""
        sample = self.latest
        if sample is None:
            return self.phase
        parts, others = [sample.phase], 0
        for name, held in sample.held.items():
            lost = [(sample.refused.get(name, 0), "refused"), (sample.ended.get(name, 0), "ended")]
            if self.attackers and name not in self.attackers and not any(number for number, _ in lost):
                others += held
            else:
                parts.append(
                    f"{name} {held:,} held" + "".join(f" {number:,} {what}" for number, what in lost if number)
                )
        parts += [f"{others:,} honest held"] if others else []
        parts += [f"p99 {fmt.number(sample.p99_ms)} ms"] if sample.p99_ms is not None else []
        parts += [f"{self.failed:,} FAILED"] if self.failed else []
        parts += [f"{fmt.span(math.ceil(self.left))} left"] if self.is_planned else []
        return ", ".join(parts)


class Progress:
    def __init__(self, console: Console | None = None) -> None:
        self._console = Console(stderr=True, highlight=False) if console is None else console
        self._live: Live | None = None
        self._course = Course()
        self._told = 0.0  # time of the last plain line, in seconds of the run

    def banner(self, lines: Sequence[str]) -> None:
        for number, line in enumerate(lines):
            self.say(line, "bold" if number == 0 else "dim")

    def plan(self, phases: Sequence[tuple[str, float]], *, attackers: Collection[str] = ()) -> None:
        """Set the phases to come with their seconds, and the personas that may be refused and ended."""
        self._course = Course(phases, attackers=attackers)
        self._told = 0.0

    def phase(self, name: str) -> None:
        course = self._course
        course.enter(name)
        if not self._is_live:
            self.say(f"{name}: {fmt.span(course.phase_seconds)}" if course.phase_seconds else name)
            self._told = course.seconds

    def tick(self, sample: Sample, failed: int = 0) -> None:
        """Show a sample, and how many operations of victims have failed so far."""
        self._course.latest, self._course.failed = sample, failed
        if self._is_live:
            self._draw()
        elif sample.seconds - self._told >= PLAIN_EVERY_SECONDS:
            self.say(self._course.line())
            self._told = sample.seconds

    def say(self, text: str, style: str = "") -> None:
        """Print a permanent line above the live one."""
        self._console.print(Text(fmt.printable(text), style), soft_wrap=True)

    def done(self) -> None:
        """Remove the live line and restore the cursor; harmless if there is none."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def _is_live(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def _draw(self) -> None:
        if self._live is None:
            self._live = Live(
                console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        style = "bold red" if self._course.failed else ""
        line = Text(fmt.printable(self._course.line()), style, no_wrap=True, overflow="crop")
        self._live.update(line, refresh=True)
