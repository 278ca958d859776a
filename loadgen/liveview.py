"""How far a run is and how it goes, as lines of text.

Owns: the arithmetic of phases and time left, and the drawing of the live view: bar, sparklines, counts. May not: know
a terminal, a clock or a process; time is what the samples say.
"""

import math
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.console import Group
from rich.text import Text

from loadgen import format as fmt
from loadgen.report import Sample

#: A sample of the timeline covers so much; those between count up to it.
SAMPLE_SECONDS: Final = 1.0

#: Sparklines and the bar end here on wide terminals; longer lines are not easier to read.
_WIDEST: Final = 72

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS: Final = "_.,:-=+#"

#: The sparkline of latencies goes by powers of ten, from the first to the second or to the worst. A quiet server stays
#: a flat line this way; on a scale of its own each hiccup of a millisecond would fill the height.
_QUIET_MS: Final = 1.0
_LOUD_MS: Final = 100.0

#: A phase narrower than this in the bar leaves no room for gaps between phases.
_GAP_WORTH: Final = 4


class Course:
    """The phases of a run, which of them it is in, and what was seen in each second."""

    def __init__(self, phases: Sequence[tuple[str, float]] = (), *, attackers: Collection[str] = ()) -> None:
        self.phases = tuple(phases)
        self.attackers = frozenset(attackers)
        self.phase = ""
        self.at = -1  # in `phases`; -1 before the first of them
        self.samples: list[Sample] = []  # one for each second
        self._second_began = 0.0
        self._phase_began = 0.0

    def enter(self, phase: str) -> None:
        """Begin a phase: the next of this name, or an unplanned phase."""
        self.phase = phase
        self._phase_began = self.seconds
        ahead = (at for at in range(self.at + 1, len(self.phases)) if self.phases[at][0] == phase)
        self.at = next(ahead, self.at)

    def add(self, sample: Sample) -> None:
        """Note how things stand. A sample that goes on counting where the former stopped takes its place."""
        former = self.latest
        goes_on = (
            former is not None
            and sample.seconds - self._second_began < SAMPLE_SECONDS
            and sample.succeeded >= former.succeeded
            and sample.failed >= former.failed
        )
        if goes_on:
            self.samples[-1] = sample
        else:
            self.samples.append(sample)
            self._second_began = sample.seconds

    @property
    def latest(self) -> Sample | None:
        """How things stand."""
        return self.samples[-1] if self.samples else None

    @property
    def seconds(self) -> float:
        """How old the run is."""
        return self.latest.seconds if self.latest else 0.0

    @property
    def phase_seconds(self) -> float:
        """Planned seconds of the phase; 0 if it is not planned."""
        return self.phases[self.at][1] if self.at >= 0 and self.phases[self.at][0] == self.phase else 0.0

    @property
    def planned(self) -> float:
        """Planned seconds in all."""
        return sum(seconds for _, seconds in self.phases)

    @property
    def elapsed(self) -> float:
        """Planned seconds that are behind us; a phase that takes longer than planned waits at its end."""
        if self.at < 0:
            return 0.0
        before = sum(seconds for _, seconds in self.phases[: self.at])
        if not self.phase_seconds:  # an unplanned phase: the planned phase before it is over
            return before + self.phases[self.at][1]
        return before + min(self.seconds - self._phase_began, self.phase_seconds)

    @property
    def left(self) -> float:
        """Planned seconds to come."""
        return self.planned - self.elapsed

    @property
    def failed(self) -> int:
        """Operations of victims that failed so far."""
        return sum(sample.failed for sample in self.samples)

    def crowd(self, sample: Sample) -> int:
        """How many attackers are held; of honest load, how many clients."""
        return sum(held for name, held in sample.held.items() if not self.attackers or name in self.attackers)


class _Standing(NamedTuple):
    """How one persona stands."""

    name: str
    held: int
    refused: int
    ended: int
    hurt: bool


def line(course: Course) -> str:
    """How things stand, as one line."""
    sample = course.latest
    if sample is None:
        return course.phase
    parts = [course.phase or sample.phase]
    shown, unhurt = _standings(course, sample)
    for each in shown:
        lost = [(each.refused, "refused"), (each.ended, "ended")]
        parts.append(f"{each.name} {each.held:,} held" + "".join(f" {n:,} {what}" for n, what in lost if n))
    if unhurt:
        parts.append(f"{unhurt:,} honest unhurt")
    if sample.p99_ms is not None:
        parts.append(f"p99 {fmt.number(sample.p99_ms)} ms")
    if course.failed:
        parts.append(f"{course.failed:,} FAILED")
    if course.phases:
        parts.append(f"{_left(course)} left")
    return ", ".join(parts)


def draw(course: Course, width: int, *, ascii_only: bool) -> Group:
    """The live view, for a terminal of this width."""
    sample = course.latest
    if sample is None:
        return Group()
    room = max(min(width - 1, _WIDEST), 1)
    lines = [_heading(course, sample), _bar(course, room, "=" if ascii_only else "━")]
    lines += _sparklines(course, sample, room, _ASCII_BLOCKS if ascii_only else _BLOCKS)
    lines += _counts(course, sample)
    for each in lines:
        each.no_wrap, each.overflow = True, "crop"
    return Group(*lines)


def _left(course: Course) -> str:
    return fmt.span(math.ceil(course.left))


def _heading(course: Course, sample: Sample) -> Text:
    heading = Text().append(fmt.printable(course.phase or sample.phase), "bold")
    if course.at >= 0 and len(course.phases) > 1:
        heading.append(f"  {course.at + 1} of {len(course.phases)}", "dim")
    if course.phases:
        heading.append(f"  {_left(course)} left", "cyan")
    return heading


def _bar(course: Course, room: int, ink: str) -> Text:
    """One bar over all phases, with gaps between them where there is room."""
    bar = Text()
    if not course.planned:
        return bar
    gap = " " if len(course.phases) * _GAP_WORTH <= room else ""
    scale = max(room - len(gap) * (len(course.phases) - 1), 0) / course.planned
    done, begins = round(course.elapsed * scale), 0.0
    for at, (_, seconds) in enumerate(course.phases):
        first, last = round(begins * scale), round((begins + seconds) * scale)
        filled = min(max(done - first, 0), last - first)
        bar.append(ink * filled, "cyan" if at == course.at else "blue")
        bar.append(ink * (last - first - filled) + gap, "bright_black")
        begins += seconds
    bar.rstrip()
    return bar


def _sparklines(course: Course, sample: Sample, room: int, blocks: str) -> list[Text]:
    latencies = [each.p99_ms for each in course.samples]
    measured = [value for value in latencies if value is not None]
    crowd = [course.crowd(each) for each in course.samples]
    rows = [("held", f"{crowd[-1]:,}", _linear(crowd), "yellow")]
    if measured:
        rows.insert(0, ("p99", f"{fmt.number(measured[-1])} ms", _logarithmic(latencies), "green"))
    wide = max(cell_len(value) for _, value, _, _ in rows)
    lines = []
    for name, value, heights, colour in rows:
        begin = f"{name:<5}{value:>{wide}}  "
        lines.append(Text.assemble(begin, (_sparkline(heights, max(room - cell_len(begin), 1), blocks), colour)))
    if measured:
        lines[0].append(f"  worst {fmt.number(max(measured))} ms", "dim")
    if course.failed:
        lines.append(Text(f"{course.failed:,} failed, {sample.failed:,} of them in this second", "bold red"))
    return lines


def _sparkline(heights: Sequence[float | None], room: int, blocks: str) -> str:
    """All of the run in one line: a cell is the highest of its share of the seconds."""
    share = max(math.ceil(len(heights) / room), 1)
    cells = []
    for at in range(0, len(heights), share):
        seen = [height for height in heights[at : at + share] if height is not None]
        cells.append(blocks[round(max(seen) * (len(blocks) - 1))] if seen else " ")
    return "".join(cells)


def _linear(values: Sequence[int]) -> list[float | None]:
    most = max(*values, 1, 0)
    return [value / most for value in values]


def _logarithmic(values: Sequence[float | None]) -> list[float | None]:
    loudest = max(_LOUD_MS, *(value for value in values if value is not None))
    return [
        None if value is None else math.log(max(value, _QUIET_MS) / _QUIET_MS) / math.log(loudest / _QUIET_MS)
        for value in values
    ]


def _counts(course: Course, sample: Sample) -> list[Text]:
    shown, unhurt = _standings(course, sample)
    wide = max((cell_len(each.name) for each in shown), default=0)
    lines = []
    for each in shown:
        lost = f"  {each.refused:>6,} refused  {each.ended:>6,} ended"
        style = "bold red" if each.hurt else ""
        lines.append(Text.assemble(f"{fmt.printable(each.name):<{wide}}  {each.held:>6,} held", (lost, style)))
    if unhurt:
        lines.append(Text(f"{unhurt:,} honest clients, none refused or ended", "dim"))
    return lines


def _standings(course: Course, sample: Sample) -> tuple[list[_Standing], int]:
    """The personas to show, and how many honest clients beside attackers are left out: nothing happened to them."""
    shown, unhurt = [], 0
    for name, held in sample.held.items():
        refused, ended = sample.refused.get(name, 0), sample.ended.get(name, 0)
        honest = name not in course.attackers
        if course.attackers and honest and not refused and not ended:
            unhurt += held
        else:
            shown.append(_Standing(name, held, refused, ended, hurt=honest and refused + ended > 0))
    return shown, unhurt
