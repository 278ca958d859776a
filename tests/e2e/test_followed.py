"""The rooms that the page's client follows: left, entered again, refused, in a new log, behind a ban."""

import pytest

from tests.e2e.conftest import Run

pytestmark = pytest.mark.browser

LEAVING = """
    const store = new (await import('/storage.js')).Store();
    const client = new m.ChatClient('', { tab: store, browser: store });
    const told = [];
    const link = (isSocket) => ({
        isSocket,
        follow: (room, cursor) => told.push(`follow ${room} ${cursor}`),
        unfollow: (room) => told.push(`unfollow ${room}`),
        ask: async ({ type, text }) => (told.push(`${type} ${text}`), { offset: 2 }),
    });
    client.api = { unread: async () => ({ rooms: {} }), session: async () => ({ user: { id: 'g_1', name: 'Guest' } }) };
    client.connection.start = () => {};
    client.markers.fetch = async () => {};
    const open = async (isSocket, limits) => {
        client.connection.state.phase = 'live';
        await client.up((client.connection.link = link(isSocket)), { user: { id: 'g_1', name: 'Guest' }, limits });
    };
    const turn = () => new Promise((resolve) => setTimeout(resolve));
    client.enter('lobby');
    client.join('ops');
"""


def test_a_room_that_another_tab_leaves_and_enters_is_followed_again(run: Run) -> None:
    """Over long-poll and event stream a tab still followed it, so the room stayed empty until something was said."""
    body = f"""{LEAVING}
        await open(false);
        client.forget('ops');
        client.join('ops');
        return told.filter((each) => each.endsWith('ops') || each.endsWith('ops null'));
    """
    assert run("client.js", body) == ["follow ops null", "unfollow ops", "follow ops null"]


def test_a_reply_goes_out_although_its_room_is_left_before_it_is_joined(run: Run) -> None:
    """It waited for the next connection, shown nowhere."""
    body = f"""{LEAVING}
        client.rooms.get('ops').publish('a reply', {{ replyTo: 1 }}).catch(() => {{}});
        await open(true);
        await turn();
        const before = told.includes('publish a reply');
        client.forget('ops');
        await turn();
        return [before, told.includes('publish a reply')];
    """
    assert run("client.js", body) == [False, True]


@pytest.mark.parametrize("end", [1, 9])
def test_a_stream_that_begins_in_a_new_log_shows_that_log(run: Run, end: int) -> None:
    """The server began it between the room's page and the stream: the room went on to show the old log."""
    body = f"""{LEAVING}
        client.enter('ops');
        await open(false);
        const page = (cursor) => ({{ room: 'ops', cursor, recovered: cursor === 'old-5', messages: [] }});
        client.page('ops', page('old-5'));
        told.length = 0;
        client.pushed({{ type: 'gap', room: 'ops', after: 'new-0', until: `new-${{a}}` }});
        return told.filter((each) => each.startsWith('follow ops'));
    """
    assert run("client.js", body, end) == ["follow ops old-5"]


def test_the_end_of_a_ban_opens_only_a_connection_that_the_ban_has_ended(run: Run) -> None:
    """It opened one again that the page had closed, and after a sign-out elsewhere the user came back as a guest."""
    body = """
        const { Store } = await import('/storage.js');
        const phaseAfter = async (end) => {
            const link = { isSocket: true, follow() {}, close() {} };
            const socket = (_, handlers) => Object.assign(link, { handlers });
            const client = new m.ChatClient('', { socket, tab: new Store(), browser: new Store() });
            client.api = { unread: async () => ({ rooms: {} }), session: async () => ({}) };
            client.enter('lobby');
            link.handlers.ready(link, { user: { id: 'u_1', name: 'Ann' } });
            const ban = { type: 'error', code: 'forbidden', room: 'lobby', message: 'you are banned', retry_after: -1 };
            link.handlers.pushed(link, ban); // it is over at once
            end(client, (reason) => link.handlers.lost(link, { opened: true, forGood: true, reason }));
            await new Promise((resolve) => setTimeout(resolve, 20));
            return client.state.phase;
        };
        return [
            await phaseAfter((_, lose) => lose('you are ban')), // cut to fit
            await phaseAfter((_, lose) => lose('signed out')),
            await phaseAfter((client) => client.close()),
        ];
    """
    assert run("client.js", body) == ["connecting", "stopped", "stopped"]


def test_a_room_beyond_those_that_a_connection_may_be_in_says_so(run: Run) -> None:
    """Nothing said that the room was not live: its messages never came."""
    body = f"""{LEAVING}
        const refused = [];
        client.addEventListener('refused', ({{ detail }}) => refused.push(detail.room, detail.error.code));
        await open(true, {{ rooms: 1 }});
        return [...told.filter((each) => each.startsWith('follow')), ...refused];
    """
    assert run("client.js", body) == ["follow lobby null", "ops", "too_many_rooms"]
