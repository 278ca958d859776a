"""The page's modules that need no page, run where they will run: imported by a browser from the server."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.browser import Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(browser: Browser, shared_server: Server) -> Iterator[Page]:
    """A page of the server's origin; what else is on it does not matter."""
    opened = browser.new_page()
    opened.goto(f"{shared_server.url}/healthz")
    yield opened
    opened.close()


def run(page: Page, module: str, body: str, argument: object = None) -> Any:
    """The value of `body`, a function's body, with the module's exports as `m` and the argument as `a`."""
    return page.evaluate(f"async (a) => {{ const m = await import('/{module}'); {body} }}", argument)


STREAM = (
    'retry: 2000\n\n:\n\nid: e-1\nevent: message\ndata: {"text":"a"}\n\n'
    "data: one\r\ndata:two\r\n\r\nevent: gap\rdata: x\r\r: end\n\nevent: empty\n\n"
)
EVENTS = [
    {"event": "message", "data": '{"text":"a"}'},
    {"event": "message", "data": "one\ntwo"},
    {"event": "gap", "data": "x"},
]


def test_event_streams_mean_the_same_in_any_cuts(page: Page) -> None:
    body = """
        const cut = (size) => a.match(new RegExp(`[^]{1,${size}}`, 'g'));
        return [1, 2, 3, 7, 1000].map((size) => {
          const parser = new m.EventStreamParser();
          return cut(size).flatMap((piece) => parser.feed(piece));
        });
    """
    assert run(page, "event-stream.js", body, STREAM) == [EVENTS] * 5


LINKS = {
    "plain": [],
    "see https://a.example/x.": ["https://a.example/x"],
    "(http://a.example/wiki/Loris_(animal))": ["http://a.example/wiki/Loris_(animal)"],
    "HTTPS://A.EXAMPLE, and https://b.example/?q=1&r=2!": ["HTTPS://A.EXAMPLE", "https://b.example/?q=1&r=2"],
    "javascript:alert(1) data:text/html,x file:///etc ftp://a.example": [],
    "javascript:x//http://a.example": ["http://a.example"],
    "https:// http://[ https://": [],
}


def test_links(page: Page) -> None:
    body = "return a.map((text) => m.splitLinks(text))"
    for text, parts in zip(LINKS, run(page, "text.js", body, list(LINKS)), strict=True):
        assert "".join(part["text"] for part in parts) == text
        assert [part["href"] for part in parts if part["href"]] == LINKS[text]


TIMELINE = """
    const t = new m.Timeline();
    const at = (...offsets) => offsets.map((offset) => ({ offset, cursor: `e-${offset}` }));
    const shown = () => [t.messages.map(({ offset }) => offset), t.cursor, t.hole()];
"""


def test_a_timeline_resumes_from_before_a_hole(page: Page) -> None:
    body = """
        t.begin({ cursor: 'e-6', messages: at(4, 5, 6) });
        t.add(at(6, 5, 4));
        const whole = shown();
        t.add(at(9));
        const torn = shown();
        return [whole, torn, t.add(at(8, 7, 9)).added.map(({ offset }) => offset), shown()];
    """
    assert run(page, "timeline.js", TIMELINE + body) == [
        [[4, 5, 6], "e-6", None],
        [[4, 5, 6, 9], "e-6", {"after": 6, "until": 9}],
        [7, 8],
        [[4, 5, 6, 7, 8, 9], "e-9", None],
    ]


def test_a_timeline_knows_what_was_skipped_and_what_is_gone(page: Page) -> None:
    body = """
        t.begin({ cursor: 'e-0', messages: [] });
        const empty = [t.cursor, t.complete];
        t.expect(5);
        const skipped = t.hole();
        t.add(at(4, 5));
        t.accept(4);
        const pages = [['e-9', false], ['f-9', false], ['e-5', false], ['e-4', false], ['e-4', true]];
        const same = pages.map(([cursor, recovered]) => t.isSameLog({ cursor, recovered }));
        return [empty, skipped, t.cursor, t.hole(), [...t.lossesBefore], same];
    """
    seen = run(page, "timeline.js", TIMELINE + body)
    assert seen == [["e-0", True], {"after": 0, "until": 6}, "e-5", None, [4], [True, False, True, False, True]]


def test_back_off_is_jittered_bounded_and_never_before_the_server_said(page: Page) -> None:
    body = """
        const failures = [0, 1, 2, 5, 50];
        return [0, 1].map((random) => [
          failures.map((n) => m.delayBefore(n, null, () => random)), m.delayBefore(0, 8, () => random),
        ]);
    """
    assert run(page, "backoff.js", body) == [
        [[250, 500, 1000, 8000, 10_000], 8000],
        [[500, 1000, 2000, 16_000, 20_000], 10_000],
    ]
