"""`chat.js` on a page of another site: the unchanged example of docs/embed.md."""

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server, another_site, serving
from tests.support.tokens import secret_file, token

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
    """The origin of another site, from which the browser sends no cookies of the server."""
    with another_site(Shop) as origin:
        yield origin.replace("127.0.0.1", "localhost")


@pytest.fixture
def chat(tmp_path: Path, shop: str) -> Iterator[Server]:
    with serving(tmp_path, flags=["--allow-origin", shop, "--token-key", secret_file(tmp_path)]) as server:
        yield server


def example(chat: Server) -> bytes:
    found = re.search(r"```html\n(.*?)```", (DOCS / "embed.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1].replace("https://chat.example", chat.url).encode()


def test_the_example_of_the_docs(chat: Server, shop: str, window: OpenWindow) -> None:
    Shop.page = example(chat)
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
    ann.page.press("input", "Enter")  # the field is empty again
    expect(state).to_have_text("text: missing")
    assert [message["text"] for message in chat.messages("lobby")] == ["welcome", "hello from the shop"]


def test_the_example_says_that_its_origin_is_not_allowed(shop: str, shared_server: Server, window: OpenWindow) -> None:
    """It was empty, and Enter loaded the page again with what was written in its address."""
    Shop.page = example(shared_server)
    ann = window()
    ann.page.goto(shop)
    expect(ann.page.locator("#state")).to_have_text("The chat cannot be loaded.")
    ann.page.fill("input", "hello")
    ann.page.press("input", "Enter")
    expect(ann.page.locator("input")).to_have_value("hello")
    assert "hello" not in ann.page.url
    assert all("CORS" in each for each in ann.complaints)
    ann.complaints.clear()


@pytest.mark.parametrize("transport", ["ws", "poll"])
def test_a_page_goes_on_with_a_new_token(chat: Server, shop: str, window: OpenWindow, transport: str) -> None:
    """When the first one had ended, the page was disconnected for good."""
    Shop.page = (PAGE % (chat.url, chat.url, f"{transport}', token: '{token(exp=1)}")).encode()
    ann = window()
    ann.page.goto(shop)
    ann.page.wait_for_function("() => chat.state.phase === 'stopped' || room.out?.code === 'unauthenticated'")
    for sentence in ("one", "two"):
        ann.page.evaluate("(token) => chat.authenticate(token)", token())
        ann.page.evaluate("(sentence) => room.publish(sentence)", sentence)
        expect(ann.page.locator("#talk li").last).to_have_text(sentence)
    assert [each["user"]["name"] for each in chat.messages("lobby")] == ["Ann", "Ann"]


#: A page that shows who said what, and who has which name.
PAGE = """<!doctype html><ol id="talk"></ol><script type="module">
  import { connect } from '%s/chat.js';
  window.chat = connect('%s', { transport: '%s' });
  window.room = chat.join('lobby');
  room.addEventListener('message', ({ detail }) => {
    talk.append(Object.assign(document.createElement('li'), { textContent: detail.text }));
  });
</script>"""


@pytest.mark.parametrize("transport", ["ws", "poll"])  # an event stream is asked for like a poll
def test_a_guest_on_another_site_is_one_user_over_all_connections(
    chat: Server, shop: str, window: OpenWindow, transport: str
) -> None:
    """Each WebSocket was another guest, and over HTTP all visitors with one address and browser were the same."""
    Shop.page = (PAGE % (chat.url, chat.url, transport)).encode()
    people = [window(), window()]
    for each in people:
        each.page.goto(shop)
        each.page.evaluate("room.publish('before')")
    for each in people:
        expect(each.page.locator("#talk li")).to_have_count(2)
    ids = [each.page.evaluate("chat.identity.user.id") for each in people]
    chat.kill()
    for each in people:
        each.page.wait_for_function("() => chat.state.phase !== 'live'")
        each.page.evaluate("window.stored = room.publish('after'), 0")
    chat.start()
    for each in people:
        expect(each.page.locator("#talk li")).to_have_count(4)
        assert each.page.evaluate("stored.then(({ offset }) => offset)") > 2
    said = [message["user"]["id"] for message in chat.messages("lobby")]
    assert sorted(said) == sorted(ids * 2)
    assert len(set(ids)) == 2
    chat.kill()
    never = (
        "Promise.all([room.publish(1), chat.close(), room.publish(2)].map((sent) => sent?.catch(({ code }) => code)))"
    )
    assert people[0].page.evaluate(never) == ["aborted", None, "aborted"]
