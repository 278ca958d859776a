"""The link over plain HTTP, and its requests, in a browser but without the page: the test plays the server."""

import pytest

from tests.e2e.conftest import Run

pytestmark = pytest.mark.browser


def test_a_long_poll_goes_on_without_the_refused_rooms_and_pauses_after_early_answers(run: Run) -> None:
    """An error names one room, all, or none if there are too many."""
    body = """
        const { ChatError } = await import('/wire.js');
        const turn = () => new Promise((resolve) => setTimeout(resolve));
        const polled = async (rooms, answers) => {
            const [asked, refused, lost] = [[], [], []];
            const api = {
                page: async () => ({ cursor: 'e-0', recovered: true, messages: [] }),
                poll: async (places) => {
                    asked.push([...places.keys()].join());
                    const answer = answers.shift();
                    if (Array.isArray(answer)) throw new ChatError(...answer);
                    return answer ?? new Promise(() => {});
                },
            };
            const handlers = { ready() {}, page() {}, lost: () => lost.push('lost') };
            handlers.refused = (_, room) => refused.push(room);
            const link = new m.HttpLink('poll', api, handlers);
            for (const room of rooms) link.follow(room, null, true);
            await turn();
            await turn();
            link.close();
            return [asked, refused, lost];
        };
        Object.defineProperty(navigator, 'cookieEnabled', { value: false, configurable: true }); // so without locks
        const early = Array(100).fill({ rooms: {} });
        const all = await Promise.all([polled(['a'], early), ...a.map(([rooms, answer]) => polled(rooms, [answer]))]);
        delete navigator.cookieEnabled;
        return all;
    """
    cases = [
        (["a", "b"], ["forbidden", "", {"room": "a"}]),
        (["a", "b"], ["forbidden", "", {"room": "*"}]),
        (["a", "b"], ["too_many_rooms", ""]),
        (["a"], ["bad_request", ""]),
        (["a"], ["unauthenticated", ""]),
        (["a", "b"], ["unauthenticated", "", {"room": "a"}]),
        (["a"], ["unavailable", "", {"status": 503}]),
    ]
    [early, *refusals] = run("http-link.js", body, cases)
    assert len(early[0]) < 100
    assert refusals == [
        [["a,b", "b"], ["a"], []],
        [["a,b"], ["a", "b"], []],
        [["a,b", "a"], ["b"], []],
        [["a"], ["a"], []],
        [["a"], [], ["lost"]],
        [["a,b", "b"], ["a"], []],
        [["a"], [], ["lost"]],
    ]


def test_a_token_that_is_not_valid_ends_the_link_and_not_the_room(run: Run) -> None:
    """The chat was `live`, with a room that was refused; over a WebSocket it was `stopped`."""
    body = """
        const { ChatError } = await import('/wire.js');
        const told = [];
        for (const kind of ['poll', 'sse']) for (const room of ['ops', null]) {
            const page = async () => { throw new ChatError('unauthenticated', 'sign in', { room }); };
            const handlers = { ready() {}, refused: () => told.push('refused') };
            handlers.lost = (_, { forGood }) => told.push(forGood);
            await new m.HttpLink(kind, { page }, handlers).follow('ops', null, true);
        }
        return told;
    """
    assert run("http-link.js", body, None) == ["refused", True] * 2


def test_a_room_that_is_left_takes_no_message_of_another_with_it(run: Run) -> None:
    """Of one answer, the rooms behind the one that was left had their cursors moved, and their messages dropped."""
    body = """
        const { ChatError } = await import('/wire.js');
        const [asked, seen] = [[], []];
        const hold = (signal) => new Promise((_, end) => (signal.onabort = () => end(new ChatError('lost', ''))));
        const pageOf = (text) => ({ cursor: 'e-1', recovered: true, messages: [{ cursor: 'e-1', text }] });
        const answers = [{ rooms: { a: pageOf('bye'), b: pageOf('important'), c: pageOf('left') } }];
        const api = {
            page: async () => ({ cursor: 'e-0', recovered: true, messages: [] }),
            poll: async (places, { signal }) => (asked.push([...places].join()), answers.shift() ?? hold(signal)),
        };
        const page = (_, room, { messages: [message] }) => {
            if (!message) return;
            seen.push(message.text);
            for (const left of room === 'a' ? ['a', 'c'] : []) link.unfollow(left);
        };
        const link = new m.HttpLink('poll', api, { ready() {}, lost() {}, page });
        for (const room of ['a', 'b', 'c']) link.follow(room, 'e-0', false);
        for (let n = 0; n < 500 && asked.length < 2; n++) await new Promise((then) => setTimeout(then, 1));
        link.close();
        return [seen, asked];
    """
    assert run("http-link.js", body) == [["bye", "important"], ["a,e-0,b,e-0,c,e-0", "b,e-1"]]


def test_the_tabs_of_a_browser_leave_connections_for_what_they_send(run: Run) -> None:
    """A browser has six to a server. Three tabs that held two requests each left none: the next one could not open."""
    body = """
        const { ChatError } = await import('/wire.js');
        const held = new Set();
        let [most, brief] = [0, 0];
        const hold = ({ signal }) => new Promise((_, end) => {
            most = Math.max(most, held.add(signal).size);
            signal.addEventListener('abort', () => (held.delete(signal), end(new ChatError('lost', ''))));
        });
        const api = {
            page: async () => ({ cursor: 'e-0', recovered: true, messages: [] }),
            fetch: (path, read, options) => hold(options),
            poll: async (rooms, options) => (options.wait ? hold(options) : (brief++, { rooms: {} })),
        };
        const tabs = [1, 2, 3, 4, 5].map(() => new m.HttpLink('sse', api, { ready() {}, page() {}, lost() {} }));
        for (const tab of tabs) {
            tab.follow('beside', 'e-0', false);
            tab.follow('open', null, true);
        }
        for (let n = 0; n < 500 && !(brief && held.size === 4); n++) await new Promise((then) => setTimeout(then, 10));
        const seen = [held.size, most, brief > 0];
        tabs.forEach((tab) => tab.close());
        return seen;
    """
    assert run("http-link.js", body) == [4, 4, True]


@pytest.mark.parametrize("is_open", [True, False])
def test_a_link_whose_locks_the_browser_takes_away_is_lost(run_alone: Run, is_open: bool) -> None:
    """Safari does so while it keeps a page for the Back button. The client stayed live, and nothing arrived."""
    body = """
        let isHeld = false;
        const hold = () => new Promise(() => (isHeld = true));
        const page = async () => ({ cursor: 'e-0', recovered: true, messages: [] });
        const turn = () => new Promise((resolve) => setTimeout(resolve, 1));
        let isLost = false;
        const handlers = { ready() {}, page() {}, lost: () => (isLost = true) };
        const link = new m.HttpLink('sse', { page, fetch: hold, poll: hold }, handlers);
        link.follow('lobby', 'e-0', a);
        while (!isHeld) await turn();
        await navigator.locks.request('chat.held.0', { steal: true }, turn);
        for (let n = 0; n < 100 && !isLost; n++) await turn();
        link.close();
        return isLost;
    """
    assert run_alone("http-link.js", body, is_open)


def test_a_stream_is_open_once_its_first_line_is_there(run: Run) -> None:
    """A proxy that scans whole answers may pass a byte on now and then. The page was live and got no message."""
    body = """
        const turn = () => new Promise((resolve) => setTimeout(resolve));
        let send;
        const start = (stream) => (send = (text) => stream.enqueue(new TextEncoder().encode(text)));
        const source = new ReadableStream({ start });
        const api = {
            page: async () => ({ cursor: 'e-0', recovered: true, messages: [] }),
            fetch: async (path, read) => read(new Response(source)),
        };
        let isReady = false;
        const link = new m.HttpLink('sse', api, { ready: () => (isReady = true), page() {}, lost() {} });
        link.follow('a', null, true);
        const seen = [];
        for (const text of a) {
            while (!send) await turn();
            send(text);
            for (let times = 0; times < 20; times += 1) await turn();
            seen.push(isReady);
        }
        link.close();
        return seen;
    """
    assert run("http-link.js", body, ["r", "etry: 2000", "\n"]) == [False, False, True]


#: A request of a link, and what becomes of it.
REQUESTS: list[tuple[dict[str, object], str, str, dict[str, object] | None]] = [
    ({"type": "publish", "text": "hi", "key": "k"}, "POST", "/messages", {"text": "hi", "key": "k"}),
    ({"type": "history", "before": "e-9", "limit": 2}, "GET", "/messages?before=e-9&limit=2", None),
    ({"type": "members"}, "GET", "/members", None),
    ({"type": "edit", "offset": 7, "text": "hi"}, "PATCH", "/messages/7", {"text": "hi"}),
    ({"type": "delete", "offset": 7, "key": "k"}, "DELETE", "/messages/7", {"key": "k"}),
    ({"type": "react", "offset": 7, "emoji": "#", "on": True}, "PUT", "/messages/7/reactions/%23", {}),
    ({"type": "react", "offset": 7, "emoji": "#", "on": False}, "DELETE", "/messages/7/reactions/%23", {}),
    ({"type": "read", "offset": 7}, "PUT", "/read", {"offset": 7}),
    ({"type": "sanction", "kind": "mute"}, "POST", "/sanctions", {"kind": "mute"}),
    ({"type": "sanctions"}, "GET", "/sanctions", None),
    ({"type": "sanctions", "user": "u&x"}, "GET", "/sanctions?user=u%26x", None),
    ({"type": "lift", "id": 3}, "DELETE", "/sanctions/3", None),
    ({"type": "kick", "user": "u"}, "POST", "/kick", {"user": "u"}),
    ({"type": "typing"}, "POST", "/typing", None),
]


def test_each_request_of_a_link_has_its_path_and_a_refusal_its_reason(run: Run) -> None:
    body = """
        const { fetch } = globalThis;
        let answer = () => new Response(null, { status: 204 });
        const asked = [];
        globalThis.fetch = async (url, { method = 'GET', headers, body }) => {
            asked.push([method, url, body ? JSON.parse(body) : null, headers['Content-Type'] ?? null]);
            return answer();
        };
        const api = new m.HttpApi('http://a.example');
        api.needsToken = false;
        for (const [request] of a) await api.ask({ room: 'team-a', ...request });
        const refusals = [];
        const error = { error: { code: 'slow', message: 'later', room: 'b' } };
        for (const [status, body, headers] of [
            [429, JSON.stringify(error), { 'Retry-After': '7' }],
            [503, '<html>', { 'Retry-After': 'Fri, 01 Jan 2027' }],
            [200, '<html>', {}],
            [0, '', {}], // no status, so the constructor throws
        ]) {
            answer = () => new Response(body, { status, headers });
            const { code, status: told, retryAfter, room, message } = await api.rooms().catch((each) => each);
            refusals.push([code, told, retryAfter, room, message.slice(0, 14)]);
        }
        globalThis.fetch = fetch;
        return [asked.slice(0, a.length), refusals];
    """
    asked, refusals = run("http.js", body, REQUESTS)
    assert asked == [
        [method, f"http://a.example/rooms/team-a{path}", body, None if body is None else "application/json"]
        for _, method, path, body in REQUESTS
    ]
    assert refusals == [
        ["slow", 429, 7, "b", "later"],
        ["unavailable", 503, None, None, "the server ans"],
        ["lost", 0, None, None, "something else"],
        ["lost", 0, None, None, "no answer from"],
    ]
