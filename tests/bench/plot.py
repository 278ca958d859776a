"""Lines over two axes, as an SVG file for a page of docs/.

The scales are those of loadgen's reports. A file follows the reader's light or dark theme, and lines differ by their
marks as well as by their colours. May not: know what was measured.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from loadgen.output.page.elements import Element, node
from loadgen.output.page.scales import Scale, linear, logarithmic

#: Pixels: of a panel's axes, of the words around them, of the key, and of a mark.
WIDTH, HEIGHT = 360, 150
LEFT, RIGHT, ABOVE, BELOW = 62, 22, 34, 40
KEY_LINE, MARK = 20, 3.5
#: Pixels of a letter, at most.
LETTER = 7.2
#: Panels side by side, and lines that can be told apart.
COLUMNS, COLOURS = 2, 6

STYLE = """
svg { --back: #fff; --ink: #1b1f24; --soft: #57606a; --line: #d8dde3 }
svg { --s1: #c2410c; --s2: #1d5fd1; --s3: #0f766e; --s4: #7c3aed; --s5: #be185d; --s6: #5f6b00 }
@media (prefers-color-scheme: dark) {
  svg { --back: #14171b; --ink: #e8ebef; --soft: #a3adb8; --line: #353d47 }
  svg { --s1: #ff9a5c; --s2: #7fb0ff; --s3: #4fd1c5; --s4: #c4a5ff; --s5: #ff8ebf; --s6: #c7d65a }
}
text { font: 12px system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; fill: var(--ink) }
.title { font-size: 14px; font-weight: 650 } .caption { font-weight: 600 } .tick { fill: var(--soft) }
.back { fill: var(--back) } .grid { stroke: var(--line); fill: none }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.s1 { stroke: var(--s1) } .s2 { stroke: var(--s2) } .s3 { stroke: var(--s3) }
.s4 { stroke: var(--s4) } .s5 { stroke: var(--s5) } .s6 { stroke: var(--s6) }
.mark { fill: var(--back); stroke-width: 1.75 }
"""
#: Of a mark around 0 0, in units of MARK: a circle, a square, a triangle, a diamond, a cross, a bar.
SHAPES = (
    "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0 -2 0Z", "M-.9 -.9h1.8v1.8h-1.8Z", "M0 -1.1L1.1 .9H-1.1Z",
    "M0 -1.3L1.2 0L0 1.3L-1.2 0Z", "M-1 -1L1 1M-1 1L1 -1", "M-1.3 0H1.3M0 -1.3V1.3",
)  # fmt: skip


Cell = TypeVar("Cell")
Point: TypeAlias = tuple[float, float]


class Line(NamedTuple):
    """Points from left to right. Lines with one name look the same in all panels."""

    name: str
    points: Sequence[Point]


def lines_of(cells: Iterable[Cell], name: Callable[[Cell], str], point: Callable[[Cell], Point | None]) -> list[Line]:
    """A line for each name, in order of first occurrence; cells without a point are left out."""
    points: dict[str, list[Point]] = {}
    for cell in cells:
        line = points.setdefault(name(cell), [])
        if (found := point(cell)) is not None:
            line.append(found)
    return [Line(*each) for each in points.items()]


class Panel(NamedTuple):
    """One pair of axes."""

    caption: str
    across: str  # what the axis from left to right is of
    lines: Sequence[Line]
    powers: bool = False  # up by powers of ten; else from nothing
    steps: bool = False  # across by powers of ten; else from nothing


def svg(title: str, panels: Sequence[Panel]) -> str:
    """A file with a title, a key of all lines, and the panels row by row."""
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    if len(names) > COLOURS:
        raise ValueError(f"{len(names)} lines, and {COLOURS} colours")
    width, height = LEFT + WIDTH + RIGHT, ABOVE + HEIGHT + BELOW
    key = list(_key(names, COLUMNS * width))
    top = 34 + KEY_LINE * (1 + max(row for row, *_ in key))
    tall = top + height * -(-len(panels) // COLUMNS)
    root = node(
        "svg", node("title", title), node("style", STYLE), xmlns="http://www.w3.org/2000/svg", role="img",
        viewbox=f"0 0 {COLUMNS * width} {tall}", width=COLUMNS * width, height=tall,
    )  # fmt: skip
    root.append(node("rect", class_="back", width="100%", height="100%"))
    root.append(node("text", title, class_="title", x=14, y=24))
    for row, x, name in key:
        look, y = names.index(name), 46 + KEY_LINE * row
        root.append(node("path", class_=f"line s{look + 1}", d=f"M{x} {y - 4}h26"))
        root.append(_mark(look, x + 13, y - 4))
        root.append(node("text", name, x=x + 33, y=y))
    for number, panel in enumerate(panels):
        place = f"translate({number % COLUMNS * width + LEFT} {top + number // COLUMNS * height + ABOVE})"
        root.append(node("g", *_panel(panel, names), transform=place))
    return ET.tostring(root, encoding="unicode") + "\n"


def _key(names: Sequence[str], width: float) -> Iterator[tuple[int, float, str]]:
    """Row, place and name of each."""
    row, x = 0, 14.0
    for name in names:
        needed = 33 + len(name) * LETTER + 18
        if x + needed > width and x > 14:
            row, x = row + 1, 14.0
        yield row, x, name
        x += needed


def _panel(panel: Panel, names: Sequence[str]) -> Iterator[Element]:
    across = _scale([x for line in panel.lines for x, _ in line.points], powers=panel.steps)
    up = _scale([y for line in panel.lines for _, y in line.points], powers=panel.powers)
    yield node("text", panel.caption, class_="caption", x=0, y=-12)
    for tick in up.ticks:
        y = HEIGHT * (1 - up.at(tick))
        yield node("path", class_="grid", d=f"M0 {y:.1f}H{WIDTH}")
        yield node("text", f"{tick:,g}", class_="tick", x=-7, y=y + 4, text_anchor="end")
    for tick in across.ticks:
        x = WIDTH * across.at(tick)
        yield node("path", class_="grid", d=f"M{x:.1f} {HEIGHT}v4")
        yield node("text", f"{tick:,g}", class_="tick", x=x, y=HEIGHT + 17, text_anchor="middle")
    yield node("text", panel.across, class_="tick", x=WIDTH / 2, y=HEIGHT + 32, text_anchor="middle")
    for line in panel.lines:
        look = names.index(line.name)
        places = [(WIDTH * across.at(x), HEIGHT * (1 - up.at(y))) for x, y in line.points]
        drawn = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        if places:
            yield node("path", class_=f"line s{look + 1}", d=f"M{drawn}")
        for x, y in places:
            yield _mark(look, x, y)


def _scale(values: Sequence[float], *, powers: bool) -> Scale:
    if not values:
        return linear(0, 1)
    return logarithmic(min(values), max(values)) if powers else linear(0, max(values))


def _mark(look: int, x: float, y: float) -> Element:
    return node(
        "path", class_=f"mark s{look + 1}", d=SHAPES[look], transform=f"translate({x:.1f} {y:.1f}) scale({MARK})",
        vector_effect="non-scaling-stroke",
    )  # fmt: skip
