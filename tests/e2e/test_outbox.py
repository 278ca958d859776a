"""The outbox, imported by a browser: what is sent again, held, kept, or taken for a message that arrived."""

import pytest

from tests.e2e.conftest import Run

pytestmark = pytest.mark.browser


def test_a_message_that_is_refused_for_now_is_tried_less_and_less_often(run: Run) -> None:
    """The first attempt with the next message comes soon again."""
    body = """
        const { ChatError } = await import('/wire.js');
        const { Store } = await import('/storage.js');
        const { setTimeout } = globalThis;
        const waits = [];
        globalThis.setTimeout = (call, ms) => (waits.push(ms), setTimeout(call));
        const outbox = new m.Outbox(new Store(), new Store(), { changed() {}, stored() {} });
        const answers = [...Array(5).fill('refused'), 'stored', 'refused', 'stored'];
        outbox.resume(async () => {
            if (answers.shift() === 'refused') throw new ChatError('unavailable', '', { status: 503 });
            return { offset: 1 };
        });
        await Promise.all([outbox.add('lobby', 'one'), outbox.add('lobby', 'two')]);
        globalThis.setTimeout = setTimeout;
        return waits;
    """
    waits = run("outbox.js", body)  # ms that it asks timers for
    ranges = [(250, 500), (500, 1_000), (1_000, 2_000), (2_000, 4_000), (4_000, 8_000), (250, 500)]
    assert [low <= each <= high for each, (low, high) in zip(waits, ranges, strict=True)] == [True] * 6


def test_a_message_refused_for_long_is_sent_and_one_without_an_answer_fails(run: Run) -> None:
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
        const turn = () => new Promise((resolve) => setTimeout(resolve));
        const refusing = (code) => {
            const outbox = new m.Outbox(new Store(), new Store(), { changed() {}, stored() {} });
            outbox.resume(async () => { throw new ChatError(code, ''); });
            return outbox;
        };
        const held = refusing('held');  // until the user who wrote it is back
        held.add('lobby', 'hello');
        await turn();
        const states = [held.items[0].state];
        Date.now = () => now() + 601_000;
        held.resume(async () => ({ offset: 1 }));
        await turn();
        Date.now = now;
        states.push(held.items[0].state);
        const reacting = refusing('forbidden');
        await reacting.add('lobby', '', { change: { type: 'react', offset: 1, emoji: 'x', on: true } }).catch(() => {});
        return [await outcome('rate_limited'), await outcome('lost'), ...states, reacting.items.length];
    """
    assert run("outbox.js", body) == ["sent", "failed", "held", "sent", 0]


def test_the_time_of_a_message_in_slow_mode_is_the_servers(run: Run) -> None:
    """In slow mode of 15 minutes the page named a time five minutes away, three times over."""
    body = """
        const { ChatError } = await import('/wire.js');
        const { Store } = await import('/storage.js');
        const { now } = Date;
        const { setTimeout } = globalThis;
        let time = 0;
        Date.now = () => time;
        globalThis.setTimeout = (call, ms) => (time += ms, setTimeout(call));
        const promised = new Set();
        const changed = () => outbox.items[0]?.until && promised.add(outbox.items[0].until);
        const outbox = new m.Outbox(new Store(), new Store(), { changed, stored() {} });
        outbox.resume(async () => {
            if (time >= 900_000) return { offset: 1 };
            throw new ChatError('rate_limited', '', { retryAfter: (900_000 - time) / 1000 });
        });
        await outbox.add('lobby', 'hello');
        Object.assign(globalThis, { setTimeout });
        Date.now = now;
        return [[...promised], time];
    """
    promised, sent = run("outbox.js", body)
    assert promised[0] == 900_000
    assert all(900_000 <= each <= sent for each in promised)
    assert sent <= 975_000  # each client waits up to a quarter of the last five minutes more


def test_a_refused_message_is_not_taken_for_a_later_one_with_its_text(run: Run) -> None:
    """It disappeared when the later one came, and was there again after a reload."""
    body = """
        const { ChatError } = await import('/wire.js');
        const { Store } = await import('/storage.js');
        const outbox = new m.Outbox(new Store(), new Store(), { changed() {}, stored() {} });
        const came = { room: 'lobby', offset: 7, text: 'hello', cursor: 'e-7', time: '' };
        let tries = 0;
        outbox.resume(async () => {
            if (!tries++) throw new ChatError('forbidden', 'muted');
            outbox.arrived(came, true);
            return came;
        });
        await outbox.add('lobby', 'hello', {}, 5).catch(() => {});
        await outbox.add('lobby', 'hello', {}, 5);
        return outbox.items.map(({ state, offset }) => [state, offset]);
    """
    assert run("outbox.js", body) == [["failed", None], ["sent", 7]]


def test_a_message_tried_on_a_clock_that_was_fast_is_not_sent_again_without_a_question(run: Run) -> None:
    """The server has forgotten its key by then, and would store it twice."""
    body = """
        const { Store } = await import('/storage.js');
        const tab = new Store();
        const firstTried = Date.now() + 1_800_000;
        const item = { key: 'k', room: 'lobby', text: 'hi', created: 0, firstTried, state: 'queued', extras: {} };
        tab.setItem('chat.outbox', JSON.stringify([item]));
        const outbox = new m.Outbox(tab, new Store(), { changed() {}, stored() {} });
        let tries = 0;
        outbox.resume(async () => (tries++, { offset: 1 }));
        await new Promise((then) => setTimeout(then));
        return [tries, outbox.items[0].state];
    """
    assert run("outbox.js", body) == [0, "failed"]


def test_what_is_about_a_message_waits_until_the_log_is_known_and_is_not_sent_to_another(run: Run) -> None:
    """With the same number there is another message. What waited too long behind a slow message is sent before it."""
    body = """
        const { Store } = await import('/storage.js');
        const storage = new Store();
        const browser = new Store();
        const handlers = { changed() {}, stored() {} };
        const outbox = new m.Outbox(storage, browser, handlers);
        const sent = [];
        const refused = [];
        let isJoining = true;
        const deliver = async ({ text }) => (sent.push(text), text === 'slow' ? new Promise(() => {}) : { offset: 9 });
        const add = (...all) => outbox.add('lobby', ...all).catch(({ code }) => refused.push(code));
        const turn = () => new Promise((resolve) => setTimeout(resolve));
        const edit = { change: { type: 'edit', offset: 1 }, epoch: 'e' };
        add('answer', { replyTo: 1, epoch: 'e' });
        add('edited', edit);
        add('', { change: { type: 'delete', offset: 1 }, epoch: 'e' });
        add('slow');
        outbox.resume(deliver, () => !isJoining);
        await turn();
        const early = [...sent];
        isJoining = false;
        outbox.inLog('lobby', 'f');
        await turn();
        const after = [...sent];
        const kept = JSON.parse(storage.getItem('chat.outbox')).map(({ text, state, extras }) => [text, state, extras]);
        add('edited', { ...edit, epoch: 'f' });
        await turn();
        outbox.pause();
        add('', { change: { type: 'react', offset: 2, emoji: 'x', on: true } });
        outbox.leaveBehind();
        const next = new Store();
        new m.Outbox(next, browser, handlers);
        const left = JSON.parse(next.getItem('chat.outbox')).map(({ text }) => text);
        return [early, after, refused, kept, sent.slice(after.length), left];
    """
    kept = [["answer", "failed", {}], ["edited", "failed", {}], ["slow", "sending", {}]]
    left = ["answer", "edited", "slow"]  # a closed tab leaves words, and no reaction
    assert run("outbox.js", body) == [[], ["slow"], ["gone"] * 3, kept, ["edited"], left]


def test_a_message_without_an_answer_is_not_taken_for_an_older_one_of_the_same_text(run: Run) -> None:
    """After a reload it was hidden, since the history has such a text."""
    body = """
        const { ChatError } = await import('/wire.js');
        const { Store } = await import('/storage.js');
        const outbox = new m.Outbox(new Store(), new Store(), { changed() {}, stored() {} });
        outbox.resume(async () => { throw new ChatError('lost', ''); });
        outbox.add('lobby', 'ok', {}, 5);
        await new Promise((then) => setTimeout(then));
        outbox.pause();
        const waiting = new m.Outbox(new Store(), new Store(), { changed() {}, stored() {} });
        waiting.add('lobby', 'ok', {}, 5);  // it was never sent, so another device has sent the same
        return [outbox, waiting].map((box) => [5, 6, 7, 6].map((offset) => {
            box.arrived({ room: 'lobby', offset, text: 'ok' }, true);
            return box.items[0]?.offset;
        }));
    """
    assert run("outbox.js", body) == [[None, 6, 6, 6], [None] * 4]


def test_a_message_that_has_arrived_does_not_fail_though_it_is_refused_when_sent_again(run: Run) -> None:
    """Its answer was lost, and then its author was muted: it stood in the room, and below it as one that failed."""
    body = """
        const { ChatError } = await import('/wire.js');
        const { Store } = await import('/storage.js');
        const outbox = new m.Outbox(new Store(), new Store(), { changed() {}, stored() {} });
        outbox.resume(async () => {
            outbox.resume(async () => { throw new ChatError('forbidden', 'muted'); });
            outbox.arrived({ room: 'lobby', offset: 6, text: 'hello' }, true);
            throw new ChatError('lost', '', { retryAfter: 0 });
        });
        return [(await outbox.add('lobby', 'hello', {}, 5)).offset, outbox.items.length];
    """
    assert run("outbox.js", body) == [6, 0]


def test_a_message_that_another_tab_took_is_not_sent_by_the_tab_that_left_it(run: Run) -> None:
    """After Back, or with all tabs restored, both had it: "Send again" in the other tab sent it a second time."""
    body = """
        const { Store } = await import('/storage.js');
        const area = () => {
            const items = new Map();
            const getItem = (key) => items.get(key) ?? null;
            return { getItem, setItem: (key, value) => items.set(key, value), removeItem: (key) => items.delete(key) };
        };
        const [browser, first, second] = [1, 2, 3].map(() => new Store(area()));
        const full = new Store();
        const open = (tab, where = browser) => new m.Outbox(tab, where, { changed() {} });
        const states = ({ items }) => items.map(({ text, state }) => `${text} ${state}`);
        const left = open(first);
        left.add('lobby', 'hi').catch(() => {});
        left.add('lobby', '', { change: { type: 'react' } }).catch(() => {});
        left.leaveBehind();
        const reloaded = open(first);
        reloaded.leaveBehind();
        const found = [reloaded, open(second), open(first), open(second)].map(states);
        const inFull = open(first, full);
        inFull.add('lobby', 'ho').catch(() => {});
        inFull.leaveBehind();
        return [...found, states(open(first, new Store()))];
    """
    reaction = " queued"
    assert run("outbox.js", body) == [
        ["hi queued", reaction],
        ["hi failed"],
        [reaction],
        ["hi failed"],
        [reaction, "ho queued"],  # a full storage keeps nothing for other tabs
    ]


def test_what_was_stored_in_an_earlier_log_does_not_wait_to_arrive(run: Run) -> None:
    """It stood below the messages as sent, until the new log had as many; also if no page of the old one had come."""
    body = """
        const { Store } = await import('/storage.js');
        const outbox = new m.Outbox(new Store(), new Store(), { changed() {}, stored() {} });
        outbox.resume(async () => ({ offset: 9, cursor: 'e-9' }));
        await outbox.add('lobby', 'old');
        await outbox.add('ops', 'other');
        outbox.inLog('lobby', 'e');  // the same log, after a reconnection
        const before = outbox.items.length;
        outbox.inLog('lobby', 'f', true);
        const rooms = outbox.items.map(({ room }) => room);
        outbox.inLog('ops', 'f');
        return [before, rooms, outbox.items.length];
    """
    assert run("outbox.js", body) == [2, ["ops"], 0]


def test_only_what_was_certainly_not_sent_can_be_taken_back(run: Run) -> None:
    states = ["queued", "sending", "sent", "failed", "held"]
    body = "return [null, 1].map((firstTried) => a.filter((state) => m.mayTakeBack({ state, firstTried })))"
    assert run("outbox.js", body, states) == [["queued", "failed", "held"], ["failed", "held"]]
    body = """
        const change = { type: 'edit', offset: 1 };
        const kinds = [['x', {}], ['x', { change }], ['', { change }]];
        return kinds.map(([text, extras]) => a.filter((state) => m.isBelow({ state, text, extras })));
    """
    assert run("outbox.js", body, states) == [states, ["failed", "held"], []], "shown below the messages"
