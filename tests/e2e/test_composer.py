"""The message field: keys, completions, refusals and how long they are shown."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser import HEIGHT, WIDTH, after_next_frame, box
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server

pytestmark = pytest.mark.browser


def drop(page: Page, dragged: dict[str, Any], place: str) -> bool:
    """Drop something (`Input.DragData` of DevTools) on an element; returns whether the page refuses it."""
    page.evaluate("addEventListener('drop', (event) => { window.isRefused = event.defaultPrevented; })")
    at = box(page.locator(place))
    where = {"x": at["x"] + at["width"] / 2, "y": at["y"] + at["height"] / 2}
    devtools = page.context.new_cdp_session(page)
    for step in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "dragOperationsMask": 1, **dragged}
        devtools.send("Input.dispatchDragEvent", {"type": step, **where, "data": data})
    devtools.detach()
    return bool(page.evaluate("window.isRefused"))


def test_an_unknown_command_is_refused_and_two_slashes_send_one(shared_server: Server, visit: OpenWindow) -> None:
    """A mistyped command must not be published."""
    ann = visit(room="commands")
    refused = ann.page.locator("#refused")
    for typed, command in (("/me", "/me"), ("/ x", "/"), ("/shrug well", "/shrug")):
        ann.say(typed)
        expect(refused).to_contain_text(f"No such command: {command} ")
        expect(refused).to_contain_text(f"To send it as text, write /{command}.")
        expect(ann.page.locator("#text")).to_have_value(typed)
    ann.page.press("#text", "Home")
    ann.page.keyboard.type("/")
    expect(refused).to_be_empty()
    ann.page.keyboard.press("Enter")
    ann.say("/etc/passwd is a file", "/me waves", " /x", "a /b")
    sent = ["/shrug well", "/etc/passwd is a file", "/me waves", " /x", "a /b"]
    expect(ann.texts).to_have_count(len(sent))
    assert [message["text"] for message in shared_server.messages("commands")] == sent
    shared_server.publish("commands", "/me", "/mean it")
    ann.expect_texts([*sent[:2], f"* {ann.name} waves", *sent[3:], "/me", "/mean it"])
    expect(ann.page.locator("#messages .action")).to_have_count(1)

    ann.act("waves", "Reply")
    # Where the focus stays in the field, as at ↑, a screen reader says nothing else.
    said = ann.page.get_by_role("status").filter(has_text="Replying")
    expect(said).to_have_text("Replying to yourself: waves")
    shared_server.publish("commands", "long " * 400)
    ann.act("long", "Reply")
    expect(said).to_contain_text(": long long")
    assert len(said.inner_text()) < 400
    ann.act("shrug", "Edit")  # an edited text is no command
    ann.say("/shrug, well")
    expect(ann.texts.first).to_have_text("/shrug, well edited")


def test_a_text_that_is_too_long_is_marked_until_it_is_shorter(visit: OpenWindow) -> None:
    ann = visit(room="too-long")
    refused = ann.page.locator("#refused")
    ann.say("x" * 8_194)
    expect(refused).to_have_text("This message is too long: 8,194 bytes, at most 8,192.")
    ann.page.keyboard.press("Backspace")
    expect(refused).to_have_text("This message is too long: 8,193 bytes, at most 8,192.")
    ann.page.keyboard.press("Backspace")
    expect(refused).to_be_empty()
    ann.page.keyboard.insert_text("x" * 120_000)  # a log file: 1 MB of it stopped Chromium for up to 43 s
    ann.page.keyboard.press("Enter")
    expect(refused).to_have_text("This message is too long: 100,000 bytes, at most 8,192.")
    ann.page.fill("#text", "")
    expect(refused).to_be_empty()


def test_a_growing_text_keeps_the_newest_message_in_sight(shared_server: Server, visit: OpenWindow) -> None:
    """The height of the field is measured at each key: that must not move the list, which would then stay there."""
    shared_server.publish("growing", *(f"message {number}" for number in range(40)))
    ann = visit(room="growing")
    expect(ann.texts.last).to_be_in_viewport()
    for _ in range(7):
        ann.page.keyboard.type("line")
        ann.page.keyboard.press("Shift+Enter")
        after_next_frame(ann.page)
        expect(ann.texts.last).to_be_in_viewport(ratio=1)
    expect(ann.page.locator("#jump")).to_be_hidden()


def test_enter_sends_no_half_of_a_code_block(shared_server: Server, visit: OpenWindow) -> None:
    """As in other chats: until the block is closed Enter begins a new line, and with Control it sends all the same."""
    ann = visit(room="blocks")
    for line in ("look:", "```", "make run", "```"):
        ann.page.keyboard.type(line)
        ann.page.keyboard.press("Enter" if line != "look:" else "Shift+Enter")
    ann.page.keyboard.type("```echo```")
    ann.page.keyboard.press("Enter")
    ann.page.keyboard.type("```")
    ann.page.keyboard.press("Control+Enter")
    ann.expect_texts(["look:make run", "echo", "```"])


def test_on_a_mac_the_command_key_is_the_pages_and_ctrl_and_option_are_the_systems(window: OpenWindow) -> None:
    """Ctrl-K, which deletes up to the end of the line there, opened the search, and Ctrl-B set marks."""
    ann = window(first="Object.defineProperty(navigator, 'platform', { value: 'MacIntel' })", room="mac")
    text = ann.page.locator("#text")
    text.fill("very")
    for key, marked in (("Control+k", "very"), ("Control+b", "very"), ("Meta+b", "very****")):
        ann.page.keyboard.press(key)
        expect(text).to_have_value(marked)
    expect(ann.page.locator("#switcher")).to_be_hidden()
    key = "new KeyboardEvent('keydown', { key: '@', altKey: true, bubbles: true })"  # of a German keyboard
    assert ann.page.evaluate(f"scroller.focus(), scroller.dispatchEvent({key}), document.activeElement.id") == "text"
    expect(ann.page.locator("#find[aria-keyshortcuts='Meta+K'] kbd")).to_have_text("⌘ K")
    ann.page.keyboard.press("Meta+k")
    expect(ann.page.locator("#switcher")).to_be_visible()


def test_keys_mark_the_selected_text_and_lead_to_the_next_room(shared_server: Server, window: OpenWindow) -> None:
    ann = window(room="lobby")
    shared_server.publish("lobby", "before")
    expect(ann.texts.last).to_have_text("before")  # the room has come: what follows is unread
    for room in ("keys-a", "keys-b", "keys-c"):
        ann.go(room)
        expect(ann.page.locator("#empty")).to_be_visible()  # so has this one
    for key, room in (("Up", "keys-b"), ("Up", "keys-a"), ("Up", "lobby"), ("Down", "keys-a"), ("Down", "keys-b")):
        ann.page.keyboard.press(f"Alt+Arrow{key}")
        expect(ann.page.locator("#room-title")).to_have_text(room)
    for room in ("lobby", "keys-a"):
        shared_server.publish(room, "hello")
        expect(ann.page.locator(f"#rooms a[href='#{room}'] .badge")).to_be_visible()
    for key, room in (("Down", "lobby"), ("Up", "keys-a"), ("Up", "keys-a")):  # with news, while any room has news
        ann.page.keyboard.press(f"Alt+Shift+Arrow{key}")
        expect(ann.page.locator("#room-title")).to_have_text(room)
        expect(ann.page.locator(f"#rooms a[href='#{room}'] .badge")).to_be_hidden()
    text = ann.page.locator("#text")
    text.fill("very")
    for key, marked in (("a", "very"), ("b", "**very**"), ("i", "***very***"), ("z", "**very**")):
        ann.page.keyboard.press(f"Control+{key}")
        expect(text).to_have_value(marked)
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator("#messages strong")).to_have_text("very")


def test_enter_while_composing_sends_nothing(visit: OpenWindow) -> None:
    """Safari ends the composition before this key, which then only has the code of a key that an input method took."""
    ann = visit(room="composing")
    enter = "(at) => at.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', keyCode: 229, bubbles: true }))"
    for text in ("にほん", "にほんご"):
        ann.page.fill("#text", text)
        ann.page.locator("#text").evaluate(enter)
    ann.page.press("#text", "Enter")
    ann.expect_texts(["にほんご"])
    ann.search("composing")
    ann.page.locator("#switcher-input").evaluate(enter)
    expect(ann.page.locator("#switcher")).to_be_visible()


def test_a_completion_can_be_undone_and_ends_when_the_caret_leaves_the_word(visit: OpenWindow) -> None:
    """Enter at the beginning of the text threw an error and sent nothing, and Ctrl+Z did nothing at all.

    In a low window the chosen one of many was out of sight.
    """
    ann, ben = visit(room="offers"), visit(room="offers")
    ben.save_name("Benedikt")
    text, offers = ann.page.locator("#text"), ann.page.locator("#completions")
    expect(ann.page.locator("#people")).to_contain_text("Benedikt")
    text.focus()
    ann.page.keyboard.type("well, @bene")
    expect(offers).to_be_visible()
    ann.page.keyboard.press("Enter")
    expect(text).to_have_value("well, @Benedikt ")
    expect(offers).to_be_hidden()
    ann.page.keyboard.press("Control+z")
    expect(text).to_have_value("well, @bene")
    ann.page.keyboard.press("End")
    ann.page.keyboard.type("d")
    expect(offers).to_be_visible()
    ann.page.keyboard.press("Home")
    expect(offers).to_be_hidden()
    ann.page.keyboard.press("Enter")
    ann.expect_texts(["well, @bened"])
    ann.page.set_viewport_size({"width": WIDTH, "height": HEIGHT // 2})
    ann.page.keyboard.type("of :ha")
    ann.page.keyboard.press("ArrowUp")
    expect(offers.locator("[aria-selected=true]")).to_have_text("🔨 :hammer:")
    expect(offers.locator("[aria-selected=true]")).to_be_in_viewport(ratio=1)
    ann.page.keyboard.press("ArrowDown")
    expect(offers.locator("li").first).to_have_attribute("aria-selected", "true")
    expect(text).to_have_attribute("aria-activedescendant", "completions-0")
    ann.page.keyboard.press("Escape")
    expect(offers).to_be_hidden()
    assert text.get_attribute("aria-activedescendant") is None
    ann.page.keyboard.type("m")
    offers.get_by_text(":hammer:").click()
    expect(text).to_have_value("of 🔨 ")
    expect(text).to_be_focused()
    text.fill("")
    ben.save_name("Ben Ed हिन्दी ශ්\u200dරී")
    expect(ann.page.locator("#people")).to_contain_text("Ben Ed हिन्दी")
    for typed, offered in (
        ("@ben e", True), ("@ed", True), ("@ben f", False), ("@n", False), (":heart_e", True),
        ("请@ben", True), ("std::bee", False), ("@हि", True), ("@ශ්\u200dර", True), ("@Ben Ed हिन्दी ශ්\u200dරී", False),
    ):  # fmt: skip
        ann.page.keyboard.type(typed)
        expect(offers).to_be_visible(visible=offered)
        text.fill("")
    ann.page.keyboard.type("see #offer")
    expect(offers).to_have_text("#offers")
    ann.page.keyboard.type("s")
    expect(offers).to_be_hidden()  # else Enter would not send
    text.fill("")


def test_the_text_of_an_edit_that_fails_is_kept(visit: OpenWindow) -> None:
    """It was lost when the user had a draft or had gone to another room, and then with the next banner or a reload."""
    ann = visit(room="edit-fails")
    ann.say("frist")
    ann.expect_texts(["frist"])
    ann.page.fill("#text", "a draft")
    ann.act("frist", "Edit")
    ann.page.fill("#text", "control\x07")
    ann.page.press("#text", "Enter")
    expect(ann.page.locator("#toast")).to_contain_text("Not changed: ")
    expect(ann.page.locator("#text")).to_have_value("a draft")
    ann.page.reload()
    expect(ann.pending.locator(".quote")).to_have_text("You frist")
    ann.pending.get_by_role("button", name="Edit").click()
    expect(ann.page.locator("#about-text")).to_have_text("Editing your message")
    expect(ann.page.locator("#text")).to_have_value("control\x07")
    ann.say("first")
    ann.expect_texts(["first edited"])
    expect(ann.page.locator("#text")).to_have_value("a draft")


def test_a_dropped_file_is_refused_and_leaves_the_chat_open_and_text_is_taken_by_a_field_only(
    visit: OpenWindow, tmp_path: Path
) -> None:
    """Browsers open a file in place of the chat, or beside it, and outside a field a link as well."""
    ann = visit(room="dropped")
    toast, text = ann.page.locator("#toast"), ann.page.locator("#text")
    link = {"items": [{"mimeType": "text/plain", "data": "https://a.example"}]}
    assert drop(ann.page, link, "#scroller")
    expect(text).to_have_value("")
    assert not drop(ann.page, link, "#text")
    expect(text).to_have_value("https://a.example")
    expect(toast).to_be_empty()
    (file := tmp_path / "picture.png").touch()
    for place in ("#scroller", "#text"):
        assert drop(ann.page, {"files": [str(file)]}, place)
        expect(toast).to_have_text("Files cannot be sent here.")
        toast.evaluate("(toast) => toast.replaceChildren()")


def test_a_pasted_picture_is_refused_and_text_beside_it_is_taken(visit: OpenWindow) -> None:
    """Office programs copy a text as a picture as well."""
    ann = visit(room="pasted")
    for text, told in (("a table", ""), ("", "Files cannot be sent here.")):
        is_taken = ann.page.evaluate(
            """(text) => {
                const clipboardData = new DataTransfer();
                clipboardData.items.add(new File(['x'], 'picture.png', { type: 'image/png' }));
                if (text) clipboardData.items.add(text, 'text/plain');
                const pasted = new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true });
                return document.getElementById('text').dispatchEvent(pasted);
            }""",
            text,
        )
        assert is_taken == bool(text)
        expect(ann.page.locator("#toast")).to_have_text(told)
