"""Where things stand on the screen: drawers, menus, and what is larger than its place."""

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import Server
from tests.e2e.conftest import OpenWindow
from tests.e2e.test_page import SMALL

pytestmark = pytest.mark.browser


def test_drawers_close_by_a_button_and_once_a_name_is_chosen(shared_server: Server, window: OpenWindow) -> None:
    ann = window(width=390, height=844, has_touch=True, is_mobile=True)
    ann.open(shared_server, room="drawers")
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
    ann.page.tap("#me")
    ann.page.press("#account-name", "Escape")  # closes the dialog alone
    expect(ann.page.locator("#account")).to_be_hidden()
    expect(ann.page.locator("#rooms-panel")).to_be_visible()
    ann.page.tap("#me")
    ann.page.fill("#account-name", "Ann Lee")
    ann.page.press("#account-name", "Enter")
    expect(ann.page.locator("#me")).to_contain_text("Ann Lee")
    expect(ann.page.locator("#rooms-panel")).to_be_hidden()


def test_the_menu_of_a_room_opens_below_its_button(shared_server: Server, window: OpenWindow) -> None:
    """On a wide screen it stood at the edge of the page, over the list of who is here."""
    for width in (1280, 820, 390):
        ann = window(width=width)
        ann.open(shared_server, room="menus")
        ann.page.click("#room-menu-button")
        menu, button = (ann.page.locator(each).bounding_box() for each in ("#room-menu", "#room-menu-button"))
        assert menu is not None
        assert button is not None
        assert menu["x"] <= button["x"]
        assert button["x"] + button["width"] <= menu["x"] + menu["width"] + 60  # beside it: the button for who is here
        assert menu["y"] >= button["y"] + button["height"] - 1


def test_a_huge_code_block_is_scrolled_within_and_a_quote_is_marked(shared_server: Server, window: OpenWindow) -> None:
    ann = window()
    ann.open(shared_server, room="blocks")
    ann.say("```\n" + "\n".join(map(str, range(500))) + "\n```", "before\n> quoted\n\nafter")
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
