"""The page on a line so slow that one answer takes longer than most deadlines."""

import pytest

from tests.e2e.conftest import Run

pytestmark = pytest.mark.browser

#: Runs a body with a clock of its own: `pass` lets so many seconds go by, and calls once what was due in them.
CLOCK = """
    const { setTimeout: wait, setInterval, clearTimeout, clearInterval, fetch, WebSocket } = globalThis;
    const today = Date.now;
    let [now, last] = [0, 0];
    const timers = new Map();
    const begin = (isOnce) => (call, ms) => (timers.set(++last, { call, due: now + ms, isOnce }), last);
    const end = (id) => timers.delete(id);
    Object.assign(globalThis, { setTimeout: begin(true), setInterval: begin(false) });
    globalThis.clearTimeout = globalThis.clearInterval = end;
    Date.now = performance.now = () => now;
    const turn = () => new Promise((resolve) => wait(resolve));
    const pass = async (seconds) => {
        now += 1000 * seconds;
        for (const [id, { call, due, isOnce }] of [...timers]) {
            if (due > now || !timers.has(id)) continue;
            if (isOnce) timers.delete(id);
            call();
        }
        await turn();
    };
    const fate = (promise) => promise.then((answer) => answer.cursor, (error) => error.code);
    try {
        %s
    } finally {
        Object.assign(globalThis, { setTimeout: wait, setInterval, clearTimeout, clearInterval, fetch, WebSocket });
        Date.now = today;
        delete performance.now;
    }
"""


def test_a_socket_on_a_slow_line_waits_for_the_answers_of_two_rooms(run: Run) -> None:
    """A page of 64 KiB takes 22 s at 3 KB/s; after 20 s the page connected anew, and asked for the same again."""
    body = """
        let socket = null;
        globalThis.WebSocket = class {
            constructor() { socket = this; }
            send() {}
            close() {}
        };
        const hear = (message) => socket.onmessage({ data: JSON.stringify(message) });
        const said = [];
        const told = { ready() {}, pushed() {}, lost: (link, { reason }) => said.push(reason) };
        const link = new m.WebSocketLink(location.origin, told);
        hear({ type: 'hello' });
        const asked = [link.ask({ type: 'join' }), link.ask({ type: 'history' })].map(fate);
        for (let id = 1; id <= 2; id++) {
            await pass(22);
            hear({ id, cursor: `e-${id}` });
        }
        said.push(...(await Promise.all(asked)));
        const [publish, join] = [link.ask({ type: 'publish' }), link.ask({ type: 'join' })].map(fate);
        await pass(31);
        hear({ type: 'message' });
        await pass(31);
        said.push(await publish, await join);
        return said;
    """
    assert run("websocket-link.js", CLOCK % body) == ["e-1", "e-2", "no answer to join", "lost", "lost"]


def test_a_socket_without_a_hello_is_given_up_and_one_that_goes_away_says_for_how_long(run: Run) -> None:
    body = """
        const sockets = [];
        globalThis.WebSocket = class {
            constructor() { sockets.push(this); }
            send() {}
            close() {}
        };
        const lost = [];
        const told = { ready() {}, pushed() {} };
        told.lost = (link, { opened, reason, retryAfter }) => lost.push([opened, reason, retryAfter]);
        for (let n = 0; n < 2; n++) new m.WebSocketLink(location.origin, told);
        const hear = (message) => sockets[1].onmessage({ data: JSON.stringify(message) });
        hear({ type: 'hello' });
        hear({ type: 'goaway', reason: 'restart', retry_after: 7 });
        await pass(9);
        sockets[1].onclose({ code: 1012, reason: 'restart' });
        await pass(2);
        return lost;
    """
    lost = run("websocket-link.js", CLOCK % body)
    assert lost == [[True, "restart", 7], [False, "the line went silent", None]]


def test_a_request_on_a_slow_line_waits_for_the_end_of_its_answer(run: Run) -> None:
    """A page of 64 KiB takes 22 s at 3 KB/s; after 15 s it was given up, and asked for again in the next attempt."""
    body = """
        let answer = null;
        globalThis.fetch = async (path, { signal }) => new Response(new ReadableStream({
            start: (controller) => {
                answer = controller;
                signal.addEventListener('abort', () => controller.error(signal.reason));
            },
        }));
        const api = new m.HttpApi(location.origin);
        const told = [];
        for (const parts of [['{"cur', 'sor":', '"e-1"}'], ['{"cur']]) {
            const page = fate(api.json('/rooms/lobby/messages'));
            for (const part of parts) {
                await pass(10);
                answer.enqueue(new TextEncoder().encode(part));
                await turn();
            }
            if (parts.length > 1) answer.close();
            await pass(61);
            told.push(await page);
        }
        return told;
    """
    assert run("http.js", CLOCK % body) == ["e-1", "lost"]


def test_the_check_of_a_server_whose_answer_takes_six_seconds_succeeds(run: Run) -> None:
    """It failed after five, and so the page tried nothing but WebSockets, which had no time to open either."""
    body = """
        let answer = () => {};
        globalThis.fetch = (path, { signal }) => new Promise((resolve, reject) => {
            answer = () => resolve(new Response('{}'));
            signal.addEventListener('abort', () => reject(signal.reason));
        });
        const api = new m.HttpApi(location.origin);
        const check = api.ready().then(() => 'ready', (error) => error.code);
        await pass(6);
        answer();
        return await check;
    """
    assert run("http.js", CLOCK % body) == "ready"


#: Sockets that are open and silent; `hear(n, message)` gives one a message of the server.
SOCKETS = """
    const [sockets, sent, said] = [[], [], []];
    globalThis.WebSocket = class {
        static OPEN = 1;
        readyState = 1;
        constructor() { sockets.push(this); }
        send(text) { sent.push(JSON.parse(text).type); }
        close() {}
    };
    const hear = (n, message) => sockets[n].onmessage({ data: JSON.stringify(message) });
    const told = { ready() {}, pushed() {}, lost: (link, { reason }) => said.push(reason) };
    const open = () => {
        const link = new m.WebSocketLink(location.origin, told);
        hear(sockets.length - 1, { type: 'hello' });
        return link;
    };
"""


def test_a_user_who_comes_back_to_a_tab_does_not_end_the_page_under_way(run: Run) -> None:
    """At 3 KB/s it was cut off after 4 s, and its bytes that were under way delayed the next attempt."""
    body = """
        const link = open();
        for (const type of ['join', 'history']) {
            link.ask({ type }).then(() => said.push(type), () => {});
            link.probe();
            await pass(22);
            hear(0, { id: sent.length, cursor: '' });
            await turn();
        }
        link.probe();
        await pass(5);
        return [said, sent];
    """
    said, sent = run("websocket-link.js", CLOCK % (SOCKETS + body))
    assert said == ["join", "history", "the line went silent"]
    assert sent == ["join", "history", "ping"]


def test_a_message_without_an_answer_shows_that_the_line_is_dead(run: Run) -> None:
    """As after a NAT has forgotten the connection: it was "live" for half a minute, and the message stayed pending."""
    body = """
        const [dead, alive, loading] = [open(), open(), open()];
        loading.ask({ type: 'join' }).catch(() => {});
        for (const [name, link] of Object.entries({ dead, alive, loading })) {
            link.ask({ type: 'typing' }).catch(() => {}); // has no answer
            link.ask({ type: 'publish', key: 'k' }).then(() => said.push(name), () => said.push(`${name}: lost`));
        }
        await pass(14);
        hear(1, { id: 2, cursor: '' });
        await turn();
        await pass(2);
        return said;
    """
    assert run("websocket-link.js", CLOCK % (SOCKETS + body)) == ["alive", "the line went silent", "dead: lost"]
