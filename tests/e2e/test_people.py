"""People in the page: names, typing, search."""

import json
import re
from itertools import islice

import pytest
from playwright.sync_api import Route, WebSocketRoute, expect
from websockets.sync.client import connect

from chatserver.settings.fields import Settings
from tests.e2e.browser import NOTIFICATIONS, PHONE, wait_until
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server

pytestmark = pytest.mark.browser


def test_a_name_of_ones_own_is_seen_by_all_and_kept(visit: OpenWindow) -> None:
    ann, ben = visit(room="names"), visit(room="names")
    ann.say("who am I?")
    ben.expect_texts(["who am I?"])
    ann.save_name("Ann Lee")
    expect(ann.page.locator("#account")).to_be_hidden()
    expect(ann.page.locator("#me")).to_contain_text("Ann Lee")
    ann.expect_live()
    expect(ben.page.locator("#people")).to_contain_text("Ann Lee")
    ann.say("now I know")
    expect(ben.page.locator("#messages .author").last).to_have_text("Ann Lee")
    expect(ben.page.locator("#messages .first")).to_have_count(2)  # not grouped below the old name
    expect(ann.page.locator("#messages .own")).to_have_count(2)  # the same user as before
    ann.page.reload()
    expect(ann.page.locator("#me")).to_contain_text("Ann Lee")

    ann.save_name("\u202eAnn")
    expect(ann.page.locator("#account-problem")).to_contain_text("name")
    ann.page.press("#account-name", "Escape")

    ben.page.click("#text")
    ben.page.keyboard.type("hm")
    expect(ann.page.locator("#typing")).to_contain_text("is typing…")
    ben.page.keyboard.press("Enter")
    expect(ann.page.locator("#typing")).to_be_empty()  # at once: the message is sent


def test_a_new_name_can_be_mentioned_as_soon_as_it_is_read(shared_server: Server, window: OpenWindow) -> None:
    """Presence follows the messages after up to a second; in this test it does not arrive at all."""
    ann, ben = window(is_played=True), window(room="renamed")
    is_told = True

    def accept(route: WebSocketRoute) -> None:
        server = route.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            if is_told or json.loads(message)["type"] not in ("presence", "members"):
                route.send(message)

        server.on_message(pass_on)

    ann.accept = accept
    ann.open(shared_server, room="renamed")
    expect(ann.page.locator("#people li")).to_have_count(2)
    is_told = False
    ben.say("old")  # with the page's cookie, which has another name next
    assert ben.page.request.post(f"{shared_server.url}/session", data={"name": "Bertram"}).ok
    ben.page.evaluate("fetch('/rooms/renamed/messages', { method: 'POST', body: 'it is me' })")
    expect(ann.texts).to_have_text(["old", "it is me"])
    ann.page.fill("#text", "@Bert")
    expect(ann.page.locator("#completions li")).to_have_text("Bertram")


def test_without_a_websocket_a_new_name_is_listed_by_its_user_and_can_be_mentioned_at_once(window: OpenWindow) -> None:
    """It could be when the list was asked for again, up to 15 s later; here it is not."""
    never = (
        "{ const repeat = setInterval; window.setInterval = (run, wait) => wait === 15_000 ? 0 : repeat(run, wait); }"
    )
    ben, ann = (window(room="renamed-by-poll", transport="poll", first=never) for _ in range(2))
    people = [each.page.locator("#people") for each in (ann, ben)]
    for each in people:
        expect(each).to_contain_text(ben.name)
    for person in (ann, ben):
        person.page.route("**/members", lambda route: route.abort())
    ben.save_name("Benedikt")
    expect(people[1]).to_contain_text(re.compile("Benedikt.*you"))
    ben.say("it is me")
    ann.expect_texts(["it is me"])  # names are offered when something is typed
    ann.page.fill("#text", "@Bened")
    expect(ann.page.locator("#completions li")).to_have_text("Benedikt")


def test_a_search_opens_the_message(shared_server: Server, visit: OpenWindow) -> None:
    # A word that no guest has in the name: others may mention one.
    nothing = [f"nothing {number}" for number in range(120)]
    shared_server.publish("archives", *nothing[:7], "a zither numbered 7", *nothing[8:])
    shared_server.publish("zoo", "黒い猫", "nothing here")
    ann = visit(room="reading-room")
    ann.search("nothing in:#Zoo")
    expect(ann.page.locator("#switcher-list a")).to_have_text([re.compile("^#zoo .*nothing here$")])
    ann.page.keyboard.press("Control+a")
    ann.page.keyboard.type("ZITHER")
    found = ann.page.locator("#switcher-list a", has_text="zither numbered")
    expect(found.locator("mark")).to_have_text("zither")
    expect(ann.page.locator("#switcher-note")).to_have_text("1 message found.")  # a screen reader says it
    expect(found).to_have_attribute("aria-selected", "true")  # not the room of that name, which does not exist
    expect(ann.page.locator("#switcher-list a").last).to_have_text("Open #zither")
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator("#room-title")).to_have_text("archives")
    expect(ann.page.locator(".message.found")).to_contain_text("a zither numbered 7")
    ann.search("zither numbered")
    ann.page.keyboard.press("Enter")  # before the answer: it entered a new room #zither-numbered
    expect(found).to_have_attribute("aria-selected", "true")
    expect(ann.page.locator("#switcher-list a")).to_have_text([re.compile("numbered 7$"), "Open #zither-numbered"])
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator("#room-title")).to_have_text("archives")
    expect(ann.page.locator(".message.found")).to_be_in_viewport()
    expect(ann.page.locator("#jump")).to_be_visible()
    ann.search("zyzzyva")
    expect(ann.page.locator("#switcher-note")).to_have_text("No message has these words.")
    for typed, note in (
        ("!?", "No such room."),
        ("猫", "1 message found."),
    ):  # nothing to search; an ideograph is a word
        ann.page.keyboard.press("Control+a")
        ann.page.keyboard.insert_text(typed)
        expect(ann.page.locator("#switcher-note")).to_have_text(note)
    ann.page.keyboard.press("Escape")
    expect(ann.page.locator("#switcher")).to_be_hidden()  # the first one closes it
    ann.page.evaluate("location.hash = 'archives/99999'")
    expect(ann.page.locator("#toast")).to_have_text("There is no such message, or not any more.")
    expect(ann.texts.last).to_have_text("nothing 119")


def test_a_page_searches_no_more_often_than_the_server_allows(window: OpenWindow) -> None:
    """The last search of a slow typist could be refused as one too many, and was not repeated."""
    ann = window(room="reading-room", has_clock=True)
    asked: list[str] = []
    ann.page.on("request", lambda request: asked.append(request.url))
    ann.search("")
    ann.page.clock.pause_at(ann.page.evaluate("Date.now() + 10_000"))
    for letter in "quartz":
        ann.page.keyboard.type(letter)
        ann.page.clock.run_for(int(1000 / Settings().search_rate))
    ann.page.clock.resume()
    expect(ann.page.locator("#switcher-note")).to_have_text(re.compile("message"))
    assert [re.sub(r".*\?q=|&.*", "", url) for url in asked if "/search?" in url] == ["quartz"]


def test_search_results_show_no_marks(shared_server: Server, visit: OpenWindow) -> None:
    """A snippet is cut from a text, so it may have only one of a pair of `**` or backticks."""
    shared_server.publish("marked", "a **bold numbat**, a `numbat` and 2 ** 8")
    shared_server.publish("marked", f"**{'far ' * 60} numbat in bold** again")
    ann = visit(room="reading-room")
    ann.search("numbat")
    short, long = (ann.page.locator(".snippet", has_text=text) for text in ("a bold", "far"))
    expect(short).to_have_text("a bold numbat, a numbat and 2 ** 8")
    expect(short.locator("mark")).to_have_text(["numbat", "numbat"])
    expect(long).to_have_text(re.compile("^…[far ]+ numbat in bold again$"))


def test_the_switcher_finds_a_room_by_its_whole_name_among_many_that_begin_with_it(
    shared_server: Server, window: OpenWindow
) -> None:
    """It listed seven of the others, and did not offer to open this one, since it exists."""
    shared_server.publish("herd", "hello")
    for number in range(8):
        shared_server.publish(f"herd-{number}", "hello")
    ann = window(room="reading-room")
    expect(ann.page.locator("#rooms a[href='#herd-7']")).to_be_visible()
    ann.search("herd")
    expect(ann.page.locator("#switcher-list [aria-selected=true]")).to_have_text("#herd")


def test_the_switcher_begins_with_the_room_that_mentions_the_user(
    shared_server: Server, window: OpenWindow, visit: OpenWindow
) -> None:
    """Unread rooms were sorted by when they were opened, so it was not even shown behind seven others.

    After a night of news in thirty rooms there were seven of them.
    """
    ann, ben = visit(room="called-first"), window(room="called-first")
    expect(ann.page.locator("#people li")).to_have_count(2)
    busy = [f"called-{number}" for number in range(7)]
    for room in ("called-then", *busy, "called-desk"):
        ben.go(room)
        expect(ben.page.locator("#empty")).to_be_visible()  # the room has come: what follows is unread
    ann.say(f"look, @{ben.name}")
    ann.go("called-then")
    ann.say("no hurry")
    for room, shown in (("first", "@1 mentions of you"), ("then", "1 unread")):
        expect(ben.page.locator(f"#rooms a[href='#called-{room}'] .badge")).to_have_text(shown)
    for room in busy:
        shared_server.publish(room, "no hurry either")
        expect(ben.page.locator(f"#rooms a[href='#{room}'] .badge")).to_be_visible()
    ben.page.keyboard.press("Control+k")
    found = ben.page.locator("#switcher-list a")
    expect(found.nth(0)).to_have_text("#called-first@1 mentions of you")
    expect(found.filter(has_text="1 unread")).to_have_count(8)


#: The active row, and after how many milliseconds there is one. A row that is active sooner breaks off what screen
#: readers say of the dialog and the field.
OPEN_SWITCHER = """() => {
    const { setTimeout } = window;
    let after = 0;
    window.setTimeout = (does, delay) => setTimeout(does, (after = delay) / 100);
    document.querySelector('#find').click();
    window.setTimeout = setTimeout;
    window.scrolls = 0;
    const { scrollIntoView } = Element.prototype;
    Element.prototype.scrollIntoView = function (...how) { scrolls++; scrollIntoView.apply(this, how); };
    return [document.querySelector('#switcher-input').ariaActiveDescendantElement, after];
}"""


def test_the_switcher_goes_to_another_room_at_once_or_by_a_few_letters(visit: OpenWindow) -> None:
    ann = visit(room="switch-alpha")
    ann.go("switch-beta")
    assert ann.page.evaluate(OPEN_SWITCHER) == [None, 3_000]
    field = ann.page.locator("#switcher-input")
    expect(field).to_have_attribute("aria-activedescendant", "switcher-list-0")
    assert ann.page.evaluate("scrolls") == 0  # a list that the user had scrolled jumped back then
    # Contrasts of at least 3 (WCAG 1.4.11), which grounds alone do not have, nor a frame that is black anyway.
    expect(ann.page.locator("#switcher-list-0")).to_have_css("box-shadow", re.compile("rgb(.*) 3px 0px .* inset"))
    expect(field).not_to_have_css("outline-color", "rgba(0, 0, 0, 0)")
    expect(field).to_have_css("border-color", "rgb(95, 104, 100)")
    ann.page.keyboard.press("Escape")
    options = ann.page.locator("#switcher-list a")
    for room in ("switch-alpha", "switch-beta"):
        ann.page.keyboard.press("Control+k")
        for key, chosen in (("ArrowUp", options.last), ("ArrowDown", options.first)):
            ann.page.keyboard.press(key)
            expect(chosen).to_have_attribute("aria-selected", "true")
        ann.page.keyboard.press("Enter")
        expect(ann.page.locator("#room-title")).to_have_text(room)
    for typed, room in (("alph", "switch-alpha"), ("Switch Gamma", "switch-gamma")):
        ann.search(typed)
        expect(ann.page.locator("#switcher-list [aria-selected=true]")).to_contain_text(f"#{room}")
        ann.page.keyboard.press("Enter")
        expect(ann.page.locator("#room-title")).to_have_text(room)
        expect(ann.page.locator("#text")).to_be_focused()
    key = "new KeyboardEvent('keydown', { key: 'k', ctrlKey: true, cancelable: true })"
    assert ann.page.evaluate(f"dispatchEvent({key})") is False  # the browser's own search does not open
    ann.page.evaluate("document.body.dispatchEvent(new Event('keydown', { bubbles: true }))")  # of autofill
    box, frame = field.bounding_box(), ann.page.locator("#switcher").bounding_box()
    assert box
    assert frame
    ann.page.mouse.move(box["x"] + 50, box["y"] + 9)
    ann.page.mouse.down()
    ann.page.mouse.move(5, box["y"] + 9)  # selects what is typed, up to its beginning
    ann.page.mouse.up()
    ann.page.mouse.click(frame["x"] + 5, box["y"] + 9)
    expect(ann.page.locator("#switcher")).to_be_visible()
    ann.page.mouse.click(5, 5)  # beside it
    expect(ann.page.locator("#switcher")).to_be_hidden()


def test_notifications_follow_the_setting_of_the_room(shared_server: Server, window: OpenWindow) -> None:
    """Of each tab, also if another has changed it. Every object has a `constructor`: that room ended the page.

    Of a message that was deleted within a second it was told that it is deleted.
    """
    room = "constructor"
    ann = window(first=NOTIFICATIONS, room=room)
    expect(ann.page.locator("#people li")).to_have_count(1)
    ann.go("quiet")
    badge = ann.page.locator(f"#rooms a[href='#{room}'] .badge")
    shared_server.publish(room, "nobody asked")
    expect(badge).to_have_text("1 unread")
    ann.page.click(f"#rooms a[href='#{room}']")
    ann.page.click("#room-menu-button")
    ann.page.select_option("#notify", "all")
    ann.page.keyboard.press("Escape")
    ann.go("quiet")
    with connect(f"ws{shared_server.url.removeprefix('http')}/ws") as ben:
        ben.send(json.dumps({"type": "publish", "id": 1, "room": room, "text": "deleted at once"}))
        (stored,) = (message for message in islice(map(json.loads, ben), 2) if message["type"] == "ack")
        expect(badge).to_have_text("1 unread")
        ben.send(json.dumps({"type": "delete", "room": room, "offset": stored["offset"]}))
        expect(badge).to_have_count(0)
    shared_server.publish(room, "now they did")
    expect(badge).to_have_text("1 unread")
    ann.page.wait_for_function("() => window.notes.length > 0")
    (note,) = ann.page.evaluate("window.notes")
    assert note.endswith(f" in #{room}: now they did")
    ann.page.evaluate("lastNote.onclick()")
    expect(ann.page.locator("#room-title")).to_have_text(room)
    expect(ann.page.locator(".message.found")).to_contain_text("now they did")
    ann.go("quiet")
    ann.page.reload()
    other = ann.page.context.new_page()
    other.goto(f"{shared_server.url}/#{room}")
    other.click("#room-menu-button")
    expect(other.locator("#notify")).to_have_value("all")
    other.select_option("#notify", "nothing")
    other.close()
    shared_server.publish(room, "not any more")
    expect(badge).to_have_text("1 unread")
    expect(ann.page).to_have_title("#quiet · chat")
    ann.page.wait_for_timeout(1_100)  # a notification waits for a second, since another tab may show the message
    assert ann.page.evaluate("window.notes") == []


def test_messages_read_on_one_device_are_read_on_another(
    shared_server: Server, window: OpenWindow, visit: OpenWindow
) -> None:
    """Two browsers of one person: the second has the first one's cookie only.

    The marker counts also in a room that the server does not list.
    """
    ann = visit(room="devices")
    shared_server.publish("devices", "one")
    expect(ann.texts).to_have_count(1)
    wait_until(ann.page, lambda: "devices" in ann.page.request.get(f"{shared_server.url}/unread").json()["rooms"])
    ann.go("elsewhere")
    shared_server.publish("devices", "two")
    other = window(first="""localStorage['chat.rooms'] ??= '["devices"]'""")
    other.page.context.add_cookies(ann.page.context.cookies())  # type: ignore[arg-type]
    other.page.route("**/rooms", lambda route: route.fulfill(json={"rooms": []}))
    other.open(shared_server, room="devices-desk")
    badge = other.page.locator("#rooms a[href='#devices'] .badge")
    expect(badge).to_have_text("1 unread")
    ann.page.evaluate("location.hash = 'devices'")
    expect(badge).to_have_count(0)


def test_a_guest_confirms_a_sign_out_and_a_name_is_not_blank(visit: OpenWindow) -> None:
    ann = visit(room="leaving-for-good")
    ann.say("mine")
    expect(ann.page.locator("#messages .own")).to_have_count(1)
    ann.save_name(" ")
    expect(ann.page.locator("#account-problem")).to_have_text("A name must not be empty.")
    expect(ann.page.locator("#account-problem")).to_have_role("status")  # Orca says no new words of an alert in Firefox
    expect(ann.page.get_by_text("Sign in with a token")).to_be_hidden()  # the server has no key for one
    ann.page.click("#account-cancel")
    expect(ann.page.locator("#account")).to_be_hidden()
    ann.page.click("#me")
    ann.page.click("#account-out")
    ann.page.keyboard.press("Escape")
    expect(ann.page.locator("#account")).to_be_visible()
    ann.page.click("#account-out")
    ann.confirm("A guest comes back as somebody else")
    expect(ann.page.locator("#account")).to_be_hidden()
    ann.expect_live()
    expect(ann.page.locator("#messages .own")).to_have_count(0)


@pytest.mark.parametrize("transport", ["ws", "poll"])
def test_without_cookies_a_user_is_the_same_until_the_page_ends(
    shared_server: Server, window: OpenWindow, transport: str
) -> None:
    """Each connection was another guest: a name was refused, and own messages were a stranger's."""
    room, first = f"no-cookies-{transport}", "Object.defineProperty(navigator, 'cookieEnabled', { value: false })"
    ann = window(is_played=True, first=first, transport=transport, room=room)
    ann.say("one")
    ann.expect_texts(["one"])
    ann.page.context.clear_cookies()
    ann.save_name("Ann Lee")
    expect(ann.page.locator("#me")).to_contain_text("Ann Lee")
    for text in ("two", "three"):
        ann.page.context.clear_cookies()
        ann.lose_connection()
        ann.find_connection()
        ann.expect_live(transport)
        ann.say(text)
    expect(ann.page.locator("#messages .own .text")).to_have_text(["one", "two", "three"])
    assert len({message["user"]["id"] for message in shared_server.messages(room)}) == 1


def test_a_name_is_saved_once_and_the_button_shows_that_it_is_on_its_way(visit: OpenWindow) -> None:
    """On a slow line a press on the button changed nothing for seconds, and a second one asked again."""
    ann = visit(room="slow-name")
    asked: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.method == "POST":
            asked.append(route)
        else:
            route.continue_()

    ann.page.route("**/session", hold)
    ann.save_name("Ann the Slow")
    ann.page.press("#account-name", "Enter")
    expect(ann.page.locator("#account-form")).to_have_attribute("aria-busy", "true")
    expect(ann.page.locator("#account .strong")).to_have_css("opacity", "0.5")
    wait_until(ann.page, lambda: asked)
    (only,) = asked
    only.abort()
    expect(ann.page.locator("#account-problem")).to_have_text("no answer from the server")
    ann.page.unroute("**/session")
    ann.page.press("#account-name", "Enter")
    expect(ann.page.locator("#me")).to_contain_text("Ann the Slow")


def test_all_rooms_are_marked_as_read(shared_server: Server, visit: OpenWindow) -> None:
    """After an absence each room had to be opened and scrolled to its end."""
    ann, rooms = visit(room="stale-desk"), [f"stale-{number}" for number in range(3)]
    for room in rooms:
        ann.go(room)
        expect(ann.page.locator("#empty")).to_be_visible()
    ann.go("stale-desk")
    for room in rooms:
        shared_server.publish(room, "one", "two")
    badges = ann.page.locator("#rooms .badge")
    expect(badges).to_have_text(["2 unread"] * 3)
    ann.page.click("#room-menu-button")
    ann.page.get_by_role("button", name="Mark all rooms as read").click()
    expect(badges).to_have_count(0)
    expect(ann.page.locator("#room-menu")).to_be_hidden()

    def unread() -> list[int | None]:
        marks = ann.page.request.get(f"{shared_server.url}/unread").json()["rooms"]
        return [marks.get(room, {}).get("unread") for room in rooms]

    wait_until(ann.page, lambda: unread() == [0, 0, 0])


def test_a_phone_tells_ones_name_and_what_is_new_in_other_rooms(window: OpenWindow, visit: OpenWindow) -> None:
    """Both were in the drawer only: newcomers wrote under a name that they had never seen."""
    ann, ben = window(room="beyond", **PHONE), visit(room="beyond")
    field = ann.page.locator("#text")
    expect(field).to_have_attribute("placeholder", re.compile(r"^Message as \w+ \w+ \d+$"))
    expect(ben.page.locator("#people li")).to_have_count(2)
    ann.go("before")
    expect(ann.page.locator("#empty")).to_be_visible()
    button = ann.page.locator("#show-rooms")
    expect(button).to_have_accessible_name("Rooms")
    ben.say("one", "two")
    expect(button).to_have_accessible_name("Rooms, 2 unread")
    ben.say(f"three, @{ann.name}")
    expect(button).to_have_accessible_name("Rooms, 1 mention of you")
    expect(button.locator(".badge")).to_contain_text("@1")
    ann.go("beyond")
    expect(button).to_have_accessible_name("Rooms")
    expect(button.locator(".badge")).to_have_count(0)
    ann.page.tap("#show-rooms")
    ann.save_name("Ann")
    expect(field).to_have_attribute("placeholder", "Message as Ann")
