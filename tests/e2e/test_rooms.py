"""What the page keeps of a room without the DOM: its timeline, its unread count, its outbox."""

import pytest

from tests.e2e.conftest import Run

pytestmark = pytest.mark.browser


TIMELINE = """
    const t = new m.Timeline();
    const at = (...offsets) => offsets.map((offset) => ({ offset, cursor: `e-${offset}` }));
"""


def test_a_timeline_distinguishes_skipped_and_lost_messages(run: Run) -> None:
    body = """
        t.begin({ cursor: 'e-0', messages: [] });
        const empty = [t.cursor, t.complete];
        t.expect(5);
        const skipped = t.hole();
        t.add(at(4, 5));
        t.accept(4);
        const pages = [['e-9', false], ['f-9', false], ['e-5', false], ['e-4', false], ['e-4', true]];
        const same = pages.map(([cursor, recovered]) => t.isSameLog({ cursor, recovered }));
        const found = [t.cursor, t.hole(), [...t.lossesBefore]];
        t.add(at(8));
        t.accept(12);  // the part before 8 is lost, and so is the one behind it
        t.add(at(14));
        const added = t.add(at(17, 16)).added.map(({ offset }) => offset);
        return [empty, skipped, found, same, t.hole(), added];
    """
    seen = run("timeline.js", TIMELINE + body)
    same = [True, False, True, False, True]
    skipped, hole = {"after": 0, "until": 6}, {"after": 11, "until": 14}
    assert seen == [["e-0", True], skipped, ["e-5", None, [4]], same, hole, [16, 17]]


def test_changes_of_a_message_are_applied_in_order(run: Run) -> None:
    """Messages of a page include its changes; records after a hole are applied at once."""
    body = """
        const say = (offset, text) => ({ offset, text, user: { id: 'u' } });
        const edit = (offset, target, text) => ({ type: 'edit', offset, target, text, time: `t${offset}` });
        const react = (offset, target, count) => ({ type: 'reaction', offset, target, emoji: '👍', on: true, count });
        t.begin({ cursor: 'e-0', messages: [] });
        const texts = () => t.messages.map(({ text }) => text).join();
        const seen = [];
        t.add([say(1, 'now'), edit(2, 1, 'before'), edit(3, 1, 'now')], t.head);
        seen.push(texts());
        t.add([say(4, 'four'), edit(5, 4, 'five'), { type: 'news', offset: 6 }]);
        seen.push(texts(), t.cursor);
        t.add([edit(9, 4, 'nine'), react(10, 4, 2)]);
        seen.push(texts(), t.hole());
        t.add([edit(7, 4, 'seven'), react(8, 4, 1)], t.head);
        seen.push(texts(), t.messages[1].reactions['👍'], t.cursor);
        const { changed } = t.add([{ type: 'delete', offset: 11, target: 1 }, edit(12, 1, 'late')]);
        seen.push(texts(), t.messages[0].deleted, changed.length);
        t.change([{ type: 'delete', offset: 13, target: 4 }]);
        seen.push(texts(), t.messages[1].reactions);
        t.add([say(14, 'last'), edit(15, 14, '')]);  // the next edit is on another page
        seen.push(texts());
        return seen;
    """
    assert run("timeline.js", TIMELINE + body) == [
        *("now", "now,five", "e-6", "now,nine", {"after": 6, "until": 9}, "now,nine", 2, "e-10", ",nine", True, 1),
        *(",", {}, ",,last"),
    ]


ROOM = """
    const identity = { owns: () => false, meet() {}, nameOf() {} };
    const [markers, outbox] = [{ reads() {} }, { arrived() {}, inLog() {} }];
    const client = { identity, tell() {}, markers, isLive: false, outbox, async sleep() {} };
    const room = new m.Room(client, 'lobby');
    const said = (...offsets) => offsets.map((offset) => ({ room: 'lobby', offset, text: 'x', user: { id: 'u' } }));
"""


def test_a_message_ends_its_authors_typing_and_later_typing_is_shown_at_once(run: Run) -> None:
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
    assert run("room.js", ROOM + body) == [[1, 0, 1, 0], 3]


def test_an_acknowledged_message_has_arrived_also_before_we_know_who_we_are(run: Run) -> None:
    """It stayed among those on their way: when the server began a new log, it was shown there for ever."""
    body = """
        const { Outbox } = await import('/outbox.js');
        const { Store } = await import('/storage.js');
        client.outbox = new Outbox(new Store(), new Store(), { changed() {}, stored() {} });
        client.outbox.resume(async () => ({ offset: 2, cursor: 'e-2' }));
        await client.outbox.add('lobby', 'x');
        room.page({ cursor: 'e-0', recovered: true, messages: [] });
        return [1, 2].map((offset) => (room.take(said(offset)), client.outbox.items.length));
    """
    assert run("room.js", ROOM + body) == [1, 0]


def test_unread_counts_offsets_despite_retention(run: Run) -> None:
    body = """
        const unread = [room.unread];
        room.read = 'e-3';
        room.head = 'e-20';
        unread.push(room.unread);
        room.page({ cursor: 'e-20', recovered: true, messages: said(18, 19, 20) });
        unread.push(room.unread);
        room.take(said(21));
        unread.push(room.unread);
        client.identity.owns = ({ user }) => user.id === 'us';
        room.take([{ ...said(22)[0], user: { id: 'us' } }, { ...said(23)[0], text: '', deleted: true }]);
        unread.push(room.unread);
        room.head = 'e-25';  // as the list of rooms says, ahead of what was pushed
        unread.push(room.unread);
        room.markRead(21);
        unread.push(room.unread, room.read);
        room.page({ cursor: 'f-2', recovered: false, messages: said(1, 2) });  // a new log: none of it is read
        return [...unread, room.unread];
    """
    assert run("room.js", ROOM + body) == [0, 17, 17, 18, 18, 20, 2, "e-21", 2]


def test_nothing_is_unread_in_a_room_that_the_user_is_out_of(run: Run) -> None:
    """After a kick its messages counted in the title for ever, although no list showed them and nothing read them."""
    body = """
        const seen = [];
        const note = () => seen.push([room.unread, room.mentions]);
        client.mentionsUs = ({ offset }) => offset === 2;
        room.page({ cursor: 'e-0', recovered: true, messages: [] });
        room.take(said(1, 2));
        note();
        room.addEventListener('unread', note);
        room.refused({ code: 'forbidden', isTemporary: false, retryAfter: null });
        room.page({ cursor: 'e-3', recovered: true, messages: said(3) });
        return seen;
    """
    assert run("room.js", ROOM + body) == [[2, 1], [0, 0], [3, 1]]


def test_tabs_that_read_at_once_keep_both_markers(run: Run) -> None:
    """Each wrote the markers of all rooms, those of other tabs as they had been a moment before: a third tab counted a
    message as unread until the server had told it otherwise.
    """
    body = """
        const stored = new Map();
        const makeTab = () => {
            const seen = new Map(stored);  // a process gets what others have stored a moment later
            return new m.ReadMarkers({}, {
                getItem: (key) => seen.get(key) ?? null,
                setItem: (key, value) => [seen, stored].forEach((each) => each.set(key, value)),
            });
        };
        const [first, second] = [makeTab(), makeTab()];
        first.reads({ name: 'a', read: 'e-1' }, 0);
        second.reads({ name: 'b', read: 'e-2' }, 0);
        const rooms = ['a', 'b', 'constructor'].map((name) => ({ name, read: null }));
        const third = makeTab();
        third.readElsewhere(rooms);
        third.mark(rooms[2], 'e-3');
        const read = [{ name: 'a', read: 'e-0', counted: 2 }, { name: 'b', read: 'e-9', counted: 2 }];
        third.readElsewhere(read);
        return [rooms.map(({ read }) => String(read)), read.map(({ read, counted }) => [read, counted])];
    """
    assert run("read-markers.js", body) == [["e-1", "e-2", "null"], [["e-1", 0], ["e-9", 2]]]


def test_what_is_unread_is_asked_once_a_user_and_four_times_at_most(run: Run) -> None:
    """The first room waits for it."""
    body = """
        const { ChatError } = await import('/wire.js');
        const asks = async (answer) => {
            let asked = 0;
            const unread = async () => {
                if (asked++ > 20) throw new Error('it goes on for ever');
                return answer();
            };
            const markers = new m.ReadMarkers({ api: { unread }, state: {}, async sleep() {} }, null);
            await Promise.all([markers.fetch(), markers.fetch()]);
            markers.expire();
            await markers.fetch();
            return asked;
        };
        const refuse = (code) => () => { throw new ChatError(code, '', { status: code === 'lost' ? 0 : 403 }); };
        return [await asks(() => ({ rooms: {} })), await asks(refuse('lost')), await asks(refuse('forbidden'))];
    """
    assert run("read-markers.js", body) == [2, 8, 2]


def test_after_a_gap_nothing_is_kept_that_may_have_changed_in_it(run: Run) -> None:
    """A reaction may have been taken back, and a quoted message edited; another log has other messages."""
    body = """
        const message = (offset) => ({ offset, user: { id: 'u' }, text: 'x' });
        const page = (cursor, recovered, ...offsets) => ({ cursor, recovered, messages: offsets.map(message) });
        const asked = [];
        const history = async ({ after }) => (asked.push(after), page('e-90', true, Number(after.split('-')[1]) + 1));
        const log = new m.RoomLog({ history, tell() {} });
        log.page(page('e-90', true, 90));
        const quoted = (offset) => new Promise((resolve) => (log.quoted(offset), setTimeout(resolve)));
        await quoted(1);
        const reaction = { type: 'reaction', target: 90, emoji: 'x', user: { id: 'u' } };
        log.add([{ ...reaction, offset: 92, on: true, count: 1 }, { ...reaction, offset: 91, on: false, count: 0 }]);
        log.reactors.note([{ ...reaction, offset: 91, on: false }]);  // again, from an older page
        await log.visit(40);
        const seen = () => [log.find(1) !== null, log.reactors.of(90, 'x').length, log.past !== null];
        const states = [seen()];
        log.page(page('e-200', false, 200));
        states.push(seen());
        await quoted(1);
        log.page(page('f-9', false, 9));
        states.push(seen());
        return [asked, states];
    """
    asked, states = run("room-log.js", body)
    assert asked == ["e-0", "e-15", "e-0"]
    assert states == [[True, 1, True], [False, 0, True], [False, 0, False]]


def test_a_room_keeps_a_bounded_number_of_messages(run: Run) -> None:
    body = """
        const message = (_, at) => ({ offset: at + 1, user: { id: 'u' }, text: 'x' });
        const log = new m.RoomLog({ tell() {} });
        log.page({ cursor: 'e-0', recovered: true, messages: [] });
        log.add(Array.from({ length: 20_001 }, message));
        const { timeline } = log;
        return [timeline.messages.length, timeline.first, timeline.complete, timeline.cursor];
    """
    assert run("room-log.js", body) == [10_000, 10_002, False, "e-20001"]


def test_a_push_before_the_first_page_is_not_shown_twice(run: Run) -> None:
    """Another tab of the browser follows the room already, so the push is no hole."""
    body = """
        room.take(said(5));
        const early = room.timeline.messages.length;
        room.page({ cursor: 'e-5', recovered: true, messages: said(4, 5) });
        return [early, room.timeline.messages.length, room.timeline.hole()];
    """
    assert run("room.js", ROOM + body) == [0, 2, None]


def test_a_room_that_another_tab_has_left_is_followed_again(run: Run) -> None:
    """Storage was full, so this tab did not learn that it was left, and kept a room without a membership."""
    body = """
        const followed = [];
        client.follow = (each) => followed.push(each === room);
        room.pushed({ type: 'left' });
        return followed;
    """
    assert run("room.js", ROOM + body) == [True]


def test_reading_on_from_an_old_offset_skips_removed_messages(run: Run) -> None:
    """The next page does not begin directly after the offset, but must not be requested again and again."""
    body = """
        room.page({ cursor: 'e-99', recovered: true, messages: said(99) });
        client.ask = async () => ({ cursor: 'e-99', recovered: true, messages: said(5, 6) });
        await room.log.visit(5);
        client.ask = async () => ({ cursor: 'e-99', recovered: false, messages: said(40, 41) });
        await room.log.newer();
        return [room.log.past.cursor, [...room.log.past.lossesBefore]];
    """
    assert run("room.js", ROOM + body) == ["e-41", [40]]


def test_a_deletion_during_an_outage_reaches_older_and_quoted_messages(run: Run) -> None:
    """The next page has it. The older range that was open, from a link, went on showing the text."""
    body = """
        room.page({ cursor: 'e-99', recovered: true, messages: said(99) });
        const page = { cursor: 'e-99', recovered: true };
        client.ask = async ({ limit }) => ({ ...page, messages: limit === 1 ? said(50) : said(5, 6) });
        await room.log.visit(5);
        const asked = new Promise((resolve) => room.addEventListener('messages', resolve, { once: true }));
        const before = [room.quoted(50), room.quoted(50)];
        await asked;
        const quoted = room.quoted(50).text;
        const deletions = [5, 50].map((target, at) => ({ type: 'delete', offset: 100 + at, target }));
        room.page({ cursor: 'e-101', recovered: true, messages: deletions });
        return [before, quoted, room.find(5).deleted, room.quoted(50).text, room.quoted(50).deleted];
    """
    assert run("room.js", ROOM + body) == [[None, None], "x", True, "", True]


def test_a_reaction_on_an_older_page_does_not_replace_a_later_count(run: Run) -> None:
    """A message comes as it is now. The next page had an earlier reaction to it, whose count was shown from then on."""
    body = """
        const react = (offset, count) => ({ type: 'reaction', room: 'lobby', offset, target: 5, emoji: 'x', count });
        const page = (messages) => ({ cursor: 'e-6', recovered: true, messages });
        const fetched = () => [page([{ ...said(5)[0], reactions: { x: 2 } }]), page([react(6, 1)])];

        const visited = new m.Room(client, 'lobby');
        visited.page({ cursor: 'e-9', recovered: true, messages: [react(9, 2)] });
        let pages = fetched();
        client.ask = async () => pages.shift();
        await visited.log.visit(5);
        await visited.log.newer();

        client.isLive = true;
        const inHole = async (late) => {
            const filled = new m.Room(client, 'lobby');
            pages = fetched();
            client.ask = async () => (late && filled.take([react(7, 2)]), pages.shift());
            filled.page({ cursor: 'e-4', recovered: true, messages: said(4) });
            if (late) filled.pushed({ type: 'gap', until: 'e-6' });
            else filled.take([react(7, 2)]);
            while (filled.timeline.hole()) await new Promise((resolve) => setTimeout(resolve));
            return filled;
        };
        const rooms = [visited, await inHole(false), await inHole(true)];
        return rooms.map((each) => each.find(5).reactions.x);
    """
    assert run("room.js", ROOM + body) == [2, 2, 2]


def test_an_older_range_joins_the_present_with_its_losses_and_only_if_it_is_still_shown(run: Run) -> None:
    body = """
        room.page({ cursor: 'e-99', recovered: true, messages: said(99) });
        const page = { cursor: 'e-99', recovered: true };
        client.ask = async () => ({ ...page, messages: said(5, 6) });
        await room.log.visit(5);
        client.ask = async () => ((room.log.past = null), { ...page, messages: [] });
        await room.log.newer();
        const left = room.timeline.messages.length;
        client.ask = async () => ({ ...page, messages: said(5, 6) });
        await room.log.visit(5);
        client.ask = async () => ({ ...page, recovered: false, messages: [] });
        await room.log.newer();
        return [left, room.timeline.messages.length, room.log.past, [...room.timeline.lossesBefore]];
    """
    assert run("room.js", ROOM + body) == [1, 3, None, [99]]


def test_a_loss_is_shown_before_the_first_message_behind_it(run: Run) -> None:
    """Of a hole that retention had reached, it was shown before what was fetched, and so behind what was pushed."""
    body = """
        client.isLive = true;
        client.ask = async () => ({ cursor: 'e-4', recovered: false, messages: said(4) });
        room.page({ cursor: 'e-1', recovered: true, messages: said(1) });
        room.take(said(3));
        while (room.timeline.hole()) await new Promise((resolve) => setTimeout(resolve));
        return [room.timeline.cursor, [...room.timeline.lossesBefore]];
    """
    assert run("room.js", ROOM + body) == ["e-4", [3]]


def test_a_message_that_is_stored_is_not_pending_although_it_is_not_loaded(run: Run) -> None:
    """Of one sent before the first page, which began behind it, the page said for ever that it was on its way."""
    body = """
        outbox.items = [{ room: 'lobby', text: 'x', extras: {}, state: 'sent', offset: 8 }];
        const before = room.pending.length;
        room.page({ cursor: 'e-9', recovered: true, messages: said(9) });
        const behind = room.pending.length;
        outbox.items[0].offset = 12;
        const unknown = room.pending.length;
        room.take(said(12));  // before those between
        return [before, behind, unknown, room.pending.length];
    """
    assert run("room.js", ROOM + body) == [1, 0, 1, 0]


def test_more_records_are_asked_for_where_most_are_changes(run: Run) -> None:
    """Where a bot had written piece by piece, by edits, each request brought half a message."""
    body = """
        room.page({ cursor: 'e-99', recovered: true, messages: said(99) });
        const edits = [96, 97, 98].map((offset) => ({ type: 'edit', offset, target: 95, text: 'x' }));
        const pages = [[...said(95), ...edits], said(90, 91, 92, 93, 94), said(89)];
        const asked = [];
        client.ask = async ({ limit }) => (asked.push(limit), { cursor: 'e-99', messages: pages.shift() });
        while (pages.length) await room.older(room.timeline);
        return asked;
    """
    assert run("room.js", ROOM + body) == [50, 200, 50]


def test_a_hole_is_filled_although_the_history_was_refused_for_now(run: Run) -> None:
    """The messages in it stayed away until another one came."""
    body = """
        const { ChatError } = await import('/wire.js');
        client.isLive = true;
        room.page({ cursor: 'e-1', recovered: true, messages: said(1) });
        const refusals = [new ChatError('unavailable', '', { retryAfter: 0 }), new ChatError('rate_limited', '')];
        const filled = new Promise((resolve) => {
            client.ask = async () => {
                if (refusals.length) throw refusals.shift();
                setTimeout(() => resolve(room.timeline.messages.map(({ offset }) => offset)));
                return { cursor: 'e-3', recovered: true, messages: said(2, 3) };
            };
        });
        room.pushed({ type: 'gap', until: 'e-3' });
        return await Promise.race([filled, new Promise((resolve) => setTimeout(resolve, 20_000, 'no'))]);
    """
    assert run("room.js", ROOM + body) == [1, 2, 3]


def test_what_is_fetched_into_a_hole_is_told_like_what_is_pushed(run: Run) -> None:
    """A page of one's own got no `message` for it, and after hours away the title counted the first 100 unread only."""
    body = """
        const told = [];
        const live = [];
        room.addEventListener('message', ({ detail }) => told.push(detail.offset));
        room.addEventListener('messages', ({ detail }) => live.push(detail.isLive));
        client.isLive = true;
        room.page({ cursor: 'e-1', recovered: true, messages: said(1) });
        client.ask = async () => ({ cursor: 'e-3', recovered: true, messages: said(2, 3) });
        const counted = new Promise((resolve) => room.addEventListener('unread', () => resolve(room.unread)));
        room.pushed({ type: 'gap', until: 'e-3' });
        const unread = await Promise.race([counted, new Promise((resolve) => setTimeout(resolve, 5_000, 'no'))]);
        return [unread, told, live];
    """
    assert run("room.js", ROOM + body) == [2, [1, 2, 3], [False, True]]
