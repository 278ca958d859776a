"""The plots of a report over time: latency, connections, the server's resources.

Owns: what is drawn over time, with its colours and captions, and how lines, bands and labels are drawn. Horizontal
positions are percentages of the width and vertical ones are pixels, so that a plot stretches and its text does not. The
margins for labels are padding, and colours are classes (style.css).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from loadgen.output.page import scales
from loadgen.output.page.elements import Element, node
from loadgen.output.page.scales import Scale
from loadgen.report import format as fmt
from loadgen.report.schema import CohortRow, Report, Sample

#: The most points of a plot: more would be finer than a pixel on a phone, and make the page heavy.
MOST_MOMENTS: Final = 240

#: Personas with a line of their own; the style sheet has as many colours, and one for the rest.
MOST_COLOURS: Final = 6

_MIB: Final = 2**20

#: Pixels for text above and below a plot.
_ABOVE: Final = 20
_BELOW: Final = 20

#: Pixels: the width of a plot on a phone and on a desktop, and of a letter.
_NARROW: Final = 300
_WIDE: Final = 800
_LETTER: Final = 6.5

#: Lines are drawn on a canvas that is stretched; this is its width, in units of its own.
_CANVAS: Final = 1000


class Series(NamedTuple):
    name: str
    colour: str  # a class of the style sheet: s1, s2, ...
    values: Sequence[float | None]
    style: str = ""  # more classes: faint, dashed


class Chart(NamedTuple):
    caption: str
    note: str
    key: Sequence[Series]  # the lines with a name
    drawing: Element


class Personas(NamedTuple):
    name: str
    colour: str
    members: tuple[str, ...]

    def total(self, counts: Mapping[str, int]) -> int:
        return sum(counts.get(name, 0) for name in self.members)


class Band(NamedTuple):
    name: str
    begins: float
    ends: float


def over_time(report: Report, ident: str) -> list[Chart]:
    samples = _thinned(report.timeline)
    if len(samples) < 2:
        return []
    timeline, named = _Timeline(samples, ident), crowds(report.cohorts)
    charts = (
        timeline.latency(),
        timeline.held(named),
        timeline.lost(named),
        timeline.server("Server memory", "MiB, RSS", lambda one: one.server_rss_bytes and one.server_rss_bytes / _MIB),
        timeline.server("Server CPU", "% of one core", lambda sample: sample.server_cpu_percent),
        timeline.server("Server descriptors", "open", lambda sample: sample.server_descriptors),
    )
    return [chart for chart in charts if chart is not None]


def _thinned(samples: Sequence[Sample]) -> list[Sample]:
    """Merge the samples into MOST_MOMENTS at most, each with the worst values of its share."""
    share = max(math.ceil(len(samples) / MOST_MOMENTS), 1)
    return [_merged(samples[at : at + share]) for at in range(0, len(samples), share)]


def _merged(samples: Sequence[Sample]) -> Sample:
    def most(field: str) -> float | None:
        return max((value for sample in samples if (value := getattr(sample, field)) is not None), default=None)

    worst = ("p50_ms", "p99_ms", "max_ms", "server_rss_bytes", "server_cpu_percent", "server_descriptors")
    return msgspec.structs.replace(
        samples[-1],
        succeeded=sum(sample.succeeded for sample in samples),
        failed=sum(sample.failed for sample in samples),
        **{field: most(field) for field in worst},
    )


def crowds(cohorts: Sequence[CohortRow]) -> list[Personas]:
    """The lines of a plot: the largest personas, or the largest attackers and one line for all honest clients."""
    attackers = [row for row in cohorts if not row.honest]
    peaks = Counter[str]()
    for row in attackers or cohorts:  # a persona may be in several groups
        peaks[row.persona] += row.peak
    named = [name for name, _ in peaks.most_common()]
    own = named if len(named) <= MOST_COLOURS else named[: MOST_COLOURS - 1]
    found = [Personas(name, f"s{number}", (name,)) for number, name in enumerate(own, start=1)]
    rest = tuple(named[len(own) :])
    if rest:
        found.append(Personas(f"{len(rest)} others", f"s{MOST_COLOURS}", rest))
    honest = tuple({row.persona for row in cohorts if row.honest}) if attackers else ()
    if honest:
        found.append(Personas("honest", "rest", honest))
    return found


def bands(samples: Sequence[Sample]) -> list[Band]:
    """The phases of a run; the last sample of each is from the time when it ended."""
    phases = [samples[0].phase, *(after.phase for before, after in pairwise(samples) if before.phase != after.phase)]
    turns = [before.seconds for before, after in pairwise(samples) if before.phase != after.phase]
    spans = pairwise([0.0, *turns, samples[-1].seconds])
    return [Band(phase, *span) for phase, span in zip(phases, spans, strict=True)]


class _Timeline:
    def __init__(self, samples: Sequence[Sample], ident: str) -> None:
        self._samples = samples
        self._ident = ident
        self._moments = [sample.seconds for sample in samples]
        self._time = scales.fitted(0, self._moments[-1], ticks=6)
        self._bands = bands(samples)

    def latency(self) -> Chart | None:
        """Percentiles on a logarithmic scale, because an attack changes latencies by factors."""
        series = [
            Series("max", "s1", [sample.max_ms for sample in self._samples], "faint"),
            Series("p99", "s1", [sample.p99_ms for sample in self._samples]),
            Series("p50", "s3", [sample.p50_ms for sample in self._samples]),
        ]
        failed = sum(sample.failed for sample in self._samples)
        note = "ms, by powers of ten" + (f"; red: {failed:,} failed" if failed else "")
        failures = [sample.seconds for sample in self._samples if sample.failed]
        return self._chart("Latency", note, series, scales.logarithmic, height=190, unit="ms", failures=failures)

    def held(self, named: Sequence[Personas]) -> Chart | None:
        """Connections by persona."""
        held = {crowd: [crowd.total(sample.held) for sample in self._samples] for crowd in named}
        series = [Series(crowd.name, crowd.colour, values) for crowd, values in held.items()]
        return self._chart("Connections held", "at that moment", series, _from_zero, height=130)

    def lost(self, named: Sequence[Personas]) -> Chart | None:
        """Clients that the server ended and refused, by persona; lines without any are left out."""
        series = []
        for crowd in named:
            ended = [crowd.total(sample.ended) for sample in self._samples]
            refused = [crowd.total(sample.refused) for sample in self._samples]
            series.append(Series(f"{crowd.name} ended", crowd.colour, ended))
            series.append(Series(f"{crowd.name} refused", crowd.colour, refused, "dashed"))
        moving = [each for each in series if any(each.values)]
        return self._chart("Ended and refused by the server", "so far", moving, _from_zero, height=130)

    def server(self, caption: str, unit: str, read: Callable[[Sample], float | None]) -> Chart | None:
        """One resource of the server. The axis need not begin at zero, because growth is what matters."""
        series = [Series("", "s4", list(map(read, self._samples)))]
        return self._chart(caption, unit, series, partial(scales.linear, ticks=3), height=70, unit=unit)

    # How it is drawn

    def _chart(
        self,
        caption: str,
        note: str,
        series: Sequence[Series],
        scale: Callable[[float, float], Scale],
        *,
        height: int,
        unit: str = "",
        failures: Sequence[float] = (),
    ) -> Chart | None:
        extent = scales.extent(value for each in series for value in each.values)
        if extent is None and not failures:
            return None
        values = scale(*(extent or (1.0, 1.0)))  # any scale will do if there are only failures
        ident = f"{self._ident}-{caption.lower().replace(' ', '-')}"
        svg = node(
            "svg",
            node("title", f"{caption}, {note}", id=f"{ident}-title"),
            node("desc", " ".join(_summary(each, unit) for each in series), id=f"{ident}-desc"),
            class_="plot",
            width="100%",
            height=_ABOVE + height + _BELOW,
            role="img",
            aria_labelledby=f"{ident}-title",
            aria_describedby=f"{ident}-desc",
        )

        def down(value: float) -> float:
            return height * (1 - values.at(value))

        box = f"0 0 {_CANVAS} {height}"
        canvas = node("svg", y=_ABOVE, width="100%", height=height, viewbox=box, aspect="none")
        for band in self._bands:
            begins, ends = self._across(band.begins), self._across(band.ends)
            if band.name == "attack":
                canvas.append(node("rect", class_="band", x=begins, width=ends - begins, height="100%"))
            canvas.append(node("path", class_="grid", d=f"M{begins:.1f} -16V{height}"))
        for tick in values.ticks:
            canvas.append(node("path", class_="grid", d=f"M0 {down(tick):.1f}H{_CANVAS}"))
        for each in reversed(series):
            path = self._path(each, down)
            canvas.append(node("path", class_=f"line {each.colour} {each.style}", d=path))
        for moment in failures:  # a red mark at the bottom
            canvas.append(node("path", class_="failure", d=f"M{self._across(moment):.1f} {height}v-10"))
        canvas.extend(self._hits(series, unit))
        svg.append(canvas)
        svg.extend(self._band_names())
        for tick in values.ticks:
            place = _ABOVE + down(tick) + 4
            svg.append(node("text", f"{tick:,g}", class_="tick", x=-8, y=place, text_anchor="end"))
        svg.extend(_times(self._time, _ABOVE + height + 15))
        return Chart(caption, note, [each for each in series if each.name], svg)

    def _across(self, moment: float) -> float:
        return self._time.at(moment) * _CANVAS

    def _path(self, series: Series, down: Callable[[float], float]) -> str:
        parts, pen_is_down = [], False
        for moment, value in zip(self._moments, series.values, strict=True):
            if value is not None:
                parts.append(f"{'L' if pen_is_down else 'M'}{self._across(moment):.1f} {down(value):.1f}")
                if not pen_is_down:
                    parts.append("h.01")  # makes a lone point visible as a dot
            pen_is_down = value is not None
        return "".join(parts)

    def _hits(self, series: Sequence[Series], unit: str) -> Iterable[Element]:
        """The areas for the pointer: a column for each sample, with its numbers as a tooltip."""
        between = ((before + after) / 2 for before, after in pairwise(self._moments))
        edges = map(self._across, (self._time.low, *between, self._time.high))
        for at, (begins, ends) in enumerate(pairwise(edges)):
            tip = node("title", self._tip(at, series, unit))
            yield node("rect", tip, class_="hit", x=begins, width=max(ends - begins, 0), height="100%")

    def _tip(self, at: int, series: Sequence[Series], unit: str) -> str:
        sample = self._samples[at]
        lines = [
            f"{each.name} {_amount(value, unit)}".strip() for each in series if (value := each.values[at]) is not None
        ]
        lines += [f"{sample.failed:,} FAILED"] if sample.failed else []
        return f"{sample.seconds:.0f} s, {sample.phase}\n" + "\n".join(lines)

    def _band_names(self) -> Iterable[Element]:
        """Names of phases that have room, on narrow screens or at least on wide ones."""
        for band in self._bands:
            begins = self._time.at(band.begins)
            share = self._time.at(band.ends) - begins
            needed = len(band.name) * _LETTER + 10
            if share * _WIDE >= needed:
                kind = "band-name" if share * _NARROW >= needed else "band-name roomy"
                yield node("text", band.name, class_=kind, x=_percent(begins), y=_ABOVE - 6, dx=4)


def _from_zero(_: float, most: float) -> Scale:
    return scales.linear(0, most)


def _amount(value: float, unit: str) -> str:
    return str(fmt.Amount(fmt.number(value), unit))


def _summary(series: Series, unit: str) -> str:
    extent = scales.extent(series.values)
    if extent is None:
        return ""
    least, most = (_amount(value, unit) for value in extent)
    return f"{series.name or 'It'} was between {least} and {most}."


def _times(time: Scale, down: float) -> Iterable[Element]:
    for tick in time.ticks:
        place = time.at(tick)
        anchor = "start" if place < 0.02 else "end" if place > 0.98 else "middle"
        yield node("text", f"{tick:g} s", class_="tick", x=_percent(place), y=down, text_anchor=anchor)


def _percent(place: float) -> str:
    return f"{100 * place:.2f}%"
