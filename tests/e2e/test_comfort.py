"""Small conveniences: typed letters go into the field, the open room is in sight, and so on."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, WebSocketRoute, expect

from tests.e2e.browser import (
    AT_BOTTOM,
    HEIGHT,
    LOOK_AWAY,
    NOTIFICATIONS,
    PHONE,
    WIDTH,
    after_next_frame,
    expect_at,
    wait_until,
)
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server, serving

pytestmark = pytest.mark.browser

#: The page learns late what is unread, and then who its user is.
LATE = """{
    const { fetch } = window;
    const held = new Promise((go) => { window.goOn = go; });
    window.fetch = async (path, ...all) => (path.endsWith('/unread') && (await held), fetch(path, ...all));
}"""
MANY_ROOMS = f"localStorage['chat.rooms'] = '{json.dumps([f'shelf-{number}' for number in range(9, 39)])}';"


#: Keys that no keyboard of this browser has, and whether they begin a text.
KEYS = {
    "key: '@', modifierAltGraph: true": True,
    "key: '@', modifierAltGraph: true, ctrlKey: true, altKey: true": True,  # as on Windows
    "key: 'Dead'": True,
    "key: 'f', altKey: true": False,
    "key: 'c', ctrlKey: true": False,
    "key: 'v', ctrlKey: true, altKey: true": False,
}


def test_keys_without_a_focused_field_go_into_the_message(visit: OpenWindow) -> None:
    """Otherwise they are lost, and after a click on a message the letters r, e and c are commands."""
    ann = visit(room="stray")
    ann.say("one")
    ann.expect_texts(["one"])
    field, about, row = ann.page.locator("#text"), ann.page.locator("#about"), ann.page.locator("#messages .message")
    ann.page.locator("h1").click()
    ann.page.keyboard.type("hello")
    expect(field).to_have_value("hello")
    for keys, is_meant in KEYS.items():
        ann.page.locator("h1").click()
        ann.page.evaluate(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{bubbles: true, {keys}}}))")
        assert field.evaluate("field => field === document.activeElement") == is_meant, keys
    ann.page.fill("#text", "")
    ann.page.locator("#messages .text").click()
    expect(row).to_be_focused()
    ann.page.keyboard.type("ever")
    expect(field).to_have_value("ever")
    expect(about).to_be_hidden()
    ann.page.fill("#text", "")
    for _ in range(2):  # the toolbar, the row
        ann.page.keyboard.press("Shift+Tab")
    expect(row).to_be_focused()
    ann.page.keyboard.press("r")
    expect(about).to_be_visible()
    expect(field).to_have_value("")
    ann.search("str")
    expect(ann.page.locator("#switcher-input")).to_have_value("str")
    expect(field).to_have_value("")


def test_the_focus_is_not_lost_with_a_button_that_goes_away(shared_server: Server, visit: OpenWindow) -> None:
    """A screen reader began again at the top of the page, and the Tab key with it."""
    shared_server.publish("focus", *(f"message {number}" for number in range(60)))
    ann = visit(room="focus", is_played=True)
    page, field = ann.page, ann.page.locator("#text")

    def press(button: Locator) -> None:
        expect(button).to_be_visible()  # else the key goes to the field
        button.press("Enter")
        expect(field).to_be_focused()

    expect(ann.texts.last).to_be_in_viewport()
    page.evaluate("scroller.scrollTop = 0")
    press(page.locator("#jump"))
    expect(page.locator("#jump")).to_be_hidden()
    page.locator("#room-menu-button").press("Enter")
    page.get_by_role("button", name="Formatting and keys").press("Enter")
    page.press("#keys", "Escape")
    expect(page.get_by_role("button", name="Formatting and keys")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#room-menu-button")).to_be_focused()
    ann.say("a control character: \x07")
    press(page.get_by_role("button", name="Send again"))
    press(page.get_by_role("button", name="Discard"))
    expect(ann.pending).to_have_count(0)
    ann.lose_connection()
    press(page.get_by_role("button", name="try now"))
    retry = "() => reconnect.checkVisibility() && (reconnect.focus(), dispatchEvent(new Event('online')), true)"
    page.wait_for_function(retry)  # without a press
    expect(field).to_be_focused()
    ann.find_connection()
    ann.expect_live()


def test_a_desk(shared_server: Server, window: OpenWindow) -> None:
    """A wide screen. Notifications can be allowed without choosing another level than the default."""
    for number in range(9, 39):  # one may be in four empty rooms only
        shared_server.publish(f"shelf-{number}", "a book")
    ann = window(first=NOTIFICATIONS + MANY_ROOMS + LATE, room="shelf-10")
    ann.page.evaluate("location.hash = 'shelf-38'")
    expect(ann.page.locator("#rooms [aria-current]")).to_have_text(re.compile("^shelf-38"))
    me = ann.page.locator("#me")
    expect(me).to_have_text("Sign in")
    expect(me).to_have_css("animation-name", "appear")  # it was there for a moment each time, before the user's name
    ann.page.evaluate("goOn()")
    expect(me).not_to_have_text("Sign in")
    expect(me).to_have_css("animation-name", "none")
    expect(ann.page.locator("#rooms [aria-current]")).to_be_in_viewport(ratio=1)
    expect(ann.page.locator("#rooms a").first).to_have_text("shelf-91 person here")  # before shelf-10
    expect(ann.page.locator("#rooms .count").nth(29)).to_have_text("1 person here")
    panel = ann.page.locator("#rooms-panel")
    for width in (390, WIDTH):  # a drawer that scrolls loses its search and its button
        ann.page.set_viewport_size({"width": width, "height": HEIGHT})
        assert panel.evaluate("panel => scrollX + scrollY + panel.scrollHeight - panel.clientHeight") == 0
    allow = ann.page.get_by_role("button", name="Allow notifications")
    blocked = ann.page.locator("#notify-blocked")
    ann.page.click("#room-menu-button")
    expect(blocked).to_be_hidden()
    allow.click()
    expect(allow).to_be_hidden()
    expect(blocked).to_be_hidden()
    ann.page.keyboard.press("Escape")
    ann.page.evaluate("Notification.permission = 'denied'")
    ann.page.click("#room-menu-button")
    expect(blocked).to_be_visible()
    expect(allow).to_be_hidden()
    ann.page.select_option("#notify", "nothing")
    expect(blocked).to_be_hidden()
    ann.page.get_by_role("button", name="Formatting and keys").click()
    expect(ann.page.get_by_role("dialog", name="Formatting and keys")).to_contain_text("edit your last message")
    for left in (1, 0):
        ann.page.keyboard.press("Escape")
        expect(ann.page.locator(":popover-open")).to_have_count(left)


#: The server lists none.
NO_ROOMS = """{
    const { fetch } = window;
    const none = async () => Response.json({ rooms: [] });
    window.fetch = (path, ...all) => (path.endsWith('/rooms') ? none() : fetch(path, ...all));
}"""


def test_a_link_to_the_present_address_works_again(
    shared_server: Server, window: OpenWindow, visit: OpenWindow
) -> None:
    """There is no `hashchange` then, but a quote works twice, and the last room can be left."""
    ann, ben = visit(room="only"), window(first=NO_ROOMS, room="only", **PHONE)
    ann.say("first")
    shared_server.publish("only", *(f"message {number}" for number in range(30)))
    ann.act("first", "Reply")
    ann.say("yes")
    for _ in range(2):
        ann.page.click(".quote")
        expect(ann.texts.first).to_be_in_viewport()
        ann.page.click("#jump")
        expect(ann.texts.first).not_to_be_in_viewport()

    ben.page.tap("#show-rooms")
    ben.page.tap("#rooms [aria-current]")
    expect(ben.page.locator("#rooms-panel")).to_be_hidden()
    for room in ("only", "lobby", "lobby"):
        expect(ben.page.locator("#room-title")).to_have_text(room)
        ben.expect_live()
        ben.page.click("#room-menu-button")
        ben.page.click("#leave")
    ben.page.fill("#text", "still here")
    ben.page.click("#send")
    expect(ben.texts.last).to_have_text("still here")


def test_back_leads_to_what_was_in_sight_before_a_jump(shared_server: Server, visit: OpenWindow) -> None:
    link = f"{shared_server.url}/#long/21"
    shared_server.publish("long", *(f"message {number}" for number in range(120)), f"see {link}", *["more"] * 60)
    ann = visit(room="long")
    see = ann.page.locator(".text a")
    ann.scroll_up_to(see)
    see.scroll_into_view_if_needed()
    top = "(link) => link.getBoundingClientRect().top"  # a list is scrolled by whole pixels
    # In one step: the driver scrolls before it clicks, if what it clicks is covered at first.
    before = see.evaluate(f"(link) => {{ const top = ({top})(link); link.click(); return top; }}")
    found = ann.page.get_by_text("message 20", exact=True)
    expect(found).to_be_in_viewport()
    ann.page.go_back()
    expect(found).not_to_be_in_viewport()
    assert abs(see.evaluate(top) - before) <= 1
    ann.page.go_forward()
    expect(found).to_be_in_viewport()
    ann.page.click("#rooms [aria-current]")
    ann.page.wait_for_function(AT_BOTTOM)
    ann.page.go_back()
    expect(found).to_be_in_viewport()


def test_who_has_left_an_older_message_is_not_led_to_it_by_a_reload(shared_server: Server, visit: OpenWindow) -> None:
    """The address kept the link to the message."""
    shared_server.publish("left", *(f"message {number}" for number in range(80)))
    ann = visit(room="left-desk")
    found = ann.page.get_by_text("message 20", exact=True)
    for way in ("the button", "the End key", "a message"):
        ann.page.evaluate("location.hash = 'left/21'")
        expect(found).to_be_in_viewport()
        if way == "the button":
            ann.page.click("#jump")
        elif way == "the End key":
            ann.page.locator("#messages .found").press("End")
        else:
            ann.say("message 80")
        ann.page.wait_for_function(AT_BOTTOM)
        assert ann.page.evaluate("location.hash") == "#left"
        ann.page.reload()
        ann.page.wait_for_function(AT_BOTTOM)
        expect(ann.page.get_by_text("message 79", exact=True)).to_be_in_viewport()
        ann.page.go_back()
        expect(found).to_be_in_viewport()
        ann.go("left-desk")


def test_a_small_phone(shared_server: Server, window: OpenWindow) -> None:
    """The user can read for how long and why the page is disconnected; after a final close only the user reconnects."""
    tries: list[WebSocketRoute] = []

    def answer(route: WebSocketRoute) -> None:
        tries.append(route)
        if len(tries) == 1:
            route.send('{"type": "expiring", "seconds": 30}')
        if len(tries) == 2:
            route.connect_to_server()
        else:
            route.close(code=4503 if len(tries) == 1 else 1012, reason="your sign-in has ended")

    ann = window(is_played=True, width=360, height=640, has_touch=True, is_mobile=True)
    ann.accept = answer
    ann.page.goto(f"{shared_server.url}/#tunnel")
    expect(ann.page.locator("#banner-text")).to_have_text("You are disconnected: your sign-in has ended.")
    expect(ann.page.locator("#connection-text")).to_have_text("disconnected")
    expect(ann.page.locator("#me")).to_have_text("Sign in")  # the button was empty as long as the user was not known
    assert len(tries) == 1
    ann.page.tap("#reconnect")
    ann.expect_live("ws")
    expect(ann.page.locator("#banner")).to_be_hidden()
    ann.page.route("**/*", lambda route: route.abort())
    tries[-1].close(code=1012)
    ann.page.wait_for_function(
        "line => line.textContent.startsWith('retrying in') && line.scrollWidth <= line.clientWidth",
        arg=ann.page.query_selector("#connection-text"),
    )
    iterations = """() => {
        const line = document.querySelector('#connection');
        line.dataset.phase = 'connecting';
        return getComputedStyle(line.querySelector('.dot')).animationIterationCount;
    }"""
    assert ann.page.evaluate(iterations) == "infinite"
    ann.page.emulate_media(reduced_motion="reduce")
    assert ann.page.evaluate(iterations) == "1", "the animation runs once"
    transition = "getComputedStyle(document.querySelector('#room-menu')).transitionDuration"
    assert ann.page.evaluate(transition) == "0s", "each change of an element would begin transitions, however short"


def test_a_page_that_stays_open_knows_the_day_and_what_is_new(shared_server: Server, window: OpenWindow) -> None:
    """Yesterday's messages stood below "Today" for ever, and a second absence had no line of its own.

    After a journey their times were those of the former time zone.
    """
    ann = window(has_clock=True, room="open-for-days")
    days, divided = ann.page.locator(".day"), ann.page.locator("li", has=ann.page.locator(".divider"))
    expect(ann.page.locator("#empty")).to_be_visible()  # what the room has already when it comes is not new
    for text in ("one", "two"):
        ann.page.evaluate(LOOK_AWAY, True)
        shared_server.publish("open-for-days", text)
        expect(ann.texts.last).to_have_text(text)
        ann.page.evaluate(LOOK_AWAY, False)
        expect(divided).to_have_count(1)
        expect(divided).to_contain_text(text)
    expect(days).to_have_text("Today")
    tomorrow = ann.page.evaluate("Date.now()") / 1000 + 86_400
    ann.page.clock.set_system_time(tomorrow)
    ann.page.evaluate(LOOK_AWAY, False)
    expect(days).to_have_text("Yesterday")
    ann.page.clock.set_system_time(tomorrow + 86_400)
    ann.page.clock.fast_forward(60_000)  # the window was in sight all along, and nobody wrote
    expect(days).to_have_text(re.compile("[0-9]"))
    times = ann.page.locator("#messages time")
    before = times.first.text_content() or ""
    devtools = ann.page.context.new_cdp_session(ann.page)
    devtools.send("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kathmandu"})  # all others differ in minutes
    shared_server.publish("open-for-days", "three")
    expect(times).to_have_count(3)
    here = "(each) => new Date(each.dateTime).toLocaleTimeString(undefined, { timeStyle: 'short' })"
    assert times.last.text_content() == times.last.evaluate(here)
    ann.page.clock.fast_forward(60_000)
    expect(times.first).not_to_have_text(before)
    assert times.first.text_content() == times.first.evaluate(here)
    devtools.detach()


def test_the_wheel_scrolls_also_over_the_button_to_the_newest_and_keys_do_so_in_the_field(
    shared_server: Server, visit: OpenWindow
) -> None:
    """The pointer is there after a click on it, and the button comes back with the first turn of the wheel."""
    shared_server.publish("wheel", *(f"message {number}" for number in range(60)))
    ann = visit(room="wheel")
    expect(ann.texts.last).to_have_text("message 59")
    ann.page.evaluate("scroller.scrollTop -= 300")
    ann.page.locator("#jump").hover()
    top = ann.page.evaluate("scroller.scrollTop")
    ann.page.mouse.wheel(0, -300)
    wait_until(ann.page, lambda: ann.page.evaluate("scroller.scrollTop") < top)
    for key, is_end in (("PageDown", False), ("PageDown", True), ("Shift+PageUp", True), ("PageUp", False)):
        ann.page.press("#text", key)
        expect(ann.page.locator("#jump")).to_be_visible(visible=not is_end)


def test_a_flood_is_a_few_hundred_rows_and_leaves_a_reader_of_older_messages_alone(
    shared_server: Server, window: OpenWindow
) -> None:
    """A flood, played from within the page: only the rows near the newest message exist.

    At 20,000 messages the page drops half of them. A list that was scrolled up to those became empty. A third of the
    work was to tell other tabs of each message, also where there were none.
    """
    keep = "WebSocket = class extends WebSocket { constructor(...all) { super(...all); window.socket = this; } };"
    told = "window.told = []; BroadcastChannel.prototype.postMessage = ({ type }) => told.push(type);"
    ann = window(first=keep + told, room="flood")
    shared_server.publish("flood", *(f"real {number}" for number in range(1, 46)))
    expect(ann.texts.last).to_have_text("real 45")
    flood = """([from, to]) => {
        const user = { id: 'u_flood', name: 'Flood' };
        const epoch = localStorage['chat.read.flood'].split('-')[0];
        for (let offset = from; offset <= to; offset++) {
            const message = { type: 'message', room: 'flood', offset, cursor: `${epoch}-${offset}`, user,
                text: `message ${offset}`, time: new Date().toISOString() };
            window.socket.onmessage({ data: JSON.stringify(message) });
        }
    }"""
    ann.page.wait_for_function("() => localStorage['chat.read.flood']")
    held = ann.page.get_by_text("real 10", exact=True)
    ann.page.evaluate("scroller.scrollTop = 0")
    held.scroll_into_view_if_needed()
    after_next_frame(ann.page)
    before = held.bounding_box()
    ann.page.evaluate(flood, [46, 20_045])
    expect(ann.page.locator("#jump")).to_have_text("20,000 new messages ↓")
    assert ann.page.evaluate("told.includes('pushed')") is False
    expect_at(held, before)
    ann.page.click("#jump")
    expect(ann.texts.last).to_have_text("message 20045")
    expect(ann.texts.last).to_be_in_viewport()

    ann.page.evaluate(flood, [20_046, 25_000])
    expect(ann.texts.last).to_have_text("message 25000")
    expect(ann.texts.last).to_be_in_viewport()
    assert ann.texts.count() < 500
    first = ann.texts.first
    ann.page.locator("#scroller").hover()
    seen = set()

    def goes_up() -> bool:
        ann.page.mouse.wheel(0, -30_000)
        seen.add(first.inner_text())
        return len(seen) > 5

    wait_until(ann.page, goes_up)
    assert ann.texts.count() < 500
    ann.page.click("#jump")
    expect(ann.texts.last).to_have_text("message 25000")


def test_a_room_is_left_for_a_new_one_where_a_connection_may_be_in_no_more(tmp_path: Path, window: OpenWindow) -> None:
    """After a hundred rooms no other room opened until the page was loaded again.

    A browser that knew more rooms, as from before the limit was lowered, opened none but those that it had joined.
    """
    with serving(tmp_path, flags=["--max-rooms-per-connection", "4"]) as server:
        for number in range(7):
            server.publish(f"many-{number}", f"hello {number}")
        ann = window()
        ann.open(server, room="many-0")
        for number in (1, 2, 3, 4, 5, 6, 0):
            ann.go(f"many-{number}")
            ann.expect_texts([f"hello {number}"])
        ours = ann.page.locator("#rooms li:not(.panel-title ~ li) .name")
        expect(ours).to_have_text(["many-0", "many-5", "many-6"])
        ann.page.evaluate("localStorage['chat.rooms'] = JSON.stringify([0, 1, 2, 3, 4].map((n) => 'many-' + n))")
        ann.page.reload()
        expect(ours).to_have_text(["many-0", "many-1", "many-2"])
        ann.go("many-4")
        ann.expect_texts(["hello 4"])
