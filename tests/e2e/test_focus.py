"""Where the focus of the keyboard is, when what had it goes, or something opens."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

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
    expect(ann.texts.last).to_be_in_viewport()
    page.evaluate("scroller.scrollTop = 0")
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
