"""Sizes and media: letters four times as large, a phone's keyboard, paper."""

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import AT_BOTTOM, PHONE, after_next_frame, box
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server
from tests.e2e.test_page import SMALL

pytestmark = pytest.mark.browser

SAFARI = """Object.defineProperty(window, 'visualViewport', {
    value: Object.assign(new EventTarget(), { height: innerHeight, scale: 1 }),
})"""
UP = """() => new Promise((done) => {
    scroller.addEventListener('scroll', done, { once: true });
    scroller.scrollTop -= 10;
})"""
#: The list is scrolled in the same frame.
KEYBOARD = """height => {
    scroller.scrollTop += 10;
    visualViewport.height = height;
    visualViewport.dispatchEvent(new Event('resize'));
}"""
#: Controls that are not in sight, even when scrolled to.
OUT_OF_REACH = """(place) => [...document.querySelectorAll(`${place} :is(a, button, input, select)`)]
    .filter((each) => each.checkVisibility())
    .filter((each) => {
        each.scrollIntoView({ block: 'nearest' });
        const { top, bottom } = each.getBoundingClientRect();
        return top < -1 || bottom > innerHeight + 1; // scrolled to a whole pixel
    })
    .map((each) => each.outerHTML.slice(0, 60))"""


def test_a_keyboard_over_the_page_covers_neither_the_field_nor_the_newest_message(
    shared_server: Server, window: OpenWindow
) -> None:
    shared_server.publish("keyboard", *(f"message {number}" for number in range(45)))
    ann = window(first=SAFARI, room="keyboard", **PHONE)
    expect(ann.texts.last).to_have_text("message 44")
    foot = "document.querySelector('.foot').getBoundingClientRect().bottom"
    for height in (480, 844):
        ann.page.evaluate(UP)
        ann.page.evaluate(KEYBOARD, height)
        assert ann.page.evaluate(foot) == height
        ann.page.wait_for_function(AT_BOTTOM)


def test_a_tap_outside_a_menu_closes_it(visit: OpenWindow) -> None:
    """Safari on a phone did not do it before 18.3. At an event that is not trusted Chromium does not either."""
    ann = visit(room="tapped", **PHONE)
    ann.page.click("#room-menu-button")
    for place, is_open in (("#room-menu label", True), ("#scroller", False)):
        ann.page.dispatch_event(place, "pointerup", {"pointerType": "touch"})
        expect(ann.page.locator("#room-menu")).to_be_visible(visible=is_open)


#: The first message in sight, and the part of its height that is above the edge.
PLACE = """() => {
    const edge = scroller.getBoundingClientRect().top;
    const row = [...messages.children].find((each) => each.getBoundingClientRect().bottom > edge);
    const { top, height } = row.getBoundingClientRect();
    return [row.dataset.offset, (edge - top) / height];
}"""


def test_a_turned_phone_shows_the_same_messages(shared_server: Server, visit: OpenWindow) -> None:
    """Turned to landscape, where lines are longer, the list was thirteen messages further."""
    shared_server.publish("turned", *(f"message {number} {'of many words ' * 20}" for number in range(45)))
    ann = visit(room="turned", **PHONE)
    expect(ann.texts.last).to_contain_text("message 44")
    ann.page.evaluate("scroller.scrollTop = scroller.scrollHeight / 2")
    after_next_frame(ann.page)
    offset, hidden = ann.page.evaluate(PLACE)
    for width, height in ((844, 390), (390, 844)):
        ann.page.set_viewport_size({"width": width, "height": height})
        after_next_frame(ann.page)
        assert ann.page.evaluate(PLACE) == [offset, pytest.approx(hidden, abs=0.02)]
    ann.page.set_viewport_size({"width": 844, "height": 180})  # with the keyboard: nothing else was in sight
    expect(ann.page.locator("header")).to_be_visible()
    ann.page.tap("#text")
    expect(ann.page.locator("header")).to_be_hidden()


#: WCAG 1.4.12: what users may set for all texts. Paragraphs that are empty must not open gaps.
SPACED = """() => {
    const style = new CSSStyleSheet();
    style.replaceSync('* { letter-spacing: 0.12em; word-spacing: 0.16em; } p { margin-block-end: 2em !important; }');
    const { height } = composer.getBoundingClientRect();
    document.adoptedStyleSheets.push(style);
    const spaced = composer.getBoundingClientRect().height;
    document.adoptedStyleSheets.pop();
    return spaced - height;
}"""


def test_letters_have_the_size_and_the_spacing_that_the_user_has_set(visit: OpenWindow) -> None:
    ann = visit(room="set-large")
    assert ann.page.evaluate(SPACED) == 0
    devtools = ann.page.context.new_cdp_session(ann.page)
    for size in (24, 16):
        devtools.send("Page.setFontSizes", {"fontSizes": {"standard": size}})
        expect(ann.page.locator("#text")).to_have_css("font-size", f"{size}px")
    devtools.detach()


#: Where things end that stand below each other, while the banner says something.
ENDS = """(text) => {
    const [banner, words] = ['#banner', '#banner-text'].map((id) => document.querySelector(id));
    banner.hidden = false;
    words.textContent = text;
    const endOf = (id) => document.querySelector(id).getBoundingClientRect().bottom;
    const ends = ['header', '#banner', '#scroller', '#send'].map(endOf);
    return [words.getBoundingClientRect().top < ends[0] ? 999 : ends[0], ...ends.slice(1)];
}"""


def test_everything_is_usable_with_letters_four_times_as_large(shared_server: Server, visit: OpenWindow) -> None:
    """WCAG 1.4.10: at 320 by 256 pixels rooms are in sight, and Save and Leave can be pressed."""
    for number in range(10):
        shared_server.publish(f"large-{number}", "hello")
    ann = visit(width=320, height=256, room="large-0")
    expect(ann.texts).to_have_count(1)
    assert ann.page.evaluate("document.documentElement.scrollWidth") == 320
    ann.page.fill("#text", "one\ntwo\nthree\nfour\nfive\nsix")
    for height in (256, 180):
        ann.page.set_viewport_size({"width": 320, "height": height})
        ends = ann.page.evaluate(ENDS, "You are out of #large-0: you are banned from it for an hour. " * 3)
        # The banner lay over the header; no message was in sight, nor the button that sends.
        assert sorted(ends) == ends
        assert ends[-1] <= height
        assert ends[-2] - ends[-3] >= 24
    ann.page.set_viewport_size({"width": 320, "height": 256})
    ann.page.evaluate("document.querySelector('#banner').hidden = true")
    ann.page.fill("#text", "")
    ann.page.click("#room-menu-button")
    assert ann.page.evaluate(OUT_OF_REACH, "#room-menu") == []
    ann.page.keyboard.press("Escape")
    ann.act("hello", "React")
    assert ann.page.evaluate(OUT_OF_REACH, "#reaction-picker") == []
    ann.page.keyboard.press("Escape")
    ann.page.click("#show-rooms")
    expect(ann.page.locator("#rooms-panel")).to_have_css("translate", "0px")
    assert ann.page.evaluate(OUT_OF_REACH, "#rooms-panel") == []
    ann.page.click("#me")
    ann.page.evaluate("document.querySelector('#account-by-token').hidden = false")  # as where tokens are taken
    ann.page.click("#account-by-token summary")
    assert ann.page.evaluate(OUT_OF_REACH, "#account") == []


HEADER = ["#connection-text", "header", "#reconnect", "#room-menu-button"]
BOXES = """(ids) => ids.map((id) => document.querySelector(id)).map((each) => {
    const { top, bottom, left, right } = each.getBoundingClientRect();
    return { top, bottom, left, right, isWhole: each.scrollWidth <= each.clientWidth };
})"""


def test_a_narrow_phone_shows_a_long_name_and_the_whole_wait_for_the_next_try(
    shared_server: Server, window: OpenWindow
) -> None:
    """At 360 pixels "offline · retrying in 12 s…" ended before the seconds.

    An unplugged cable is shown at once, else a held request appears alive for half a minute, and moves nothing. A
    connection that answers is live whatever the browser says: Chromium's emulation keeps an open WebSocket.
    """
    ann = window(width=360, height=740, has_touch=True, is_mobile=True, room="still")
    ann.offline(True)
    ann.page.wait_for_timeout(200)
    ann.expect_live("ws")
    ann.offline(False)
    letters, sizes = "(size) => { document.documentElement.style.fontSize = size; }", ("100%", "200%")
    shared_server.publish("n" * 64, "hello")
    ann.open(shared_server, transport="poll", room="n" * 64)
    begins = ann.page.get_by_text("This is the beginning of")
    shared_server.publish("n" * 64, "of many words " * 20)
    expect(ann.texts.last).to_contain_text("of many words")
    text = ann.page.locator("#connection-text")
    for size in sizes:
        ann.page.evaluate(letters, size)
        assert begins.evaluate("e => e.scrollWidth <= e.clientWidth"), size
        assert box(text)["y"] <= box(ann.page.locator(".dot"))["y"], "the dot is above the words, not beside them"
        ann.page.set_viewport_size({"width": 1000, "height": 740})  # where the time stands beside a message
        assert ann.page.evaluate("scroller.scrollWidth === scroller.clientWidth")
        ann.page.set_viewport_size({"width": 360, "height": 740})
    ann.go("narrow")
    ann.page.evaluate(letters, sizes[0])
    bar = ann.page.locator("header")
    before = bar.bounding_box()
    ann.offline(True)
    expect(text).to_contain_text("offline · retrying in")
    expect(ann.page.locator("#reconnect")).to_be_visible()
    assert ann.page.evaluate(SMALL) == []
    assert bar.bounding_box() == before
    for size in sizes:
        ann.page.evaluate(letters, size)
        # In one look: the words change four times a second.
        words, header, again, menu = ann.page.evaluate(BOXES, HEADER)
        assert words["isWhole"], size
        assert header["top"] <= words["top"]
        assert words["bottom"] <= header["bottom"]
        assert again["right"] <= menu["left"], "the button covers its neighbour"
    ann.offline(False)
    ann.expect_live("poll")


#: Elements whose text does not fit in them, and lists whose numbers do not.
CUT = """(sought) => {
    const paint = document.createElement('canvas').getContext('2d');
    const needs = (list) => {
        paint.font = getComputedStyle(list).font;
        return paint.measureText(`${list.start + list.children.length - 1}. `).width;
    };
    const lists = [...document.querySelectorAll('.text ol')];
    return [...document.querySelectorAll(sought)].filter((each) => each.scrollWidth > each.clientWidth)
        .concat(lists.filter((list) => parseFloat(getComputedStyle(list).paddingInlineStart) < needs(list)))
        .map((each) => each.outerHTML.slice(0, 60));
}"""


#: Where the page names people and rooms in a sentence.
SAY_EVERYWHERE = """(said) => {
    for (const id of ['toast', 'person-menu-title', 'question-text', 'account-problem']) {
        document.getElementById(id).textContent = said;
    }
    for (const id of ['question', 'account']) document.getElementById(id).showModal();
    document.getElementById('person-menu').showPopover();
}"""


def test_a_phone_shows_long_names_and_numbers_whole(shared_server: Server, window: OpenWindow) -> None:
    """They ended in `…`, and no title says the rest there; a folded text had cut the numbers of its list from 10 on."""
    name, room = "W" * 40, "long-" + "n" * 59
    ann, ben = window(width=360, height=640, has_touch=True, is_mobile=True, room=room), window()
    assert ben.page.request.post(f"{shared_server.url}/session", data={"name": name}).ok
    ben.open(shared_server, room=room)
    expect(ben.page.locator("#people li")).to_have_count(2)
    ben.page.keyboard.type("hm")
    typing = ann.page.locator("#typing")
    expect(typing).to_have_text(f"{name} is typing…")
    assert typing.evaluate("line => line.scrollWidth <= line.clientWidth")
    ben.say("\n".join(f"{number}. item" for number in range(90, 120)))
    expect(ann.texts).to_contain_text("item")
    ann.page.locator("#text").press_sequentially("@WW")
    expect(ann.page.locator("#completions li")).to_have_text(name)
    assert ann.page.evaluate(CUT, ".author, #completions, .name") == []
    ann.page.evaluate(SAY_EVERYWHERE, f"{name} in #{room}")
    assert ann.page.evaluate(CUT, "#toast, #person-menu, #question, #account") == []
    assert box(ann.page.locator("#person-menu"))["width"] <= 360


def test_a_print_has_the_conversation_only(shared_server: Server, visit: OpenWindow) -> None:
    shared_server.publish("paper", *(f"message {number}" for number in range(150)))
    shared_server.publish("paper", "line\n" * 50)
    ann = visit(room="paper")
    ann.page.emulate_media(color_scheme="dark")
    expect(ann.texts.last).to_contain_text("line")
    ann.scroll_up_to(ann.page.get_by_text("message 0", exact=True))
    place = ann.page.get_by_text("message 20", exact=True)
    place.scroll_into_view_if_needed()
    before = place.bounding_box()
    ann.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    ann.page.emulate_media(media="print")
    assert ann.texts.count() == 151
    look = """() => ({
        height: document.body.scrollHeight > 150 * 20,
        folded: document.querySelector('.folded').scrollHeight === document.querySelector('.folded').clientHeight,
        ink: getComputedStyle(document.body).color,
        others: [...document.querySelectorAll('button, nav, textarea')].filter((each) => each.checkVisibility()).length,
    })"""
    assert ann.page.evaluate(look) == {"height": True, "folded": True, "ink": "rgb(29, 36, 34)", "others": 0}
    after_next_frame(ann.page)  # the page is told of the scroll of a grown element
    ann.page.emulate_media(media="null", color_scheme="null")
    ann.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert place.bounding_box() == before
