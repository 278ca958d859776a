"""What is half typed, or waits for the connection: kept in its room and over a reload; what may change meanwhile."""

from pathlib import Path

from playwright.sync_api import Dialog, Route, WebSocketRoute, expect

from tests.e2e.browser import wait_until
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server, serving


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


def test_a_page_that_is_prepared_before_it_is_opened_begins_then(shared_server: Server, window: OpenWindow) -> None:
    """Chrome prerenders an address that is typed, and runs requests for locks when the page is opened.

    One of them stole the connection from another one of the same tab: it was connected three seconds later. (DevTools
    switch prerendering off.)
    """
    ann = window(first="Object.defineProperty(document, 'prerendering', { value: true, writable: true })")
    ann.page.goto(f"{shared_server.url}/#prepared")
    ann.page.fill("#text", "good morning")
    assert ann.page.evaluate("navigator.locks.query()") == {"held": [], "pending": []}
    ann.page.evaluate(
        "() => { document.prerendering = false; document.dispatchEvent(new Event('prerenderingchange')); }"
    )
    ann.expect_live()
    ann.page.press("#text", "Enter")
    ann.expect_texts(["good morning"])


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


def test_an_edit_that_was_only_opened_follows_its_message(visit: OpenWindow) -> None:
    """The older text stayed in the field, and Enter put it in place of the newer one."""
    ann = visit(room="edits")
    edit = "(text) => fetch('/rooms/edits/messages/1', { method: 'PATCH', body: text })"
    ann.say("meet at 5")
    ann.act("meet", "Edit")
    text = ann.page.locator("#text")
    expect(text).to_have_value("meet at 5")
    ann.page.evaluate(edit, "meet at 6")  # on another device
    expect(text).to_have_value("meet at 6")
    text.fill("meet at 6, room 12")
    ann.page.evaluate(edit, "meet at 7")
    ann.expect_texts(["meet at 7 edited"])
    expect(text).to_have_value("meet at 6, room 12")
    text.press("Escape")


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


def test_a_page_asks_before_it_goes_if_its_storage_is_full(window: OpenWindow) -> None:
    """What was typed went with the tab, and nobody had said so."""
    ann = window(room="asks")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    ann.page.on("dialog", stay)
    ann.page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('full'); }; }")
    ann.page.click("#text")
    ann.page.keyboard.type("half a thought")
    ann.page.close(run_before_unload=True)
    wait_until(ann.page, lambda: asked == ["beforeunload"] or ann.page.is_closed())
    assert asked == ["beforeunload"]
    assert ann.complaints.pop() == "dialog: "
    ann.page.fill("#text", "")
    ann.page.reload()  # is not asked
    ann.expect_live()
    assert asked == ["beforeunload"]
