"""The modules of the page that need no DOM and no client, imported by a browser from the server."""

import pytest

from tests.e2e.browser import PATIENCE
from tests.e2e.conftest import Run
from tests.e2e.servers import Server

pytestmark = pytest.mark.browser


STREAM = (
    'retry: 2000\n\n:\n\nid: e-1\nevent: message\ndata: {"text":"a"}\n\n'
    "data: one\r\ndata:two\r\n\r\nevent: gap\rdata: x\r\r: end\n\nevent: empty\n\n"
)


EVENTS = [
    {"event": "message", "data": '{"text":"a"}'},
    {"event": "message", "data": "one\ntwo"},
    {"event": "gap", "data": "x"},
]


def test_event_streams_mean_the_same_in_any_cuts(run: Run) -> None:
    body = """
        const cut = (size) => a.match(new RegExp(`[^]{1,${size}}`, 'g'));
        return [1, 2, 3, 7, 1000].map((size) => {
          const parser = new m.EventStreamParser();
          return cut(size).flatMap((piece) => parser.feed(piece));
        });
    """
    assert run("http-link.js", body, STREAM) == [EVENTS] * 5


PATTERNS = {
    "*": [True] * 3,
    "lobby": [True, False, False],
    "team-*": [False, True, True],
    "team-?": [False, True, False],
    "team-[!b-a]": [False, True, False],
    "team.a": [False] * 3,
    "(": [False] * 3,
}


def test_patterns_of_rooms(run: Run) -> None:
    body = "return a.map((pattern) => ['lobby', 'team-a', 'team-ab'].map((room) => m.patternOf(pattern).test(room)))"
    assert run("identity.js", body, list(PATTERNS)) == list(PATTERNS.values())


def test_a_site_may_name_any_address_of_the_server(run: Run, shared_server: Server) -> None:
    """With a slash behind the origin no request found its path."""
    body = """
        const origins = [undefined, ...a].map((address) => m.connect(address).api.origin);
        try { m.connect('', { transport: 'websocket' }); } catch (error) { return [...origins, error.message]; }
    """
    addresses = ["https://chat.example/", "https://chat.example:444/chat.js?x"]
    assert run("chat.js", body, addresses) == [
        *(shared_server.url, "https://chat.example", "https://chat.example:444"),
        "transport is one of ws, sse, poll, not websocket",
    ]


def test_the_page_of_a_join_comes_before_what_follows_in_the_same_task(run: Run) -> None:
    """A browser reads each frame in a task of its own, node does not: there the first message was never shown."""
    body = """
        const { WebSocket } = globalThis;
        let socket = null;
        globalThis.WebSocket = class {
          constructor() { socket = this; }
          send() {}
          close() {}
        };
        const seen = [];
        const note = (kind) => () => seen.push(kind);
        const link = new m.WebSocketLink(location.origin, { page: note('page'), pushed: note('pushed') });
        globalThis.WebSocket = WebSocket;
        link.follow('lobby', null);
        for (const message of [{ type: 'joined', id: 1 }, { type: 'message', room: 'lobby' }]) {
          socket.onmessage({ data: JSON.stringify(message) });
        }
        await new Promise((resolve) => setTimeout(resolve));
        link.close();
        return seen;
    """
    assert run("websocket-link.js", body) == ["page", "pushed"]


@pytest.mark.parametrize("transport", ["ws", "sse", "poll"])
def test_a_client_that_left_its_first_room_or_all_goes_on_after_a_reconnect(run: Run, transport: str) -> None:
    """The next connection failed with a TypeError: no message came, and none was sent."""
    body = f"""
        const client = m.connect(location.origin, {{ transport: '{transport}' }});
        const heard = (room) => new Promise((resolve, reject) => {{
            room.addEventListener('message', ({{ detail }}) => resolve(detail.text));
            setTimeout(reject, {PATIENCE}, new Error('nothing came'));
        }});
        const [first, second] = ['left-1-', 'left-2-'].map((name) => client.join(name + '{transport}'));
        await first.publish('one');
        first.leave();
        client.reconnect();
        const two = heard(second);
        second.publish('two').catch(() => {{}});
        const said = [await two];
        second.leave();
        client.reconnect();
        const third = client.join('left-3-{transport}');
        const three = heard(third);
        third.publish('three').catch(() => {{}});
        said.push(await three);
        client.close();
        return said;
    """
    assert run("chat.js", body) == ["two", "three"]


@pytest.mark.parametrize("transport", ["ws", "poll"])
def test_a_chat_that_was_closed_asks_and_opens_nothing_more(run: Run, transport: str) -> None:
    """What was pending failed as if the line had broken, later requests went out over HTTP, and a join connected."""
    body = f"""
        const [chat, other] = [1, 2].map(() => m.connect(location.origin, {{ transport: '{transport}' }}));
        const codeOf = (asked) => asked.then(() => 'answered', ({{ code }}) => code);
        const room = chat.join('closed-{transport}');
        await new Promise((resolve) => room.addEventListener('caughtup', resolve, {{ once: true }}));
        const pending = codeOf(room.askPeople());
        const phases = [chat, other].map((each) => {{
            each.close();
            each.join('closed-too');
            each.reconnect();
            return each.state.phase;
        }});
        return [await pending, await codeOf(room.askPeople()), ...phases];
    """
    assert run("chat.js", body) == ["aborted", "aborted", "stopped", "stopped"]


def test_a_moderators_refusal_is_not_retried_automatically(run: Run) -> None:
    body = """
        const cases = [['forbidden', 60], ['forbidden', null], ['unauthenticated', 1], ['rate_limited', null]];
        return cases.map(([code, retryAfter]) => new m.ChatError(code, '', { retryAfter }).isTemporary);
    """
    assert run("wire.js", body) == [False, False, True, True]


def test_a_proxys_answer_that_may_pass_is_retried(run: Run) -> None:
    """Without a Retry-After, a text was given up and its room left when a proxy had too many requests."""
    body = "return a.map((status) => new m.ChatError('unavailable', '', { status }).isTemporary)"
    assert run("wire.js", body, [404, 408, 425, 429, 502, 521]) == [False, True, True, True, True, True]


def test_back_off_is_jittered_bounded_and_not_below_retry_after(run: Run) -> None:
    """A timer of more than 24 days ends at once: a page that was asked to wait longer asked again without a pause."""
    body = """
        const failures = [0, 1, 2, 5, 50];
        return [0, 1].map((random) => [
          failures.map((n) => m.delayBefore(n, null, () => random)),
          [-5, 0, 8, 2_600_000, 1e300].map((asked) => m.delayBefore(0, asked, () => random)),
        ]);
    """
    assert run("wire.js", body) == [
        [[250, 500, 1000, 8000, 10_000], [250, 250, 8000, 300_000, 300_000]],
        [[500, 1000, 2000, 16_000, 20_000], [500, 500, 10_000, 375_000, 375_000]],
    ]


def test_a_transport_that_failed_while_the_server_was_away_is_tried_again(run: Run) -> None:
    """The server may come back between the attempt and the question whether it is there; the page went to long-poll."""
    body = """
        const { ChatError } = await import('/wire.js');
        const kinds = [];
        const ready = async () => { if (a.shift()) throw new ChatError('lost', 'away'); };
        const quiet = new Proxy({}, { get: () => () => {} });
        const open = (kind) => { kinds.push(kind); return {}; };
        const connection = new m.Connection({ transports: m.TRANSPORTS, open, ready, handlers: quiet });
        connection.start();
        while (a.length) {
            connection.lost(connection.link, { opened: false, retryAfter: null, forGood: false, reason: '' });
            while (!connection.link) await new Promise((done) => setTimeout(done));
        }
        return kinds;
    """
    assert run("connection.js", body, [True, False, False]) == ["ws", "ws", "ws", "sse"]
    assert run("connection.js", body, [False, False]) == ["ws", "sse", "poll"]


def test_a_websocket_is_tried_again_now_and_then_and_replaces_what_is_there(run: Run) -> None:
    """Each attempt that fails doubles the wait; one that succeeds after a change of the connection is closed."""
    body = """
        const links = [];
        const waits = [];
        const { setTimeout } = globalThis;
        globalThis.setTimeout = (call, ms) => (ms >= 10_000 && waits.push(ms), setTimeout(call));
        const turn = () => new Promise((resolve) => setTimeout(resolve));
        const open = (kind, handlers) => {
            const link = { kind, handlers, isClosed: false, close: () => (link.isClosed = true) };
            links.push(link);
            return link;
        };
        const quiet = new Proxy({}, { get: () => () => {} });
        const connection = new m.Connection({ transports: m.TRANSPORTS, open, ready: async () => {}, handlers: quiet });
        const isDone = async (number) => { for (let n = 0; n < 99 && links.length < number; n++) await turn(); };
        connection.start();
        connection.lost(links[0], { opened: false, retryAfter: null, forGood: false, reason: '' });
        await isDone(2);
        connection.ready(links[1], null);
        await isDone(3);
        links[2].handlers.lost();
        await isDone(4);
        links[3].handlers.pushed(links[3], { type: 'expiring' });
        links[3].handlers.page(links[3], 'lobby', {}); // that another tab has asked for
        links[3].handlers.ready(links[3], {});
        const present = connection.link === links[3] && connection.state.kind;
        connection.lost(links[3], { opened: false, retryAfter: null, forGood: false, reason: '' });
        await isDone(5);
        connection.ready(links[4], null);
        await isDone(6);
        connection.restart();
        links[5].handlers.ready(links[5], {});
        globalThis.setTimeout = setTimeout;
        connection.stop();
        return [present, waits, links.map(({ kind, isClosed }) => [kind, isClosed])];
    """
    present, waits, links = run("connection.js", body)
    assert (present, waits) == ("ws", [30_000, 60_000, 120_000])
    gone, kept = [["ws", False], ["sse", True]], [["ws", False]]
    assert links == [*gone, *kept, *kept, ["sse", True], ["ws", True], ["ws", True]]


def test_the_page_works_with_a_full_storage(run: Run) -> None:
    """An error when something is stored must not keep rooms from opening, nor hide what another tab stores later.

    Once there was room again, a tab with a draft still asked before it was closed.
    """
    body = """
        const store = m.openStorage('localStorage');
        store.setItem('a', 'early');
        const { setItem } = Storage.prototype;
        Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };
        store.setItem('a', 'late');
        const full = [store.getItem('a'), localStorage.getItem('a'), store.isFull];
        Storage.prototype.setItem = setItem;
        const again = [store.getItem('a'), m.openStorage('localStorage').getItem('a')];
        localStorage.setItem('a', 'by another tab');
        const other = store.getItem('a');
        store.setItem('a', 'later');
        const kept = [localStorage.getItem('a'), store.isFull];
        localStorage.setItem('a', 'of another tab');
        const seen = store.getItem('a');
        store.removeItem('a');
        for (const key of ['chat.b', 'b']) store.setItem(key, 'of this or another page');
        store.clear();
        const others = Object.keys(localStorage);
        localStorage.clear();
        return [full, again, other, kept, seen, store.getItem('a'), others];
    """
    late = ["late", "early"]
    full, kept = [*late, True], ["later", False]
    assert run("storage.js", body) == [full, late, "by another tab", kept, "of another tab", None, ["b"]]


def test_the_page_works_with_a_damaged_storage(run: Run) -> None:
    """In Firefox each call throws then (NS_ERROR_FILE_CORRUPTED), and no room opened."""
    body = """
        const { getItem } = Storage.prototype;
        Storage.prototype.getItem = () => { throw new DOMException('damaged'); };
        const store = m.openStorage('localStorage');
        const before = store.getItem('a');
        store.setItem('a', 'kept by the page');
        const after = store.getItem('a');
        Storage.prototype.getItem = getItem;
        localStorage.clear();
        return [before, after];
    """
    assert run("storage.js", body) == [None, "kept by the page"]
