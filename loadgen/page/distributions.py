"""The plots of a report that have no time: latencies by group and phase, and the ages at which clients were ended.

Owns: their rows and how each is drawn. May not: draw anything over time (charts.py).
"""

import math
from collections.abc import Sequence
from typing import Final

from loadgen import format as fmt
from loadgen.latency import Spread
from loadgen.page import scales
from loadgen.page.charts import ATTACK, crowds
from loadgen.page.elements import Element, node
from loadgen.page.plots import Chart, clipped, frame, grid, percent, times
from loadgen.page.scales import Scale
from loadgen.report import CohortRow, PhaseRow
from loadgen.sections import by_group

#: Pixels: words under a plot; a name above rows and a row; a histogram with its name, and its highest bar.
_BELOW: Final = 20
_NAME: Final = 22
_ROW: Final = 24
_HISTOGRAM: Final = 70
_HIGHEST: Final = 44

#: Buckets of ages are at most so wide, in milliseconds.
_WIDEST_BUCKET: Final = 1000


def _percentiles(spread: Spread) -> dict[str, float] | None:
    """By name, in ascending order; `None` where something was not measured."""
    p50, p90, p99, p999, most = spread.p50_ms, spread.p90_ms, spread.p99_ms, spread.p999_ms, spread.max_ms
    if p50 is None or p90 is None or p99 is None or p999 is None or most is None:
        return None
    return {"p50": p50, "p90": p90, "p99": p99, "p99.9": p999, "max": most}


def spreads(phases: Sequence[PhaseRow], ident: str) -> Chart | None:
    """Percentiles of each group in each phase, over one axis: a dot, a bar to the 99th, a line to the end."""
    groups = by_group([row for row in phases if _percentiles(row.spread) is not None])
    measured = {id(row): found for row in phases if (found := _percentiles(row.spread)) is not None}
    if not measured:
        return None
    low, high = min(each["p50"] for each in measured.values()), max(each["max"] for each in measured.values())
    scale = scales.logarithmic(low, high)
    drawn, tips, down = [node("text", "p99", class_="tick", x="100%", dx=8, y=18)], [], 4.0
    for group, rows in groups.items():
        drawn.append(node("text", clipped(group, 40), class_="group", x=0, dx=-72, y=down + 14))
        down += _NAME
        for row in rows:
            found = measured[id(row)]
            told = ", ".join(f"{name} {fmt.number(value)} ms" for name, value in found.items())
            tips.append(f"{row.what}, {row.name}: {told}")
            drawn.append(_range(row, found, tips[-1], scale, down + 10))
            down += _ROW
    caption, note = "Latency by phase", "ms: dot p50, bar to p99, notches at p90, p99.9 and the slowest"
    summary = " ".join(f"{tip}." for tip in tips)
    svg = frame(caption, note, summary, f"{ident}-spreads", height=down + _BELOW, labels="rows")
    svg.extend([*grid(scale, down), *drawn])
    for tick in scale.ticks:
        place = percent(scale.at(tick))
        svg.append(node("text", f"{tick:,g}", class_="tick", x=place, y=down + 15, text_anchor="middle"))
    return Chart(caption, note, [], svg)


def _range(row: PhaseRow, found: dict[str, float], tip: str, scale: Scale, middle: float) -> Element:
    at = {name: percent(scale.at(value)) for name, value in found.items()}
    notches = [
        node("line", class_="notch", x1=at[name], x2=at[name], y1=middle - 5, y2=middle + 5)
        for name in ("p90", "p99.9", "max")
    ]
    return node(
        "g",
        node("title", tip),
        node("rect", class_="hit", x="-10%", width="120%", y=middle - 12, height=_ROW),
        node("text", clipped(row.name, 11), class_="tick", x=-8, y=middle + 4, text_anchor="end"),
        node("line", class_="tail", x1=at["p50"], x2=at["max"], y1=middle, y2=middle),
        node("line", class_="body", x1=at["p50"], x2=at["p99"], y1=middle, y2=middle),
        *notches,
        node("circle", class_="dot", cx=at["p50"], cy=middle, r=4.5),
        node("text", fmt.number(found["p99"]), class_="told", x="100%", dx=8, y=middle + 4),
        class_=f"range {'s1' if row.name == ATTACK else 's3'}",
    )


def kills(cohorts: Sequence[CohortRow], ident: str) -> Chart | None:
    """How old clients were when the server ended them: a histogram for each persona, over one axis."""
    killed = [row for row in cohorts if row.kills]
    if not killed:
        return None
    ages = [age for row in killed for age, _ in row.kills]
    scale = scales.linear(0, max(ages), ticks=6)
    width = math.gcd(_WIDEST_BUCKET, *(round(age * 1000) for age in ages)) / 1000
    colours = {name: crowd.colour for crowd in crowds(cohorts) for name in crowd.members}
    caption, note = "Age at which the server ended them", "seconds after they connected"
    height = _HISTOGRAM * len(killed)
    summary = " ".join(f"{row.persona}: {_told(row)}." for row in killed)
    svg = frame(caption, note, summary, f"{ident}-kills", height=height + _BELOW, labels="none")
    svg.extend(grid(scale, height))
    for number, row in enumerate(killed, start=1):
        foot, colour = number * _HISTOGRAM, colours[row.persona]
        above = foot - _HIGHEST - 10
        svg.append(node("g", *_bars(row, scale, width, foot), class_=f"bars {colour}"))
        svg.append(node("text", clipped(row.persona, 22), class_=f"name {colour}", x=0, y=above))
        svg.append(node("text", _told(row), class_="told", x="100%", y=above, text_anchor="end"))
        svg.append(node("line", class_="axis", x1=0, x2="100%", y1=foot, y2=foot))
    svg.extend(times(scale, height + 15))
    return Chart(caption, note, [], svg)


def _bars(row: CohortRow, scale: Scale, width: float, foot: float) -> list[Element]:
    most = max(count for _, count in row.kills)
    bars = []
    for age, count in row.kills:
        begins, tall = scale.at(age - width), max(_HIGHEST * count / most, 1.5)
        tip, wide = node("title", f"{age - width:g} to {age:g} s: {count:,}"), percent(scale.at(age) - begins)
        bars.append(node("rect", tip, class_="bar", x=percent(begins), width=wide, y=foot - tall, height=tall))
    return bars


def _told(row: CohortRow) -> str:
    half = row.lifetime.p50_ms
    told = f"{fmt.total(row.ended):,} ended"
    return told if half is None else f"{told}, half of them by {fmt.number(half / 1000)} s"
