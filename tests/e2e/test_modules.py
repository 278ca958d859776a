"""The modules of the page that need no DOM, imported by a browser from the server."""

import re

import pytest

from chatserver.protocol.validation import check_emoji
from tests.e2e.browser import Server
from tests.e2e.conftest import Run

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


LINKS = {
    "plain": [],
    "see https://a.example/x.": ["https://a.example/x"],
    "(http://a.example/wiki/Loris_(animal))": ["http://a.example/wiki/Loris_(animal)"],
    "HTTPS://A.EXAMPLE, and https://b.example/?q=1&r=2!": ["HTTPS://A.EXAMPLE", "https://b.example/?q=1&r=2"],
    "javascript:alert(1) data:text/html,x file:///etc ftp://a.example": [],
    "javascript:x//http://a.example": ["http://a.example"],
    "https:// http://[ https://": [],
    "[x](http://[) http://[).": [],
    "#lobby, (#Ops) and #team-1.2.": ["#lobby", "#ops", "#team-1.2"],
    "#ops/42 #ops/0 #ops/x": ["#ops/42"],
    "#include #1 # ops a#ops ##ops #ops- #ops_a &#ops;": [],
    "https://a.example/#ops a.example/#ops": ["https://a.example/#ops"],
}


def test_links_in_a_text_are_found(run: Run) -> None:
    body = """
        m.linkRooms(['lobby', 'ops', 'team-1.2']);
        return a.map((text) => {
          const holder = document.createElement('div');
          holder.append(...m.markdown(text));
          const links = [...holder.querySelectorAll(':any-link')];
          return [holder.textContent, links.map((link) => link.getAttribute('href'))];
        });
    """
    assert run("markdown.js", body, list(LINKS)) == [[text, links] for text, links in LINKS.items()]
    body = """
        document.body.append(...m.markdown('#later'));
        return ['later', 'another'].map((room) => {
          m.linkRooms([room]);
          return document.body.lastChild.querySelectorAll(':any-link').length;
        });
    """
    assert run("markdown.js", body) == [1, 0], "a text that is shown already"


MARKUP = {
    "plain": "<p>plain</p>",
    "two\nlines": "<p>two\nlines</p>",
    "**bold** *it* _it_ `code *x*`": "<p><strong>bold</strong> <em>it</em> <em>it</em> <code>code *x*</code></p>",
    "***both*** **a *b* c**": "<p><strong><em>both</em></strong> <strong>a <em>b</em> c</strong></p>",
    "*it **both** it* *2 **4": "<p><em>it <strong>both</strong> it</em> *2 **4</p>",
    "2*3*4 snake_case_name * not *": "<p>2*3*4 snake_case_name * not *</p>",
    "~~gone *all*~~ ~3~ ~~ ~~~no~~~": "<p><del>gone <em>all</em></del> ~3~ ~~ ~~~no~~~</p>",
    r"\*no\* \`no\` \~~no\~~ C:\dir": "<p>*no* `no` ~~no~~ C:\\dir</p>",
    r"¯\_(ツ)_/¯ \ `\*`": r"<p>¯\_(ツ)_/¯ \ <code>\*</code></p>",
    "- a\n- *b*\n\nthen": "<ul><li>a</li><li><em>b</em></li></ul><p>then</p>",
    "3. c\n4. d": '<ol start="3" style="padding-inline-start: 2.5ch;"><li>c</li><li>d</li></ol>',
    " - a\n   - b\n     - c\n - d": '<ul><li>a</li><li style="margin-inline-start: 1.4em;">b</li>'
    '<li style="margin-inline-start: 2.8em;">c</li><li>d</li></ul>',
    "1. a\n    - b\n99. c\n1. d": '<ol start="1" style="padding-inline-start: 2.5ch;"><li>a</li></ol>'
    '<ul><li style="margin-inline-start: 1.4em;">b</li></ul>'
    '<ol start="99" style="padding-inline-start: 4.5ch;"><li>c</li><li>d</li></ol>',
    "two\na\tb\n\t*c*\t\n\nno\ttable\n\n\tif\n\tx": '<p>two</p><table tabindex="0"><tr><td>a</td>\t<td>b</td>\t</tr>'
    "<tr><td></td>\t<td><em>c</em></td>\t<td></td>\t</tr></table><p>no\ttable\n\n\tif\n\tx</p>",
    "> said\nno": "<blockquote>said</blockquote><p>no</p>",
    "see:\n```py\n<b> *x*\n```\nok": '<p>see:</p><pre tabindex="0"><code>&lt;b&gt; *x*</code></pre><p>ok</p>',
    "``a ` b`` ```": "<p><code>a ` b</code> ```</p>",
    "``` never closed": "<p>``` never closed</p>",
    "[a [b](javascript:x)": "<p>[a [b](javascript:x)</p>",
    "[x](javascript:alert(1)) [y](data:,z)": "<p>[x](javascript:alert(1)) [y](data:,z)</p>",
    "<img src=x onerror=alert(1)> &amp;": "<p>&lt;img src=x onerror=alert(1)&gt; &amp;amp;</p>",
    ":tada: **:tada:** `:tada:` :no:": "<p>🎉 <strong>🎉</strong> <code>:tada:</code> :no:</p>",
    ":+1: is :thumbsup:": "<p>👍 is 👍</p>",
    "12:30:45 :+1::heart:": "<p>12:30:45 :+1::heart:</p>",
    "```\n:tada:\n```": '<pre tabindex="0"><code>:tada:</code></pre>',
    "hi @Ann Lee, @Bo": '<p>hi <bdi class="mention" translate="no">@Ann Lee</bdi>, @Bo</p>',
}


def test_markup_is_built_and_never_parsed(run: Run) -> None:
    body = """
        return a.map((text) => {
          const holder = document.createElement('div');
          holder.append(...m.markdown(text, ['Ann Lee']));
          return holder.innerHTML;
        });
    """
    assert run("markdown.js", body, list(MARKUP)) == list(MARKUP.values())
    (linked,) = run("markdown.js", body, ["**[the #1 plan](https://a.example/x_(y))**, https://b.example/*z*."])
    assert re.findall('href="([^"]*)"', linked) == ["https://a.example/x_(y)", "https://b.example/*z"]
    assert linked.count('rel="noopener noreferrer"') == 2


PLAIN = {
    "plain": "plain",
    "**bold** *it* `code *x*` ~~gone~~ :tada:": "bold it code *x* gone 🎉",
    "- a\n- *b*\n\nthen\n> said": "a b then said",
    "see:\n```py\nx = 1\ny = 2\n```\n[the plan](https://a.example/)": "see: x = 1 y = 2 the plan",
    "a\tb\nc\td": "a b c d ",
    "/me **waves**": "waves",
    "2 ** 8 `never closed": "2 ** 8 `never closed",
    "": "…",
}


def test_a_message_in_short_has_no_marks(run: Run) -> None:
    assert run("markdown.js", "return a.map((text) => m.inShort({ text }))", list(PLAIN)) == list(PLAIN.values())


def test_markup_takes_no_longer_for_hostile_text(run: Run) -> None:
    """Eight kilobytes of half-open marks: backtracking without bound would take minutes."""
    hostile = [
        mark * (8000 // len(mark))
        for mark in (
            "*",
            "**a",
            "*a **b** ",
            "**b** ",
            "~~a",
            "_a ",
            "`",
            "\\*",
            "``a`",
            "[",
            "[a](http://(",
            "> ",
            "```\n",
            "-",
        )
    ]
    body = "return a.map((text) => m.markdown(text).length > 0)"
    assert all(run("markdown.js", body, hostile))


def test_a_link_is_found_in_linear_time(run: Run) -> None:
    """With quadratic time a message of 8 KB takes 0.25 s, and these texts would take hours."""
    body = "return [`http://${')'.repeat(a)}`, '['.repeat(a)].map((text) => m.markdown(text)[0].textContent.length)"
    assert run("markdown.js", body, 3_000_000) == [3_000_007, 3_000_000]


def test_up_to_three_emoji_and_nothing_else_are_shown_large(run: Run) -> None:
    large = ["🎉", "👩\u200d👩\u200d👧 ❤️", "\u2139\ufe0f" * 2, "1️⃣", "🇩🇪👍🏽🚀"]  # U+2139 is a letter too
    england = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    large += [england, "🏳️\u200d🌈⛹🏽\u200d♀️ 👩\u200d🦰\n"]
    small = ["hi", "🎉a", "🎉 ab", "a", "1", "🎉🎉🎉🎉", "漢字", "", "©", "#", "\u200d"]
    assert run("text.js", "return a.map(m.isOnlyEmoji)", large) == [True] * len(large)
    assert run("text.js", "return a.map(m.isOnlyEmoji)", small) == [False] * len(small)


def test_names_of_emoji_in_code_and_links_stay(run: Run) -> None:
    """A text is sent with emoji in place of their names: a pasted link led elsewhere, and code was another."""
    texts = ["see https://a.example/:x:/?q=:key: :x:", "``a ` :x:`` :x:", "`:x:` ` :x:"]
    assert run("text.js", "return a.map(m.withEmoji)", texts) == [
        *("see https://a.example/:x:/?q=:key: ❌", "``a ` :x:`` ❌", "`:x:` ` ❌"),
    ]


def test_reactions_have_the_form_in_which_the_server_returns_them(run: Run) -> None:
    """Until the record is there, the page counts its own reaction by the emoji that it has sent."""
    emoji = run("text.js", "return [...m.NAMED.values()]")
    assert [check_emoji(each) for each in emoji] == emoji


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


def test_an_answer_after_the_end_of_a_connection_does_not_say_who_we_are(run: Run) -> None:
    """After a sign-out it named another guest, and all tabs connected again before the sign-out was answered."""
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
        for (const link of [null, { isSocket: true }, { isSocket: false }]) {
            client.connection.link = link;
            await client.survey();
            known.push(client.identity.user?.name ?? null);
        }
        return known;
    """
    assert run("client.js", body) == [None, None, "Ann"]


def test_a_new_browser_knows_what_is_unread_over_each_transport_and_for_a_guest(run: Run) -> None:
    """Without a WebSocket, and for a guest, the first room counted as read."""
    body = """
        const { Store } = await import('/storage.js');
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
            client.api = {
                unread: async () => ({ rooms: { lobby: { read: 1, unread: 1 } } }),
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


def test_a_mention_is_the_longest_name_and_a_whole_word(run: Run) -> None:
    names = ["Bob", "Ann", "Ann Lee", "al", "me @Bob"]
    said = {
        "@Bob hi and @Bobby": ["Bob"],
        "@alice you there? @al.": ["al"],
        "@Ann Lee, not @Ann": ["Ann Lee", "Ann"],
        "@ @nobody ann@Bob": [],
        "@me @Bob @Bob": ["me @Bob", "Bob"],
        "@Bob@Ann_ @Ann-": ["Bob", "Ann"],
    }
    body = "return a.map(([text, names]) => m.mentionsIn(text, names).map(({ name }) => name))"
    assert run("text.js", body, [[text, names] for text in said]) == list(said.values())


def test_a_mention_of_a_user_whom_the_page_has_not_met_is_marked_as_the_record_says(run: Run) -> None:
    """A message that mentioned somebody who had left showed no mention."""
    said: dict[str, tuple[list[str], int, list[str]]] = {
        "@Brisk Otter 34 look": ([], 1, ["Brisk Otter 34"]),
        "@ben, @Ann Lee: hi": ([], 2, ["ben", "Ann"]),
        "@Ann Lee and @ben": (["Ann Lee"], 2, ["Ann Lee", "ben"]),
        "me@ben @Ann Lee @all @ben": (["Ann Lee"], 1, ["Ann Lee"]),
        "@jo.an-x. @jo": ([], 1, ["jo.an-x"]),
        "no names": (["Ann"], 1, ["Ann"]),
    }
    body = "return a.map((all) => m.mentionedIn(...all))"
    asked = [[text, known, count] for text, (known, count, _) in said.items()]
    assert run("text.js", body, asked) == [names for _, _, names in said.values()]


def test_mentions_are_found_among_the_names_of_all_users_that_a_page_has_met(run: Run) -> None:
    """The names of a page that stays open had no bound; each @ was compared with each name."""
    body = """
        const identity = new m.Identity({ getItem: () => null, setItem() {} }, () => {});
        identity.is({ id: 'u', name: 'Ann Lee' });
        for (let at = 0; at < 20_000; at++) identity.meet({ id: `u${at}`, name: `a${at}` });
        const known = ['u', 'u0', 'u19999'].map((id) => identity.nameOf(id));
        return [...known, identity.namesIn('@a'.repeat(a) + ' @a19999, @Ann Lee')];
    """
    assert run("identity.js", body, 4_000) == ["Ann Lee", None, "a19999", ["a19999", "Ann Lee"]]


def test_the_page_works_with_a_full_storage(run: Run) -> None:
    """An error when something is stored must not keep rooms from opening."""
    body = """
        const store = m.openStorage('localStorage');
        store.setItem('a', 'early');
        const { setItem } = Storage.prototype;
        Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };
        store.setItem('a', 'late');
        const full = [store.getItem('a'), localStorage.getItem('a')];
        Storage.prototype.setItem = setItem;
        const again = [store.getItem('a'), m.openStorage('localStorage').getItem('a')];
        store.setItem('a', 'later');
        const kept = localStorage.getItem('a');
        store.removeItem('a');
        return [full, again, kept, store.getItem('a'), localStorage.getItem('a')];
    """
    assert run("storage.js", body) == [["late", "early"], ["late", "early"], "later", None, None]
