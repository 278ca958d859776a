"""The page, from the verdict down to the command that repeats the run.

Owns: the layout, and the headings. May not: draw plots, or know a fact that is not in the report.
"""

from collections.abc import Iterable, Mapping
from importlib.resources import files
from itertools import groupby
from typing import Final

from loadgen.output import sections, wording
from loadgen.output.page import charts
from loadgen.output.page.elements import Element, node, serialised
from loadgen.output.sections import Section
from loadgen.report import format as fmt
from loadgen.report.figures import ALL
from loadgen.report.schema import Outcome, Report

#: The most figures that are shown large; harm to clients comes first.
MOST_TILES: Final = 4

#: With more parts than this, they have no plots: a comparison has hundreds of parts, and tables of its own.
MOST_DRAWN: Final = 60

#: A cell with more letters than this may wrap, and gets more room.
_LONG: Final = 36

_NO_LINKS: Final[Mapping[str, str]] = {}


def page_of(report: Report) -> str:
    html = node(
        "html",
        node(
            "head",
            node("meta", charset="utf-8"),
            node("meta", name="viewport", content="width=device-width, initial-scale=1"),
            node("meta", name="color-scheme", content="light dark"),
            node("title", f"{report.outcome}: loadgen {report.command} {report.target}"),
            node("style", files(__package__).joinpath("style.css").read_text(encoding="utf-8")),
        ),
        node(
            "body",
            _verdict(report),
            node("main", *_main(report)),
            node("footer", f"Made by loadgen; report.json beside it has all figures (schema {report.schema})."),
        ),
        lang="en",
    )
    return serialised(html)


def _verdict(report: Report) -> Element:
    started = report.started.replace("T", " ").replace("Z", " UTC")
    facts = [f"loadgen {report.command}", started, fmt.span(report.seconds)]
    facts += [f"seed {report.seed}"] if report.seed else []
    says_more = report.outcome is Outcome.INVALID or not report.verdict.reasons
    return node(
        "header",
        node("p", node("code", report.target)),
        node("h1", report.outcome.upper()),
        node("p", report.outcome.sentence) if says_more else None,
        _reasons(report),
        node("p", " · ".join(facts), class_="soft"),
        class_=f"verdict {report.outcome.tone.value}",
    )


def _main(report: Report) -> Iterable[Element]:
    names = wording.part_names(report.parts)
    idents = [f"part-{at}" for at in range(1, len(names) + 1)]
    links = {name: f"#{ident}" for name, ident in zip(names, idents, strict=True)}
    verdicts = sections.verdicts(report, brief=True)
    if verdicts.rows:
        yield node("h2", "Verdicts")
        yield _table(verdicts, links=links)
    yield from _body(report, "report", level=2, links=links)
    if report.parts:
        yield node("h2", "One by one")
    for name, part, ident in zip(names, report.parts, idents, strict=True):
        yield _part(name, part, ident, drawn=len(names) <= MOST_DRAWN)
    yield node("h2", "Play it again")
    yield node("pre", wording.replay(report))


def _part(name: str, part: Report, ident: str, *, drawn: bool) -> Element:
    """A part, folded until a link leads into it: unfolded, one has five screens of a desk and eight of a phone."""
    return node(
        "details",
        node("summary", node("b", name), node("span", part.outcome, class_=f"toned {part.outcome.tone.value}")),
        node(
            "div",
            _reasons(part),
            *_body(part, ident, level=3, of=f"{name}: ", drawn=drawn),
            node("h3", "Play it again"),
            node("pre", wording.replay(part)),
            id=ident,
        ),
    )


def _body(
    report: Report, ident: str, *, level: int, of: str = "", links: Mapping[str, str] = _NO_LINKS, drawn: bool = True
) -> Iterable[Element]:
    """The results of one run, in the same way for a report and for each of its parts, of which the tables are named."""
    tiles = [name for name, each in ALL.items() if each.tile and report.figures.get(name) is not None][:MOST_TILES]
    if tiles:
        yield node("dl", *(_tile(report, name) for name in tiles), class_="tiles")
    for section in sections.tables(report):
        yield node(f"h{level}", section.title)
        yield _table(section, of=of, links=links)
    if drawn and (plots := charts.over_time(report, ident)):
        yield node(f"h{level}", "What happened")
        yield from map(_figure, plots)
    measured = sections.measured(report)
    if measured:
        yield node(f"h{level}", "In numbers")
    for section in measured:
        yield node(f"h{level + 1}", section.title)
        yield _table(section, of=of)
    if report.figures:
        yield node(f"h{level}", "Figures")
    if (figures := sections.figures(report)).rows:
        yield _table(figures, of=of)
    missing = [name for name, value in report.figures.items() if value is None]
    if missing:
        yield node("p", f"Not measured: {', '.join(missing)}.", class_="soft")


def _tile(report: Report, name: str) -> Element:
    value = report.figures[name]
    assert value is not None, "only what was measured is a tile"
    is_bad = any(reason.startswith(f"{name} is ") for reason in report.verdict.reasons)
    shown = wording.figure(name, value)
    unit = node("span", f"\N{NARROW NO-BREAK SPACE}{shown.unit}", class_="unit") if shown.unit else None
    return node(
        "div",
        node("dt", ALL[name].tile, title=name),
        node("dd", shown.value, unit, class_="toned bad" if is_bad else None),
    )


def _figure(chart: charts.Chart) -> Element:
    key = [node("li", each.name, class_=f"{each.colour} {each.style}") for each in chart.key]
    return node(
        "figure",
        node("figcaption", node("b", chart.caption), " ", node("small", chart.note)),
        node("ul", *key, class_="key") if key else None,
        chart.drawing,
    )


def _table(section: Section, *, of: str = "", links: Mapping[str, str] = _NO_LINKS) -> Element:
    """A table, with a scroll bar of its own if it is wider than the page, and a name that no other has."""
    columns = range(len(section.columns))
    classes = ["number" if section.is_numeric(at) else None for at in columns]
    head = [node("th", section.columns[at].name, scope="col", class_=classes[at]) for at in columns]
    rows = []
    for about, alike in groupby(section.rows, key=lambda row: row[0]):
        together = list(alike)
        link = links.get(about)
        name = node("a", about, href=link) if link else about
        spans = len(together)
        first = node(
            "th",
            name,
            scope="row" if spans == 1 else "rowgroup",
            rowspan=spans if spans > 1 else None,
            class_="words" if len(about) > _LONG else None,
        )
        for at, row in enumerate(together):
            cells = [_cell(section, column, row[column], classes[column]) for column in columns[1:]]
            rows.append(node("tr", first if at == 0 else None, *cells))
    return node(
        "div",
        node("table", node("thead", node("tr", *head)), node("tbody", *rows)),
        *(node("p", note, class_="soft") for note in section.notes),
        class_="scroll",
        role="region",
        aria_label=f"{of}{section.title}",
        tabindex="0",
    )


def _cell(section: Section, column: int, words: str, kind: str | None) -> Element:
    tone = section.tone(column, words)
    kinds = [kind, f"toned {tone.value}" if tone else None, "words" if len(words) > _LONG else None]
    return node("td", words, class_=" ".join(filter(None, kinds)) or None)


def _reasons(report: Report) -> Element | None:
    """Why it ended so, with what each broken figure means, and then what else there is to know."""
    items = [node("li", reason, _meaning(report, reason)) for reason in report.verdict.reasons]
    items += [node("li", note, class_="soft") for note in report.verdict.notes]
    return node("ul", *items) if items else None


def _meaning(report: Report, reason: str) -> Element | None:
    meaning = report.meanings.get(reason.partition(" is ")[0])
    return node("small", meaning) if meaning else None
