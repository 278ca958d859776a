"""`chat.js` on a page of another site: the unchanged example of docs/embed.md."""

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import Server, another_site, serving
from tests.e2e.conftest import OpenWindow

pytestmark = pytest.mark.browser

DOCS = Path(__file__).parent.parent.parent / "docs"


class Shop(BaseHTTPRequestHandler):
    """Serves one page at every path."""

    page = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name in the library)
        """Log nothing."""


@pytest.fixture
def shop() -> Iterator[str]:
    """The origin of another site."""
    with another_site(Shop) as origin:
        yield origin


@pytest.fixture
def chat(tmp_path: Path, shop: str) -> Iterator[Server]:
    with serving(tmp_path, flags=["--allow-origin", shop]) as server:
        yield server


def test_the_example_of_the_docs(chat: Server, shop: str, window: OpenWindow) -> None:
    example = re.search(r"```html\n(.*?)```", (DOCS / "embed.md").read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    Shop.page = example[1].replace("https://chat.example", chat.url).encode()
    chat.publish("lobby", "welcome")
    ann = window()
    ann.page.goto(shop)
    state, said = ann.page.locator("#state"), ann.page.locator("#talk li")
    expect(state).to_have_text("live")
    expect(said).to_have_text([re.compile("^[A-Z].*: welcome$")])
    ann.page.fill("input", "hello from the shop")
    ann.page.press("input", "Enter")
    expect(state).to_have_text("stored as 2")
    expect(said.last).to_contain_text("hello from the shop")
    assert [message["text"] for message in chat.messages("lobby")] == ["welcome", "hello from the shop"]

    chat.kill()
    expect(state).to_have_text(re.compile("waiting|connecting"))
    ann.page.fill("input", "said into the fall")
    ann.page.press("input", "Enter")
    chat.start()
    expect(state).to_have_text("stored as 3")
    expect(said).to_have_count(3)
