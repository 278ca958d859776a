"""Where the focus of the keyboard is, when what had it goes, or something opens."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import AT_BOTTOM, NOTIFICATIONS, after_next_frame
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server
from tests.e2e.signed_in import serving_tokens, sign_in

pytestmark = pytest.mark.browser


def test_what_goes_without_a_press_gives_the_focus_to_the_field(shared_server: Server, visit: OpenWindow) -> None:
    """A screen reader began again at the top of the page: only what its own press hid was looked after."""
    ann = visit(room="goes", is_played=True)
    page, field = ann.page, ann.page.locator("#text")
    page.focus("#invite")
    shared_server.publish("goes", "hello")
    expect(ann.texts).to_have_count(1)
    expect(field).to_be_focused()
    ann.lose_connection()
    ann.say("on its way")
    page.get_by_role("button", name="Discard").focus()
    ann.find_connection()
    ann.expect_texts(["hello", "on its way"])
    expect(field).to_be_focused()
    shared_server.publish("goes", *(f"message {number}" for number in range(60)))
    expect(ann.texts.last).to_have_text("message 59")
    page.wait_for_function(AT_BOTTOM)
    page.evaluate("scroller.scrollTop = 0")
    expect(page.locator("#jump")).to_be_visible()
    page.press("#jump", "End")
    expect(page.locator("#jump")).to_be_hidden()
    expect(field).to_be_focused()


def test_a_dialog_whose_button_was_drawn_anew_gives_the_focus_to_the_field(tmp_path: Path, window: OpenWindow) -> None:
    """The list of people is drawn anew when somebody comes: the browser had nothing to give the focus back to."""
    with serving_tokens(tmp_path) as server:
        mo, ann, ben = window(), window(), window()
        sign_in(mo, server, "mo", role="moderator")
        for each in (mo, ann):
            each.open(server, room="asked")
        field, people = mo.page.locator("#text"), mo.page.locator("#people li")
        moderate = mo.page.get_by_role("button", name=f"Moderate {ann.name}")
        moderate.press("Enter")
        mo.page.keyboard.press("Enter")
        expect(mo.page.locator("#question-yes")).to_be_focused()
        ben.open(server, room="asked")
        expect(people).to_have_count(3)
        mo.page.keyboard.press("Escape")
        expect(field).to_be_focused()
        moderate.focus()
        ann.page.click("#room-menu-button")
        ann.page.click("#leave")
        expect(people).to_have_count(2)
        expect(field).to_be_focused()


def test_a_list_that_is_drawn_anew_does_not_scroll_to_what_has_the_focus(
    shared_server: Server, visit: OpenWindow
) -> None:
    """With each message in another room the list of rooms jumped back to the focused one."""
    for number in range(10):
        shared_server.publish(f"jumpy-{number}", "hello")
    ann = visit(room="jumpy-0", height=500)
    rooms = ann.page.locator("#rooms")
    expect(rooms.locator("a").nth(9)).to_be_attached()
    ann.go("jumpy-1")
    first = rooms.locator("a").first
    first.focus()
    rooms.evaluate("rooms => { rooms.scrollTop = 9_999; }")
    top = rooms.evaluate("rooms => rooms.scrollTop")
    assert top > 0
    shared_server.publish("jumpy-0", "news")
    expect(rooms.locator("a[href='#jumpy-0'] .badge")).to_have_count(1)
    after_next_frame(ann.page)
    assert rooms.evaluate("rooms => rooms.scrollTop") == top
    expect(first).to_be_focused()


def test_the_list_of_keys_is_a_dialog_that_has_the_focus(visit: OpenWindow) -> None:
    """It stayed at a button of the menu below, which is not shown meanwhile: nothing was said, and no key scrolled.

    The Tab key led to the other buttons of that menu, one of which leaves the room.
    """
    ann = visit(height=300, room="keys-shown")
    ann.page.click("#room-menu-button")
    ann.page.get_by_role("button", name="Formatting and keys").press("Enter")
    keys = ann.page.get_by_role("dialog", name="Formatting and keys")
    expect(keys).to_be_focused()
    ann.page.keyboard.press("PageDown")
    ann.page.wait_for_function("() => keys.scrollTop > 0")
    ann.page.keyboard.press("Tab")
    expect(ann.page.locator("#room-menu :focus")).to_have_count(0)
    ann.page.keyboard.press("Escape")
    expect(ann.page.get_by_role("button", name="Formatting and keys")).to_be_focused()


def test_who_allows_notifications_stays_in_the_menu(window: OpenWindow) -> None:
    """The button goes, and the focus went to the field behind the open menu."""
    ann = window(first=NOTIFICATIONS, room="allowing")
    ann.page.click("#room-menu-button")
    ann.page.get_by_role("button", name="Allow notifications").press("Enter")
    expect(ann.page.get_by_role("button", name="Allow notifications")).to_be_hidden()
    expect(ann.page.get_by_label("Notify me of")).to_be_focused()


def test_the_list_of_people_can_be_scrolled_by_keyboard(visit: OpenWindow) -> None:
    """Safari makes nothing a stop of the Tab key because it scrolls; where it was one, it had no name."""
    ann = visit(room="many-people")
    ann.page.focus("#text")
    ann.page.keyboard.press("Tab")
    expect(ann.page.get_by_role("list", name="Here now")).to_be_focused()
