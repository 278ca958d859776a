"""The layout: drawers, menus, and content larger than its place."""

from functools import partial

import pytest
from playwright.sync_api import FloatRect, Locator, expect

from tests.e2e.browser import HEIGHT, PHONE, WIDTH, after_next_frame, box, wait_until
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server
from tests.e2e.test_page import SMALL

pytestmark = pytest.mark.browser


def test_drawers_close_by_a_button_and_once_a_name_is_chosen(visit: OpenWindow) -> None:
    ann = visit(room="drawers", **PHONE)
    for name in ("rooms", "people"):
        panel, button = ann.page.locator(f"#{name}-panel"), ann.page.locator(f"#show-{name}")
        button.tap()
        assert ann.page.evaluate(SMALL) == []
        close = panel.get_by_role("button", name="Close")
        # As laid out: rectangles are fractions of a pixel off while the drawer slides in.
        assert close.evaluate("e => e.offsetLeft + e.offsetWidth <= e.closest('.panel').clientWidth - 8")
        close.tap()
        expect(panel).to_be_hidden()
        expect(button).to_be_focused()
    ann.page.tap("#show-rooms")
    ann.page.tap("#shade", position={"x": 385, "y": 400})
    expect(ann.page.locator("#rooms-panel")).to_be_hidden()
    ann.page.tap("#show-rooms")
    ann.page.tap("#me")
    ann.page.press("#account-name", "Escape")  # closes the dialog only
    expect(ann.page.locator("#account")).to_be_hidden()
    expect(ann.page.locator("#rooms-panel")).to_be_visible()
    ann.save_name("Ann Lee")
    expect(ann.page.locator("#me")).to_contain_text("Ann Lee")
    expect(ann.page.locator("#rooms-panel")).to_be_hidden()


def test_the_menu_of_a_room_opens_below_its_button_in_both_directions(visit: OpenWindow) -> None:
    """On a wide screen it must not be at the edge of the page, over the list of people.

    Browsers that translate a page may turn it around; the menu was on the other side of the window.
    """
    ann = visit(room="menus")
    menu, button = (ann.page.locator(place) for place in ("#room-menu", "#room-menu-button"))

    def opened(width: int) -> tuple[FloatRect, FloatRect]:
        ann.page.set_viewport_size({"width": width, "height": HEIGHT})
        button.click()
        found = box(menu), box(button)
        ann.page.keyboard.press("Escape")
        expect(menu).to_be_hidden()
        return found

    for width in (1280, 820, 390):
        below, at = opened(width)
        assert below["x"] <= at["x"]
        assert at["x"] + at["width"] <= below["x"] + below["width"] + 60  # beside it: the button for who is here
        assert below["y"] >= at["y"] + at["height"] - 1
    ann.page.evaluate("document.documentElement.dir = 'rtl'")
    for width in (360, WIDTH):
        below, at = opened(width)
        assert below["x"] <= at["x"] + at["width"]
        assert at["x"] <= below["x"] + below["width"]
    ann.page.evaluate("document.documentElement.dir = ''")


def test_a_hint_below_a_long_list_of_rooms_covers_nothing(server: Server, window: OpenWindow) -> None:
    """On a small phone its second line must not cover the user's name. Rooms beyond the twentieth are counted.

    The list pressed the title above it out of line with the close button.
    """
    for number in range(25):
        server.publish(f"room-{number}", "hello")
    ann = window(width=320, height=568, has_touch=True, is_mobile=True)
    ann.open(server, room="small")
    ann.page.tap("#show-rooms")
    expect(ann.page.locator("#rooms li").last).to_have_text("and 5 more, which the search above finds")
    title, close = (box(ann.page.locator(f".rooms .{each}")) for each in ("brand", "close"))
    assert title["y"] + title["height"] / 2 == close["y"] + close["height"] / 2
    ann.page.fill("#room-name", "Straße!")
    ann.page.press("#room-name", "Enter")
    expect(ann.page.locator("#room-hint")).to_contain_text("letter or digit first")
    hint, me = (box(ann.page.locator(each)) for each in ("#room-hint", "#me"))
    assert hint["y"] + hint["height"] <= me["y"]
    assert ann.page.locator("#room-hint").evaluate("e => e.scrollHeight <= e.clientHeight")


def test_a_huge_code_block_is_scrolled_within_and_a_quote_is_marked(shared_server: Server, visit: OpenWindow) -> None:
    shared_server.publish("tall-code", "```\n" + "\n".join(map(str, range(500))) + "\n```")  # to type it takes a second
    ann = visit(room="tall-code")
    ann.say("before\n> quoted\n\nafter")
    expect(ann.texts).to_have_count(2)
    ann.page.locator("#messages pre").scroll_into_view_if_needed()
    height = ann.page.evaluate("document.querySelector('#messages pre').clientHeight / innerHeight")
    assert 0.4 < height < 0.6
    assert ann.page.evaluate("document.querySelector('#messages pre').scrollHeight > 5_000")
    look = """(quote) => {
        const { borderInlineStartColor, marginTop, marginBottom, color } = getComputedStyle(quote);
        return [borderInlineStartColor === color, marginTop, marginBottom];
    }"""
    assert ann.page.locator("#messages blockquote").evaluate(look) == [True, "6px", "0px"]


def test_a_long_text_shows_its_beginning_and_a_button_for_the_rest(shared_server: Server, visit: OpenWindow) -> None:
    """Unfolded, a text of 8,000 characters fills four screens."""
    long = "\n".join(f"line {number} of many" for number in range(200))
    ann, ben = visit(height=1000, room="long-texts"), visit(room="long-texts", **PHONE)
    shared_server.publish("long-texts", "before", "\n".join(map(str, range(15))), long)
    for each in (ann, ben):
        expect(each.texts).to_have_count(3)
    more, less = (ann.page.get_by_role("button", name=f"Show {name}") for name in ("more", "less"))
    text, row = ann.texts.last, ann.page.locator("#messages .message").last
    expect(more).to_have_count(1)  # 15 lines are not folded
    assert text.evaluate("e => e.clientHeight / parseFloat(getComputedStyle(e).lineHeight)") == pytest.approx(12, abs=1)
    expect(ann.page.get_by_text("before", exact=True)).to_be_in_viewport()

    ann.page.focus("#text")
    ann.page.keyboard.press("Shift+Tab")
    expect(more).to_be_focused()
    top = box(row)
    ann.page.keyboard.press("Enter")
    expect(less).to_be_focused()
    assert text.evaluate("e => e.scrollHeight === e.clientHeight")
    after_next_frame(ann.page)  # the list would scroll to its end
    assert box(row)["y"] == top["y"], "the row keeps its place"

    ben.page.get_by_role("button", name="Show more").tap()
    ann.act("of many", "React")
    ann.page.locator("#quick-reactions button").first.click()
    for each in (ann, ben):
        expect(each.page.locator(".chip")).to_have_count(1)  # the row has been replaced
    expect(less).to_be_visible()
    for room in ("long-texts-desk", "long-texts"):
        ann.go(room)
    expect(less).to_have_count(1)
    ann.page.evaluate("scroller.scrollTop = scroller.scrollHeight")
    less.click()
    expect(more).to_be_in_viewport()

    expect(ben.page.get_by_role("button", name="Show less")).to_be_focused()
    expect(ben.page.locator("#actions")).to_be_hidden()  # they would cover the beginning
    assert ben.page.evaluate(SMALL) == []


def test_a_long_text_is_unfolded_when_a_search_opens_it(shared_server: Server, visit: OpenWindow) -> None:
    filler = "filler\n" * 100
    shared_server.publish("found-long", f"{filler}a quagga")
    shared_server.publish("found-long", f"{filler}https://example.org/")
    ann = visit(room="found-long")
    more = ann.page.get_by_role("button", name="Show more")
    expect(more).to_have_count(2)
    ann.search("quagga")
    expect(ann.page.locator("#switcher-list mark")).to_have_text("quagga")
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator(".message.found")).to_contain_text("Show less")
    expect(ann.page.locator(".message.found .head")).to_be_in_viewport()
    expect(more).to_have_count(1)
    ann.page.locator("#messages .message").last.focus()
    ann.page.keyboard.press("Tab")  # to the link in the folded part
    expect(more).to_have_count(0)
    expect(ann.page.locator("#messages .text a")).to_be_in_viewport()


def test_selected_messages_are_copied_with_author_and_time_apart(shared_server: Server, visit: OpenWindow) -> None:
    """Copied, `Sage Lion 8412:44 AM` was one word, and other times and initials stood between the messages."""
    shared_server.publish("copied", "one", "two")
    ann = visit(room="copied")
    expect(ann.texts).to_have_count(2)
    expect(ann.page.locator("#messages .guest").first).to_be_hidden()  # once the server has said that nobody signs in
    selected = ann.page.evaluate("getSelection().selectAllChildren(messages), getSelection().toString()")
    by = [ann.page.locator(f"#messages .head {part}").first.inner_text() for part in (".author", "time")]
    assert selected.split() == " ".join(["Today", *by, "one", *by, "two"]).split()


HEBREW = "אברהם בן יצחק בן יעקב בן יוסף"
#: Where the first and the last letter of an element stand, and the element.
LETTERS = """(shown) => {
    const text = shown.firstChild;
    const left = (at) => {
        const range = document.createRange();
        range.setStart(text, at);
        range.setEnd(text, at + 1);
        return range.getBoundingClientRect().left;
    };
    return [left(0), left(text.length - 1), shown.getBoundingClientRect().left];
}"""


def test_a_hebrew_name_is_cut_at_its_end(visit: OpenWindow) -> None:
    """Its beginning was out of sight, so people of one family had one name."""
    ann = visit(room="hebrew")
    ann.save_name(HEBREW)

    def is_cut_at_its_end(name: Locator) -> bool:
        first, last, start = name.evaluate(LETTERS)
        return bool(last < start < first)

    for name in (ann.page.locator("#people .name"), ann.page.locator("#me .name")):
        expect(name).to_have_text(HEBREW)
        wait_until(ann.page, partial(is_cut_at_its_end, name))  # the row may just be made again


def test_links_and_code_in_a_hebrew_text_are_each_in_one_piece(visit: OpenWindow) -> None:
    """A link with a Hebrew path was torn around the code beside it, and code was read from right to left."""
    ann = visit(room="pieces")
    ann.say("שלום `a --x=1` https://example.org/שלום?x=1 וזהו\n```\nif (x) {\n```")
    expect(ann.texts).to_have_count(1)
    link, code = box(ann.texts.locator("a")), box(ann.texts.locator("p code"))
    assert link["x"] + link["width"] <= code["x"]
    first, last, _ = ann.texts.locator("pre code").evaluate(LETTERS)
    assert first < last


#: What is not set off by its background alone: frames, columns, icons.
OTHERWISE = "main, .panel:not(.open), .shade, button:has(svg)"
#: The elements that nothing but their background sets off; first found in usual colours.
FLAT = """(otherwise) => {
    const clear = 'rgba(0, 0, 0, 0)';
    const ground = (element) => {
        const { backgroundColor } = getComputedStyle(element);
        return backgroundColor === clear && element !== document.body ? ground(element.parentElement) : backgroundColor;
    };
    const isFramed = (element) => {
        const { forcedColorAdjust, borderTopWidth, outlineStyle, outlineWidth } = getComputedStyle(element);
        const outline = outlineStyle === 'none' ? 0 : parseFloat(outlineWidth);
        return forcedColorAdjust === 'none' || parseFloat(borderTopWidth) + outline > 0;
    };
    const seen = [...document.querySelectorAll('body *')].filter((each) => each.checkVisibility());
    window.coloured ??= seen.filter((each) => ground(each) !== ground(each.parentElement) && !each.matches(otherwise));
    const bare = coloured.filter((each) => each.isConnected && !isFramed(each));
    return bare.map((each) => each.className || each.localName);
}"""


def test_what_a_background_sets_off_is_framed_in_forced_colours(shared_server: Server, visit: OpenWindow) -> None:
    """Bubbles, code, banners and drawers had no edge, and the lines beside a day and above new messages were gone."""
    shared_server.publish("framed", "see `code` and\n```\na block\n```")
    ann = visit(width=700, room="framed")
    ann.say("hello")
    expect(ann.texts).to_have_count(2)
    ann.act("see", "React")
    ann.page.locator("#quick-reactions button").first.click()
    expect(ann.page.locator('.chip[aria-pressed="true"]')).to_be_visible()
    ann.page.evaluate("location.hash = '-no'")
    ann.page.click("#show-rooms")
    expect(ann.page.locator("#banner")).to_be_visible()
    assert set(ann.page.evaluate(FLAT, OTHERWISE)) > {"bubble", "banner", "code"}
    ann.page.emulate_media(forced_colors="active")
    assert ann.page.evaluate(FLAT, OTHERWISE) == []
    expect(ann.page.locator(".text pre code")).to_have_css("border-top-width", "0px")  # the block has a frame
    line = "getComputedStyle(document.querySelector('.day'), '::before').borderTopWidth"
    assert ann.page.evaluate(line) == "1px"
    ann.page.emulate_media(forced_colors="none")


def test_the_focus_is_seen_in_forced_colours_also_at_what_is_pressed_or_open(visit: OpenWindow) -> None:
    """Their own frame replaced that of the focus, of which only the colour was left: another dark blue."""
    ann = visit(room="seen")
    ann.say("hello")
    ann.act("hello", "React")
    ann.page.locator("#quick-reactions button").first.click()
    ann.page.emulate_media(forced_colors="active")
    for sought in ('.chip[aria-pressed="true"]', "#rooms [aria-current]"):
        framed = ann.page.locator(sought)
        outline = "each => getComputedStyle(each).outlineStyle"
        before = framed.evaluate(outline)
        framed.focus()
        for key in ("Shift+Tab", "Tab"):
            ann.page.keyboard.press(key)
        expect(framed).to_be_focused()
        assert framed.evaluate(outline) != before, sought
    ann.page.emulate_media(forced_colors="none")


#: How far the frame of the focus goes beyond what cuts it.
CUT_FRAME = """() => {
    const link = document.activeElement;
    const { outlineOffset, outlineWidth } = getComputedStyle(link);
    const [inner, outer] = [link, link.closest('.list')].map((each) => each.getBoundingClientRect());
    const beyond = Math.max(outer.left - inner.left, outer.top - inner.top, inner.right - outer.right);
    return beyond + parseFloat(outlineOffset) + parseFloat(outlineWidth);
}"""


def test_the_frame_of_the_focus_is_whole_at_a_room(visit: OpenWindow) -> None:
    """At the first room only its lower line was in sight, and two corners."""
    ann = visit(room="ringed")
    room = ann.page.locator("#rooms [aria-current]")
    room.focus()
    for key in ("Shift+Tab", "Tab"):
        ann.page.keyboard.press(key)
    expect(room).to_be_focused()
    assert ann.page.evaluate(CUT_FRAME) <= 0  # in one look: the list may be drawn anew
