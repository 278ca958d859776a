"""The modules of the page that need no DOM, imported by a browser from the server."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.browser import Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(browser: Browser, shared_server: Server) -> Iterator[Page]:
    """Any page of the server's origin."""
    opened = browser.new_page()
    opened.goto(f"{shared_server.url}/healthz")
    yield opened
    opened.close()


def run(page: Page, module: str, body: str, argument: object = None) -> Any:
    """The value of `body`, a function's body, with the module's exports as `m` and the argument as `a`."""
    return page.evaluate(f"async (a) => {{ const m = await import('/{module}'); {body} }}", argument)


STREAM = (
    'retry: 2000\n\n:\n\nid: e-1\nevent: message\ndata: {"text":"a"}\n\n'
    "data: one\r\ndata:two\r\n\r\nevent: gap\rdata: x\r\r: end\n\nevent: empty\n\n"
)
EVENTS = [
    {"event": "message", "data": '{"text":"a"}'},
    {"event": "message", "data": "one\ntwo"},
    {"event": "gap", "data": "x"},
]


def test_event_streams_mean_the_same_in_any_cuts(page: Page) -> None:
    body = """
        const cut = (size) => a.match(new RegExp(`[^]{1,${size}}`, 'g'));
        return [1, 2, 3, 7, 1000].map((size) => {
          const parser = new m.EventStreamParser();
          return cut(size).flatMap((piece) => parser.feed(piece));
        });
    """
    assert run(page, "http-link.js", body, STREAM) == [EVENTS] * 5


PATTERNS = {
    "*": [True] * 3,
    "lobby": [True, False, False],
    "team-*": [False, True, True],
    "team-?": [False, True, False],
    "team-[!b-a]": [False, True, False],
    "team.a": [False] * 3,
    "(": [False] * 3,
}


def test_patterns_of_rooms(page: Page) -> None:
    body = "return a.map((pattern) => ['lobby', 'team-a', 'team-ab'].map((room) => m.patternOf(pattern).test(room)))"
    assert run(page, "identity.js", body, list(PATTERNS)) == list(PATTERNS.values())


LINKS = {
    "plain": [],
    "see https://a.example/x.": ["https://a.example/x"],
    "(http://a.example/wiki/Loris_(animal))": ["http://a.example/wiki/Loris_(animal)"],
    "HTTPS://A.EXAMPLE, and https://b.example/?q=1&r=2!": ["HTTPS://A.EXAMPLE", "https://b.example/?q=1&r=2"],
    "javascript:alert(1) data:text/html,x file:///etc ftp://a.example": [],
    "javascript:x//http://a.example": ["http://a.example"],
    "https:// http://[ https://": [],
}


def test_links(page: Page) -> None:
    body = "return a.map((text) => m.splitLinks(text))"
    for text, parts in zip(LINKS, run(page, "text.js", body, list(LINKS)), strict=True):
        assert "".join(part["text"] for part in parts) == text
        assert [part["href"] for part in parts if part["href"]] == LINKS[text]


MARKUP = {
    "plain": "<p>plain</p>",
    "two\nlines": "<p>two\nlines</p>",
    "**bold** *it* _it_ `code *x*`": "<p><strong>bold</strong> <em>it</em> <em>it</em> <code>code *x*</code></p>",
    "***both*** **a *b* c**": "<p><strong><em>both</em></strong> <strong>a <em>b</em> c</strong></p>",
    "2*3*4 snake_case_name * not *": "<p>2*3*4 snake_case_name * not *</p>",
    "~~gone *all*~~ ~3~ ~~ ~~~no~~~": "<p><del>gone <em>all</em></del> ~3~ ~~ ~~~no~~~</p>",
    r"\*no\* \`no\` \~~no\~~ C:\dir": "<p>*no* `no` ~~no~~ C:\\dir</p>",
    r"¯\_(ツ)_/¯ \ `\*`": r"<p>¯\_(ツ)_/¯ \ <code>\*</code></p>",
    "- a\n- *b*\n\nthen": "<ul><li>a</li><li><em>b</em></li></ul><p>then</p>",
    "3. c\n4. d": '<ol start="3"><li>c</li><li>d</li></ol>',
    " - a\n   - b\n     - c\n - d": '<ul><li>a</li><li style="margin-inline-start: 1.4em;">b</li>'
    '<li style="margin-inline-start: 2.8em;">c</li><li>d</li></ul>',
    "1. a\n    - b\n2. c": '<ol start="1"><li>a</li></ol><ul><li style="margin-inline-start: 1.4em;">b</li></ul>'
    '<ol start="2"><li>c</li></ol>',
    "> said\nno": "<blockquote>said</blockquote><p>no</p>",
    "see:\n```py\n<b> *x*\n```\nok": '<p>see:</p><pre tabindex="0"><code>&lt;b&gt; *x*</code></pre><p>ok</p>',
    "``a ` b`` ```": "<p><code>a ` b</code> ```</p>",
    "``` never closed": "<p>``` never closed</p>",
    "[a [b](javascript:x)": "<p>[a [b](javascript:x)</p>",
    "[x](javascript:alert(1)) [y](data:,z)": "<p>[x](javascript:alert(1)) [y](data:,z)</p>",
    "<img src=x onerror=alert(1)> &amp;": "<p>&lt;img src=x onerror=alert(1)&gt; &amp;amp;</p>",
    ":tada: **:tada:** `:tada:` :no:": "<p>🎉 <strong>🎉</strong> <code>:tada:</code> :no:</p>",
    "12:30:45 :+1::heart:": "<p>12:30:45 :+1::heart:</p>",
    "```\n:tada:\n```": '<pre tabindex="0"><code>:tada:</code></pre>',
    "hi @Ann Lee, @Bo": '<p>hi <bdi class="mention">@Ann Lee</bdi>, @Bo</p>',
}


def test_markup_is_built_and_never_parsed(page: Page) -> None:
    body = """
        return a.map((text) => {
          const holder = document.createElement('div');
          holder.append(...m.markdown(text, ['Ann Lee']));
          return holder.innerHTML;
        });
    """
    assert run(page, "markdown.js", body, list(MARKUP)) == list(MARKUP.values())
    (linked,) = run(page, "markdown.js", body, ["**[the plan](https://a.example/x_(y))**, https://b.example/*z*."])
    assert re.findall('href="([^"]*)"', linked) == ["https://a.example/x_(y)", "https://b.example/*z"]
    assert linked.count('rel="noopener noreferrer"') == 2


PLAIN = {
    "plain": "plain",
    "**bold** *it* `code *x*` ~~gone~~ :tada:": "bold it code *x* gone 🎉",
    "- a\n- *b*\n\nthen\n> said": "a b then said",
    "see:\n```py\nx = 1\ny = 2\n```\n[the plan](https://a.example/)": "see: x = 1 y = 2 the plan",
    "/me **waves**": "waves",
    "2 ** 8 `never closed": "2 ** 8 `never closed",
    "": "",
}


def test_a_message_in_short_has_no_marks(page: Page) -> None:
    assert run(page, "markdown.js", "return a.map((text) => m.inShort({ text }))", list(PLAIN)) == list(PLAIN.values())


def test_markup_takes_no_longer_for_hostile_text(page: Page) -> None:
    """Eight kilobytes of half-open marks: backtracking without bound would take minutes."""
    hostile = [
        mark * (8000 // len(mark))
        for mark in ("*", "**a", "~~a", "_a ", "`", "\\*", "``a`", "[", "[a](http://(", "> ", "```\n", "-")
    ]
    body = "return a.map((text) => m.markdown(text).length > 0)"
    assert all(run(page, "markdown.js", body, hostile))


def test_a_link_is_found_in_linear_time(page: Page) -> None:
    """With quadratic time a message of 8 KB takes 0.25 s, and these texts would take hours."""
    body = "return [`http://${')'.repeat(a)}`, '['.repeat(a)].map((text) => m.markdown(text)[0].textContent.length)"
    assert run(page, "markdown.js", body, 3_000_000) == [3_000_007, 3_000_000]


def test_up_to_three_emoji_and_nothing_else_are_shown_large(page: Page) -> None:
    large = ["🎉", "👩\u200d👩\u200d👧 ❤️", "\u2139\ufe0f" * 2, "1️⃣", "🇩🇪👍🏽🚀"]  # U+2139 is a letter too
    small = ["hi", "🎉a", "🎉 ab", "a", "1", "🎉🎉🎉🎉", "漢字", ""]
    assert run(page, "text.js", "return a.map(m.isOnlyEmoji)", large) == [True] * len(large)
    assert run(page, "text.js", "return a.map(m.isOnlyEmoji)", small) == [False] * len(small)


def test_a_site_may_name_any_address_of_the_server(page: Page, shared_server: Server) -> None:
    """With a slash behind the origin no request found its path."""
    body = """
        const origins = [undefined, ...a].map((address) => m.connect(address).api.origin);
        try { m.connect('', { transport: 'websocket' }); } catch (error) { return [...origins, error.message]; }
    """
    addresses = ["https://chat.example/", "https://chat.example:444/chat.js?x"]
    assert run(page, "chat.js", body, addresses) == [
        *(shared_server.url, "https://chat.example", "https://chat.example:444"),
        "transport is one of ws, sse, poll, not websocket",
    ]


def test_an_answer_after_the_end_of_a_connection_does_not_say_who_we_are(page: Page) -> None:
    """After a sign-out it named another guest, and all tabs connected again before the sign-out was answered."""
    body = """
        const store = new (await import('/storage.js')).Store();
        const client = new m.ChatClient('', { tab: store, browser: store });
        client.api = {
            rooms: async () => ({ rooms: [] }),
            unread: async () => ({ rooms: {} }),
            session: async () => ({ user: { id: 'u', name: 'Ann' } }),
        };
        const known = [];
        for (const link of [null, { isSocket: true }, { isSocket: false }]) {
            client.connection.link = link;
            await client.survey();
            known.push(client.identity.user?.name ?? null);
        }
        return known;
    """
    assert run(page, "client.js", body) == [None, None, "Ann"]


def test_a_moderators_refusal_is_not_retried_automatically(page: Page) -> None:
    body = """
        const cases = [['forbidden', 60], ['forbidden', null], ['unauthenticated', 1], ['rate_limited', null]];
        return cases.map(([code, retryAfter]) => new m.ChatError(code, '', { retryAfter }).isTemporary);
    """
    assert run(page, "wire.js", body) == [False, False, True, True]


TIMELINE = """
    const t = new m.Timeline();
    const at = (...offsets) => offsets.map((offset) => ({ offset, cursor: `e-${offset}` }));
"""


def test_a_timeline_distinguishes_skipped_and_lost_messages(page: Page) -> None:
    body = """
        t.begin({ cursor: 'e-0', messages: [] });
        const empty = [t.cursor, t.complete];
        t.expect(5);
        const skipped = t.hole();
        t.add(at(4, 5));
        t.accept(4);
        const pages = [['e-9', false], ['f-9', false], ['e-5', false], ['e-4', false], ['e-4', true]];
        const same = pages.map(([cursor, recovered]) => t.isSameLog({ cursor, recovered }));
        return [empty, skipped, t.cursor, t.hole(), [...t.lossesBefore], same];
    """
    seen = run(page, "timeline.js", TIMELINE + body)
    assert seen == [["e-0", True], {"after": 0, "until": 6}, "e-5", None, [4], [True, False, True, False, True]]


def test_changes_of_a_message_are_applied_in_order(page: Page) -> None:
    """Messages of a page include its changes; records after a hole are applied at once."""
    body = """
        const say = (offset, text) => ({ offset, text, user: { id: 'u' } });
        const edit = (offset, target, text) => ({ type: 'edit', offset, target, text, time: `t${offset}` });
        const react = (offset, target, count) => ({ type: 'reaction', offset, target, emoji: '👍', on: true, count });
        t.begin({ cursor: 'e-0', messages: [] });
        const texts = () => t.messages.map(({ text }) => text).join();
        const seen = [];
        t.add([say(1, 'now'), edit(2, 1, 'before'), edit(3, 1, 'now')], { asPage: true });
        seen.push(texts());
        t.add([say(4, 'four'), edit(5, 4, 'five'), { type: 'news', offset: 6 }]);
        seen.push(texts(), t.cursor);
        t.add([edit(9, 4, 'nine'), react(10, 4, 2)]);
        seen.push(texts(), t.hole());
        t.add([edit(7, 4, 'seven'), react(8, 4, 1)], { asPage: true });
        seen.push(texts(), t.messages[1].reactions['👍'], t.cursor);
        const { changed } = t.add([{ type: 'delete', offset: 11, target: 1 }, edit(12, 1, 'late')]);
        seen.push(texts(), t.messages[0].deleted, changed.length);
        return seen;
    """
    assert run(page, "timeline.js", TIMELINE + body) == [
        *("now", "now,five", "e-6", "now,nine", {"after": 6, "until": 9}, "now,nine", 2, "e-10", ",nine", True, 1),
    ]


ROOM = """
    const identity = { owns: () => false, meet() {}, nameOf() {} };
    const client = { identity, tell() {}, reads() {}, isLive: false, outbox: { arrived() {} } };
    const room = new m.Room(client, 'lobby');
    const said = (...offsets) => offsets.map((offset) => ({ room: 'lobby', offset, text: 'x', user: { id: 'u' } }));
"""


def test_a_message_ends_its_authors_typing_and_later_typing_is_shown_at_once(page: Page) -> None:
    body = """
        const asked = [];
        client.identity.owns = ({ user }) => user.id === 'us';
        client.ask = async ({ type }) => asked.push(type);
        room.page({ cursor: 'e-0', recovered: true, messages: [] });
        const takes = (offset, id) => room.take([{ offset, text: 'x', user: { id } }]);
        const typists = [];
        for (const offset of [1, 2]) {
            room.pushed({ type: 'typing', user: { id: 'u', name: 'Bo' } });
            typists.push(room.typists.length);
            takes(offset, 'u');
            typists.push(room.typists.length);
        }
        for (const offset of [3, 4]) {
            room.typing();
            room.typing();
            takes(offset, 'us');
        }
        takes(5, 'u');
        room.typing();
        takes(6, 'u');
        room.typing();
        return [typists, asked.length];
    """
    assert run(page, "room.js", ROOM + body) == [[1, 0, 1, 0], 3]


def test_an_acknowledged_message_has_arrived_also_before_we_know_who_we_are(page: Page) -> None:
    """It stayed among those on their way: when the server began a new log, it was shown there for ever."""
    body = """
        const { Outbox } = await import('/outbox.js');
        const { Store } = await import('/storage.js');
        client.outbox = new Outbox(new Store(), new Store(), { changed() {}, stored() {} });
        client.outbox.resume(async () => ({ offset: 2 }));
        await client.outbox.add('lobby', 'x');
        room.page({ cursor: 'e-0', recovered: true, messages: [] });
        return [1, 2].map((offset) => (room.take(said(offset)), client.outbox.items.length));
    """
    assert run(page, "room.js", ROOM + body) == [1, 0]


def test_unread_counts_offsets_despite_retention(page: Page) -> None:
    body = """
        const unread = [room.unread];
        room.read = 'e-3';
        room.head = 'e-20';
        unread.push(room.unread);
        room.page({ cursor: 'e-20', recovered: true, messages: said(18, 19, 20) });
        unread.push(room.unread);
        room.take(said(21));
        unread.push(room.unread);
        room.head = 'e-25';  // as the list of rooms says, ahead of what was pushed
        unread.push(room.unread);
        room.markRead(21);
        unread.push(room.unread, room.read);
        room.page({ cursor: 'f-2', recovered: false, messages: said(1, 2) });  // a new log: none of it is read
        return [...unread, room.unread];
    """
    assert run(page, "room.js", ROOM + body) == [0, 17, 17, 18, 22, 4, "e-21", 2]


def test_a_push_before_the_first_page_is_not_shown_twice(page: Page) -> None:
    """Another tab of the browser follows the room already, so the push is no hole."""
    body = """
        room.take(said(5));
        const early = room.timeline.messages.length;
        room.page({ cursor: 'e-5', recovered: true, messages: said(4, 5) });
        return [early, room.timeline.messages.length, room.timeline.hole()];
    """
    assert run(page, "room.js", ROOM + body) == [0, 2, None]


def test_reading_on_from_an_old_offset_skips_removed_messages(page: Page) -> None:
    """The next page does not begin directly after the offset, but must not be requested again and again."""
    body = """
        room.page({ cursor: 'e-99', recovered: true, messages: said(99) });
        client.ask = async () => ({ cursor: 'e-99', recovered: true, messages: said(5, 6) });
        await room.visit(5);
        client.ask = async () => ({ cursor: 'e-99', recovered: false, messages: said(40, 41) });
        await room.newer();
        return [room.past.cursor, [...room.past.lossesBefore]];
    """
    assert run(page, "room.js", ROOM + body) == ["e-41", [40]]


def test_a_message_refused_for_long_is_sent_and_one_without_an_answer_fails(page: Page) -> None:
    """Slow mode may last longer than the server keeps a key, ten minutes; a refusal is an answer."""
    body = """
        const { now } = Date;
        const outcome = async (code) => {
            const outbox = new m.Outbox(new Store(), new Store(), { changed() {}, stored() {} });
            let tries = 0;
            outbox.resume(async () => {
                if (tries++) return { offset: 1 };
                Date.now = () => now() + 601_000;
                throw new ChatError(code, '', { retryAfter: 0 });
            });
            await outbox.add('lobby', 'hello').catch(() => {});
            Date.now = now;
            return outbox.items[0].state;
        };
        const { ChatError } = await import('/wire.js');
        const { Store } = await import('/storage.js');
        return [await outcome('rate_limited'), await outcome('lost')];
    """
    assert run(page, "outbox.js", body) == ["sent", "failed"]


def test_a_refused_message_is_not_taken_for_an_older_one_of_the_same_text(page: Page) -> None:
    """After a reload it was hidden, since the history has such a text."""
    body = """
        const { ChatError } = await import('/wire.js');
        const { Store } = await import('/storage.js');
        const outbox = new m.Outbox(new Store(), new Store(), { changed() {}, stored() {} });
        outbox.resume(async () => { throw new ChatError('forbidden', 'no'); });
        await outbox.add('lobby', 'ok', {}, 5).catch(() => {});
        const arrives = (offset) => outbox.arrived({ room: 'lobby', offset, text: 'ok' }, true);
        return [5, 6].map((offset) => (arrives(offset), outbox.items[0].offset));
    """
    assert run(page, "outbox.js", body) == [None, 6]


def test_back_off_is_jittered_bounded_and_not_below_retry_after(page: Page) -> None:
    body = """
        const failures = [0, 1, 2, 5, 50];
        return [0, 1].map((random) => [
          failures.map((n) => m.delayBefore(n, null, () => random)), m.delayBefore(0, 8, () => random),
        ]);
    """
    assert run(page, "wire.js", body) == [
        [[250, 500, 1000, 8000, 10_000], 8000],
        [[500, 1000, 2000, 16_000, 20_000], 10_000],
    ]


def test_a_transport_that_failed_while_the_server_was_away_is_tried_again(page: Page) -> None:
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
    assert run(page, "connection.js", body, [True, False, False]) == ["ws", "ws", "ws", "sse"]
    assert run(page, "connection.js", body, [False, False]) == ["ws", "sse", "poll"]


def test_a_mention_is_the_longest_name_and_a_whole_word(page: Page) -> None:
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
    assert run(page, "text.js", body, [[text, names] for text in said]) == list(said.values())


def test_mentions_are_found_among_the_names_of_all_users_that_a_page_has_met(page: Page) -> None:
    """The names of a page that stays open had no bound; each @ was compared with each name."""
    body = """
        const identity = new m.Identity({ getItem: () => null, setItem() {} }, () => {});
        identity.is({ id: 'u', name: 'Ann Lee' });
        for (let at = 0; at < 20_000; at++) identity.meet({ id: `u${at}`, name: `a${at}` });
        const known = ['u', 'u0', 'u19999'].map((id) => identity.nameOf(id));
        return [...known, identity.namesIn('@a'.repeat(a) + ' @a19999, @Ann Lee')];
    """
    assert run(page, "identity.js", body, 4_000) == ["Ann Lee", None, "a19999", ["a19999", "Ann Lee"]]


def test_the_page_works_with_a_full_storage(page: Page) -> None:
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
    assert run(page, "storage.js", body) == [["late", "early"], ["late", "early"], "later", None, None]
