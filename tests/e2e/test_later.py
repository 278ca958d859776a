"""Replies, mentions, edits, deletions and reactions, as other users see them."""

import json
import re

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.e2e.browser import NOTIFICATIONS, PHONE, Window, expect_at
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server

pytestmark = pytest.mark.browser

#: The offset of the first message that is in sight.
FIRST_IN_SIGHT = """() => {
    const { top } = scroller.getBoundingClientRect();
    const rows = [...document.querySelectorAll('#messages .message')];
    return Number(rows.find((row) => row.getBoundingClientRect().bottom > top).dataset.offset);
}"""


def test_three_people_change_messages(shared_server: Server, window: OpenWindow, visit: OpenWindow) -> None:
    """Each person uses another transport."""
    ann = visit(room="later")
    ann.expect_live("ws")
    ben, eve = (window(transport=transport, room="later") for transport in ("sse", "poll"))
    people = (ann, ben, eve)
    ann.say("frist", "the **word** is\n`swordfish`")
    for each in (ben, eve):
        each.expect_texts(["frist", "the word is\nswordfish"])

    ben.act("frist", "Reply")
    ben.say("you mean first?")
    expect(ann.page.locator(".quote")).to_contain_text("You frist")
    expect(eve.page.locator(".quote")).to_contain_text("frist")
    ben.act("swordfish", "Reply")
    expect(ben.page.locator("#about-text")).to_have_text(f"Replying to {ann.name}: the word is swordfish")
    ben.say("which word?")
    for each in people:
        expect(each.page.locator(".quote").last).to_contain_text(" the word is swordfish")

    ben.act("frist", "React")
    ben.page.locator("#reaction-picker").get_by_role("button", name="👍").first.click()
    for count, each in enumerate((ann, eve), 1):
        expect(each.page.locator(".chip")).to_have_text(f"👍 {count}")
        each.page.locator(".chip").click()
    for each in people:
        expect(each.page.locator(".chip")).to_have_text("👍 3")
        expect(each.page.locator(".chip")).to_have_attribute("aria-pressed", "true")
    ben.page.locator(".chip").click()
    for each in (ann, eve):
        expect(each.page.locator(".chip")).to_have_text("👍 2")

    ann.act("frist", "Edit")
    expect(ann.page.locator("#text")).to_have_value("frist")
    ann.say("first")
    for each in (ben, eve):
        expect(each.texts.first).to_have_text("first edited")
        expect(each.page.locator(".quote").first).to_have_text(re.compile("first$"))
    ann.page.press("#text", "ArrowUp")
    expect(ann.page.locator("#about-text")).to_have_text("Editing your message")
    ann.page.press("#text", "Escape")

    ann.delete("swordfish")
    left = ["first edited", "This message was deleted.", "you mean first?", "which word?"]
    for each in people:
        each.expect_texts(left)
        expect(each.page.locator(".quote").last).to_have_text(re.compile(r"\S \(deleted\)$"))
        each.page.reload()
        each.expect_texts(left)
        assert "swordfish" not in each.page.content()
    expect(ann.page.locator(".chip")).to_have_attribute("aria-pressed", "true")


def test_reactions_above_what_is_read_do_not_move_it(shared_server: Server, visit: OpenWindow) -> None:
    """Each one made a row higher, and pushed what the user was reading down."""
    shared_server.publish("held", *(f"message {offset}" for offset in range(1, 41)))
    ann = visit(room="held")
    expect(ann.texts.last).to_have_text("message 40")
    ann.page.evaluate("scroller.scrollTop -= 500")
    expect(ann.page.locator("#jump")).to_be_visible()
    first = ann.page.evaluate(FIRST_IN_SIGHT)
    held = ann.page.get_by_text(f"message {first + 1}", exact=True)
    before = held.bounding_box()
    react = "(offset) => fetch(`/rooms/held/messages/${offset}/reactions/👍`, { method: 'PUT' }).then(({ ok }) => ok)"
    assert all(ann.page.evaluate(react, offset) for offset in range(first - 2, first + 1))
    expect(ann.page.locator(".chip")).to_have_count(3)
    expect_at(held, before)


def test_known_names_of_reactions_are_shown(visit: OpenWindow) -> None:
    """On a touch screen, which shows no titles of elements, in the dialog for a reaction."""
    ann, ben, eve = visit(room="reactors"), visit(room="reactors"), visit(room="reactors", **PHONE)
    ann.say("done")
    names = [each.name for each in (ann, ben, eve)]

    def expect_reactors(of: Window, names: str) -> None:
        expect(of.page.locator(".chip")).to_have_attribute("title", names)
        expect(of.page.get_by_role("button", name=f", {names}: ")).to_have_count(1)

    ben.act("done", "React")
    ben.page.locator("#reaction-picker").get_by_role("button", name="👍").first.click()
    expect_reactors(ben, "You")
    expect_reactors(ann, names[1])
    ann.page.locator(".chip").click()
    expect_reactors(ann, f"You and {names[1]}")
    eve.page.locator(".chip").click()
    expect_reactors(ben, f"You, {names[0]} and {names[2]}")
    ann.page.locator(".chip").click()
    for each in (ann, ben):
        each.page.reload()
    expect_reactors(ann, f"{names[1]} and {names[2]}")
    expect_reactors(ben, f"You and {names[2]}")
    eve.texts.last.tap()
    eve.page.get_by_role("toolbar").get_by_role("button", name="React").tap()
    who = eve.page.get_by_role("list", name="Who reacted").get_by_role("listitem")
    expect(who).to_have_text(f"👍 You and {names[1]}")


def test_older_messages_complete_quotes_and_reactions(shared_server: Server, visit: OpenWindow) -> None:
    """A reply to a message that is not loaded did not quote it, and one's own reaction was shown as a stranger's."""
    ann = visit(room="two-pages-desk")
    room = f"{shared_server.url}/rooms/two-pages/messages"
    ask = ann.page.request
    assert ask.post(room, data={"text": "a question"}).ok
    assert ask.put(f"{room}/1/reactions/👍").ok
    shared_server.publish("two-pages", *(f"message {number}" for number in range(60)))
    assert ask.post(room, data={"text": "an answer", "reply_to": 1}).ok
    ann.go("two-pages")
    expect(ann.page.locator(".quote")).to_have_text("You a question")
    assert ask.patch(f"{room}/1", data={"text": "the question"}).ok
    expect(ann.page.locator(".quote")).to_have_text("You the question")
    ann.scroll_up_to(ann.page.get_by_text("the question edited"))
    expect(ann.page.locator(".chip")).to_have_attribute("title", "You")
    expect(ann.page.locator(".chip")).to_have_attribute("aria-pressed", "true")
    expect(ann.page.locator(".quote")).to_have_text("You the question")


def test_ones_own_reaction_to_an_old_message_can_be_taken_back(shared_server: Server, visit: OpenWindow) -> None:
    """Where its record is not loaded, it looks like that of others. A click reacted again, so it stayed for ever."""
    ann = visit(room="taken-back-desk")
    room = f"{shared_server.url}/rooms/taken-back/messages"
    assert ann.page.request.post(room, data={"text": "a question"}).ok
    shared_server.publish("taken-back", *(f"message {number}" for number in range(60)))
    assert ann.page.request.put(f"{room}/1/reactions/👍").ok
    shared_server.publish("taken-back", *(f"message {number}" for number in range(60)))
    ann.go("taken-back")
    ann.page.evaluate("location.hash = 'taken-back/1'")
    chip = ann.page.locator(".chip")
    expect(chip).to_have_attribute("title", "1 person")
    chip.click()
    expect(chip).to_have_attribute("title", "You")
    expect(chip).to_have_text("👍 1")
    chip.click()
    expect(chip).to_have_count(0)
    ann.go("taken-back-desk")


def test_a_mention_is_offered_counted_and_marked(window: OpenWindow, visit: OpenWindow) -> None:
    ann, ben = window(room="mentions"), visit(room="mentions")  # Ann has met nobody else with such a name
    name = ben.name
    ben.go("mentions-desk")
    expect(ann.page.locator("#people li")).to_have_count(2)
    ann.page.click("#text")
    ann.page.keyboard.type(f"look, @{name[:3]}")
    expect(ann.page.locator("#completions li").first).to_have_text(name)
    ann.page.keyboard.press("Tab")
    ann.page.keyboard.type("and :hoo")  # another name of :tada:
    expect(ann.page.locator("#completions li").first).to_contain_text("🎉 :hooray:")
    ann.page.keyboard.press("Enter")
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator(".mention")).to_have_text(f"@{name}")
    expect(ann.texts.last).to_have_text(f"look, @{name} and 🎉")
    expect(ben.page.locator("#rooms a[href='#mentions'] .badge")).to_have_text("@1 mentions of you")
    ben.page.reload()
    expect(ben.page.locator("#rooms a[href='#mentions'] .badge")).to_have_text("@1 mentions of you")
    ben.page.click("#rooms a[href='#mentions']")
    expect(ben.page.locator(".for-us")).to_have_count(1)
    expect(ben.page.locator("#rooms .badge")).to_have_count(0)
    ben.save_name("Jos\u00e9")
    expect(ben.page.locator("#me .name")).to_have_text("Jos\u00e9")
    ben.say("it is me")
    expect(ann.texts.last).to_have_text("it is me")
    ann.page.fill("#text", "@Jose\u0301")  # as copied on a Mac from the name of a file
    expect(ann.page.locator("#completions li")).to_have_text("Jos\u00e9")
    ann.say("@Jose\u0301!")
    expect(ben.page.locator(".for-us")).to_have_count(2)


def test_a_mention_that_an_edit_adds_is_notified_counted_and_marked(window: OpenWindow, visit: OpenWindow) -> None:
    """An edit has no ids of users, so the mention is found in its text."""
    ann = visit(room="named-later")
    ben = window(first=NOTIFICATIONS + "Notification.permission = 'granted';", room="named-later")
    expect(ann.page.locator("#people li")).to_have_count(2)
    name = ben.name
    ben.go("named-later-desk")
    ben.say("it has the same number")
    badge = ben.page.locator("#rooms a[href='#named-later'] .badge")
    ann.say("look")
    expect(badge).to_have_text("1 unread")
    assert ben.page.evaluate("window.notes") == []
    for text in ("look here", f"look, @{name}", f"look at this, @{name}"):
        ann.act("look", "Edit")
        ann.say(text)
        expect(ann.texts).to_have_text([f"{text} edited"])
    expect(ann.page.locator(".mention")).to_have_text(f"@{name}")
    expect(badge).to_have_text("@1 mentions of you")
    ben.expect_texts(["it has the same number"])
    ben.page.click("#rooms a[href='#named-later']")
    for notes in (1, 0):  # one for two edits, and none after a reload
        expect(ben.texts).to_have_text([f"look at this, @{name} edited"])
        expect(ben.page.locator(".for-us .mention")).to_have_text(f"@{name}")
        ben.page.wait_for_function("(notes) => window.notes.length === notes", arg=notes)
        assert ben.page.evaluate("window.notes.every((note) => note.includes('@'))")
        if notes:
            ben.page.reload()


def test_a_mention_on_an_older_page_is_marked(shared_server: Server, window: OpenWindow, visit: OpenWindow) -> None:
    """Only the authors of the newest page were known by name."""
    ben, ann = visit(room="older-mention"), visit(room="older-mention")
    ben.say("hello")
    expect(ann.texts).to_have_text(["hello"])
    ann.say(f"@{ben.name} welcome")
    expect(ben.page.locator(".mention")).to_be_visible()
    shared_server.publish("older-mention", *(f"message {number}" for number in range(60)))
    eve = window(room="older-mention")
    eve.scroll_up_to(eve.page.get_by_text("welcome"))
    expect(eve.page.locator(".mention")).to_be_visible()
    said = {"text": "@Brisk Otter 34, see you", "mentions": ["u_gone"]}
    assert eve.page.request.post(f"{shared_server.url}/rooms/older-mention/messages", data=said).ok
    eve.page.click("#jump")
    expect(eve.page.locator(".mention").last).to_have_text("@Brisk Otter 34")  # of a user whom the page never met


def test_a_room_whose_older_messages_are_gone_does_not_begin_with_those_that_are_left(
    shared_server: Server, window: OpenWindow
) -> None:
    shared_server.publish("trimmed", *(f"message {number}" for number in range(60)))
    ann = window(is_played=True)

    def trim(route: WebSocketRoute) -> None:
        """Answer as a server that retains no more than the page already has."""
        server = route.connect_to_server()

        def ask(frame: str | bytes) -> None:
            asked = json.loads(frame)
            if asked["type"] != "history":
                return server.send(frame)
            nothing = {"room": "trimmed", "cursor": asked["before"], "recovered": True, "messages": []}
            return route.send(json.dumps({"type": "history", "id": asked["id"], **nothing}))

        route.on_message(ask)

    ann.accept = trim
    ann.open(shared_server, transport="ws", room="trimmed")
    expect(ann.texts).to_have_count(50)
    ann.scroll_up_to(ann.page.get_by_text("Older messages are gone."))
