"""Real browser windows, for the browser tests.

Owns: the browser; windows that record the errors of their console. May not: start a server, or assert anything about
the chat.
"""

import os
import shutil
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    FloatRect,
    Frame,
    Locator,
    Page,
    WebSocketRoute,
    expect,
    sync_playwright,
)

from tests.e2e.servers import Server

#: The headless shell first: the same engine without windows, extensions and profiles. All of these tests take 236 s of
#: CPU in it and 333 s in Chromium; a first window and its page take 0.8 s and 2.6 s.
CHROMIUM_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_FLAGS = (
    "--no-sandbox",  # containers and CI run as root, and only our pages are opened
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 30_000  # ms until an expectation fails; a busy machine is slow
START_PATIENCE = 180_000  # ms until a browser has started, which takes seconds of CPU; Playwright's own
LOOK = 30  # ms between two checks of `wait_until`
expect.set_options(timeout=PATIENCE)
WIDTH, HEIGHT = 1100, 700
PHONE: dict[str, Any] = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True}
#: Notifications of a browser before any permission; `notes` are the shown ones.
NOTIFICATIONS = """
    window.notes = [];
    window.Notification = class {
        static permission = 'default';
        static async requestPermission() { return (this.permission = 'granted'); }
        constructor(title, { body } = {}) {
            if (Notification.permission === 'granted') window.notes.push(`${title}: ${body}`);
            window.lastNote = this;
        }
        close() {}
    };
"""
#: Clears the storage of an origin; true if no function of the browser was replaced.
FORGET = """localStorage.clear(), sessionStorage.clear(),
    [Date, WebSocket, Notification, setTimeout, fetch].every((each) => `${each}`.includes('[native code]'))"""
#: Closes dialogs, menus and the banner, marks all rooms as read, and ends the toast and the focus.
CLOSE_ALL = """() => {
    for (const each of document.querySelectorAll('dialog[open]')) each.close();
    for (const each of document.querySelectorAll(':popover-open')) each.hidePopover();
    document.querySelector('#banner').hidden = true;
    document.querySelector('#read-all').click();
    document.querySelector('#toast').replaceChildren();
    document.activeElement.blur();
}"""
#: A caret that blinks is drawn twice a second, 5 ms of CPU each second.
STILL_CARET = """{
    const style = new CSSStyleSheet();
    style.replaceSync('* { caret-animation: manual; }');
    document.adoptedStyleSheets.push(style);
}"""
#: What becomes of a request that is paused: an empty answer, none, or what a network answers that wants a sign-in.
Answer = tuple[str, dict[str, Any]]
NOTHING: Answer = ("Fetch.fulfillRequest", {"responseCode": 200})
NO_ANSWER: Answer = ("Fetch.failRequest", {"errorReason": "InternetDisconnected"})
PORTAL: Answer = ("Fetch.fulfillRequest", {"responseCode": 200, "body": b64encode(b"<html>Sign in").decode()})
#: Whether the newest message is in sight.
AT_BOTTOM = "() => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight === 0"
#: The user goes to another window of the browser, or comes back.
LOOK_AWAY = """(hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
}"""
ONLINE = "dispatchEvent(new Event('online'))"
NAMES = {"ws": "WebSocket", "sse": "event stream", "poll": "long-poll"}


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def find_browser(*names: str) -> str:
    """The path of a browser. Without one its tests are skipped, or fail where `REQUIRE_BROWSER` is set, as in CI."""
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None and not os.environ.get("REQUIRE_BROWSER"):
        pytest.skip(f"no {names[0]} here")
    assert path is not None, f"REQUIRE_BROWSER is set, and there is no {names[0]}"
    return path


@contextmanager
def running_chromium() -> Iterator[Browser]:
    path = find_browser(*CHROMIUM_NAMES)  # before the driver, which needs libraries that come with a browser
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        yield chromium
        chromium.close()


class Window:
    """One browser window with a cookie jar of its own: one person."""

    def __init__(
        self, browser: Browser, *, width: int = WIDTH, height: int = HEIGHT, is_played: bool = False,
        has_clock: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        """With `is_played`, `accept` gets the page's WebSockets, and passes them on unless a test replaces it.

        With `has_clock` a test controls the time of the page.
        """
        self._context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self._context.set_default_timeout(PATIENCE)
        self._context.add_init_script(STILL_CARET)
        self._origins: set[str] = set()
        self._first = ExitStack()
        self.page: Page = self._context.new_page()
        self.complaints: list[str] = []
        self.accept: Callable[[WebSocketRoute], None] = self._pass_on
        self.visits = 0
        self._ends: list[WebSocketRoute] = []
        self._is_played, self._has_clock = is_played, has_clock
        if has_clock:
            self.page.clock.install()
        if is_played:
            self.page.route_web_socket("**/ws", self._accept)
        self.page.on("framenavigated", self._went)
        self._devtools = self._context.new_cdp_session(self.page)
        self._devtools.on("Fetch.requestPaused", self._continue)
        self._answer = NOTHING
        self._has_asked = False  # since the connection was lost, whether the server is away
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        # While the server is down Chromium itself reports each failed request; all other errors are the page's.
        away = ("Failed to load resource", "WebSocket connection to")
        if message.type == "error" and not message.text.startswith(away):
            self.complaints.append(message.text)

    def _accept(self, route: WebSocketRoute) -> None:
        self.accept(route)

    def _continue(self, paused: dict[str, Any]) -> None:
        # `page.route` would also empty the browser's cache of the page's modules.
        method, how = self._answer
        with suppress(Error):  # the window is back meanwhile
            self._devtools.send(method, {"requestId": paused["requestId"], **how})
            self._has_asked = self._has_asked or paused["request"]["url"].endswith("/readyz")

    def _pass_on(self, route: WebSocketRoute) -> None:
        self._ends += (route, route.connect_to_server())

    def _went(self, frame: Frame) -> None:
        there = urlsplit(frame.url)
        if there.netloc:
            self._origins.add(f"{there.scheme}://{there.netloc}")

    def run_first(self, script: str) -> None:
        """Run a script in each page before the page's own, until the window is given back."""
        self._first.enter_context(self._context.add_init_script(script))

    def open(self, server: Server, *, transport: str | None = None, room: str = "lobby") -> None:
        query = f"?transport={transport}" if transport else ""
        self.page.goto(f"{server.url}/{query}#{room}")
        self.expect_live(transport)

    def offline(self, is_offline: bool) -> None:
        self._context.set_offline(is_offline)

    def lose_connection(self, answer: Answer = NO_ANSWER) -> None:
        """End the connection, and open none. (For as long as it is offline, Chromium loops for the closed socket.)"""
        self.accept = WebSocketRoute.close
        self._answer, self._has_asked = answer, False
        self._devtools.send("Fetch.enable", {"patterns": [{"urlPattern": "*"}]})
        for is_offline in (True, False):  # ends the held requests
            self.offline(is_offline)
        for end in self._ends:
            end.close()
        self._ends = []
        self.page.evaluate(ONLINE)  # it need not wait until it tries again
        # Until it has learnt that the server is away: if it could ask the server, it would try another transport.
        wait_until(self.page, lambda: self._has_asked)
        self.expect_away()

    def find_connection(self, accept: Callable[[WebSocketRoute], None] | None = None) -> None:
        self.accept = accept or self._pass_on
        self._devtools.send("Fetch.disable")
        self.page.evaluate(ONLINE)

    def expect_live(self, transport: str | None = None, *, is_out: bool = False) -> None:
        """Connected, and in the open room or, with `is_out`, expelled from it."""
        words = f"{'out of this room' if is_out else 'live'} · {NAMES[transport] if transport else ''}"
        expect(self.page.locator("#connection-text")).to_contain_text(words)

    def expect_away(self) -> None:
        expect(self.page.locator('#connection:not([data-phase="live"], [data-phase="out"])')).to_be_visible(
            timeout=PATIENCE
        )

    def scroll_up_to(self, sought: Locator) -> None:
        self.page.locator("#scroller").hover()

        def is_there() -> bool:
            self.page.mouse.wheel(0, -2_000)
            return sought.is_visible()

        wait_until(self.page, is_there)

    def say(self, *texts: str) -> None:
        for text in texts:
            self.page.fill("#text", text)  # this focuses it
            self.page.keyboard.press("Enter")

    def go(self, room: str) -> None:
        """Open another room, as a link to it does."""
        self.page.evaluate("(room) => { location.hash = room; }", room)
        expect(self.page.locator("#room-title")).to_have_text(room)

    def act(self, text: str, action: str) -> None:
        """Press a button of the toolbar at a message."""
        self.texts.filter(has_text=text).last.hover()
        self.page.get_by_role("toolbar", name="Message").get_by_role("button", name=action, exact=True).click()

    def confirm(self, question: str = "") -> None:
        """Press the button that confirms what a dialog asks."""
        expect(self.page.locator("#question-text")).to_contain_text(question)
        self.page.click("#question-yes")

    def delete(self, text: str) -> None:
        self.act(text, "Delete")
        self.confirm("Delete this message")

    def search(self, words: str) -> None:
        self.page.keyboard.press("Control+k")
        expect(self.page.locator("#switcher-input")).to_be_focused()
        self.page.keyboard.type(words)

    def save_name(self, name: str) -> None:
        """Ask for a name, in the dialog about the user."""
        self.page.click("#me")
        self.page.fill("#account-name", name)
        self.page.press("#account-name", "Enter")

    @property
    def name(self) -> str:
        return self.page.locator("#me .name").text_content() or ""  # on a phone it is not in sight

    @property
    def texts(self) -> Locator:
        return self.page.locator("#messages .text")

    @property
    def pending(self) -> Locator:
        return self.page.locator("#pending .message")

    def expect_texts(self, texts: Sequence[str]) -> None:
        """Exactly these messages in this order, and none pending."""
        expect(self.texts).to_have_text(list(texts))
        expect(self.pending).to_have_count(0)

    def tidy_up(self) -> None:
        """Close what an earlier test has opened, and read what it has left."""
        self.accept = self._pass_on
        self.page.evaluate(CLOSE_ALL)
        self.page.mouse.move(0, 0)

    def forget(self) -> bool:
        """Remove cookies, storage, pages and history; false if the window cannot be used again."""
        if self.page.is_closed():
            return False
        for page in self._context.pages:
            if page != self.page:
                page.close()
        self._first.close()
        self.offline(False)
        self._answer = NOTHING
        self.page.unroute_all()
        self._devtools.send("Fetch.enable", {"patterns": [{"urlPattern": "*/nothing"}]})
        for origin in self._origins:  # also one whose server has gone
            self.page.goto(f"{origin}/nothing")
            is_new = self.page.evaluate(FORGET)
            assert is_new or self._is_played or self._has_clock, (
                "a test has replaced functions of the browser, and Window was not told"
            )
        self._devtools.send("Fetch.disable")
        if self._has_clock:
            self.page.clock.install()  # the present time again
        self.page.mouse.move(0, 0)
        self._devtools.send("Page.resetNavigationHistory")
        self._context.clear_cookies()
        self._origins = set()
        self.visits = 0
        self.complaints = []
        self.accept = self._pass_on
        self._ends = []
        return True

    def close(self) -> None:
        self._context.close()


def box(shown: Locator) -> FloatRect:
    found = shown.bounding_box()
    assert found is not None, "the element is not shown"
    return found


def wait_until(page: Page, holds: Callable[[], object]) -> None:
    """Wait for what `expect` cannot express. (`page.wait_for_function` takes a promise as true.)"""
    for _ in range(PATIENCE // LOOK):
        if holds():
            return
        page.wait_for_timeout(LOOK)
    raise AssertionError(f"the condition was false for {PATIENCE / 1000:.0f} s")


def after_next_frame(page: Page) -> None:
    """Wait until the page has been told of its scrolls and changed sizes."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def expect_at(held: Locator, place: FloatRect | None) -> None:
    """Wait until the element is at this place."""
    wait_until(held.page, lambda: held.bounding_box() == place)
