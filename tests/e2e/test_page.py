"""The page for a new user: by mouse, keyboard, touch and screen reader."""

import json
import re
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.browser import AT_BOTTOM, LOOK_AWAY, PHONE, Window, after_next_frame, box, expect_at, wait_until
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server

pytestmark = pytest.mark.browser

#: Elements that can be pressed and are too small for a finger. A link in a sentence is as high as its line.
SMALL = """() => [...document.querySelectorAll('button, a, input, select, textarea, summary')]
    .filter((each) => each.checkVisibility({ visibilityProperty: true }) && !each.closest('.text'))
    .map((each) => [each.id || each.outerHTML.slice(0, 60), each.getBoundingClientRect()])
    .filter(([, { width, height }]) => Math.round(width) < 44 || Math.round(height) < 44)
    .map(([name, { width, height }]) => `${name}: ${width} by ${height}`)"""


def enter(window: Window, room: str) -> None:
    """Open a room as by a click in the list of rooms."""
    window.page.click(f"#rooms a[href='#{room}']")
    expect(window.page.locator("#room-title")).to_have_text(room)


def test_the_newest_message_is_in_sight_and_each_room_keeps_its_place(shared_server: Server, visit: OpenWindow) -> None:
    shared_server.publish("fold", *(f"message {number}" for number in range(45)))
    shared_server.publish("beside", "not alone")
    ann = visit(room="beside")
    ann.go("fold")
    expect(ann.texts.last).to_have_text("message 44")
    ann.page.wait_for_function(AT_BOTTOM)
    expect(ann.page.locator("#edge")).to_be_attached()

    ann.page.evaluate("scroller.scrollTop -= 700")
    held = ann.page.get_by_text("message 30", exact=True)
    held.scroll_into_view_if_needed()
    before = held.bounding_box()
    enter(ann, "beside")
    expect(ann.page.locator("#text")).to_be_focused()  # to write in the room that was chosen
    expect(ann.texts.last).to_have_text("not alone")
    enter(ann, "fold")
    expect_at(held, before)
    ann.page.click("#jump")
    ann.page.wait_for_function(AT_BOTTOM)


def test_a_message_of_ones_own_keeps_the_rows_in_sight(visit: OpenWindow) -> None:
    """All rows were made again at each one."""
    ann = visit(room="kept")
    ann.say("first")
    ann.expect_texts(["first"])
    first = ann.texts.element_handle()
    ann.say("second")
    ann.expect_texts(["first", "second"])
    assert first.evaluate("(text) => text.isConnected")


def test_a_page_with_a_missing_part_is_loaded_again(shared_server: Server, window: OpenWindow) -> None:
    """This happens when a phone changes its network, or the server restarts, during the load.

    If the script was missing that loads the page again, it stayed as it was, without styles, for ever.
    """
    ann = window()
    missing = [".js", "chat.css"]  # all scripts in the first page, then a style in the second
    loads = 0

    def count(_: Page) -> None:
        nonlocal loads
        loads += 1

    def cut(route: Route) -> None:
        is_part = route.request.resource_type != "fetch"  # but asked for by the page, which then loads itself again
        if is_part and loads < len(missing) and route.request.url.endswith(missing[loads]):
            route.abort("connectionreset")
        else:
            route.continue_()

    ann.page.on("domcontentloaded", count)
    for part in missing:
        ann.page.route(f"**/*{part}", cut)
    ann.open(shared_server, room="again")
    expect(ann.page.locator("#room-title")).to_have_text("again")
    wait_until(ann.page, lambda: loads == 3)  # a page without its style was live before
    ann.page.wait_for_load_state()
    assert ann.page.evaluate("history.state") is None, "the next failure counts as the first"
    ann.page.remove_listener("domcontentloaded", count)


def test_a_page_has_parts_of_its_own_version_alone(shared_server: Server, window: OpenWindow) -> None:
    """Behind one address with nodes of two versions a page got each part from either, and often was dead.

    Now the nodes of another version do not have the part. The page asks until a node of its own has answered for each,
    and the next load has them all from the browser's cache.
    """
    ann = window()
    asked = 0

    def other(route: Route) -> None:
        nonlocal asked
        asked += 1
        if asked <= 2:
            route.continue_(url=f"{shared_server.url}/page/another/{route.request.url.rsplit('/', 1)[1]}")
        else:
            route.continue_()

    ann.page.route("**/storage.js", other)
    ann.open(shared_server, room="again")
    assert ann.page.evaluate("performance.getEntriesByType('navigation')[0].type") == "reload"


def test_a_press_on_a_room_is_not_lost_when_the_list_changes(shared_server: Server, visit: OpenWindow) -> None:
    """A link that is replaced before the release of the button gets no click."""
    ann = visit(room="pressed")
    expect(ann.page.locator("#empty")).to_be_visible()  # the room has come: what follows is unread
    ann.go("pressed-desk")
    ann.page.hover("#rooms a[href='#pressed']")
    ann.page.mouse.down()
    shared_server.publish("pressed", "hello")
    expect(ann.page).to_have_title("(1) #pressed-desk · chat")
    ann.page.wait_for_timeout(150)  # longer than the list waits for further changes
    ann.page.mouse.up()
    expect(ann.page.locator("#room-title")).to_have_text("pressed")


@pytest.mark.parametrize("place", ["another room", "another window", "a tunnel", "home"])
def test_many_unread_messages_are_read_from_the_first(shared_server: Server, visit: OpenWindow, place: str) -> None:
    """The newest were shown, and all counted as read: of more than 60, and after an absence of any number, or when the
    page was opened again.

    A reload changes no count.
    """
    room = f"much-news-{place.replace(' ', '-')}"
    ann = visit(room=room, is_played=True)
    expect(ann.page.locator("#empty")).to_be_visible()  # the room has come: what follows is unread
    ann.go("much-desk")
    shared_server.publish(room, "early")
    expect(ann.page).to_have_title("(1) #much-desk · chat")  # it came before the room was entered, so it is new
    enter(ann, room)
    expect(ann.page.locator("li", has=ann.page.locator(".divider"))).to_contain_text("early")
    shared_server.publish(room, *(f"old {number}" for number in range(20)))  # the line "New" goes out of sight
    ann.page.wait_for_function("room => localStorage[`chat.read.${room}`].endsWith('-21')", arg=room)
    if place == "another room":
        ann.go("much-desk")
    elif place == "another window":
        ann.page.evaluate(LOOK_AWAY, True)
    elif place == "home":
        ann.page.goto("about:blank")
    else:
        ann.lose_connection()
    shared_server.publish(room, *(f"news {number}" for number in range(65)))
    badge = ann.page.locator(f"#rooms a[href='#{room}'] .badge")
    if place == "a tunnel":
        ann.find_connection()
    elif place == "home":
        ann.open(shared_server, room=room)
    else:
        expect(badge).to_have_text("65 unread")
    if place == "another window":
        ann.page.evaluate(LOOK_AWAY, False)
    elif place == "another room":
        for _ in range(2):
            expect(ann.page).to_have_title("(65) #much-desk · chat")
            ann.page.reload()
        expect(badge).to_have_text("65 unread")
        enter(ann, room)
    expect(ann.page.locator("li", has=ann.page.locator(".divider"))).to_contain_text("news 0")
    expect(ann.page.get_by_text("news 0", exact=True)).to_be_in_viewport()
    expect(badge).to_have_text("65 unread")
    expect(ann.page.locator("#jump")).to_have_text("65 new messages ↓")
    ann.page.click("#jump")
    expect(ann.page.get_by_text("news 64", exact=True)).to_be_in_viewport()
    expect(badge).to_have_count(0)
    expect(ann.page).to_have_title(f"#{room} · chat")


def test_a_message_can_be_copied_and_linked_to(shared_server: Server, window: OpenWindow) -> None:
    shared_server.publish("quotes", *(f"message {number}" for number in range(230)))
    ann = window(permissions=["clipboard-read", "clipboard-write"], room="quotes")
    expect(ann.texts.last).to_have_text("message 229")
    bar = ann.page.get_by_role("toolbar", name="Message")
    link = f"{shared_server.url}/#quotes/230"

    def expect_copied(text: str) -> None:
        wait_until(ann.page, lambda: ann.page.evaluate("navigator.clipboard.readText()") == text)

    expect(bar).to_be_hidden()
    ann.texts.last.hover()
    bar.get_by_role("button", name="Copy text").click()
    expect_copied("message 229")
    bar.get_by_role("button", name="Copy link").click()
    expect_copied(link)
    ann.page.click("#room-menu-button")
    ann.page.get_by_role("button", name="Copy link to this room").click()
    expect_copied(f"{shared_server.url}/#quotes")
    expect(ann.page.locator("#toast")).to_have_text("The link is copied.")
    ann.go("empty-quotes")  # where nobody has said anything, to invite them
    ann.page.get_by_role("button", name="Copy the link").click()
    expect_copied(f"{shared_server.url}/#empty-quotes")

    ann.page.goto(f"{link.removesuffix('230')}21")  # far above what is loaded at first
    ann.page.reload()
    expect(ann.page.locator(".message.found")).to_contain_text("message 20")
    expect(ann.page.get_by_text("message 20", exact=True)).to_be_in_viewport()
    shared_server.publish("quotes", "news")
    ann.page.click("#jump")
    expect(ann.texts.last).to_have_text("news")
    ann.page.wait_for_function(AT_BOTTOM)

    ann.say(f"look: {link.removesuffix('230')}121")
    link_of_121 = ann.page.locator(f"#messages a[href='{link.removesuffix('230')}121']")
    link_of_121.click()
    expect(ann.page.locator(".message.found")).to_contain_text("message 120")
    assert len(ann.page.context.pages) == 1, "in this tab"
    ann.page.click("#jump")
    ann.page.evaluate("history.replaceState(null, '', '#quotes/121')")
    with ann.page.context.expect_page() as opened:
        link_of_121.click(modifiers=["Control"])
    expect(opened.value.locator(".message.found")).to_contain_text("message 120")
    opened.value.close()
    expect(link_of_121).to_be_visible()  # this tab stays where it was
    expect(ann.page.locator(".message.found")).to_have_count(0)
    ann.page.evaluate("history.replaceState(null, '', '#quotes')")

    ann.page.keyboard.press("Shift+Tab")  # from the field to the messages
    ann.page.locator("#messages > [tabindex='0']").focus()
    ann.page.keyboard.press("ArrowUp")
    expect(bar).to_be_visible()
    ann.page.get_by_text("message 228", exact=True).hover()  # keys act on the focused message, not on this one
    ann.page.keyboard.press("c")
    expect_copied("news")


def test_a_phone_by_finger(window: OpenWindow) -> None:
    rooms = json.dumps([f"room-{number}" for number in range(20)])
    ann = window(first=f"localStorage['chat.rooms'] = '{rooms}'", room="finger", **PHONE)
    expect(ann.page.locator("#text")).to_have_accessible_description("")  # elsewhere it says that Enter sends
    expect(ann.page.locator("#show-people")).to_have_accessible_name("1 here now")
    ann.page.tap("#text")
    ann.page.keyboard.type("one")
    ann.page.keyboard.press("Enter")
    ann.page.keyboard.type("two")
    ann.page.tap("#send")
    ann.expect_texts(["one\ntwo"])
    ann.page.fill("#text", "three " * 30)
    ann.page.tap("#send")
    expect(ann.texts).to_have_count(2)
    expect(ann.texts.first).to_have_css("cursor", "pointer")  # without it Safari on phones sends no click
    ann.texts.first.tap()
    assert ann.page.evaluate(SMALL) == []
    place = box(ann.texts.last)
    ann.page.touchscreen.tap(place["x"] + 20, place["y"])  # the toolbar came under the finger, which pressed `Copy`
    bar = ann.page.get_by_role("toolbar", name="Message")
    expect(bar).to_be_visible()
    expect(ann.page.locator("#toast")).to_be_empty()
    bar.get_by_role("button", name="Delete").tap()
    ann.confirm()
    ann.expect_texts(["one\ntwo", "This message was deleted."])
    after_next_frame(ann.page)
    expect(ann.page.locator("#text")).not_to_be_focused()  # nor here
    ann.page.tap("#show-rooms")
    expect(ann.page.locator("#rooms li")).not_to_have_count(0)
    assert ann.page.locator("#rooms a").count() > 20
    for always in ("#room-name", "#me", "#find"):
        expect(ann.page.locator(always)).to_be_in_viewport(ratio=1)
    assert ann.page.evaluate(SMALL) == []
    ann.page.tap("#rooms a[href='#room-3']")
    expect(ann.page.locator("#scroller")).to_be_focused()  # a keyboard would cover half of it
    ann.page.tap("#show-rooms")
    ann.page.fill("#room-name", "typed")
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator("#room-title")).to_have_text("typed")
    expect(ann.page.locator("#scroller:focus")).not_to_have_css("outline-style", "solid")


def test_a_long_room_name_takes_one_line_and_hides_nothing_else(shared_server: Server, visit: OpenWindow) -> None:
    room = "a-name-that-goes-on-and-on.until-it-has-sixty-four-letters-in-it"
    shared_server.publish(room, "a quokka")
    ann = visit(room="short", **PHONE)
    one_line = ann.page.locator("#text").bounding_box()
    ann.go(room)
    assert ann.page.locator("#text").bounding_box() == one_line
    ann.page.tap("#show-rooms")
    ann.page.tap("#find")
    ann.page.keyboard.type("quokka")
    where = ann.page.locator(".found-at")
    expect(where).to_have_text(re.compile(rf"^#{room} · .+ · Today \d+:\d\d"))
    assert ann.page.evaluate(
        "() => ((at) => [at.clientHeight < 24, at.scrollWidth <= at.clientWidth])(document.querySelector('.found-at'))"
    ) == [True, True]
    ann.page.keyboard.press("Enter")
    found = ann.page.locator(".message.found")
    expect(found).to_be_focused()
    expect(found).not_to_have_css("outline-style", "solid")  # nor are its first words below the toolbar
    expect(ann.page.locator("#actions")).to_be_hidden()
    expect(ann.page.locator("#text")).to_have_css("overflow", "hidden auto")  # Firefox drew a bar over its hint


def test_a_name_in_another_script_does_not_turn_the_text_around(
    shared_server: Server, window: OpenWindow, visit: OpenWindow
) -> None:
    dov = window()
    assert dov.page.request.post(f"{shared_server.url}/session", data={"name": "דוד כהן"}).ok
    dov.open(shared_server, room="scripts")
    dov.say("/me waves")
    ann = visit(room="scripts")
    expect(ann.texts).to_have_count(1)
    ann.say("@דוד כהן can you look?")
    expect(dov.page.locator(".mention")).to_have_text("@דוד כהן")
    directions = "each => each.map((text) => getComputedStyle(text).direction)"
    assert dov.page.locator("#messages .text").evaluate_all(directions) == ["ltr", "ltr"]


# -- screen reader ------------------------------------------------------------------------------------------------

#: WCAG's contrast of white on an avatar, the least over all hues.
CONTRAST = """() => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 360, height: 1 }).getContext('2d');
    const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const avatar = document.querySelector('.avatar');
    return Math.min(...Array.from({ length: 360 }, (_, hue) => {
        avatar.style.setProperty('--hue', hue);
        canvas.fillStyle = getComputedStyle(avatar).backgroundColor;
        canvas.fillRect(hue, 0, 1, 1);
        const [r, g, b] = canvas.getImageData(hue, 0, 1, 1).data;
        return 1.05 / (0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b) + 0.05);
    }));
}"""


def findings(window: Window, rules: str = "", *, within: str = "html") -> list[Any]:
    """What axe finds in the parts of the page that a selector names; the whole page takes it a second."""
    window.page.wait_for_function("() => !document.getAnimations().some((each) => each.playState === 'running')")
    run = """async ([within, rules]) => {
        const options = { resultTypes: ['violations'], ...(rules && { runOnly: [rules] }) };
        const { violations } = await axe.run(document.querySelectorAll(within), options);
        return violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)]);
    }"""
    found: list[Any] = window.page.evaluate(run, [within, rules])
    return found


def test_axe_finds_nothing(window: OpenWindow, visit: OpenWindow) -> None:
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    ann, ben = window(is_played=True, room="axe"), visit(width=390, height=844, room="axe")
    ben.page.emulate_media(color_scheme="dark")
    ann.say("hello *you*", "and `you` at https://example.org/", "```\ncode\n```\n- a\n- b\n> c")
    expect(ben.texts).to_have_count(3)
    ben.say("hello", "a deleted one", "a long text https://example.org/\n" * 25)
    expect(ann.texts).to_have_count(6)
    ben.delete("a deleted one")
    expect(ben.page.locator(".own .gone")).to_be_in_viewport()
    ann.act("hello you", "React")
    ann.page.locator("#quick-reactions button").first.click()
    expect(ann.page.locator(".chip")).to_have_count(1)
    for each in (ann, ben):
        each.page.evaluate(axe)
    assert findings(ann) == []
    assert findings(ben, "color-contrast") == []
    ben.page.emulate_media(color_scheme="null")
    assert ann.page.evaluate(CONTRAST) >= 4.5
    ann.act("hello you", "React")
    expect(ann.page.locator("#reactors li")).to_have_text("👍 You")
    assert findings(ann, within="#reaction-picker") == []
    ann.page.keyboard.press("Escape")
    ann.page.keyboard.press("Control+k")
    expect(ann.page.locator("#switcher-list a").first).to_be_visible()
    assert findings(ann, within="#switcher") == []
    ann.page.keyboard.type("hello")
    expect(ann.page.locator("[aria-selected=true] mark")).to_be_visible()
    assert findings(ann, within="#switcher") == []  # selected items have another background
    ann.page.keyboard.press("Escape")
    ann.page.click("#me")
    expect(ann.page.locator("#account")).to_be_visible()
    assert findings(ann, within="#account") == []
    ann.page.keyboard.press("Escape")
    ann.lose_connection()
    ann.say("on its way, which is pale")
    assert findings(ann, within="header, #pending") == []


#: Lists what is put into the region for screen readers. A message in place of another may be said instead of it.
LISTEN = r"""() => {
    const spoken = document.querySelector('#messages-spoken');
    window.heard = [];
    const hear = ({ addedNodes, removedNodes }) => {
        const mark = ' instead'.repeat(removedNodes.length);
        for (const { textContent } of addedNodes) heard.push(textContent.replace(/^\w+ \w+ \d\d:/, 'Guest:') + mark);
    };
    new MutationObserver((changes) => changes.forEach(hear)).observe(spoken, { childList: true });
}"""
#: Regions that a screen reader learns of only with their first words, which it then does not say.
UNKNOWN = """() => [...document.querySelectorAll('[role=status], [role=log], [aria-live]')]
    .filter((each) => !each.checkVisibility() && !each.closest('dialog')).map(({ id }) => id)"""


def test_new_messages_are_spoken_with_their_author(shared_server: Server, visit: OpenWindow) -> None:
    """Chromium said nothing of a message that repeats the last one, and of some that came at once only the last."""
    ann = visit(room="ears")
    expect(ann.page.locator("#empty")).to_be_visible()  # the room has come: what follows is new
    assert ann.page.evaluate(UNKNOWN) == []
    ann.page.evaluate(LISTEN)
    shared_server.publish("ears", "hello", "again", "again")
    wait_until(ann.page, lambda: ann.page.evaluate("heard.length === 3"))
    assert ann.page.evaluate("heard") == ["Guest: hello", "Guest: again", "Guest: again"]
    ann.page.evaluate("document.querySelector('#messages-spoken').innerHTML = '<p></p>'.repeat(20)")
    shared_server.publish("ears", "in a flood")
    expect(ann.texts).to_have_count(4)
    assert "flood" not in str(ann.page.evaluate("heard")), "of a busy room not all is kept for it"
    ann.say("my own is not told to me")
    ann.page.reload()
    expect(ann.texts).to_have_count(5)
    expect(ann.page.locator("#messages-spoken")).to_be_empty()  # nor old messages
    name = ann.page.evaluate("() => document.querySelector('#messages .author').textContent")
    # A second log, though said to be off, kept Orca busy with each row, so that the name of a full room was not said.
    expect(ann.page.get_by_role("log")).to_have_attribute("id", "messages-spoken")
    heard = ann.page.get_by_role("list", name="Messages").get_by_role("listitem").all_inner_texts()
    assert all(name in each for each in heard[:2]), heard  # a grouped message has its author as well
    # After Alt+↓ the focus is still in the field. A live heading would be said twice, with its mark and without.
    expect(ann.page.locator("h1 > [aria-live=polite]")).to_have_text("ears")


def test_a_mention_in_another_room_is_spoken(visit: OpenWindow) -> None:
    """Where the browser may not notify, only a badge in the list of rooms told of it, and nothing told a blind user."""
    ann, ben = visit(room="called-there"), visit(room="called-there")
    expect(ben.page.locator("#people li")).to_have_count(2)
    ann.go("elsewhere")
    ann.page.evaluate(LISTEN)
    ben.say("hello", f"lunch, @{ann.name}?")
    wait_until(ann.page, lambda: ann.page.evaluate("heard.length > 0"))
    assert ann.page.evaluate("heard") == [f"{ben.name} in #called-there: lunch, @{ann.name}?"]


def test_screen_readers_do_not_call_messages_clickable(visit: OpenWindow) -> None:
    """Each was, since the list of them had a listener for clicks."""
    ann = visit(room="calm")
    devtools = ann.page.context.new_cdp_session(ann.page)
    there = devtools.send("Runtime.evaluate", {"expression": "document.querySelector('#messages')"})["result"]
    found = devtools.send("DOMDebugger.getEventListeners", {"objectId": there["objectId"]})["listeners"]
    devtools.detach()
    assert {each["type"] for each in found} & {"click", "mousedown", "mouseup"} == set()
