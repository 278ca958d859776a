"""The plots, as SVG that fits any width.

Owns: how lines, bands, ranges and bars are drawn. Places across are percentages of the width, places down are pixels,
so that a plot stretches and its words do not; the margins for labels are padding (style.css). Colours are classes of
the style sheet. May not: know what a report is.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from loadgen.page.elements import Element, node
from loadgen.page.scales import Scale

#: Words under and above a plot, in pixels.
_ABOVE: Final = 20
_BELOW: Final = 20
_LINE: Final = 14

#: Pixels: of a plot on a phone, of one on a desk, and of a letter.
_NARROW: Final = 300
_WIDE: Final = 800
_LETTER: Final = 6.5

#: Lines are drawn on a canvas of their own that is stretched; so wide, in units of its own.
_CANVAS: Final = 1000


class Series(NamedTuple):
    """A line of a plot."""

    name: str
    colour: str  # a class of the style sheet: s1, s2, ...
    values: Sequence[float | None]
    style: str = ""  # more classes: faint, dashed
    named_at: float | None = None  # the value beside which the name stands; the last one if there is no better


class Band(NamedTuple):
    """A stretch of time with a name."""

    name: str
    begins: float
    ends: float
    shaded: bool


class Lines(NamedTuple):
    """A plot over time."""

    title: str
    summary: str
    time: Scale
    values: Scale
    moments: Sequence[float]
    series: Sequence[Series]
    bands: Sequence[Band]
    tips: Sequence[str]  # one for each moment
    failures: Sequence[float]  # moments at which something failed
    height: int


class Range(NamedTuple):
    """A row: a distribution by its percentiles."""

    group: str
    name: str
    colour: str
    p50: float
    p90: float
    p99: float
    p999: float
    most: float
    tip: str
    told: str  # what stands at the right


class Bar(NamedTuple):
    """One bar of a histogram."""

    begins: float
    ends: float
    height: float  # of the highest
    tip: str


class Bars(NamedTuple):
    """A row: one histogram."""

    name: str
    told: str
    colour: str
    bars: Sequence[Bar]


def lines(plot: Lines, ident: str) -> Element:
    """Draw lines over time."""
    box = f"0 0 {_CANVAS} {plot.height}"
    canvas = node("svg", y=_ABOVE, width="100%", height=plot.height, viewbox=box, aspect="none")
    for band in plot.bands:
        begins, ends = plot.time.at(band.begins) * _CANVAS, plot.time.at(band.ends) * _CANVAS
        if band.shaded:
            canvas.append(node("rect", class_="band", x=begins, width=ends - begins, height="100%"))
        canvas.append(node("path", class_="grid", d=f"M{begins:.1f} -16V{plot.height}"))
    for tick in plot.values.ticks:
        down = _down(plot, tick)
        canvas.append(node("path", class_="grid", d=f"M0 {down:.1f}H{_CANVAS}"))
    for series in reversed(plot.series):
        canvas.append(node("path", class_=f"line {series.colour} {series.style}", d=_path(plot, series)))
    canvas.extend(_failures(plot))
    canvas.extend(_hits(plot))
    svg = _frame(plot.title, plot.summary, ident, height=_ABOVE + plot.height + _BELOW, labels="time")
    svg.append(canvas)
    svg.extend(_band_names(plot))
    for tick in plot.values.ticks:
        down = _ABOVE + _down(plot, tick) + 4
        svg.append(node("text", f"{tick:,g}", class_="tick", x=-8, y=down, text_anchor="end"))
    svg.extend(_times(plot.time, _ABOVE + plot.height + 15))
    svg.extend(_series_names(plot))
    return svg


def _down(plot: Lines, value: float) -> float:
    return plot.height * (1 - plot.values.at(value))


def _path(plot: Lines, series: Series) -> str:
    parts, pen_is_down = [], False
    for moment, value in zip(plot.moments, series.values, strict=True):
        if value is None:
            pen_is_down = False
            continue
        parts.append(f"{'L' if pen_is_down else 'M'}{plot.time.at(moment) * _CANVAS:.1f} {_down(plot, value):.1f}")
        if not pen_is_down:
            parts.append("h.01")  # a lone point is a dot, not nothing
        pen_is_down = True
    return "".join(parts)


def _failures(plot: Lines) -> Iterable[Element]:
    """A red foot at each moment with failures."""
    for moment in plot.failures:
        yield node("path", class_="failure", d=f"M{plot.time.at(moment) * _CANVAS:.1f} {plot.height}v-10")


def _hits(plot: Lines) -> Iterable[Element]:
    """What the pointer touches: a column for each moment, with its numbers as a tooltip."""
    edges = [plot.time.low, *((before + after) / 2 for before, after in pairwise(plot.moments)), plot.time.high]
    for (begins, ends), tip in zip(pairwise(edges), plot.tips, strict=True):
        x = plot.time.at(begins) * _CANVAS
        width = plot.time.at(ends) * _CANVAS - x
        yield node("rect", node("title", tip), class_="hit", x=x, width=max(width, 0), height="100%")


def _band_names(plot: Lines) -> Iterable[Element]:
    """Names of phases, where there is room: on the narrowest screens, or at least on wide ones."""
    for band in plot.bands:
        begins = plot.time.at(band.begins)
        share = plot.time.at(band.ends) - begins
        needed = len(band.name) * _LETTER + 10
        if share * _WIDE >= needed:
            kind = "band-name" if share * _NARROW >= needed else "band-name roomy"
            yield node("text", band.name, class_=kind, x=_percent(begins), y=_ABOVE - 6, dx=4)


def _times(time: Scale, down: float) -> Iterable[Element]:
    for tick in time.ticks:
        place = time.at(tick)
        anchor = "start" if place < 0.02 else "end" if place > 0.98 else "middle"
        yield node("text", f"{tick:g} s", class_="tick", x=_percent(place), y=down, text_anchor=anchor)


def _series_names(plot: Lines) -> Iterable[Element]:
    """Names at the ends of the lines, moved apart where lines meet."""
    ends = []
    for series in plot.series:
        last = next((value for value in reversed(series.values) if value is not None), None)
        place = series.named_at if series.named_at is not None else last
        if place is not None and series.name:
            ends.append((_ABOVE + _down(plot, place) + 4, series))
    ends.sort(key=lambda end: end[0])
    places = _apart([down for down, _ in ends], _LINE, _ABOVE + plot.height + 4)
    for down, (_, series) in zip(places, ends, strict=True):
        yield node("text", _clipped(series.name, 22), class_=f"name {series.colour}", x="100%", dx=8, y=down)


def _apart(places: Sequence[float], gap: float, most: float) -> list[float]:
    """Places in ascending order, pushed down until they have a gap, and back up where they leave the plot."""
    apart: list[float] = []
    for place in places:
        apart.append(max(place, apart[-1] + gap) if apart else place)
    limit = most
    for at in reversed(range(len(apart))):
        apart[at] = min(apart[at], limit)
        limit = apart[at] - gap
    return apart


def ranges(rows: Sequence[Range], scale: Scale, *, told: str, title: str, summary: str, ident: str) -> Element:
    """Draw distributions below each other: a dot at the median, a bar to the 99th percentile, a line to the end.

    `told` is the heading of what stands at the right.
    """
    drawn = [node("text", told, class_="tick", x="100%", dx=8, y=18)]
    down, group = 4.0, None
    for row in rows:
        if row.group != group:
            drawn.append(node("text", _clipped(row.group, 40), class_="group", x=0, dx=-72, y=down + 14))
            down, group = down + 22, row.group
        drawn.append(_range(row, scale, down + 10))
        down += 24
    grid = [
        node("line", class_="grid", x1=_percent(place), x2=_percent(place), y1=0, y2=down)
        for place in map(scale.at, scale.ticks)
    ]
    svg = _frame(title, summary, ident, height=down + _BELOW, labels="rows")
    svg.extend(grid)
    svg.extend(drawn)
    for tick in scale.ticks:
        svg.append(
            node("text", f"{tick:,g}", class_="tick", x=_percent(scale.at(tick)), y=down + 15, text_anchor="middle")
        )
    return svg


def _range(row: Range, scale: Scale, middle: float) -> Element:
    p50, p90, p99, p999, most = (scale.at(value) for value in (row.p50, row.p90, row.p99, row.p999, row.most))
    return node(
        "g",
        node("title", row.tip),
        node("rect", class_="hit", x="-10%", width="120%", y=middle - 12, height=24),
        node("text", _clipped(row.name, 11), class_="tick", x=-8, y=middle + 4, text_anchor="end"),
        node("line", class_="tail", x1=_percent(p50), x2=_percent(most), y1=middle, y2=middle),
        node("line", class_="body", x1=_percent(p50), x2=_percent(p99), y1=middle, y2=middle),
        *(
            node("line", class_="notch", x1=_percent(at), x2=_percent(at), y1=middle - 5, y2=middle + 5)
            for at in (p90, p999, most)
        ),
        node("circle", class_="dot", cx=_percent(p50), cy=middle, r=4.5),
        node("text", row.told, class_="told", x="100%", dx=8, y=middle + 4),
        class_=f"range {row.colour}",
    )


def bars(rows: Sequence[Bars], scale: Scale, *, title: str, summary: str, ident: str) -> Element:
    """Draw histograms below each other over one axis."""
    each, room = 70, 44
    height = each * len(rows)
    svg = _frame(title, summary, ident, height=height + _BELOW, labels="none")
    for tick in scale.ticks:
        place = _percent(scale.at(tick))
        svg.append(node("line", class_="grid", x1=place, x2=place, y1=0, y2=height))
    for number, row in enumerate(rows):
        foot = (number + 1) * each
        group = node("g", class_=f"bars {row.colour}")
        for bar in row.bars:
            begins, ends = scale.at(bar.begins), scale.at(bar.ends)
            tall = max(room * bar.height, 1.5)
            across, wide = _percent(begins), _percent(ends - begins)
            tip = node("title", bar.tip)
            group.append(node("rect", tip, class_="bar", x=across, width=wide, y=foot - tall, height=tall))
        svg.append(group)
        svg.append(node("text", _clipped(row.name, 22), class_=f"name {row.colour}", x=0, y=foot - room - 10))
        svg.append(node("text", row.told, class_="told", x="100%", y=foot - room - 10, text_anchor="end"))
        svg.append(node("line", class_="axis", x1=0, x2="100%", y1=foot, y2=foot))
    svg.extend(_times(scale, height + 15))
    return svg


def _frame(title: str, summary: str, ident: str, *, height: float, labels: str) -> Element:
    return node(
        "svg",
        node("title", title, id=f"{ident}-title"),
        node("desc", summary, id=f"{ident}-desc"),
        class_=f"plot labels-{labels}",
        width="100%",
        height=height,
        role="img",
        aria_labelledby=f"{ident}-title",
        aria_describedby=f"{ident}-desc",
    )


def _clipped(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _percent(place: float) -> str:
    return f"{100 * place:.2f}%"
