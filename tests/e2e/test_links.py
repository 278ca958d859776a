"""The page against a WebSocket server that the test plays: gaps, silence, lost answers, closes."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Route, WebSocketRoute, expect

from tests.e2e.browser import Window, wait_until
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server

pytestmark = pytest.mark.browser

EPOCH = "e1"
SELF = {"id": "u_self", "name": "Brisk Otter"}


def place(offset: int) -> dict[str, Any]:
    return {"room": "lobby", "offset": offset, "cursor": f"{EPOCH}-{offset}", "time": "2026-11-20T12:00:00.000Z"}


def message(offset: int, text: str | None = None, user: dict[str, str] | None = None) -> dict[str, Any]:
    user = user or {"id": "u_other", "name": "Quiet Lynx"}
    return {"user": user, "text": text or f"message {offset}", **place(offset)}


def page_of(*offsets: int, kind: str = "history", **more: Any) -> dict[str, Any]:
    page = {"room": "lobby", "cursor": f"{EPOCH}-{max(offsets)}", "messages": [message(offset) for offset in offsets]}
    return {"type": kind, **page, "recovered": True, **more}


def joined(*offsets: int, **more: Any) -> dict[str, Any]:
    return page_of(*offsets, kind="joined", members=1, **more)


class Script:
    """The server: sends `hello`, answers requests by type, and records them."""

    def __init__(self, window: Window) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "join": lambda _: joined(1, 2),
            "members": lambda _: {"type": "members", "room": "lobby", "members": [SELF], "count": 1},
            "ping": lambda _: {"type": "pong"},
        }
        self.connections = 0
        self._window = window
        window.accept = self._accept

    def _accept(self, route: WebSocketRoute) -> None:
        self.connections += 1
        self.route = route
        route.on_message(self._hear)
        self.push({"type": "hello", "protocol": "chat.v1", "session": "s", "user": SELF, "ping": 25, "limits": {}})

    def _hear(self, data: str | bytes) -> None:
        request = json.loads(data)
        self.requests.append(request)
        answer = self.answers.get(request["type"])
        if answer is not None:
            self.push({"id": request["id"], **answer(request)})

    def push(self, pushed: dict[str, Any]) -> None:
        self.route.send(json.dumps(pushed))

    def say(self, *messages: dict[str, Any]) -> None:
        for each in messages:
            self.push({"type": "message", **each})

    def asked(self, kind: str) -> list[dict[str, Any]]:
        return [request for request in self.requests if request["type"] == kind]

    def wait_for(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        wait_until(self._window.page, lambda: len(self.asked(kind)) >= count)
        return self.asked(kind)


@pytest.fixture
def ann(window: OpenWindow) -> Window:
    return window(is_played=True)


@pytest.fixture
def script(ann: Window, shared_server: Server) -> Script:
    return play_for(ann, shared_server)


def play_for(ann: Window, shared_server: Server) -> Script:
    """Ann is live and has its first two messages."""
    played = Script(ann)
    ann.open(shared_server, transport="ws")
    ann.expect_texts(texts(1, 2))
    return played


def texts(*offsets: int) -> list[str]:
    return [f"message {offset}" for offset in offsets]


def test_a_hole_and_a_gap_are_fetched_or_shown_as_lost(ann: Window, script: Script) -> None:
    script.answers["history"] = lambda asked: page_of(3, 4) if asked["after"] == f"{EPOCH}-2" else page_of(6, 7)
    script.say(message(5))
    ann.expect_texts(texts(1, 2, 3, 4, 5))
    script.push({"type": "gap", "room": "lobby", "after": f"{EPOCH}-5", "until": f"{EPOCH}-7"})
    ann.expect_texts(texts(1, 2, 3, 4, 5, 6, 7))
    script.say(message(7), message(8))
    ann.expect_texts(texts(*range(1, 9)))
    assert [asked["after"] for asked in script.asked("history")] == [f"{EPOCH}-2", f"{EPOCH}-5"]
    expect(ann.page.locator(".lost")).to_have_count(0)
    script.answers["history"] = lambda _: page_of(11, recovered=False)
    script.say(message(12))
    ann.expect_texts(texts(*range(1, 9), 11, 12))
    expect(ann.page.locator("li", has=ann.page.locator(".lost"))).to_contain_text("message 11")


def test_no_history_is_fetched_before_a_scroll(ann: Window, shared_server: Server) -> None:
    """The list is at its top before it is scrolled to its end, which must not load history."""
    script = Script(ann)
    script.answers["join"] = lambda _: joined(*range(101, 151))
    ann.open(shared_server, transport="ws")
    expect(ann.texts).to_have_count(50)
    script.wait_for("members")  # some tenths of a second later
    assert script.asked("history") == []
    script.answers["history"] = lambda _: page_of(*range(51, 101))
    ann.scroll_up_to(ann.page.get_by_text("message 51", exact=True))


def test_a_link_to_a_message_is_dropped_when_another_room_is_opened_first(ann: Window, shared_server: Server) -> None:
    """The message must not be searched in the other room."""
    script = Script(ann)
    del script.answers["join"]
    ann.open(shared_server, transport="ws", room="lobby/1")
    (lobby,) = script.wait_for("join")
    ann.go("other")
    other = script.wait_for("join", 2)[1]
    for request in (other, lobby):
        script.push({**joined(5, 6), "id": request["id"], "room": request["room"]})
    ann.expect_texts(texts(5, 6))
    script.wait_for("members")
    assert not any("after" in asked for asked in script.asked("history"))  # earlier messages are fetched anyway
    expect(ann.page.locator("#toast")).to_be_empty()


def test_what_a_slow_line_brings_late_belongs_to_its_room(ann: Window, shared_server: Server) -> None:
    """Another room fetched nothing until it came, and the room of a link that was left showed an old range later."""
    script = Script(ann)
    script.answers["join"] = lambda request: {**joined(*range(101, 151)), "room": request["room"]}
    scroll = "document.getElementById('scroller').scrollTop = 0"
    ann.open(shared_server, transport="ws")
    expect(ann.texts).to_have_count(50)
    ann.page.evaluate(scroll)
    script.wait_for("history")
    ann.page.evaluate("location.hash = 'lobby/10'")
    visit = script.wait_for("history", 2)[1]
    ann.go("other")
    expect(ann.texts).to_have_count(50)
    ann.page.evaluate(scroll)
    assert script.wait_for("history", 3)[2]["room"] == "other"
    ann.go("lobby")
    expect(ann.texts).to_have_count(50)
    ann.page.evaluate("document.getElementById('scroller').scrollTop = 1e6")
    script.push({**page_of(*range(1, 51)), "id": visit["id"]})
    script.push({"type": "message", **message(151)})
    expect(ann.texts.last).to_have_text("message 151")


def test_a_jump_from_an_older_range_is_not_lost_with_a_message_that_arrives_meanwhile(
    ann: Window, shared_server: Server
) -> None:
    """The list went back to the older range, and the message of the second link was not shown, without a word."""
    script = Script(ann)
    script.answers["join"] = lambda _: joined(*range(101, 151))
    ann.open(shared_server, transport="ws")
    expect(ann.texts).to_have_count(50)
    found = ann.page.locator(".found")
    ann.page.evaluate("location.hash = 'lobby/30'")
    (first,) = script.wait_for("history")
    script.push({**page_of(*range(6, 56)), "id": first["id"]})
    expect(found).to_contain_text("message 30")
    ann.page.evaluate("location.hash = 'lobby/75'")
    wait_until(ann.page, lambda: script.asked("history")[-1].get("after") == f"{EPOCH}-50")
    visit = script.asked("history")[-1]
    script.say(message(151))
    script.push({**page_of(*range(51, 99)), "id": visit["id"]})
    expect(found).to_contain_text("message 75")


def test_a_message_of_a_link_stays_marked_when_the_page_learns_who_its_user_is(
    ann: Window, shared_server: Server
) -> None:
    """All rows were made anew: the mark went, and the focus with it. With less motion it was never seen."""
    Script(ann)
    ann.page.emulate_media(reduced_motion="reduce")
    ann.run_first("addEventListener('animationstart', () => document.getAnimations().forEach((each) => each.pause()))")
    asked: list[Route] = []

    def hold(route: Route) -> None:
        asked.append(route)

    ann.page.route("**/session", hold)
    ann.open(shared_server, transport="ws", room="lobby/1")
    marked = ann.page.locator(".message.found")
    expect(marked).to_be_focused()
    expect(marked.locator(".bubble")).to_have_css("animation-duration", "2.5s")
    wait_until(ann.page, lambda: asked)
    for route in asked:
        route.fulfill(json={"user": SELF, "guest": False, "moderates": ["*"]})
    expect(ann.page.locator("#me")).to_have_attribute("title", f"You are {SELF['name']}: sign in or out")
    expect(marked).to_be_focused()
    ann.page.emulate_media(reduced_motion="null")


def test_a_message_without_an_answer_is_not_edited_and_is_sent_again_with_its_key(ann: Window, script: Script) -> None:
    """Arrow up is meant for the message that was just sent, and must not edit the one before."""
    script.answers["publish"] = lambda _: {"type": "ack", **place(3)}
    ann.say("first")
    script.say(message(3, "first", SELF))
    ann.expect_texts([*texts(1, 2), "first"])
    del script.answers["publish"]
    ann.say("secnod")
    request = script.wait_for("publish", 2)[-1]
    ann.page.press("#text", "ArrowUp")
    expect(ann.page.locator("#toast")).to_have_text("Your last message cannot be edited yet.")
    expect(ann.page.locator("#about")).to_be_hidden()
    expect(ann.page.locator("#text")).to_have_value("")
    script.push({"id": request["id"], "type": "ack", **place(4)})
    script.say(message(4, "secnod", SELF))
    ann.expect_texts([*texts(1, 2), "first", "secnod"])
    ann.page.press("#text", "ArrowUp")
    expect(ann.page.locator("#text")).to_have_value("secnod")
    ann.page.press("#text", "Escape")

    ann.say("important", "second")
    unanswered = script.wait_for("publish", 3)[-1]
    expect(ann.pending).to_have_count(2)
    script.say(message(5, "important", SELF))
    expect(ann.pending).to_have_count(1)  # it has arrived, so it is not shown as pending
    script.answers["publish"] = lambda asked: {"type": "ack", **place(5 if asked["text"] == "important" else 6)}
    script.route.close(code=1011)
    published = script.wait_for("publish", 5)[-2:]
    assert [each["text"] for each in published] == ["important", "second"]
    assert published[0]["key"] == unanswered["key"] != published[1]["key"]
    assert script.asked("join")[-1]["after"] == f"{EPOCH}-5"
    script.say(message(6, "second", SELF))
    said = [*texts(1, 2), "first", "secnod", "important", "second"]
    ann.expect_texts(said)

    # What is pending outlives a reload and its tab. A later tab asks, since much may have been said meanwhile.
    del script.answers["publish"]
    ann.say("urgent")
    first = script.wait_for("publish", 6)[-1]
    ann.page.fill("#text", "a draft")
    ann.page.reload()
    again = script.wait_for("publish", 7)[-1]
    assert (again["text"], again["key"]) == ("urgent", first["key"])
    expect(ann.page.locator("#text")).to_have_value("a draft")
    expect(ann.pending).to_have_attribute("data-state", "sending")
    ann.page.evaluate("sessionStorage.clear()")  # as if the tab was closed, and another is opened
    ann.page.reload()
    expect(ann.pending).to_contain_text("urgent")
    expect(ann.page.locator("#pending .problem")).to_contain_text("Its tab was closed before it was sent.")
    ann.page.get_by_role("button", name="Send again").click()
    assert script.wait_for("publish", 8)[-1]["text"] == "urgent"


def test_what_ends_a_connection_decides_what_follows(ann: Window, script: Script) -> None:
    """A frame that is not of the server was an uncaught error, and what it stood for was missing."""
    frames: list[str | bytes] = ["<html>", "null", b"\x00"]
    for connections, data in enumerate(frames, 1):
        script.route.send(data)
        script.wait_for("join", connections + 1)
        ann.expect_live("ws")
        ann.expect_texts(texts(1, 2))
    connections = script.connections
    script.push({"type": "goaway", "reason": "draining", "retry_after": 40})
    script.route.close(code=1012)
    expect(ann.page.locator("#connection-text")).to_have_text(re.compile("retrying in ([34][0-9]|50)\\ss…"))
    assert script.connections == connections
    ann.page.click("#reconnect")
    ann.expect_live("ws")

    ann.say("huge")
    script.wait_for("publish")
    script.route.close(code=1009)
    problem = ann.page.locator("#pending .problem")
    expect(problem).to_contain_text("too long")
    ann.expect_live("ws")
    assert len(script.asked("publish")) == 1, "not for ever"
    ann.pending.get_by_role("button", name="Discard").click()

    # No more connections: the promise of a message stayed pending. (The user is the same: else it would be held.)
    ann.page.route("**/session", lambda route: route.fulfill(json={"user": SELF}))
    ann.say("early")
    script.wait_for("publish", 2)
    script.route.close(code=4503, reason="the sign-in has ended")
    expect(problem).to_contain_text("the sign-in has ended. ")
    ann.say("late")
    expect(problem).to_have_count(2)
    ann.page.click("#reconnect")
    ann.expect_live("ws")
    ann.page.get_by_role("button", name="Send again").last.click()
    assert script.wait_for("publish", 3)[-1]["text"] == "late"


def test_a_join_without_an_answer_is_tried_again(window: OpenWindow, shared_server: Server) -> None:
    """The room stayed empty as long as the connection lived, and nothing said that it is asked for."""
    ann = window(is_played=True, has_clock=True)
    script = Script(ann)
    join = script.answers.pop("join")
    ann.open(shared_server, transport="ws")
    script.wait_for("join")
    expect(ann.page.get_by_text("Fetching messages…")).to_be_visible()
    script.answers["join"] = join
    ann.page.clock.fast_forward(61_000)
    script.wait_for("join", 2)
    ann.expect_texts(texts(1, 2))


def test_a_silent_connection_is_pinged_and_then_closed(window: OpenWindow, shared_server: Server) -> None:
    """Scripts see no ping frames, so the page itself has to test a silent connection.

    After a sleep of the computer it did so half a minute later, since only the time of day had gone on.
    """
    ann = window(is_played=True, has_clock=True)
    script = play_for(ann, shared_server)
    ann.page.clock.set_system_time(ann.page.evaluate("Date.now()") / 1000 + 3_600)
    ann.page.clock.fast_forward(2_000)
    script.wait_for("ping")
    ann.page.clock.fast_forward(28_000)
    script.wait_for("ping", 2)
    script.say(message(3))
    ann.expect_texts(texts(1, 2, 3))  # so the pong before it has arrived
    ann.page.clock.fast_forward(20_000)
    script.say(message(4))
    ann.expect_texts(texts(1, 2, 3, 4))
    assert len(script.asked("ping")) == 2, "it is not silent"
    expect(ann.page.locator("#connection-text")).to_contain_text("live")
    del script.answers["ping"]
    ann.page.clock.fast_forward(28_000)
    script.wait_for("ping", 3)
    ann.page.clock.fast_forward(14_000)
    script.wait_for("join", 2)
    ann.expect_live("ws")
    assert script.connections == 2
