"""The message field: refusals, how long they are shown, and what a reload keeps."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, WebSocketRoute, expect

from tests.e2e.browser import HEIGHT, WIDTH, after_next_frame, box, wait_until
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server, serving

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
    ann.say("x" * 9_000)
    expect(refused).to_contain_text("too long")
    ann.page.fill("#text", "")
    expect(refused).to_be_empty()


def test_a_half_typed_edit_or_reply_is_kept_in_its_room_and_over_a_reload(visit: OpenWindow) -> None:
    """An edit that was sent before the page had connected again was refused."""
    ann = visit(room="half-typed", is_played=True)
    text, about = ann.page.locator("#text"), ann.page.locator("#about-text")
    ann.say("frist")
    ann.expect_texts(["frist"])
    ann.act("frist", "Reply")
    ann.say(" ")
    expect(about).to_be_visible()  # there is nothing to send
    ann.page.fill("#text", "a draft")
    ann.act("frist", "Edit")
    expect(text).to_have_value("frist")
    ann.page.press("#text", "Enter")  # it is the same
    expect(about).to_be_hidden()
    ann.act("frist", "Edit")
    ann.act("frist", "Reply")
    expect(text).to_have_value("a draft")
    ann.page.click("#about-close")
    expect(about).to_be_hidden()
    expect(text).to_be_focused()

    def look_elsewhere() -> None:
        for room in ("elsewhere", "half-typed"):
            ann.go(room)
            expect(about).to_be_visible(visible=room == "half-typed")
        ann.page.reload()

    for action, typed, title in (("Edit", "first", "Editing your message"), ("Reply", "yes", "Replying to yourself")):
        ann.act("frist", action)
        ann.page.fill("#text", typed)
        look_elsewhere()
        expect(about).to_contain_text(title)
        expect(text).to_have_value(typed)
        ann.page.press("#text", "Escape")
        expect(text).to_have_value("a draft" if action == "Edit" else "yes")
        expect(about).to_be_hidden()
    ann.act("frist", "Reply")
    look_elsewhere()
    ann.page.press("#text", "Enter")
    expect(ann.page.locator("#messages [data-offset] .quote")).to_contain_text("frist")  # it is durable
    ann.page.press("#text", "ArrowUp")
    ann.page.fill("#text", "of course")
    connecting: list[WebSocketRoute] = []
    ann.accept = connecting.append
    look_elsewhere()
    wait_until(ann.page, lambda: connecting)
    ann.page.press("#text", "Enter")
    ann.find_connection()
    connecting[0].close()
    ann.expect_texts(["frist", "of course edited"])


def test_what_is_typed_while_the_page_still_loads_is_kept(shared_server: Server, window: OpenWindow) -> None:
    """On a slow network it vanished after some seconds, and Enter in the field of a room left the room."""
    ann = window()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    ann.page.route("**/composer.js", hold)
    ann.page.goto(f"{shared_server.url}/#early", wait_until="commit")
    ann.page.fill("#room-name", "elsewhere")
    ann.page.press("#room-name", "Enter")
    ann.page.fill("#text", "good morning")
    wait_until(ann.page, lambda: held)
    held[0].continue_()
    ann.expect_live()
    expect(ann.page.locator("#text")).to_have_value("good morning")
    ann.page.press("#text", "Enter")
    ann.expect_texts(["good morning"])
    expect(ann.page).to_have_url(f"{shared_server.url}/#early")


def test_a_half_typed_reply_or_edit_knows_what_happens_to_its_message(visit: OpenWindow) -> None:
    """The text of a deleted message stayed above the field and in the browser, and a deleted message was edited.

    What was written into the edit was lost with the message.
    """
    ann, ben = visit(room="follows"), visit(room="follows")
    ann.say("the secret", "frist", "as it is")
    ben.expect_texts(["the secret", "frist", "as it is"])
    about, text = ben.page.locator("#about-text"), ben.page.locator("#text")
    ben.act("secret", "Reply")
    text.fill("which one?")
    expect(ann.page.locator("#typing")).to_have_text(f"{ben.name} is typing…")
    ann.act("secret", "Edit")
    ann.say("the **word**")
    expect(about).to_have_text(f"Replying to {ann.name}: the word")
    ann.delete("word")
    expect(about).to_have_text(f"Replying to {ann.name}: (deleted)")
    expect(text).to_have_value("which one?")
    assert "word" not in ben.page.evaluate("Object.values(sessionStorage).join()")

    ann.page.fill("#text", "a draft")
    ann.act("frist", "Edit")
    ann.page.fill("#text", "first")
    ann.page.evaluate("fetch('/rooms/follows/messages/2', { method: 'DELETE' })")  # on another device
    expect(ann.page.locator("#toast")).to_have_text("The message that you were editing was deleted.")
    expect(ann.page.locator("#text")).to_have_value("first\na draft")
    expect(ann.page.locator("#about")).to_be_hidden()
    ann.act("as it is", "Edit")
    ann.page.evaluate("fetch('/rooms/follows/messages/3', { method: 'DELETE' })")
    expect(ann.page.locator("#text")).to_have_value("first\na draft")
    expect(ann.page.locator("#about")).to_be_hidden()


def test_a_half_typed_reply_or_edit_is_not_for_a_message_of_a_new_log(window: OpenWindow, tmp_path: Path) -> None:
    """After a restart with an empty log it was for the message that has the old one's number there."""
    with serving(tmp_path, log="memory:") as server:
        ann, ben = window(), window()
        for room in ("stayed", "reloaded"):
            for each in (ann, ben):
                each.open(server, room=room)
            ann.say("frist")
            ann.act("frist", "Edit")
            ann.page.fill("#text", "first")
            ben.act("frist", "Reply")
            ben.page.fill("#text", "really?")
            server.stop()
            server.start()
            server.publish(room, "another")
            for each in (ann, ben):
                if room == "reloaded":
                    each.page.reload()
                each.expect_texts(["another"])
            expect(ann.page.locator("#about")).to_be_hidden()
            expect(ann.page.locator("#text")).to_have_value("first")
            expect(ben.page.locator("#about-text")).to_contain_text(": (deleted)")
            ben.page.press("#text", "Enter")
            ann.expect_texts(["another", "really?"])
            expect(ann.page.locator(".quote")).to_have_count(0)


def test_a_reply_that_waits_does_not_quote_a_deleted_message(window: OpenWindow, visit: OpenWindow) -> None:
    ann, ben = visit(room="waits"), window(room="waits", is_played=True)
    ann.say("the secret")

    def hold(route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        route.on_message(lambda frame: None if '"publish"' in str(frame) else server.send(frame))

    ben.act("secret", "Reply")
    ben.lose_connection()
    ben.say("which one?")
    quote = ben.pending.locator(".quote")
    expect(quote).to_have_text(f"{ann.name} the secret")
    ben.find_connection(hold)
    ben.expect_live("ws")
    ann.delete("secret")
    expect(quote).to_have_text(f"{ann.name} (deleted)")


def test_a_message_that_waits_for_the_connection_can_be_taken_back_and_a_change_waits_too(window: OpenWindow) -> None:
    """A message went out as it was, or the tab had to be closed; changes failed, and later all went out."""
    ann = window(is_played=True, room="taken-back")
    field = ann.page.locator("#text")
    ann.lose_connection()
    ann.say("frist", "second", "thrid")
    expect(ann.pending).to_have_count(3)
    ann.page.press("#text", "ArrowUp")
    expect(field).to_have_value("thrid")
    ann.say("third")
    for wrong, button in (("frist", "Edit"), ("second", "Discard")):
        ann.pending.filter(has_text=wrong).get_by_role("button", name=button).click()
        expect(ann.pending.filter(has_text=wrong)).to_have_count(0)
    expect(field).to_have_value("frist")
    ann.say("first")
    ann.find_connection()
    ann.expect_texts(["third", "first"])

    ann.lose_connection()
    ann.act("first", "Reply")
    ann.say("why?")
    ann.pending.get_by_role("button", name="Edit").click()
    expect(ann.page.locator("#about-text:visible")).to_have_text("Replying to yourself: first")
    expect(field).to_have_value("why?")
    ann.page.press("#text", "Escape")
    ann.act("third", "Edit")
    ann.say("the third")
    ann.act("first", "React")
    ann.page.locator("#quick-reactions").get_by_role("button", name="👍").click()
    ann.say("fourth")
    ann.delete("first")
    changed = ["the third edited", "This message was deleted."]
    expect(ann.texts).to_have_text(changed)
    expect(ann.page.locator("#messages .message.pending .aside")).to_have_text(["waiting"] * 2)
    ann.act("the third", "Edit")
    ann.say("wrong")
    discards = ann.page.locator("#messages").get_by_role("button", name="Discard")
    expect(discards).to_have_count(2)
    for discard in (discards.first, discards):
        discard.click()
    expect(ann.texts).to_have_text(["third", "first"])
    expect(ann.page.locator("#toast")).to_be_empty()
    ann.act("third", "Edit")
    ann.say("the third")
    ann.delete("first")
    ann.find_connection()
    ann.expect_texts([*changed, "fourth"])
    expect(ann.page.locator("#messages .pending")).to_have_count(0)


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
    ben.save_name("Ben Ed")
    expect(ann.page.locator("#people")).to_contain_text("Ben Ed")
    for typed, offered in (
        ("@ben e", True), ("@ed", True), ("@ben f", False), ("@n", False), ("@Ben Ed", False), (":heart_e", True),
        ("请@ben", True), ("std::bee", False),
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
