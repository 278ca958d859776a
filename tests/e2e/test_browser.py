"""The page in a real Chromium against a real server, with several windows and `kill -9`."""

import json
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest
from playwright.sync_api import expect
from websockets.sync.client import connect

from tests.e2e.browser import PORTAL, after_next_frame, expect_at, wait_until
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server, serving

pytestmark = pytest.mark.browser

TRANSPORTS = ["ws", "sse", "poll"]


def test_three_windows_chat_through_a_kill(server: Server, window: OpenWindow) -> None:
    """No message is lost or doubled, on each transport and whenever the server dies."""
    people = {transport: window() for transport in TRANSPORTS}
    for transport, each in people.items():
        each.open(server, transport=transport)
    said: dict[str, list[str]] = {transport: [] for transport in TRANSPORTS}

    def say(*texts: str) -> None:
        for transport, each in people.items():
            its_own = [f"{text}, over {transport}" for text in texts]
            each.say(*its_own)
            said[transport] += its_own

    def expect_count(messages: int) -> None:
        for each in people.values():
            expect(each.texts).to_have_count(messages)

    say("hello", "anybody here?")
    expect_count(6)
    say("into the fall")
    server.kill()
    for each in people.values():
        each.expect_away()
    say("while away", "again")
    for each in people.values():
        expect(each.pending.filter(has_text="while away")).to_have_count(1)
    server.start()
    for transport, each in people.items():
        each.expect_live(transport)
    expect_count(15)
    say("we are back")
    expect_count(18)

    log = server.messages("lobby")
    texts = [message["text"] for message in log]
    assert [message["offset"] for message in log] == list(range(1, 19))
    assert sorted(texts) == sorted(chain.from_iterable(said.values()))
    for transport, each in people.items():
        each.expect_texts(texts)
        own = each.page.locator("#messages .own .text")
        expect(own).to_have_text(said[transport])
        each.page.reload()
        each.expect_live(transport)
        each.expect_texts(texts)
        expect(own).to_have_text(said[transport])


#: As behind a proxy without upgrades: the handshake is not answered with 101.
BLOCK = """WebSocket = class extends WebSocket {
    constructor(url) { super(window.unblocked ? url : url + '-blocked'); }
}"""


def test_a_blocked_transport_is_replaced_and_used_later(shared_server: Server, window: OpenWindow) -> None:
    ann, ben = window(first=BLOCK, has_clock=True, room="ladder"), window(first=BLOCK, has_clock=True)
    ben.page.route("**/events?*", lambda route: None)  # as behind a proxy that passes on whole answers only
    ann.expect_live("sse")
    with ben.page.expect_request("**/events?*"):
        ben.page.goto(f"{shared_server.url}/#ladder")
    ben.page.clock.set_fixed_time(ben.page.evaluate("Date.now()") / 1000 + 9)
    ben.expect_live("poll")
    ann.say("over the stream")
    ben.expect_texts(["over the stream"])
    ben.say("over the poll")
    ann.expect_texts(["over the stream", "over the poll"])
    for each, held in ((ann, "**/events?*"), (ben, "**/poll?*")):
        with each.page.expect_request(held):  # after a sleep of the computer; only the time of day has gone on
            each.page.clock.set_system_time(each.page.evaluate("Date.now()") / 1000 + 3_600)
            each.page.clock.fast_forward(2_000)

    ann.page.evaluate("window.unblocked = true")
    for _ in range(10):  # a jump may also end a poll at its deadline; then the page checks again after the next
        ann.page.clock.fast_forward(31_000)
        with suppress(AssertionError):  # for longer than OPEN_DEADLINE: a jump would end an attempt that is under way
            expect(ann.page.locator("#connection-text")).to_contain_text("live · WebSocket", timeout=12_000)
            break
    ann.expect_live("ws")
    ben.say("still there?")
    ann.say("up again")
    expect(ben.texts).to_have_count(4)
    ann.expect_texts(ben.texts.all_inner_texts())


@pytest.mark.parametrize("transport", ["ws", "sse"])
def test_what_answers_in_place_of_the_server_is_told_and_outlasted(window: OpenWindow, transport: str) -> None:
    """The sign-in page of a network answers every request: the page said that there was no answer."""
    ann = window(is_played=True, room=f"portal-{transport}", transport=transport)
    ann.lose_connection(PORTAL)
    expect(ann.page.locator("#banner")).to_contain_text("perhaps the sign-in page of this network")
    ann.page.click("#banner-close")
    ann.page.click("#reconnect")
    ann.expect_away()
    expect(ann.page.locator("#banner")).to_be_hidden()
    ann.find_connection()
    ann.expect_live(transport)


def test_who_came_and_went_during_an_outage_is_seen_after_it(shared_server: Server, window: OpenWindow) -> None:
    """As many had come as had gone: the list named those who had left, until somebody else came or went."""
    ann = window(is_played=True, room="relay")
    people = ann.page.locator("#people")
    url = f"ws{shared_server.url.removeprefix('http')}/ws"
    with connect(url) as ben, connect(url) as cid:
        names = [json.loads(each.recv())["user"]["name"] for each in (ben, cid)]
        ben.send('{"type": "join", "room": "relay"}')
        expect(people).to_contain_text(names[0])
        ann.lose_connection()
        ben.send('{"type": "leave", "room": "relay"}')
        cid.send('{"type": "join", "room": "relay"}')
        next(message for message in map(json.loads, cid) if message["type"] == "presence")  # all others have it too
        ann.find_connection()
        expect(people).to_contain_text(names[1])
        expect(people).not_to_contain_text(names[0])


def test_the_policy_is_in_force_and_text_stays_text(visit: OpenWindow) -> None:
    attacks = [
        "<script>window.hit = 1</script>",
        '<img src=x onerror="window.hit = 1">',
        '"><svg onload=window.hit=1>',
        "javascript:window.hit=1",
        "&lt;b&gt; &amp; <b>bold</b>",
        "http://x/\"onmouseover='window.hit=1' and https://example.org/<script>",
    ]
    ann = visit(room="attacks")
    ann.say(*attacks)
    ann.expect_texts(attacks)
    assert ann.page.locator(".text :not(a, p)").count() == 0
    links = ann.page.locator(".text a")
    expect(links).to_have_text(["http://x/", "https://example.org/"])
    for link in links.all():
        assert link.get_attribute("rel") == "noopener noreferrer"
    for typed, shown in (("stra%C3%9Fe", "straße"), ("%E0%A4%A", "%E0%A4%A"), (attacks[1], attacks[1])):
        ann.page.evaluate("(typed) => { location.hash = typed; }", typed)
        expect(ann.page.locator("#banner")).to_contain_text(f"“{shown}” cannot be a room")
    ann.page.evaluate("location.hash = 'Attacks desk'")  # as the field for rooms takes it
    expect(ann.page.locator("#room-title")).to_have_text("attacks-desk")
    ann.page.reload()
    ann.expect_live()
    assert ann.page.evaluate("window.hit === undefined")
    assert ann.complaints == []

    ann.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), { text: 'window.hit = 1' }))"
    )
    assert ann.page.evaluate("window.hit === undefined")
    wait_until(ann.page, lambda: ann.complaints)
    assert "Content Security Policy" in ann.complaints.pop()


def test_history_is_loaded_on_scrolling_up_and_nothing_moves(shared_server: Server, visit: OpenWindow) -> None:
    """New messages must not make rows that displace the visible ones: there are 240 at most."""
    shared_server.publish("archive", *(f"message {number}" for number in range(260)))
    ann = visit(room="archive")
    expect(ann.texts.last).to_have_text("message 259")
    expect(ann.texts.last).to_be_in_viewport()
    assert ann.texts.count() < 120

    ann.scroll_up_to(ann.page.get_by_text("This is the beginning of #archive."))
    held = ann.page.get_by_text("message 10", exact=True)
    held.scroll_into_view_if_needed()
    after_next_frame(ann.page)  # rows are made then
    before = held.bounding_box()
    shared_server.publish("archive", *(f"news {number}" for number in range(10)))
    expect(ann.page.locator("#jump")).to_have_text("10 new messages ↓")
    expect_at(held, before)
    ann.page.click("#jump")
    expect(ann.texts.last).to_be_in_viewport()
    expect(ann.page.locator("#jump")).to_be_hidden()
    expect(ann.texts.last).to_have_text("news 9")


def test_a_reader_of_an_old_message_scrolls_on_to_the_present(shared_server: Server, visit: OpenWindow) -> None:
    """From a link into the middle of a room, through pages that are fetched on the way, and what is said meanwhile."""
    shared_server.publish("from-a-link", *(f"message {number}" for number in range(260)))
    ann = visit(room="link-desk")
    ann.page.evaluate("location.hash = 'from-a-link/40'")
    expect(ann.page.get_by_text("message 39", exact=True)).to_be_in_viewport()
    shared_server.publish("from-a-link", "news")
    expect(ann.page.locator("#jump")).to_have_text("1 new message ↓")
    ann.page.locator("#scroller").hover()
    seen: set[str] = set()

    def is_there() -> bool:
        seen.update(ann.texts.all_text_contents())
        ann.page.mouse.wheel(0, 1_000)
        return ann.page.locator("#jump").is_hidden()

    wait_until(ann.page, is_there)
    expect(ann.texts.last).to_have_text("news")
    assert seen >= {f"message {number}" for number in range(39, 260)}


def test_a_log_that_began_anew_is_never_a_silent_gap(tmp_path: Path, window: OpenWindow) -> None:
    windows = {transport: window() for transport in TRANSPORTS}
    with serving(tmp_path, log="memory:") as server:
        for transport, ann in windows.items():
            ann.open(server, transport=transport, room=transport)
            ann.say("forgotten", "this too")
            ann.expect_texts(["forgotten", "this too"])
        server.kill()
        for ann in windows.values():
            ann.expect_away()
            ann.act("forgotten", "Reply")
            ann.say("why?")
        windows["poll"].go("elsewhere")  # over HTTP the reply went out: only the page of the open room was awaited
        server.start()
        for transport, ann in windows.items():
            server.publish(transport, "a new life")
            if transport == "poll":
                ann.expect_live()
                ann.go(transport)
            else:
                expect(ann.page.locator("#banner")).to_contain_text("some messages are gone")
            ann.say("go on")
            expect(ann.texts).to_have_text(["a new life", "go on"])
            expect(ann.pending).to_have_count(1)  # the reply would be one to the new message
            expect(ann.pending.locator(".problem")).to_contain_text("without the message that this is about")
            ann.pending.get_by_role("button", name="Send again").click()
            ann.expect_texts(["a new life", "go on", "why?"])
            expect(ann.page.locator(".quote")).to_have_count(0)


def test_a_room_in_slow_mode_shows_its_wait_and_a_fast_writer_loses_nothing(tmp_path: Path, window: OpenWindow) -> None:
    ann = window()
    config = tmp_path / "chat.toml"
    config.write_text('[rooms."slow"]\nslow_mode = 600\n')
    with serving(tmp_path, flags=["--config", str(config), "--publish-rate", "5"]) as server:
        ann.open(server, room="slow")
        ann.say("one", "two")
        expect(ann.page.locator("#pending .problem")).to_contain_text("Too many messages: this one goes out at ")
        expect(ann.page.locator("#pending .problem")).to_have_role("alert")  # else a blind user takes it for sent
        ann.go("quick")
        said = [f"number {number}" for number in range(16)]
        ann.say(*said)
        ann.expect_texts(said)
        assert [message["text"] for message in server.messages("quick")] == said
        ann.page.evaluate("location.hash = 'slow'")
        expect(ann.texts).to_have_text(["one"])
        expect(ann.pending).to_have_count(1)
        ann.pending.get_by_role("button", name="Discard").click()
        expect(ann.pending).to_have_count(0)


#: The page hears of the end of a WebSocket a second late, and the test can see its state.
LATE_CLOSE = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) { super(...given); window.sockets.push(this); }
  set onclose(handler) { super.onclose = (event) => setTimeout(() => handler(event), 1_000); }
};
"""


def test_messages_written_offline_are_sent_later(server: Server, window: OpenWindow) -> None:
    """Drafts stay per room, Shift+Enter is a line, a room's messages stay in their room, and nobody is typing.

    The browser complained on the console of each that was written before the page heard of the end.
    """
    ann, ben = window(first=LATE_CLOSE), window()
    for each in (ann, ben):
        each.open(server)
    expect(ann.page.locator("#people li")).to_have_count(2)
    expect(ann.page.locator("#empty")).to_be_visible()
    ben.page.click("#text")
    ben.page.keyboard.type("hm")
    expect(ann.page.locator("#typing")).to_contain_text("is typing…")
    server.kill()
    ann.page.wait_for_function("() => window.sockets.every((each) => each.readyState === WebSocket.CLOSED)")
    ann.say("too late")
    ann.expect_away()
    assert ann.page.locator("#typing").inner_text() == ""  # by itself it would end only after six seconds
    ann.say("written offline")
    expect(ann.pending).to_have_count(2)
    expect(ann.page.locator("#empty")).to_be_hidden()
    ann.page.fill("#text", "half a")
    ann.page.press("#text", "Shift+Enter")
    ann.page.keyboard.type("thought")
    ann.page.evaluate("location.hash = 'other'")
    expect(ann.page.locator("#text")).to_have_value("")
    expect(ann.pending).to_have_count(0)
    server.start()
    ann.expect_live()
    ann.say("elsewhere")
    ann.expect_texts(["elsewhere"])
    ann.page.go_back()
    expect(ann.page.locator("#text")).to_have_value("half a\nthought")
    ann.expect_texts(["too late", "written offline"])


def test_people_come_and_go(window: OpenWindow, visit: OpenWindow) -> None:
    ann, ben = visit(room="crowd"), visit(room="crowd")
    expect(ann.page.locator("#people li")).to_have_count(2)
    expect(ann.page.locator("#people li").first).to_contain_text("you")
    window(transport="poll", room="crowd")
    expect(ann.page.locator("#people li")).to_have_count(3)
    ben.page.evaluate("location.hash = 'nobody-is-here'")  # opening another room is not leaving
    expect(ben.page.locator("#people li")).to_have_count(1)
    expect(ann.page.locator("#people li")).to_have_count(3)
    crowd = ben.page.locator("#rooms a[href='#crowd']")
    expect(crowd).to_contain_text("3 people here")
    crowd.click()
    ben.page.click("#room-menu-button")
    ben.page.click("#leave")
    expect(ann.page.locator("#people li")).to_have_count(2)
    expect(ann.page.locator("#rooms a[href='#crowd']")).to_contain_text("2 people here")


def test_a_refused_message_says_why_and_can_be_edited_or_discarded(visit: OpenWindow) -> None:
    ann = visit(room="refusals")
    ann.say("//a control character: \x07")
    ann.page.fill("#text", "a draft")
    ann.page.locator("#pending").get_by_role("button", name="Edit").click()
    expect(ann.page.locator("#text")).to_be_focused()
    expect(ann.page.locator("#text")).to_have_value("//a control character: \x07\na draft")
    expect(ann.pending).to_have_count(0)
    ann.page.press("#text", "Enter")
    problem = ann.page.locator("#pending .problem")
    expect(problem).to_contain_text("control character")
    ann.say("and on it goes")
    expect(ann.texts).to_have_text(["and on it goes"])
    ann.page.set_viewport_size({"width": 250, "height": 700})  # a finger has wider buttons, in 360
    ann.page.evaluate("document.documentElement.style.fontSize = '200%'")  # the list could be scrolled sideways
    assert ann.page.evaluate("scroller.scrollWidth <= scroller.clientWidth")
    ann.page.evaluate("document.documentElement.style.fontSize = ''")  # other tests visit this page
    problem.get_by_role("button", name="Discard").click()
    ann.expect_texts(["and on it goes"])


def test_a_phone_by_keyboard(visit: OpenWindow) -> None:
    ann = visit(width=375, height=667, room="phone")
    ann.say("averylongword" * 40, "https://example.org/" + "x" * 300, "```\nwide " + "code" * 100 + "\n```")
    expect(ann.texts).to_have_count(3)
    assert ann.page.evaluate("document.documentElement.scrollWidth") == 375
    assert ann.page.evaluate("scroller.scrollWidth <= scroller.clientWidth")
    ann.page.focus("#show-rooms")
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator("#rooms a[aria-current]")).to_be_focused()
    ann.page.focus("#me")
    for key, focused in (("Enter", "#account-name"), ("Escape", "#me")):
        ann.page.keyboard.press(key)
        expect(ann.page.locator(focused)).to_be_focused()
    ann.page.keyboard.press("Tab")  # to what the drawer had covered
    expect(ann.page.locator("#show-rooms")).to_be_focused()
    expect(ann.page.locator("#rooms-panel")).to_be_hidden()
    ann.page.keyboard.press("Enter")
    ann.page.fill("#room-name", "garden")
    ann.page.press("#room-name", "Enter")
    expect(ann.page.locator("#room-title")).to_have_text("garden")
    expect(ann.page.locator("#rooms-panel")).to_be_hidden()
    expect(ann.page.locator("#empty")).to_be_visible()


def test_a_room_beyond_the_limit_of_empty_ones_is_followed_from_its_first_message_on(
    server: Server, window: OpenWindow
) -> None:
    """The first message stayed pending, and no answer to it was shown until the room was opened again."""
    ann = window()
    ann.open(server, room="empty-0")
    for number in range(1, 6):
        ann.go(f"empty-{number}")
    expect(ann.page.locator("#banner")).to_contain_text("4 rooms without messages")
    expect(ann.page.locator("#edge")).to_be_hidden()  # no messages are fetched
    ann.say("first")
    ann.expect_texts(["first"])
    server.publish("empty-5", "second")
    ann.expect_texts(["first", "second"])
    ann.expect_live()
    expect(ann.page.locator("#banner")).to_be_hidden()
    out = ann.page.locator("#rooms a[href='#empty-4'] [title*='without messages']")
    expect(out).to_be_visible()
    server.publish("empty-4", "from somebody else")
    ann.go("empty-0")
    expect(out).to_be_hidden()
