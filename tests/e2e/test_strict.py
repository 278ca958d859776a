"""Browsers that lack or refuse what the page uses, or change what it shows: blocked cookies, phones, plain http, old
versions, translation.
"""

import json
import re
from itertools import zip_longest

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server

pytestmark = pytest.mark.browser

#: Firefox with blocked cookies, Chrome on Android (it has no notifications without a service worker), and plain http.
STRICT = """
    const refuse = () => { throw new DOMException('The operation is insecure.', 'SecurityError'); };
    for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, { get: refuse });
    Object.defineProperty(navigator, 'cookieEnabled', { value: false });
    window.BroadcastChannel = class { constructor() { refuse(); } };
    window.Notification = class {
        static permission = 'default';
        static async requestPermission() { window.asked = true; return 'granted'; }
        constructor() { throw new TypeError('Illegal constructor'); }
    };
    Object.defineProperty(navigator, 'clipboard', { value: undefined });
    delete Crypto.prototype.randomUUID;
"""


def test_a_browser_that_refuses_what_the_page_can_do_without(shared_server: Server, window: OpenWindow) -> None:
    """Each of these once ended the page, or a press of a button, with an error in the console."""
    ann = window(first=STRICT, room="strict")
    ann.say("one")
    ann.expect_texts(["one"])
    toast, blocked = ann.page.locator("#toast"), ann.page.locator("#notify-blocked")
    ann.act("one", "Copy text")
    expect(toast).to_have_text("The text is copied.")
    expect(ann.page.get_by_role("button", name="Copy text")).to_be_focused()  # still: the text was copied from a field
    ann.page.evaluate("document.execCommand = () => false")
    ann.act("one", "Copy text")
    expect(toast).to_have_text("This browser does not let this page copy.")

    ann.page.click("#room-menu-button")
    ann.page.get_by_role("button", name="Allow notifications").click()
    expect(blocked).to_be_visible()
    assert ann.page.evaluate("window.asked") is None, "asked for nothing"

    ann.page.reload()  # and with a permission, as if another page of the site had asked
    ann.expect_texts(["one"])
    ann.page.evaluate("Notification.permission = 'granted'")
    ann.page.click("#room-menu-button")
    expect(blocked).to_be_hidden()
    ann.page.select_option("#notify", "all")
    ann.page.keyboard.press("Escape")
    ann.go("strict-desk")
    shared_server.publish("strict", "two")
    expect(ann.page.locator("#rooms a[href='#strict'] .badge")).to_have_text("1 unread")
    ann.page.wait_for_timeout(1_100)  # a notification waits for a second, since another tab may show the message
    ann.page.click("#room-menu-button")
    expect(blocked).to_be_visible()


#: What another version of the page, or another page of the site, may have stored.
STRANGE = {
    "chat.me": ({"id": "g_1"}, {"id": "g_1", "name": 1}, 5),
    "chat.rooms": ([None], [["a"]], {}),
    "chat.read.strange": (5, "x-y", {}),
    "chat.notify.strange": (5, "x"),
    "chat.outbox": ([None], [{"key": "a", "room": "strange"}], {}),
    "chat.about.strange": ({"message": {"user": {"name": "Ann"}}}, {"message": {"user": {"name": "Ann"}, "text": 5}}),
}


def test_stored_values_of_another_shape_are_ignored(visit: OpenWindow) -> None:
    """The page did not start, or showed no rooms, until the user cleared the browser's storage by hand."""
    store = "(values) => [localStorage, sessionStorage].map((each) => Object.assign(each, values))"
    rounds = zip_longest(*([(key, json.dumps(value)) for value in values] for key, values in STRANGE.items()))
    ann = visit(room="strange")
    for number, stored in enumerate(rounds, start=1):
        ann.page.evaluate(store, dict(filter(None, stored)))
        ann.page.reload()
        ann.expect_live()
        ann.say(f"message {number}")
        expect(ann.texts).to_have_count(number)
        expect(ann.pending).to_have_count(0)
        expect(ann.page.locator("#rooms [aria-current]")).to_have_text(re.compile("strange"))


def test_what_an_older_page_has_not_sent_is_sent(visit: OpenWindow) -> None:
    """Its items had fewer fields."""
    ann = visit(room="older")
    item = {"key": "k" * 32, "room": "older", "text": "from before", "created": 0}
    ann.page.evaluate("(items) => { localStorage['chat.outbox'] = items; }", json.dumps([item]))
    ann.page.reload()
    ann.page.get_by_role("button", name="Send again").click()
    ann.expect_texts(["from before"])


def test_an_old_browser_is_told_so(shared_server: Server, window: OpenWindow) -> None:
    """It cannot run the modules, and said `connecting…` for ever."""
    ann = window(first="delete HTMLElement.prototype.showPopover")
    ann.page.goto(f"{shared_server.url}/#old")
    expect(ann.page.locator("#banner")).to_contain_text("This browser is too old")


def test_a_translation_keeps_names_and_hinders_nothing(shared_server: Server, visit: OpenWindow) -> None:
    """A user called Sage Lion could not be mentioned by the translated name, and the banner never went away.

    Nor is a translated command one that can be copied. What is shown already was written again over its translation:
    it was spoken in each room, and flickered while the page waited for the next attempt.
    """
    shared_server.publish("translated", "one `cut`\n```\nsort\n```")
    ann = visit(room="translated")
    names = ("#room-title", "#rooms .name", "#people .name", "#me .name", "#messages .author", "#completions")
    for name in (*names, "#messages p code", "#messages pre code"):
        expect(ann.page.locator(name).first).to_have_attribute("translate", "no")
    assert ann.page.request.delete(f"{shared_server.url}/session").ok
    expect(ann.page.locator("#banner")).to_contain_text("You are disconnected")
    ann.page.evaluate("document.getElementById('banner-text').textContent = 'Die Verbindung ist getrennt.'")
    ann.page.click("#reconnect")
    ann.expect_live()
    expect(ann.page.locator("#banner")).to_be_hidden()
    spoken = ann.page.locator("#connection-spoken")
    expect(spoken).to_have_text("live · WebSocket")
    spoken.evaluate("(each) => { each.textContent = 'verbunden'; }")
    ann.go("translated-too")
    ann.say("hallo")
    ann.expect_texts(["hallo"])
    expect(spoken).to_have_text("verbunden")
