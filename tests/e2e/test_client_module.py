"""The page's client and its rooms without a DOM: a browser imports them from the server, on connections of a test."""

import pytest

from tests.e2e.browser import PATIENCE
from tests.e2e.conftest import Run

pytestmark = pytest.mark.browser


def test_an_answer_after_the_end_of_a_connection_does_not_say_who_we_are(run: Run) -> None:
    """After a sign-out it named another guest, and all tabs connected again before the sign-out was answered.

    Over long-poll a tab took the guest of an answer from before a new sign-in for another sign-out, and stayed
    disconnected.
    """
    body = """
        const store = new (await import('/storage.js')).Store();
        const client = new m.ChatClient('', { tab: store, browser: store });
        client.api = {
            rooms: async () => ({ rooms: [] }),
            unread: async () => ({ rooms: {} }),
            session: async () => ({ user: { id: 'u', name: 'Ann' } }),
            room: async () => ({ may_write: true }),
        };
        client.enter('lobby');
        const known = [];
        const [socket, http, next] = [true, false, false].map((isSocket) => ({ isSocket }));
        for (const [before, after] of [[http, null], [http, next], [null, null], [socket, socket], [http, http]]) {
            client.connection.link = before;
            const answered = client.survey();
            client.connection.link = after;
            await answered;
            known.push(client.identity.user?.name ?? null);
        }
        return known;
    """
    assert run("client.js", body) == [None, None, None, None, "Ann"]


def test_a_session_that_is_told_after_the_end_of_its_connection_sends_no_message(run: Run) -> None:
    """Over long-poll the next connection may have another user, in whose name the message went out.

    The first attempt is refused, and so the second one asks whose session this is.
    """
    body = """
        const { ChatError } = await import('/wire.js');
        const store = new (await import('/storage.js')).Store();
        const client = new m.ChatClient('', { kind: 'poll', tab: store, browser: store });
        const turn = () => new Promise((resolve) => setTimeout(resolve));
        const sessions = [];
        const sent = [];
        client.api = {
            page: async () => ({ room: 'lobby', cursor: 'e-0', recovered: true, messages: [] }),
            poll: () => new Promise(() => {}),
            rooms: async () => ({ rooms: [] }),
            room: async () => ({ may_write: true }),
            unread: async () => ({ rooms: {} }),
            session: () => new Promise((resolve) => sessions.push((id) => resolve({ user: { id, name: id } }))),
            ask: async ({ as_user }) => {
                sent.push(as_user);
                throw new ChatError('another_user', '', { status: 409 });
            },
        };
        const answer = async (...ids) => {
            do await turn(); while (sessions.length < ids.length);
            for (const id of ids) sessions.shift()(id);
            await turn();
        };
        client.enter('lobby');
        await answer('u_ann');
        client.current.publish('by Ann').catch(() => {});
        while (!sessions.length) await turn();
        client.reconnect();
        await answer('u_ann', 'u_ben');
        await answer();
        client.close();
        return [sent, client.identity.user.id];
    """
    assert run("client.js", body) == [["u_ann"], "u_ben"]


def test_a_new_browser_knows_what_is_unread_over_each_transport_and_for_a_guest(run: Run) -> None:
    """Without a WebSocket, and for a guest, the first room counted as read; also if the first answer was 503."""
    body = """
        const { Store } = await import('/storage.js');
        const { ChatError } = await import('/wire.js');
        const messages = [1, 2].map((offset) => ({ offset, user: { id: 'u' } }));
        const page = { room: 'lobby', cursor: 'e-2', recovered: true, messages };
        const user = { id: 'g_1', name: 'Ann' };
        const unread = async (kind) => {
            const socket = (_, handlers) => {
                const link = { isSocket: true, handlers, follow: (room) => handlers.page(link, room, page) };
                link.close = () => {};
                queueMicrotask(() => handlers.ready(link, { user }));
                return link;
            };
            const client = new m.ChatClient('', { kind, socket, tab: new Store(), browser: new Store() });
            let isRefused = true;
            client.api = {
                unread: async () => {
                    if (isRefused) throw (isRefused = false), new ChatError('unavailable', '', { status: 503 });
                    return { rooms: { lobby: { read: 1, unread: 1 } } };
                },
                session: async () => ({ user }),
                page: async () => page,
                fetch: () => new Promise(() => {}),
                poll: () => new Promise(() => {}),
                ask: async () => {},
            };
            const caughtUp = new Promise((resolve) => client.addEventListener('caughtup', resolve));
            client.enter('lobby');
            await caughtUp;
            client.close();
            return client.current.unread;
        };
        return Promise.all(['ws', 'sse', 'poll'].map(unread));
    """
    assert run("client.js", body) == [1, 1, 1]


def test_where_no_socket_may_be_opened_the_client_uses_an_event_stream(run: Run) -> None:
    """The policy of a site may name the chat's https: alone. In Firefox `join` threw, and nothing was ever connected.

    In Chrome it took ten seconds.
    """
    body = """
        const { WebSocket } = globalThis;
        const uncaught = new Promise((_, reject) => {
            addEventListener('error', ({ error }) => reject(error), { once: true });
        });
        const sockets = [
            class { constructor() { throw new DOMException('refused', 'SecurityError'); } },
            class { constructor() { setTimeout(() => this.onerror()); } close() {} },
        ];
        const kinds = [];
        for (globalThis.WebSocket of sockets) {
            const chat = m.connect(location.origin);
            await Promise.race([chat.join('no-sockets').publish('hello'), uncaught]);
            kinds.push(chat.state.kind);
            chat.close();
        }
        globalThis.WebSocket = WebSocket;
        return kinds;
    """
    assert run("chat.js", body) == ["sse", "sse"]


def test_a_read_marker_that_the_server_did_not_get_is_sent_again(run: Run) -> None:
    """It was lost with its request. Other devices showed as unread what was read here, until more was read there."""
    body = """
        const { Store } = await import('/storage.js');
        let sent = () => {};
        const client = { ask: async (request) => sent(request) };
        const markers = new m.ReadMarkers(client, new Store());
        markers.take({ rooms: { lobby: { read: 1, unread: 1, mentions: 0 } } });
        return new Promise((resolve) => {
            sent = resolve;
            setTimeout(resolve, a);
            markers.mark({ name: 'lobby', read: 'e-2' }, 'e-2');
        });
    """
    assert run("read-markers.js", body, PATIENCE) == {"type": "read", "room": "lobby", "offset": 2}


def test_the_longer_the_list_of_what_is_unread_the_less_often_it_is_asked_for(run: Run) -> None:
    """A thousand rooms are 50 KB, and were sent each 20 s. After a new connection, perhaps to another log, it asks."""
    body = """
        const store = new (await import('/storage.js')).Store();
        const client = new m.ChatClient('', { kind: 'poll', tab: store, browser: store });
        const asked = [];
        const names = Array.from({ length: a }, (_, at) => `room-${at}`);
        const rooms = Object.fromEntries(names.map((name) => [name, { read: 1, unread: 0, mentions: 0 }]));
        client.api = {
            page: async () => ({ room: 'lobby', cursor: 'e-0', recovered: true, messages: [] }),
            poll: () => new Promise(() => {}),
            rooms: async () => ({ rooms: [] }),
            room: async () => ({ may_write: true }),
            session: async () => ({ user: { id: 'g_1', name: 'Guest' } }),
            unread: async () => (asked.push(now), { rooms }),
        };
        let now = 0;
        const { performance } = globalThis;
        Object.defineProperty(globalThis, 'performance', { value: { now: () => 1000 * now }, configurable: true });
        client.enter('lobby');
        await new Promise((resolve) => setTimeout(resolve));
        for (const second of [20, 40, 60, 80, 210, 220]) {
            now = second;
            if (second === 220) client.down();
            await client.survey();
        }
        Object.defineProperty(globalThis, 'performance', { value: performance, configurable: true });
        client.close();
        return asked;
    """
    assert run("client.js", body, 1_000) == [0, 210, 220]
    assert run("client.js", body, 50) == [0, 20, 40, 60, 80, 210, 220]


def test_a_reply_waits_after_a_lost_connection_until_it_is_known_whether_the_log_is_the_same(run: Run) -> None:
    """It was sent before the answer to the join: as a reply to whatever has that number in a new log."""
    body = """
        const { Store } = await import('/storage.js');
        const turn = () => new Promise((resolve) => setTimeout(resolve));
        const messages = [{ offset: 1, user: { id: 'u' } }];
        const page = (epoch, recovered) => ({ room: 'lobby', cursor: `${epoch}-1`, recovered, messages });
        const sent = async (epoch, recovered) => {
            const asked = [];
            let link = null;
            const socket = (_, handlers) => {
                const ask = async ({ type }) => (asked.push(type), { offset: 2 });
                return (link = { isSocket: true, handlers, follow() {}, close() {}, ask });
            };
            const client = new m.ChatClient('', { socket, tab: new Store(), browser: new Store() });
            client.api = { unread: async () => ({ rooms: {} }) };
            client.enter('lobby');
            const open = async () => {
                link.handlers.ready(link, { user: { id: 'g_1', name: 'Ann' } });
                await turn();
            };
            await open();
            link.handlers.page(link, 'lobby', page('e', true));
            link.handlers.lost(link, { opened: true, atOnce: true });
            client.current.publish('why?', { replyTo: 1 }).catch(() => {});
            await open();
            const early = [...asked];
            link.handlers.page(link, 'lobby', page(epoch, recovered));
            await turn();
            client.close();
            return [early, asked.filter((type) => type === 'publish')];
        };
        return [await sent('e', true), await sent('f', false)];
    """
    assert run("client.js", body) == [[[], ["publish"]], [[], []]]


def test_what_was_pushed_before_an_answer_is_in_its_room_when_the_answer_is_read(run: Run) -> None:
    """Pushes are gathered for a moment. A page that came in it had an edit of such a message, and that was lost.

    A record of a type that the page does not know yet was fetched again with the next one,
    and a push that it does not know became the event of that name.
    """
    body = """
        const { Store } = await import('/storage.js');
        const page = { room: 'lobby', cursor: 'e-0', recovered: true, messages: [] };
        const link = { isSocket: true, follow() {}, close() {}, ask: async () => ({ id: 1 }) };
        const socket = (_, handlers) => Object.assign(link, { handlers });
        const client = new m.ChatClient('', { socket, tab: new Store(), browser: new Store() });
        const added = [];
        client.addEventListener('messages', ({ detail }) => added.push(detail.added?.length));
        client.api = { unread: async () => ({ rooms: {} }) };
        client.enter('lobby');
        link.handlers.ready(link, { user: { id: 'g_1', name: 'Ann' } });
        link.handlers.page(link, 'lobby', page);
        const record = { room: 'lobby', user: { id: 'u' }, text: 'x' };
        const push = (type, offset) => link.handlers.pushed(link, { ...record, type, offset, cursor: `e-${offset}` });
        push('of a newer server', 1);
        link.handlers.pushed(link, { type: 'messages', of: 'a newer server' });
        push('message', 2);
        await client.ask({ type: 'history', room: 'lobby' });
        const { cursor } = client.current.timeline;
        client.close();
        return [cursor, added];
    """
    assert run("client.js", body) == ["e-2", [1]]


def test_a_message_that_is_fetched_while_it_is_deleted_keeps_no_text(run: Run) -> None:
    """Over HTTP a deletion may come before the answer to an earlier request: the message kept its text."""
    body = """
        const message = (offset) => ({ offset, user: { id: 'u' }, text: 'secret' });
        const turn = () => new Promise((resolve) => setTimeout(resolve));
        const fetched = async (ask) => {
            let answer = null;
            const log = new m.RoomLog({ history: () => new Promise((resolve) => (answer = resolve)), tell() {} });
            log.page({ cursor: 'e-9', recovered: true, messages: [message(9)] });
            ask(log);
            log.add([{ type: 'delete', offset: 10, target: 1 }]);
            answer({ cursor: 'e-9', recovered: true, messages: [message(1)] });
            await turn();
            return log.find(1).text;
        };
        return [await fetched((log) => log.quoted(1)), await fetched((log) => log.older(log.timeline))];
    """
    assert run("room-log.js", body) == ["", ""]


def test_a_message_that_changes_here_is_as_the_server_lists_it(run: Run) -> None:
    """It had a count of 0 for a reaction that was taken back, and when deleted still mentioned users."""
    body = """
        const chat = m.connect(location.origin);
        const room = chat.join('changes-here');
        const { offset } = await room.publish('hello', { mentions: ['u_ann'] });
        const listed = `/rooms/changes-here/messages?before=${offset + 1}&limit=1`;
        const state = ({ text, edited, deleted, mentions, reactions = {} }) =>
            JSON.stringify({ text, edited, deleted, mentions, reactions });
        const seen = [];
        for (const [type, ...how] of [
            ['react', '👍', true], ['react', '🎉', true], ['react', '👍', false], ['react', '👍', true],
            ['edit', 'hi'], ['delete'],
        ]) {
            const { cursor } = await room[type](offset, ...how);
            while (room.timeline.cursor !== cursor) await new Promise((resolve) => setTimeout(resolve));
            const { messages } = await (await fetch(listed)).json();
            seen.push([state(room.timeline.find(offset)), state(messages[0])]);
        }
        chat.close();
        return seen;
    """
    seen = run("chat.js", body)
    assert [here for here, _ in seen] == [there for _, there in seen]


def test_a_page_of_another_tab_far_behind_leaves_no_hole(run: Run) -> None:
    """A tab that was frozen joins from where it was, and all tabs get its page and what follows.

    These old messages were told as new, and those between them and the loaded ones could stay away.
    """
    body = """
        const user = { id: 'u', name: 'Ann' };
        const messages = (from, length) => Array.from({ length }, (_, at) => ({ offset: from + at, user, text: '' }));
        const log = new m.RoomLog({});
        log.page({ cursor: 'e-500', recovered: true, messages: messages(451, 50) });
        const { added } = log.page({ cursor: 'e-150', recovered: true, messages: messages(101, 50) });
        log.add(messages(151, 10));
        return [added.length, log.timeline.first, log.timeline.messages.length];
    """
    assert run("room-log.js", body) == [0, 451, 50]


def test_a_message_is_not_sent_before_it_is_known_whose_it_is(run: Run) -> None:
    """Over long-poll a request for the session had failed, and the answer to the message was lost.

    Nobody knew then whose key it was, and after a sign-in the message was stored a second time.
    """
    body = """
        const store = new (await import('/storage.js')).Store();
        const { ChatError } = await import('/wire.js');
        const client = new m.ChatClient('', { kind: 'poll', tab: store, browser: store });
        const sent = [];
        let user = { id: 'g_1', name: 'Guest' };
        let requests = 0;
        client.api = {
            page: async () => ({ room: 'lobby', cursor: 'e-0', recovered: true, messages: [] }),
            poll: () => new Promise(() => {}),
            unread: async () => ({ rooms: {} }),
            session: async () => {
                if (!requests++) throw new ChatError('unavailable', 'not now', { status: 503 });
                return { user };
            },
            ask: async ({ text }) => {
                sent.push(user.id);
                user = { id: 'u_ann', name: 'Ann' };
                throw new ChatError('lost', 'no answer');
            },
        };
        client.enter('lobby');
        const { outbox } = client;
        client.current.publish('by a guest').catch(() => {});
        const isOver = () => outbox.items[0].state === 'held' || sent.length > 1;
        while (!isOver()) await new Promise((resolve) => setTimeout(resolve, 20));
        client.close();
        return sent;
    """
    assert run("client.js", body) == ["g_1"]


def test_a_token_before_the_first_room_opens_one_connection(run: Run) -> None:
    """The first room opened a second one, and `close` closed that one alone."""
    body = """
        const { Store } = await import('/storage.js');
        const tokens = [];
        const socket = (_, handlers, token) => (tokens.push(token), { isSocket: true, follow() {}, close() {} });
        const client = new m.ChatClient(location.origin, { socket, tab: new Store(), browser: new Store() });
        client.authenticate('one');
        client.join('lobby');
        client.authenticate('two');
        return tokens;
    """
    assert run("client.js", body) == ["one", "two"]
