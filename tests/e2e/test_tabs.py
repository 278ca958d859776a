"""Many tabs of one browser share one connection, which outlives the tab that holds it."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.browser import NOTIFICATIONS, wait_until
from tests.e2e.conftest import OpenWindow, Run
from tests.e2e.servers import Server, serving

pytestmark = pytest.mark.browser

#: Counts the WebSockets that a tab opens.
COUNT = """WebSocket = class extends WebSocket {
    constructor(...all) {
        super(...all);
        window.opened = (window.opened ?? 0) + 1;
    }
}"""

#: `abortWaiting` ends the tab's request for the lock, as Safari does in a page that it keeps for the Back button. While
#: `isAway`, the tab gets no messages of others.
KEPT = """{
    const { request } = LockManager.prototype;
    LockManager.prototype.request = function (name, options, run) {
        if (name !== 'chat.socket' || options.steal) return request.call(this, name, options, run);
        const ending = new AbortController();
        window.abortWaiting = () => ending.abort();
        return request.call(this, name, { signal: ending.signal }, run);
    };
    BroadcastChannel = class extends BroadcastChannel {
        constructor(name) {
            super(name);
            this.addEventListener('message', (event) => window.isAway && event.stopImmediatePropagation());
        }
    };
}"""
LEAVE = "isAway = true, dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))"
#: `told` are the kinds of messages that the tab sends to others.
TOLD = """() => {
    window.told = [];
    const { postMessage } = BroadcastChannel.prototype;
    BroadcastChannel.prototype.postMessage = function (message) {
        told.push(message.type);
        postMessage.call(this, message);
    };
}"""
LIST = "JSON.parse(localStorage['chat.rooms'])"  # newest first
SHOWN_AGAIN = "isAway = false, dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))"
DRAFT = "sessionStorage.getItem('chat.draft.returns')"
WAITING = "async () => (await navigator.locks.query()).pending.length"


def texts(page: Page, wanted: list[str]) -> None:
    expect(page.locator("#messages .text")).to_have_text(wanted)


def test_tabs_share_a_connection_that_outlives_its_tab(shared_server: Server, window: OpenWindow) -> None:
    ann = window(first=COUNT, room="tabs")
    ann.say("from the first")
    ann.expect_texts(["from the first"])
    others = [ann.page.context.new_page() for _ in range(2)]
    for tab in others:
        tab.goto(f"{shared_server.url}/#tabs")
        expect(tab.locator("#connection-text")).to_contain_text("live · WebSocket")
        texts(tab, ["from the first"])
    assert [tab.evaluate("window.opened ?? 0") for tab in (ann.page, *others)] == [1, 0, 0]
    second, third = others
    ann.page.fill("#text", "half a thought")
    second.fill("#text", "from the second")
    second.press("#text", "Enter")
    for tab in (ann.page, *others):
        texts(tab, ["from the first", "from the second"])
        expect(tab.locator("#pending .message")).to_have_count(0)
        expect(tab.locator("#messages .own")).to_have_count(2)
    for room in ("tabs-desk", "tabs"):
        ann.go(room)
    expect(ann.page.locator("#text")).to_have_value("half a thought")  # what another tab sent was not this draft

    second.evaluate("location.hash = 'tabs-too'")
    expect(third.locator("#rooms li:not(.panel-title ~ li) a[href='#tabs-too']")).to_be_visible()  # no other room
    third.fill("#text", "for one who looks elsewhere")
    third.press("#text", "Enter")
    texts(ann.page, ["from the first", "from the second", "for one who looks elsewhere"])

    ann.page.close()
    shared_server.publish("tabs", "while they change over")
    said = ["from the first", "from the second", "for one who looks elsewhere", "while they change over"]
    texts(third, said)
    third.fill("#text", "still here")
    third.press("#text", "Enter")
    texts(third, [*said, "still here"])
    second.evaluate("location.hash = 'tabs'")
    texts(second, [*said, "still here"])
    assert sorted(tab.evaluate("window.opened ?? 0") for tab in others) == [0, 1]

    # The server closes the user's connections before it answers the sign-out; the other tab must reconnect.
    def answer_last(route: Route) -> None:
        answer = route.fetch()
        if route.request.method == "DELETE":  # the tab also asks now and then who it is
            expect(second.locator("#connection")).to_have_attribute("data-phase", "stopped")
        route.fulfill(response=answer)

    guest = third.text_content("#me") or ""
    third.route("**/session", answer_last)
    third.click("#me")
    third.click("#account-out")
    third.evaluate("localStorage.removeItem('chat.rooms')")  # the storage is cleared in any order: no room was left
    third.click("#question-yes")
    for tab in others:
        expect(tab.locator("#room-title")).to_have_text("tabs")
        expect(tab.locator("#me")).not_to_have_text(guest)
        expect(tab.locator("#messages .own")).to_have_count(0)
        assert "tabs-desk" not in tab.evaluate("JSON.stringify(localStorage)")
        expect(tab.locator("#connection-text")).to_contain_text("live · WebSocket")
    assert third.text_content("#me") == second.text_content("#me")

    follower, leader = sorted(others, key=lambda tab: int(tab.evaluate("window.opened ?? 0")))
    leader.evaluate(TOLD)
    follower.goto("about:blank")  # a page that is closed at once may not say that it goes
    follower.close()

    def is_alone() -> bool:
        """A tab went on telling others of each message, until the end of its connection."""
        leader.evaluate("told.length = 0")
        said.append("to one tab")
        shared_server.publish("tabs", said[-1])
        expect(leader.locator("#messages .text").filter(has_text=said[-1])).to_have_count(said.count(said[-1]))
        return "pushed" not in leader.evaluate("told")

    wait_until(leader, is_alone)


def test_a_room_that_another_tab_shows_is_not_left_for_a_newer_one(tmp_path: Path, window: OpenWindow) -> None:
    """When another tab opened fifty rooms, or as many as the server allows, a tab found itself in another room."""
    with serving(tmp_path, flags=["--max-rooms-per-connection", "4"]) as server:
        ann = window()
        ann.open(server, room="shown")
        ann.say("hello")
        ann.expect_texts(["hello"])
        other = ann.page.context.new_page()
        for room in ("one", "two", "three"):
            server.publish(room, f"in {room}")
            other.goto(f"{server.url}/#{room}")
            texts(other, [f"in {room}"])
        wait_until(other, lambda: other.evaluate(LIST) == ["three", "two", "shown"])
        server.publish("shown", "still here?")
        ann.expect_texts(["hello", "still here?"])
        ann.go("three")
        texts(other, ["in three"])
        other.evaluate("location.hash = 'four'")
        wait_until(other, lambda: other.evaluate(LIST) == ["four", "three", "two"])


def test_a_list_of_rooms_that_another_tab_wrote_does_not_move_a_tab_and_a_leave_does(
    shared_server: Server, window: OpenWindow
) -> None:
    """Of tabs that were opened at the same time, one whose room another's list lacked went to another room."""
    ann = window(room="first-tab")
    other = ann.page.context.new_page()
    other.goto(f"{shared_server.url}/#second-tab")
    wait_until(other, lambda: other.evaluate(LIST)[:2] == ["second-tab", "first-tab"])
    expect(ann.page.locator("#rooms a[href='#second-tab']")).to_be_visible()
    other.evaluate("localStorage['chat.rooms'] = '[\"second-tab\", \"third-tab\"]'")
    expect(ann.page.locator("#rooms a[href='#third-tab']")).to_be_visible()
    expect(ann.page.locator("#room-title")).to_have_text("first-tab")
    wait_until(other, lambda: other.evaluate(LIST) == ["first-tab", "second-tab", "third-tab"])
    other.evaluate("location.hash = 'first-tab'")
    expect(other.locator("#room-title")).to_have_text("first-tab")
    other.click("#room-menu-button")
    other.click("#leave")
    for page in (ann.page, other):
        expect(page.locator("#room-title")).not_to_have_text("first-tab")
        expect(page.locator("#rooms li:not(.panel-title ~ li) a[href='#first-tab']")).to_have_count(0)
    assert "first-tab" not in other.evaluate(LIST)


def test_a_tab_that_the_browser_kept_for_the_back_button_waits_for_the_connection_again(
    shared_server: Server, window: OpenWindow
) -> None:
    """In Safari it did not, so it stood still for half a minute after the tab with the connection was closed.

    Nor did it show what was said meanwhile, what other tabs had changed: their rooms, what they had read, a sign-out.
    What it had not sent was lost when the tab was closed while another page was shown in it.
    """
    ann = window(first=KEPT, room="returns")
    other = ann.page.context.new_page()
    errors: list[str] = []
    other.on("pageerror", lambda error: errors.append(str(error)))
    other.goto(f"{shared_server.url}/#returns")
    expect(other.locator("#connection-text")).to_contain_text("live")
    other.evaluate(LEAVE)
    assert other.evaluate("localStorage['chat.outbox']") == "[]"  # the browser may end it unseen
    ann.say("meanwhile")
    texts(ann.page, ["meanwhile"])
    with other.expect_navigation():
        other.evaluate(SHOWN_AGAIN)
    texts(other, ["meanwhile"])
    other.evaluate("abortWaiting()")
    wait_until(other, lambda: other.evaluate(WAITING) == 1)
    ann.page.close()
    shared_server.publish("returns", "hello")
    texts(other, ["meanwhile", "hello"])
    other.evaluate("localStorage['chat.rooms'] = '[\"returns\", \"returns-too\"]'")
    other.fill("#text", "a draft")
    with other.expect_navigation():
        other.evaluate(SHOWN_AGAIN)
    expect(other.locator("#rooms a[href='#returns-too']")).to_be_visible()
    assert other.evaluate(DRAFT) == "a draft"
    other.evaluate("localStorage.removeItem('chat.me')")  # another tab has signed out
    with other.expect_navigation():
        other.evaluate(SHOWN_AGAIN)
    assert other.evaluate(DRAFT) is None
    assert errors == []


def test_the_leader_gives_the_page_of_a_join_to_all_tabs(run: Run) -> None:
    """All tabs share one membership, which a join begins anew: what was on its way to another tab is in that page.

    A leave ends it for all of them, which are told too. What a tab asks over another connection is not sent: it may be
    one of another user. Equal joins are one, until something is pushed: when the connection of forty tabs was opened
    again, each of them got forty pages.
    """
    body = """
        const { WebSocket } = globalThis;
        let socket = null;
        const asked = [];
        globalThis.WebSocket = class {
            static OPEN = 1;
            readyState = 1;
            constructor() { socket = this; }
            send(text) {
                const { id, type } = JSON.parse(text);
                asked.push(type);
                this.hear(type === 'publish' ? { id, type: 'error', code: 'no' } : { id, type, cursor: 'e-1' });
            }
            hear(message) { this.onmessage({ data: JSON.stringify(message) }); }
            close() {}
        };
        const channel = new BroadcastChannel('chat.socket');
        const told = [];
        channel.onmessage = ({ data }) => told.push(data);
        const ask = (message) => channel.postMessage({ to: 'leader', from: 'a', ...message });
        const all = (type) => told.filter((each) => each.type === type);
        const until = async (holds) => {
            for (let n = 0; n < 500 && !holds(); n++) await new Promise((resolve) => setTimeout(resolve, 10));
        };
        const pages = [];
        const handlers = { ready() {}, pushed() {}, lost() {}, page: (_, room, page) => pages.push([room, page]) };
        const link = new m.TabLink(location.origin, handlers);
        await until(() => socket);
        ask({ type: 'open' });
        socket.hear({ type: 'hello', user: { id: 'u' } });
        await until(() => all('ready').length);
        const name = all('ready')[0].socket;
        for (const [number, type] of ['history', 'join', 'publish', 'leave'].entries()) {
            for (const socket of [name, 'another']) {
                ask({ type: 'ask', number, socket, request: { type, room: 'lobby' } });
            }
        }
        await until(() => all('answer').length === 8 && pages.length);
        const given = all('answer').map(({ number, answer, error }) => [number, answer?.cursor ?? error.code]);
        for (const number of [8, 9, 10]) {
            ask({ type: 'ask', number, socket: name, request: { type: 'join', room: 'lobby' } });
            await until(() => all('answer').length === number + 1);
            if (number === 9) socket.hear({ type: 'presence', room: 'lobby' });
        }
        globalThis.WebSocket = WebSocket;
        channel.close();
        return [asked, given, all('pushed').map(({ pushed }) => pushed.type), pages];
    """
    asked, answers, pushed, pages = run("tab-link.js", body)
    assert asked == ["history", "join", "publish", "leave", "join", "join"]
    done = [[0, "e-1"], [0, "lost"], [1, "e-1"], [1, "lost"], [2, "lost"], [2, "no"], [3, "e-1"], [3, "lost"]]
    assert sorted(answers) == done
    assert pushed == ["leave", "presence"]
    assert pages == [["lobby", {"id": each, "type": "join", "cursor": "e-1", "recovered": True}] for each in (2, 5, 6)]


#: A frozen tab holds the lock; `heard` are the messages that the tab under test sends to others.
FROZEN_LEADER = """
    const freeze = () => new Promise((taken) => {
        navigator.locks.request('chat.socket', { steal: true }, () => (taken(), new Promise(() => {}))).catch(() => {});
    });
    const channel = new BroadcastChannel('chat.socket');
    const heard = [];
    channel.onmessage = ({ data }) => heard.push(data);
    const wait = setTimeout;
    const until = async (find) => {
        for (let n = 0; n < 500; n++) {
            if (find()) return find();
            await new Promise((resolve) => wait(resolve, 10));
        }
        throw new Error(`never: ${find}`);
    };
    await freeze();
"""


def test_a_tab_takes_the_connection_over_again(run_alone: Run) -> None:
    """A tab that had taken it over, and lost it to one that was frozen then, waited for an answer for ever.

    One that only reads said `live`, and got no message any more.
    """
    body = f"""
        const {{ setInterval }} = globalThis;
        let askNow = null;
        globalThis.setInterval = (run, ms) => (ms > 20_000 ? (askNow = run) : setInterval(run, ms));
        {FROZEN_LEADER}
        globalThis.setTimeout = (then, ms) => wait(then, ms / 100);
        globalThis.WebSocket = class {{ close() {{}} }};
        const leads = () => heard.filter(({{ type, socket }}) => type === 'lost' && !socket).length;
        for (const times of [1, 2]) {{
            new m.TabLink(location.origin, {{ lost() {{}} }});
            await until(() => leads() === times);
            await freeze();
        }}
        const told = [];
        const lost = (_, loss) => told.push(loss.atOnce);
        new m.TabLink(location.origin, {{ ready: () => told.push('ready'), lost }});
        channel.postMessage({{ to: 'all', type: 'ready', hello: {{}}, socket: '' }});
        await until(() => told.length);
        askNow();
        await until(() => leads() === 3);
        return told;
    """
    assert run_alone("tab-link.js", body) == ["ready", True]


def test_a_late_answer_is_not_that_of_another_request(run_alone: Run) -> None:
    """A tab that was frozen in the middle of a request answered it when another tab had long had the connection.

    The number was that of another request by then, perhaps of a message: it counted as stored. What came over its own
    connection was told too: records far behind the others, between which all seemed to be there; and another user, in
    whose name a message went out then.
    """
    body = f"""{FROZEN_LEADER}
        const asks = (type) => heard.filter((each) => each.type === type);
        const tell = (type, more) => channel.postMessage({{ to: 'all', type, ...more }});
        const received = [];
        const asked = async (socket) => {{
            let hello = null;
            const ready = (_, told) => (hello = told);
            const pushed = (_, told) => received.push(told);
            const link = new m.TabLink(location.origin, {{ ready, pushed, page: pushed, lost() {{}} }});
            await until(() => asks('open').length === socket);
            tell('opening', {{ socket }});
            for (const each of [socket - 1, socket]) tell('ready', {{ socket: each, hello: each }});
            await until(() => hello !== null);
            const answer = link.ask({{ type: 'publish' }}).catch(({{ code }}) => code);
            const ask = await until(() => asks('ask')[socket - 1]);
            received.push([hello, ask.socket]);
            return [answer, ask.number];
        }};
        const [first, old] = await asked(1);
        tell('lost', {{ loss: {{}}, socket: 1 }});
        const error = await first;
        const [second, number] = await asked(2);
        tell('answer', {{ number: old, answer: 'late' }});
        for (const socket of [1, 2]) {{
            tell('pushed', {{ socket, pushed: `pushed over ${{socket}}` }});
            tell('page', {{ socket, room: `page over ${{socket}}` }});
        }}
        tell('answer', {{ number, answer: 'right' }});
        return [error, await second, received];
    """
    received = [[1, 1], [2, 2], "pushed over 2", "page over 2"]
    assert run_alone("tab-link.js", body) == ["lost", "right", received]


def test_a_loss_counts_though_the_next_connection_is_opened_before_it_is_told(run_alone: Run) -> None:
    """A tab that was frozen said `live` and followed no room.

    When it went on, its questions for the connection came between the end of the old one and the news of that.
    """
    body = """
        const { setInterval } = globalThis;
        let ask = null;
        globalThis.setInterval = (run, ms) => (ms > 20_000 ? (ask = run) : setInterval(run, ms));
        let sockets = 0;
        let socket = null;
        globalThis.WebSocket = class {
            constructor() {
                sockets += 1;
                socket = this;
            }
            close() {}
        };
        let link = null;
        const open = () => new Promise((ready) => {
            link = new m.TabLink(location.origin, { ready, lost: () => open() });
        });
        const hello = () => socket.onmessage({ data: '{"type": "hello"}' });
        const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
        const ready = open();
        while (!socket) await wait(10);
        hello();
        await ready;
        const first = link;
        socket.onclose({ code: 1006, reason: '' });
        ask();
        await wait(50);
        return [sockets, first === link];
    """
    assert run_alone("tab-link.js", body) == [2, False]


def test_what_another_tab_shows_is_not_notified(shared_server: Server, window: OpenWindow) -> None:
    """A notification told of the message that the user was reading in the tab in front."""
    all_shown = "Notification.permission = 'granted', localStorage['chat.notify.tabs-read'] = 'all';"
    ann = window(first=NOTIFICATIONS + all_shown, room="tabs-read")
    other = ann.page.context.new_page()
    other.goto(f"{shared_server.url}/#tabs-desk")
    expect(other.locator("#connection-text")).to_contain_text("live")
    expect(other.locator("#rooms a[href='#tabs-read']")).to_be_visible()
    shared_server.publish("tabs-read", "read at once")
    ann.expect_texts(["read at once"])
    ann.go("tabs-desk")
    shared_server.publish("tabs-read", "not read")
    expect(other.locator("#rooms a[href='#tabs-read'] .badge")).to_have_text("1 unread")
    other.wait_for_function("() => window.notes.some((note) => note.endsWith('not read'))")
    assert len(other.evaluate("window.notes")) == 1


def test_a_name_counts_in_all_tabs_of_a_browser_that_shares_no_connection(
    shared_server: Server, window: OpenWindow
) -> None:
    """As on a plain http address: a tab went on writing under the name that the guest had changed in another one."""
    ann = window(first="delete Navigator.prototype.locks", room="tabs-named")
    other = ann.page.context.new_page()
    other.goto(f"{shared_server.url}/#tabs-named")
    expect(other.locator("#connection-text")).to_contain_text("live")
    ann.save_name("Ann")
    expect(other.locator("#text")).to_have_attribute("placeholder", "Message as Ann")
    other.fill("#text", "who am I?")
    other.press("#text", "Enter")
    ann.expect_texts(["who am I?"])
    assert [message["user"]["name"] for message in shared_server.messages("tabs-named")] == ["Ann"]
