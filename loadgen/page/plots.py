"""What all plots share: SVG that fits any width, with names for readers who cannot see it.

Owns: the frame, the axis, and words that fit. Places across are percentages of the width, places down are pixels, so
that a plot stretches and its words do not; the margins for labels are padding (style.css). Colours are classes of the
style sheet. May not: know what a report is.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from loadgen.page.elements import Element, node
from loadgen.page.scales import Scale


class Series(NamedTuple):
    """A line of a plot."""

    name: str
    colour: str  # a class of the style sheet: s1, s2, ...
    values: Sequence[float | None]
    style: str = ""  # more classes: faint, dashed
    named_at: float | None = None  # the value beside which the name stands; the last one if there is no better


class Chart(NamedTuple):
    """A plot with what stands above it."""

    caption: str
    note: str
    key: Sequence[Series]  # for where the plot has no room for their names
    drawing: Element


def frame(caption: str, note: str, summary: str, ident: str, *, height: float, labels: str) -> Element:
    """An empty plot."""
    return node(
        "svg",
        node("title", f"{caption}, {note}", id=f"{ident}-title"),
        node("desc", summary, id=f"{ident}-desc"),
        class_=f"plot labels-{labels}",
        width="100%",
        height=height,
        role="img",
        aria_labelledby=f"{ident}-title",
        aria_describedby=f"{ident}-desc",
    )


def grid(scale: Scale, height: float) -> Iterable[Element]:
    """Lines from top to bottom, one for each tick."""
    for tick in scale.ticks:
        yield node("line", class_="grid", x1=percent(scale.at(tick)), x2=percent(scale.at(tick)), y1=0, y2=height)


def times(time: Scale, down: float) -> Iterable[Element]:
    """The ticks of an axis of seconds."""
    for tick in time.ticks:
        place = time.at(tick)
        anchor = "start" if place < 0.02 else "end" if place > 0.98 else "middle"
        yield node("text", f"{tick:g} s", class_="tick", x=percent(place), y=down, text_anchor=anchor)


def clipped(name: str, most: int) -> str:
    """A name, or its beginning where that is too long."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def percent(place: float) -> str:
    """A place across, as SVG wants it."""
    return f"{100 * place:.2f}%"
