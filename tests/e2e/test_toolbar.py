"""The toolbar at a message: its place, its keyboard access, and its confirmations."""

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.browser import PHONE, Window, box
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server

pytestmark = pytest.mark.browser


def button(window: Window, name: str) -> Locator:
    return window.page.get_by_role("toolbar", name="Message").get_by_role("button", name=name, exact=True)


def test_a_deletion_is_confirmed_and_may_be_cancelled(visit: OpenWindow) -> None:
    ann = visit(room="questions")
    ann.say("one", "two")
    ann.expect_texts(["one", "two"])
    ann.delete("two")
    ann.expect_texts(["one", "This message was deleted."])
    expect(ann.page.locator("#text")).to_be_focused()
    for cancel in ("Escape", "Shift+Tab Enter"):
        ann.act("one", "Delete")
        expect(ann.page.locator("#question-why")).to_be_hidden()  # it needs no reason
        # Else a screen reader may take it for the button that was pressed, and say nothing.
        asked = "Delete Delete this message for everybody?"
        expect(ann.page.locator("#question :focus")).to_have_accessible_name(asked)
        for key in cancel.split():
            ann.page.keyboard.press(key)
        expect(ann.page.locator("#question")).to_be_hidden()
        expect(button(ann, "Delete")).to_be_focused()
    ann.expect_texts(["one", "This message was deleted."])
    ann.page.keyboard.press("Enter")
    ann.page.keyboard.press("Enter")
    ann.expect_texts(["This message was deleted."] * 2)


def test_the_end_of_a_question_does_not_answer_the_next_one(visit: OpenWindow) -> None:
    """Its event may come late: the next question was then over when it was asked, and a confirmed deletion not done."""
    ask = """async () => {
        const { isConfirmed } = await import('/dom.js');
        const both = [isConfirmed('one?', 'Do it')];
        question.close();
        both.push(isConfirmed('two?', 'Do it'));
        await new Promise((done) => setTimeout(done, 50));
        question.close('yes');
        return Promise.all(both);
    }"""
    assert visit(room="questions").page.evaluate(ask) == [False, True]


def test_the_tab_key_stops_at_one_message_and_once_at_its_toolbar(shared_server: Server, visit: OpenWindow) -> None:
    """Links, code and reactions of other messages are no stops, and the row is the newest at the time of the key."""
    ann = visit(room="stops")
    shared_server.publish("stops", "```\ncode\n```", *(f"see https://example.org/{n}" for n in range(5)))
    expect(ann.texts).to_have_count(6)
    links, stop = ann.page.locator("#messages .text :any-link"), ann.page.locator("#messages > [tabindex='0']")
    for number in range(5, 7):
        ann.page.focus("#text")
        for stopped in (links.last, ann.page.locator("#messages .message").last, ann.page.locator("#scroller")):
            ann.page.keyboard.press("Shift+Tab")
            expect(stopped).to_be_focused()
        shared_server.publish("stops", f"and #unknown and #stops/{number}")
        expect(links.last).to_have_text(f"#stops/{number}")
    for key in ("ArrowUp", "ArrowUp", "ArrowDown"):
        stop.focus()
        ann.page.keyboard.press(key)
        expect(stop).to_have_count(1)
        expect(stop).to_be_focused()
    ann.page.keyboard.press("Tab")
    expect(links.nth(5)).to_be_focused()
    for key, name in (
        ("Tab", "React"), ("ArrowRight", "Reply"), ("End", "Copy link"), ("ArrowRight", "React"),
        ("ArrowLeft", "Copy link"), ("Home", "React"), ("ArrowRight", "Reply"),
    ):  # fmt: skip
        ann.page.keyboard.press(key)
        expect(button(ann, name)).to_be_focused()
    ann.page.keyboard.press("Tab")
    expect(ann.page.locator("#text")).to_be_focused()
    ann.page.keyboard.press("Shift+Tab")
    expect(button(ann, "Reply")).to_be_focused()


def test_the_keys_of_a_message_work_at_a_link_and_at_the_toolbar_in_it(visit: OpenWindow) -> None:
    """The Tab key stops at the quote in a reply, and at the toolbar: there R and E went into the field, and the arrows
    did nothing.
    """
    ann = visit(room="keys-at-links")
    ann.say("first")
    ann.act("first", "Reply")
    ann.say("second")
    ann.expect_texts(["first", "second"])
    ann.page.mouse.move(0, 0)  # hides the toolbar, which is a stop too
    ann.page.keyboard.press("Shift+Tab")
    expect(ann.page.locator(".quote")).to_be_focused()
    ann.page.keyboard.press("e")
    expect(ann.page.locator("#text")).to_have_value("second")
    ann.page.keyboard.press("Escape")
    ann.page.keyboard.press("Shift+Tab")
    ann.page.focus("#text")  # now the toolbar is a stop too
    ann.page.keyboard.press("Shift+Tab")
    expect(button(ann, "React")).to_be_focused()
    expect(ann.page.locator("#actions")).to_have_css("opacity", "1")
    ann.page.keyboard.press("r")
    expect(ann.page.locator("#about-text")).to_contain_text("Replying to yourself: second")
    expect(ann.page.locator("#actions")).to_have_css("opacity", "0")  # it covered a message until the mouse came by
    expect(ann.page.locator("#text")).to_have_value("")
    ann.page.keyboard.press("Shift+Tab")
    expect(ann.page.locator("#about-close")).to_be_focused()
    ann.page.keyboard.press("Shift+Tab")
    ann.page.keyboard.press("ArrowUp")
    expect(ann.page.locator("#messages .message").first).to_be_focused()
    ann.page.keyboard.press("Escape")
    expect(ann.page.locator("#text")).to_be_focused()


def test_escape_puts_away_a_toolbar_that_covers_what_the_pointer_is_at(visit: OpenWindow) -> None:
    """WCAG 1.4.13: somebody who sees a magnified part of the page cannot move the pointer elsewhere."""
    ann = visit(room="hovered")
    ann.say("one")
    ann.texts.hover()
    expect(ann.page.locator("#actions")).to_be_visible()
    ann.page.keyboard.press("Escape")
    expect(ann.page.locator("#actions")).to_be_hidden()
    ann.page.mouse.move(0, 0)
    ann.act("one", "React")
    ann.page.keyboard.press("Escape")
    expect(button(ann, "React")).to_be_focused()  # it is put away only if nothing is done with it


def test_the_arrow_keys_choose_an_emoji(visit: OpenWindow) -> None:
    """A choice took up to 150 presses of the Tab key."""
    ann = visit(room="emoji")
    ann.say("one")
    ann.act("one", "React")
    quick, others = (ann.page.locator(f"#{name}-reactions button") for name in ("quick", "all"))
    for key, focused in (
        ("Left", quick.first), ("Right", quick.nth(1)), ("Down", others.nth(1)), ("Up", quick.nth(1)),
        ("Left", quick.first), ("Down", others.first), ("Left", quick.last), ("Right", others.first),
    ):  # fmt: skip
        ann.page.keyboard.press(f"Arrow{key}")
        expect(focused).to_be_focused()
    ann.page.keyboard.press("ArrowDown")
    below = others.first.evaluate("first => document.activeElement.offsetTop - first.offsetTop")
    assert below > 0
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator(".chip")).to_have_count(1)


def test_the_toolbar_stands_beside_a_short_message_and_within_the_row(visit: OpenWindow) -> None:
    ann, ben = visit(width=1400, room="short-and-long"), visit(width=1400, room="short-and-long")
    long = "a message of many words " * 10
    ann.say("ok", "yes", long)
    ben.expect_texts(["ok", "yes", long.strip()])
    for each in (ann, ben):
        for text in ("ok", "yes"):
            row = each.page.locator("#messages .message", has=each.page.get_by_text(text, exact=True))
            row.locator(".text").hover()
            bubble, bar = box(row.locator(".bubble")), box(each.page.locator("#actions"))
            left, right = (bar, bubble) if each is ann else (bubble, bar)
            assert 0 <= right["x"] - (left["x"] + left["width"]) < 75  # the time may be between them
            assert abs(bubble["y"] + bubble["height"] / 2 - bar["y"] - bar["height"] / 2) < 2
        row = each.page.locator("#messages .message", has_text="many words")
        row.locator(".text").hover()
        around, bar = box(row), box(each.page.locator("#actions"))
        assert around["x"] <= bar["x"]
        assert bar["x"] + bar["width"] <= around["x"] + around["width"]


def test_the_toolbar_of_a_bubble_higher_than_the_window_is_in_sight(shared_server: Server, visit: OpenWindow) -> None:
    """The toolbar must not be at the upper edge or in the middle of the bubble."""
    text = "\n".join(f"line {number}" for number in range(200))
    shared_server.publish("high", text)
    ann, ben = visit(room="high"), visit(room="high", **PHONE)
    for each in (ann, ben):
        each.page.get_by_role("button", name="Show more").click()
        scroller = each.page.locator("#scroller")
        for top in (100, 3_000):
            scroller.evaluate("(scroller, top) => scroller.scrollTop = top", top)
            around = box(scroller)
            x, y = around["width"] * 0.3, around["height"] / 2
            if each is ann:
                scroller.hover(position={"x": x, "y": y})
            else:
                scroller.tap(position={"x": x, "y": y})
            bar = box(each.page.locator("#actions"))
            assert around["y"] <= bar["y"]
            assert bar["y"] + bar["height"] <= around["y"] + around["height"]


def test_the_focus_stays_in_the_messages_when_its_row_is_removed(shared_server: Server, visit: OpenWindow) -> None:
    """The keys that scroll did nothing after some pages, and the arrow keys nothing after End."""
    shared_server.publish("far", *(f"message {number}" for number in range(310)))
    ann = visit(room="far")
    rows = ann.page.locator("#messages .message")
    expect(ann.texts.last).to_be_in_viewport()
    rows.nth(-20).focus()
    ann.page.keyboard.press("End")
    expect(rows.last).to_be_focused()
    expect(ann.texts.last).to_have_text("message 309")
    ann.page.keyboard.press("ArrowUp")
    expect(rows.nth(-2)).to_be_focused()
    ann.scroll_up_to(ann.page.get_by_text("message 0", exact=True))
    expect(ann.page.get_by_text("message 308", exact=True)).to_have_count(0)  # "message 30" and 8:00 are no match
    expect(ann.page.locator("#scroller")).to_be_focused()


def test_a_reaction_by_keyboard_leaves_the_focus_at_its_message(visit: OpenWindow) -> None:
    """Also if the message has changed meanwhile: the row that the browser would go back to is gone then."""
    ann = visit(room="reacting")
    ann.say("one")
    ann.expect_texts(["one"])
    for key in ("Shift+Tab", "+"):
        ann.page.keyboard.press(key)
    expect(ann.page.locator("#quick-reactions button").first).to_be_focused()
    ann.page.evaluate("fetch('/rooms/reacting/messages/1/reactions/🔥', { method: 'PUT' })")
    expect(ann.page.locator(".chip")).to_have_text(["🔥 1"])
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator(".chip")).to_have_text(["🔥 1", "👍 1"])
    expect(ann.page.locator("#messages .message")).to_be_focused()


def test_a_message_that_changes_keeps_its_focus_and_its_toolbar(shared_server: Server, visit: OpenWindow) -> None:
    """It got the focus anew: with each reaction of anybody a screen reader began to say the whole message again.

    And what a reader is at, in the message, has to stay: else it goes on at the top of the page.
    """
    ann = visit(room="read-aloud")
    shared_server.publish("read-aloud", "a long text")
    ann.expect_texts(["a long text"])
    ann.page.keyboard.press("Shift+Tab")
    ann.page.evaluate("window.focused = []; addEventListener('focusin', ({ target }) => focused.push(target.tagName))")
    text = ann.texts.element_handle()
    ann.page.evaluate("fetch('/rooms/read-aloud/messages/1/reactions/🔥', { method: 'PUT' })")
    expect(ann.page.locator(".chip")).to_have_text(["🔥 1"])
    expect(ann.page.locator("#messages .message")).to_be_focused()
    expect(button(ann, "React")).to_be_visible()
    assert ann.page.evaluate("focused") == []
    assert text.evaluate("(text) => text.isConnected")


def test_a_press_at_a_message_is_not_lost_when_the_message_changes(visit: OpenWindow) -> None:
    """As one does that a bot writes piece by piece: it is drawn anew, and what goes during a press gets no click."""
    ann, ben = visit(room="piecemeal"), visit(room="piecemeal")
    ben.say("working")
    expect(ann.texts).to_have_text("working")
    ben.act("working", "React")
    ben.page.locator("#quick-reactions button").first.click()
    for number, pressed in enumerate((".chip", "#actions [value=reply]")):
        ann.texts.hover()
        ann.page.hover(pressed)
        ann.page.mouse.down()
        ben.page.press("#text", "ArrowUp")
        ben.say(f"working {number}")
        expect(ben.texts).to_have_text(f"working {number} edited")
        ann.page.wait_for_timeout(100)
        ann.page.mouse.up()
        expect(ann.texts).to_have_text(f"working {number} edited")
    expect(ann.page.locator(".chip")).to_contain_text("2")
    expect(ann.page.locator("#about-text")).to_contain_text("Replying to")
    ann.page.click("#about-close")
