"""The user's own edits, deletions and reactions before the server has confirmed them."""

import json
from collections.abc import Callable, Sequence

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.e2e.browser import AT_BOTTOM, Window, wait_until
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server

pytestmark = pytest.mark.browser

ASKED = ("edit", "delete", "react")
TOLD = ("edit", "delete", "reaction")


class SlowLine:
    """Delays what a page asks for, or the records that the server pushes to it, until `release`."""

    def __init__(self, *, asked: Sequence[str] = (), told: Sequence[str] = ()) -> None:
        self.asked, self.told = asked, told
        self._waiting: list[Callable[[], None]] = []
        self._page: WebSocketRoute
        self._ids: list[int] = []
        self.answers = 0

    def accept(self, route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        route.on_message(lambda frame: self._take(frame, self.asked, lambda: server.send(frame)))
        server.on_message(lambda frame: self._take(frame, self.told, lambda: route.send(frame)))
        self._page = route

    def _take(self, frame: str | bytes, delayed: Sequence[str], pass_on: Callable[[], None]) -> None:
        message = json.loads(frame)
        self.answers += message["type"] == "ack"
        if message["type"] not in delayed:
            return pass_on()
        self._waiting.append(pass_on)
        return self._ids.append(message.get("id", 0))

    def release(self) -> None:
        for pass_on in self._waiting:
            pass_on()
        self._waiting.clear()
        self._ids.clear()

    def refuse(self) -> None:
        for each in self._ids:
            self._page.send(json.dumps({"type": "error", "id": each, "code": "forbidden", "message": "not now"}))
        self._waiting.clear()
        self._ids.clear()


def react(window: Window, text: str) -> None:
    window.act(text, "React")
    window.page.locator("#quick-reactions").get_by_role("button", name="👍").click()


def prepared(window: OpenWindow, server: Server, room: str, line: SlowLine) -> Window:
    """A window over a slow line, with three messages of its user."""
    ann = window(is_played=True)
    ann.accept = line.accept
    ann.open(server, room=room)
    ann.say("one", "two", "three")
    ann.expect_texts(["one", "two", "three"])
    return ann


def change_all(ann: Window) -> None:
    react(ann, "one")
    ann.act("two", "Edit")
    ann.say("two and a half")
    ann.delete("three")


CHANGED = ["one", "two and a half edited", "This message was deleted."]


def test_own_changes_are_shown_before_the_server_has_them(
    shared_server: Server, window: OpenWindow, visit: OpenWindow
) -> None:
    """Nothing was seen of them until the answer came, for seconds on a slow line."""
    line = SlowLine(asked=ASKED)
    ann, ben = prepared(window, shared_server, "slow-line", line), visit(room="slow-line")
    change_all(ann)
    expect(ann.texts).to_have_text(CHANGED)
    expect(ann.page.locator("#text")).to_be_focused()
    expect(ann.page.locator("#messages .message.pending .aside")).to_have_text(["saving", "saving"])
    chip = ann.page.locator(".chip")
    expect(chip).to_have_text("👍 1")
    expect(chip).to_have_class("chip pending")
    expect(chip).to_have_attribute("title", "You")
    assert ann.page.evaluate(AT_BOTTOM)
    ben.expect_texts(["one", "two", "three"])

    react(ben, "one")
    expect(chip).to_have_text("👍 2")
    expect(chip).to_have_attribute("title", f"You and {ben.name}")
    ann.page.press("#text", "ArrowUp")  # the last message that is not deleted, with its new text
    expect(ann.page.locator("#text")).to_have_value("two and a half")
    ann.page.press("#text", "Escape")

    ann.page.focus("#room-name")  # and stays there
    line.asked = ()  # the changes are sent one after the other
    line.release()
    expect(ann.page.locator("#messages .pending")).to_have_count(0)
    expect(ann.page.locator("#room-name")).to_be_focused()
    for each in (ann, ben):
        each.expect_texts(CHANGED)
        expect(each.page.locator(".chip")).to_have_text("👍 2")
    ann.page.reload()
    ann.expect_texts(CHANGED)
    expect(chip).to_have_text("👍 2")
    chip.focus()
    ann.page.keyboard.press("Enter")
    expect(chip).to_have_text("👍 1")
    expect(ann.page.locator("#messages .pending")).to_have_count(0)
    expect(chip).to_be_focused()


def test_a_refused_change_is_put_back_and_another_stays_in_sight_between_its_answer_and_its_record(
    shared_server: Server, window: OpenWindow
) -> None:
    line = SlowLine(asked=ASKED)
    ann = prepared(window, shared_server, "refused-and-late", line)
    react(ann, "one")
    expect(ann.page.locator(".chip")).to_be_visible()
    line.refuse()
    expect(ann.page.locator("#toast")).to_have_text("No reaction: not now")
    expect(ann.page.locator(".chip")).to_have_count(0)
    ann.act("two", "Edit")
    ann.say("two and a half")
    expect(ann.texts.nth(1)).to_have_text("two and a half edited")
    line.refuse()
    expect(ann.page.locator("#toast")).to_have_text("Not changed: not now")
    expect(ann.pending.locator(".text")).to_have_text("two and a half")
    expect(ann.pending.locator(".aside")).to_have_text("not changed")
    ann.pending.get_by_role("button", name="Discard").click()
    ann.delete("three")
    expect(ann.texts.last).to_have_text("This message was deleted.")
    line.refuse()
    expect(ann.page.locator("#toast")).to_have_text("Not deleted: not now")
    ann.expect_texts(["one", "two", "three"])
    expect(ann.page.locator("#messages .pending")).to_have_count(0)

    line.asked, line.told = (), TOLD
    before = line.answers
    change_all(ann)
    wait_until(ann.page, lambda: line.answers == before + len(ASKED))
    ann.expect_texts(CHANGED)
    expect(ann.page.locator(".chip")).to_have_text("👍 1")
    expect(ann.page.locator("#messages .pending")).to_have_count(3)
    line.release()
    expect(ann.page.locator("#messages .pending")).to_have_count(0)
    ann.expect_texts(CHANGED)
    expect(ann.page.locator(".chip")).to_have_text("👍 1")
    ann.page.locator(".chip").focus()
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator(".chip")).to_have_count(0)  # at once: the record of this one is on its way
    line.release()
