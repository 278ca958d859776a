"""The page of a load generator's report in a real browser: on a phone and on a desktop, light and dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from loadgen.output.page.document import page_of
from tests.loadgen import reports

pytestmark = pytest.mark.browser

PHONE = (390, 844)
DESK = (1440, 900)


@pytest.fixture(scope="module")
def shared(browser: Browser) -> Iterator[tuple[Page, list[str], list[str]]]:
    """A window for all tests, since one costs 0.2 s of CPU; for what it is asked and of what it complains."""
    window = browser.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    window.on("request", lambda request: asked.append(request.url))
    window.on("console", lambda message: complaints.append(message.text))
    window.on("dialog", lambda dialog: complaints.append(dialog.message))
    yield window, asked, complaints
    window.context.close()


@pytest.fixture
def opened(shared: tuple[Page, list[str], list[str]]) -> Iterator[Page]:
    """A window that must neither ask for anything beside the file nor complain."""
    window, asked, complaints = shared
    asked.clear()
    yield window
    window.goto("about:blank")  # what the page does at its end is still this test's
    assert complaints == []
    assert asked
    assert all(url == "about:blank" or (url.startswith("file:") and url.endswith("report.html")) for url in asked)


def visit(window: Page, kind: str, directory: Path, *, size: tuple[int, int]) -> None:
    path = directory / "report.html"
    path.write_text(page_of(reports.KINDS[kind]()), encoding="utf-8")
    resize(window, size)
    window.emulate_media(media="screen", color_scheme="light")
    window.goto(path.as_uri())
    window.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")


def resize(window: Page, size: tuple[int, int]) -> None:
    window.set_viewport_size({"width": size[0], "height": size[1]})


@pytest.mark.parametrize("kind", sorted(set(reports.KINDS) - {"attack", "fell short", "scorecard"}))
def test_the_page_is_never_wider_than_the_screen(opened: Page, kind: str, tmp_path: Path) -> None:
    visit(opened, kind, tmp_path, size=PHONE)
    _is_never_wider(opened)


def _is_never_wider(window: Page) -> None:
    for size in (PHONE, DESK):
        resize(window, size)
        wide, room = window.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide <= room == size[0]


def test_a_long_name_leaves_the_other_cells_on_the_screen(
    opened: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name of 200 letters was one line, and every other column of all rows was out of sight."""
    report = reports.KINDS["scorecard"]()
    report.parts[0].command = "x" * 200
    monkeypatch.setitem(reports.KINDS, "long", lambda: report)
    visit(opened, "long", tmp_path, size=DESK)
    for size in (DESK, PHONE):
        resize(opened, size)
        assert opened.evaluate("document.querySelector('tbody tr').cells[1].getBoundingClientRect().right") <= size[0]


def test_no_word_of_a_plot_leaves_the_screen_or_shrinks(opened: Page, tmp_path: Path) -> None:
    visit(opened, "fell short", tmp_path, size=PHONE)
    _is_never_wider(opened)
    for size in (PHONE, DESK):
        resize(opened, size)
        boxes = opened.evaluate(
            """[...document.querySelectorAll('.plot text')].filter(each => each.getClientRects().length).map(each => {
                 const box = each.getBoundingClientRect();
                 return [each.textContent, box.left, box.right, box.height];
               })"""
        )
        assert len(boxes) > 50
        for words, left, right, height in boxes:
            assert left >= 0, words
            assert right <= size[0], words
            assert height >= 11, words


def test_lines_have_a_key_and_dark_is_dark(opened: Page, tmp_path: Path) -> None:
    visit(opened, "attack", tmp_path, size=DESK)
    _is_never_wider(opened)
    for size in (PHONE, DESK):
        resize(opened, size)
        assert opened.locator(".key").first.is_visible()
    for name, role in (("Connections held", "img"), ("latency", "region")):  # for those who cannot see the plots
        assert opened.get_by_role(role, name=name).count() == 1  # type: ignore[arg-type]
    for scheme, ground in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 27)")):
        opened.emulate_media(media="screen", color_scheme=scheme)  # type: ignore[arg-type]
        assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == ground


def test_a_verdict_leads_to_its_part_and_paper_is_white_and_holds_the_widest_table(
    opened: Page, tmp_path: Path
) -> None:
    visit(opened, "scorecard", tmp_path, size=PHONE)
    _is_never_wider(opened)
    resize(opened, (718, 1000))  # A4 without its margins
    opened.emulate_media(media="print", color_scheme="dark")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    edges = opened.evaluate("[...document.querySelectorAll('table')].map(each => each.getBoundingClientRect().right)")
    assert max(edges) <= 719
    resize(opened, PHONE)
    opened.emulate_media(media="screen")
    opened.evaluate("document.querySelectorAll('details').forEach(each => each.open = false)")
    opened.get_by_role("link", name="ping-flood").click()
    assert opened.url.endswith("#part-4")
    part = opened.locator("details").nth(3)
    assert part.get_attribute("open") is not None
    assert part.locator("summary").is_visible()
