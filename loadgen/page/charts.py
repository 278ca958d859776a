"""Which plots a report has: from its timeline, its spreads and its kill times.

Owns: what is drawn, in which colour and with which words. May not: draw; that is `plots.py`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from loadgen import format as fmt
from loadgen.page import plots, scales
from loadgen.page.elements import Element
from loadgen.page.plots import Band, Bar, Bars, Lines, Range, Series
from loadgen.page.scales import Scale
from loadgen.report import CohortRow, PhaseRow, Report, Sample
from loadgen.sections import by_group

#: The phase that the eye should find.
ATTACK: Final = "attack"

#: A plot has at most so many moments: more are finer than a pixel on a phone, and make the page heavy.
MOST_MOMENTS: Final = 240

#: Personas with a line of their own; the style sheet has as many colours, and one for the rest.
MOST_COLOURS: Final = 6
_REST: Final = "rest"

#: Buckets of ages are at most so wide, in milliseconds.
_WIDEST_BUCKET: Final = 1000

_MIB: Final = 2**20


class Chart(NamedTuple):
    """A plot with what stands above it."""

    caption: str
    note: str
    key: Sequence[Series]  # for where the plot has no room for their names
    drawing: Element


class _Crowd(NamedTuple):
    """Personas that share a line."""

    name: str
    colour: str
    members: tuple[str, ...]

    def total(self, counts: Mapping[str, int]) -> int:
        return sum(counts.get(name, 0) for name in self.members)


def over_time(report: Report, ident: str) -> list[Chart]:
    """Everything that has a time: latency, connections, what the server used."""
    samples = _thinned(report.timeline)
    if len(samples) < 2:
        return []
    timeline, crowds = _Timeline(samples, ident), _crowds(report.cohorts)
    charts = (
        timeline.latency(),
        timeline.held(crowds),
        timeline.lost(crowds),
        timeline.server("Server memory", "MiB", lambda sample: _mib(sample.server_rss_bytes)),
        timeline.server("Server CPU", "% of one core", lambda sample: sample.server_cpu_percent),
        timeline.server("Server descriptors", "open", lambda sample: sample.server_descriptors),
    )
    return [chart for chart in charts if chart is not None]


def _mib(size: int | None) -> float | None:
    return None if size is None else size / _MIB


def _thinned(samples: Sequence[Sample]) -> list[Sample]:
    """At most MOST_MOMENTS samples, each the worst of its share."""
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


def _crowds(cohorts: Sequence[CohortRow]) -> list[_Crowd]:
    """Who gets a line: beside attackers all honest ones share one; else the greatest personas get their own."""
    attackers = [row for row in cohorts if not row.honest]
    named = sorted(attackers or cohorts, key=lambda row: -row.peak)
    own = named if len(named) <= MOST_COLOURS else named[: MOST_COLOURS - 1]
    crowds = [_Crowd(row.persona, f"s{number}", (row.persona,)) for number, row in enumerate(own, start=1)]
    rest = tuple(row.persona for row in named[len(own) :])
    if rest:
        crowds.append(_Crowd(f"{len(rest)} others", f"s{MOST_COLOURS}", rest))
    honest = tuple(row.persona for row in cohorts if row.honest) if attackers else ()
    if honest:
        crowds.append(_Crowd("honest", _REST, honest))
    return crowds


class _Timeline:
    """The charts that share an axis of time."""

    def __init__(self, samples: Sequence[Sample], ident: str) -> None:
        self._samples = samples
        self._ident = ident
        self._moments = [sample.seconds for sample in samples]
        self._time = scales.fitted(0, self._moments[-1], ticks=6)
        self._bands = _bands(samples)

    def latency(self) -> Chart | None:
        """Percentiles by powers of ten: what an attack does to latencies, it does by factors."""
        series = [
            Series("max", "s1", [sample.max_ms for sample in self._samples], "faint"),
            Series("p99", "s1", [sample.p99_ms for sample in self._samples]),
            Series("p50", "s3", [sample.p50_ms for sample in self._samples]),
        ]
        extent = scales.extent(value for each in series for value in each.values)
        failed = sum(sample.failed for sample in self._samples)
        if extent is None and not failed:
            return None
        note = "ms, by powers of ten" + (f"; red: {failed:,} failed" if failed else "")
        failures = [sample.seconds for sample in self._samples if sample.failed]
        scale = scales.logarithmic(*(extent or (1.0, 1.0)))  # with failures alone there is nothing to scale
        return self._chart("Latency", note, series, scale, height=190, unit="ms", failures=failures)

    def held(self, crowds: Sequence[_Crowd]) -> Chart | None:
        """Connections by persona. At the end nobody is held, so the names stand beside the most that were."""
        series = []
        for crowd in crowds:
            held = [crowd.total(sample.held) for sample in self._samples]
            series.append(Series(crowd.name, crowd.colour, held, named_at=max(held)))
        return self._counted("Connections held", "at that moment", series, height=130)

    def lost(self, crowds: Sequence[_Crowd]) -> Chart | None:
        """What the server ended and refused, by persona; lines of nothing are left out."""
        series = []
        for crowd in crowds:
            ended = [crowd.total(sample.ended) for sample in self._samples]
            refused = [crowd.total(sample.refused) for sample in self._samples]
            series += [
                Series(f"{crowd.name} ended", crowd.colour, ended),
                Series(f"{crowd.name} refused", crowd.colour, refused, "dashed"),
            ]
        moving = [each for each in series if any(each.values)]
        return self._counted("Ended and refused by the server", "so far", moving, height=130)

    def _counted(self, caption: str, note: str, series: Sequence[Series], *, height: int) -> Chart | None:
        extent = scales.extent(value for each in series for value in each.values)
        if extent is None:
            return None
        return self._chart(caption, note, series, scales.linear(0, extent[1]), height=height)

    def server(self, caption: str, unit: str, read: Callable[[Sample], float | None]) -> Chart | None:
        """One thing that the server uses. The axis need not begin at nothing: growth is what matters."""
        values = [read(sample) for sample in self._samples]
        extent = scales.extent(values)
        if extent is None:
            return None
        series = [Series("", "s4", values)]
        return self._chart(caption, unit, series, scales.linear(*extent, ticks=3), height=70, unit=unit)

    def _chart(
        self,
        caption: str,
        note: str,
        series: Sequence[Series],
        values: Scale,
        *,
        height: int,
        unit: str = "",
        failures: Sequence[float] = (),
    ) -> Chart:
        drawing = plots.lines(
            Lines(
                title=f"{caption}, {note}",
                summary=" ".join(_summary(each, unit) for each in series),
                time=self._time,
                values=values,
                moments=self._moments,
                series=series,
                bands=self._bands,
                tips=[self._tip(at, series, unit) for at in range(len(self._samples))],
                failures=failures,
                height=height,
            ),
            f"{self._ident}-{caption.lower().replace(' ', '-')}",
        )
        return Chart(caption, note, [each for each in series if each.name], drawing)

    def _tip(self, at: int, series: Sequence[Series], unit: str) -> str:
        sample = self._samples[at]
        told = [
            f"{each.name} {_amount(value, unit)}".strip() for each in series if (value := each.values[at]) is not None
        ]
        told += [f"{sample.failed:,} FAILED"] if sample.failed else []
        return f"{sample.seconds:.0f} s, {sample.phase}\n" + "\n".join(told)


def _amount(value: float, unit: str) -> str:
    return str(fmt.Amount(fmt.number(value), unit))


def _summary(series: Series, unit: str) -> str:
    extent = scales.extent(series.values)
    if extent is None:
        return ""
    least, most = (_amount(value, unit) for value in extent)
    return f"{series.name or 'It'} was between {least} and {most}."


def _bands(samples: Sequence[Sample]) -> list[Band]:
    """The phases of a run; the last sample of each is from the moment at which it ended."""
    phases = [samples[0].phase, *(after.phase for before, after in pairwise(samples) if before.phase != after.phase)]
    turns = [before.seconds for before, after in pairwise(samples) if before.phase != after.phase]
    spans = pairwise([0.0, *turns, samples[-1].seconds])
    return [Band(phase, *span, shaded=phase == ATTACK) for phase, span in zip(phases, spans, strict=True)]


def spreads(phases: Sequence[PhaseRow], ident: str) -> Chart | None:
    """Percentiles of each group in each phase, over one axis."""
    rows = [row for group in by_group(phases).values() for row in map(_range, group) if row is not None]
    if not rows:
        return None
    scale = scales.logarithmic(min(row.p50 for row in rows), max(row.most for row in rows))
    summary = " ".join(f"{row.tip}." for row in rows)
    caption, note = "Latency by phase", "ms: dot p50, bar to p99, notches at p90, p99.9 and the slowest"
    drawing = plots.ranges(
        rows, scale, told="p99", title=f"{caption}, {note}", summary=summary, ident=f"{ident}-spreads"
    )
    return Chart(caption, note, [], drawing)


def _range(row: PhaseRow) -> Range | None:
    spread = row.spread
    p50, p90, p99, p999, most = spread.p50_ms, spread.p90_ms, spread.p99_ms, spread.p999_ms, spread.max_ms
    if p50 is None or p90 is None or p99 is None or p999 is None or most is None:
        return None
    told = ", ".join(
        f"{name} {fmt.number(value)} ms"
        for name, value in (("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p999), ("max", most))
    )
    return Range(
        group=row.what,
        name=row.name,
        colour="s1" if row.name == ATTACK else "s3",
        p50=p50,
        p90=p90,
        p99=p99,
        p999=p999,
        most=most,
        tip=f"{row.what}, {row.name}: {told}",
        told=fmt.number(p99),
    )


def kills(cohorts: Sequence[CohortRow], ident: str) -> Chart | None:
    """How old clients were when the server ended them, by persona."""
    killed = [row for row in cohorts if row.kills]
    if not killed:
        return None
    scale = scales.linear(0, max(age for row in killed for age, _ in row.kills), ticks=6)
    width = math.gcd(_WIDEST_BUCKET, *(round(age * 1000) for row in killed for age, _ in row.kills)) / 1000
    colours = {name: crowd.colour for crowd in _crowds(cohorts) for name in crowd.members}
    rows = [
        Bars(
            row.persona,
            f"{fmt.total(row.ended):,} ended" + _middle(row),
            colours[row.persona],
            _bars(row.kills, width),
        )
        for row in killed
    ]
    summary = " ".join(f"{row.name}: {row.told}." for row in rows)
    caption, note = "Age at which the server ended them", "seconds after they connected"
    drawing = plots.bars(rows, scale, title=f"{caption}, {note}", summary=summary, ident=f"{ident}-kills")
    return Chart(caption, note, [], drawing)


def _middle(row: CohortRow) -> str:
    return "" if row.lifetime.p50_ms is None else f", half of them by {fmt.number(row.lifetime.p50_ms / 1000)} s"


def _bars(kills: Sequence[tuple[float, int]], width: float) -> list[Bar]:
    most = max(count for _, count in kills)
    return [Bar(age - width, age, count / most, f"{age - width:g} to {age:g} s: {count:,}") for age, count in kills]
