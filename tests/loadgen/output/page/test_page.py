"""The page as text: what is in it, and what is not."""

import re
from functools import lru_cache
from html.parser import HTMLParser
from itertools import pairwise

import msgspec
import pytest

from loadgen.output import sections, wording
from loadgen.output.page import charts, document
from loadgen.output.page.document import page_of
from loadgen.report import format as fmt
from loadgen.report.schema import Outcome, Report, verdict
from tests.loadgen import reports

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Reader(HTMLParser):
    """Reads a page and minds that each element is closed by its own end."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


@lru_cache  # several tests look at each, and to make and read one takes up to 0.2 s of CPU
def _read(report: bytes, most_drawn: int) -> Reader:
    reader = Reader()
    reader.feed(page_of(msgspec.msgpack.decode(report, type=Report)))
    reader.close()
    assert reader.open == []
    return reader


def read(report: Report) -> Reader:
    return _read(msgspec.msgpack.encode(report), document.MOST_DRAWN)


def test_every_element_is_closed_and_every_id_is_one(report: Report) -> None:
    reader = read(report)
    idents = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(set(idents)) == len(idents)
    links = [attributes["href"] for tag, attributes in reader.elements if tag == "a"]
    assert {link.removeprefix("#") for link in links if link} <= set(idents)


def test_nothing_is_loaded_and_nothing_runs(report: Report) -> None:
    reader = read(report)
    for tag, attributes in reader.elements:
        assert tag not in {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use"}
        assert not [name for name in attributes if name.startswith("on") or name in {"src", "style", "xlink:href"}]
        assert (attributes.get("href") or "#").startswith("#")
    style = re.findall(r"<style>(.*?)</style>", page_of(report), re.DOTALL)
    assert len(style) == 1
    assert not re.search(r"url\(|@import|https?:|//", style[0])


def test_the_page_tells_the_verdict_the_figures_and_the_replay(report: Report) -> None:
    text = read(report).text
    assert report.verdict.outcome.upper() in text
    for words in (*report.verdict.reasons, report.target, wording.replay(report)):
        assert fmt.printable(words) in text
    for each in (report, *report.parts):
        for name, value in each.figures.items():
            assert fmt.printable(name) in text
            if value is not None:
                assert wording.figure(name, value).value in text
                assert fmt.printable(each.meanings.get(name, "")) in text
        for table in each.tables:
            for cell in [table.title, *table.columns, *(cell for row in table.rows for cell in row), *table.notes]:
                assert fmt.printable(cell) in text
        for row in each.cohorts:
            assert fmt.printable(row.persona) in text


def test_a_hostile_server_gets_nothing_into_the_page() -> None:
    reader = read(reports.hostile())
    assert "<script>alert('x')</script>" in reader.text, "it is there, as text"
    assert {tag for tag, _ in reader.elements} == {tag for tag, _ in read(reports.scorecard()).elements}


@pytest.mark.parametrize(("kind", "number"), [("scorecard", 6), ("comparison", 4)])
def test_parts_are_folded_until_a_link_leads_into_one(kind: str, number: int) -> None:
    """Parts that fell short were unfolded, each with 5,800 pixels of a phone."""
    reader = read(reports.KINDS[kind]())
    parts = [attributes for tag, attributes in reader.elements if tag == "div" and "id" in attributes]
    assert [attributes["id"] for attributes in parts] == [f"part-{at}" for at in range(1, number + 1)]
    assert not any("open" in attributes for _, attributes in reader.elements)


def test_a_scorecard_begins_with_its_verdicts_and_tells_each_note_once() -> None:
    """The notes of every row filled the table of verdicts: seven attacks were a page of 29,000 pixels."""
    report = reports.scorecard()
    report.parts[0].verdict = verdict(Outcome.HELD, [], ["60 of 60 came"])
    text = read(report).text
    assert text.index("Verdicts") < text.index("One by one")
    assert text.count("60 of 60 came") == 1


def test_a_comparison_tells_its_tables_and_no_verdicts() -> None:
    text = read(reports.comparison()).text
    assert "Verdicts" not in text
    assert "The target" not in text.partition("Survival of slow attacks")[0]


def test_hundreds_of_parts_are_told_without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    for most, drawn in ((4, True), (3, False)):
        monkeypatch.setattr(document, "MOST_DRAWN", most)
        reader = read(reports.comparison())
        assert ("svg" in {tag for tag, _ in reader.elements}) is drawn
        assert "attack_p99_ms" in reader.text


def test_headings_go_down_by_one_level_and_lead_to_plots_and_numbers(report: Report) -> None:
    levels = [int(tag[1]) for tag, _ in read(report).elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    plots, text = sum(len(charts.over_time(each, "")) for each in (report, *report.parts)), read(report).text
    assert sum(tag == "figure" for tag, _ in read(report).elements) == plots
    for words, each_has in (
        ("What happened", lambda each: charts.over_time(each, "")),
        ("In numbers", sections.measured),
        ("Play it again", lambda _: True),
    ):
        assert text.count(words) == sum(bool(each_has(each)) for each in (report, *report.parts))


def test_a_row_has_a_cell_in_each_column(report: Report) -> None:
    """Rows that are about the same have one head, which reaches over all of them."""
    rows: list[int] = []  # the cells of each row, and what reaches into it from above
    numeric = 0
    for tag, attributes in read(report).elements:
        if tag == "table":
            assert len(set(rows)) <= 1
            rows, reaching = [], 0
        elif tag == "tr":
            reaching = max(reaching - 1, 0)
            rows.append(reaching > 0)
        elif tag in {"th", "td"}:
            rows[-1] += 1
            assert tag == "td" or attributes.get("scope") in {"row", "col", "rowgroup"}
            reaching = int(attributes.get("rowspan") or reaching)
            numeric += (attributes.get("scope"), attributes.get("class")) == ("col", "number")
    assert len(set(rows)) <= 1
    shown = [sections.verdicts(report, brief=True)]
    for part in (report, *report.parts):
        shown += [*sections.tables(part), *sections.measured(part), sections.figures(part)]
    assert numeric == sum(each.is_numeric(at) for each in shown if each.rows for at in range(len(each.columns)))


def test_every_table_has_a_name_of_its_own_and_every_column_a_heading(report: Report) -> None:
    """A screen reader announced a dozen regions "figures" in a scorecard, and two columns of each as nothing."""
    regions = [attributes for _, attributes in read(report).elements if attributes.get("role") == "region"]
    assert len({attributes["aria-label"] for attributes in regions}) == len(regions)
    tables = [section for part in (report, *report.parts) for section in sections.everything(part, wide=True)]
    assert all(column.name for section in tables for column in section.columns)


def test_the_head_has_the_verdict_what_its_reasons_mean_and_the_notes() -> None:
    for outcome, reasons, says_more in (
        (Outcome.HELD, [], True),
        (Outcome.INVALID, ["the generator was late"], True),
        (Outcome.FELL_SHORT, ["attack_p99_ms is 9 (attack_p99_ms>1)"], False),
    ):
        report = reports.attack()
        report.verdict = verdict(outcome, reasons, ["60 of 60 came"])
        text = read(report).text
        assert (outcome.sentence in text) is says_more
        assert text.count(reports.MEANINGS["attack_p99_ms"]) == (1 if says_more else 2)
        for told in ("60 of 60 came", " · seed 7", "9.13\N{NARROW NO-BREAK SPACE}ms"):
            assert told in text
    assert " · seed" not in read(reports.fingerprint()).text, "nothing was left to chance"


def test_a_tile_is_bad_if_its_figure_is_a_reason() -> None:
    """A server 400 ms away held with 600 ms, which its bar allows, and the page showed them in red."""

    def bad(*reasons: str) -> list[str]:
        report.verdict = verdict(Outcome.FELL_SHORT if reasons else Outcome.HELD, reasons)
        return [tag for tag, attributes in read(report).elements if (attributes.get("class") or "").endswith("bad")]

    report = reports.attack()
    report.figures["attack_p99_ms"] = 600.0
    assert (bad(), bad("attack_p99_ms is 600 (attack_p99_ms>250)")) == ([], ["header", "dd"])
    report = reports.attack(outcome=Outcome.FELL_SHORT)
    assert "td" in bad(), "and of a table, what is bad whatever the bar says"


def test_a_page_is_small() -> None:
    assert len(page_of(reports.attack())) < 150_000
