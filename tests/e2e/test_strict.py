"""Browsers that lack or refuse what the page uses: blocked cookies, phones, plain http, old versions."""

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import Server
from tests.e2e.conftest import OpenWindow

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
    ann.page.click("#room-menu-button")
    expect(blocked).to_be_visible()


def test_an_old_browser_is_told_so(shared_server: Server, window: OpenWindow) -> None:
    """It cannot run the modules, and said `connecting…` for ever."""
    ann = window(first="delete AbortSignal.any")
    ann.page.goto(f"{shared_server.url}/#old")
    expect(ann.page.locator("#banner")).to_contain_text("This browser is too old")
