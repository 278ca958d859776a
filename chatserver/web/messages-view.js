/**
 * The list of messages as it is scrolled. It does not move while messages are added around those in sight.
 * Owns: which part of the log has rows, the scroll position of each room, when a room counts as read.
 * May not: fetch from the server itself, or keep messages.
 */
import { byId, hasFingers, setText } from './dom.js';
import { unfold } from './message-row.js';
import { Rows, STEP } from './rows.js';
import { plural, zone } from './text.js';

const NEAR_BOTTOM = 60; // px from the end at which the list follows new messages
const NEAR_EDGE = 600; // px from an edge at which more rows are made

export class MessagesView {
  #scroller = byId('scroller');
  #edge = byId('edge');
  #jump = byId('jump');
  #rows;
  #isAtBottom = true;
  /** The last `scrollTop`: only a scroll upwards leaves the end, and not a list that has become lower or longer. */
  #top = 0;
  #place = null; // after the last scroll
  #zone = zone();
  #fetching = null; // the room of which records are on their way
  #room = null; // whose messages are shown
  #places = new Map(); // where each room was left; null at its bottom
  #divider = null; // the first message that was unread when the room was opened, or the user came back
  /** Whether the connection was lost, and what came meanwhile is not here yet. */
  #wasAway = false;

  constructor(client) {
    this.client = client;
    this.#rows = new Rows(client);
    client.addEventListener('room', () => this.#open());
    client.addEventListener('restarted', ({ detail }) => detail.room === client.room && this.#open());
    client.addEventListener('identity', () => this.#room && this.#isAnother());
    client.addEventListener('caughtup', ({ detail }) => detail.room === client.room && this.#caughtUp());
    client.addEventListener('messages', ({ detail }) => detail.room === client.room && this.#take(detail));
    client.addEventListener('refused', ({ detail }) => detail.room === client.room && this.#edges());
    client.addEventListener('unread', () => this.#showJump());
    client.addEventListener('state', () => this.#lost());
    this.#scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#jump.addEventListener('click', () => this.toPresent());
    addEventListener('keydown', (event) => this.#page(event));
    byId('column').addEventListener('fold', ({ target, detail }) => this.#folded(target, detail));
    document.addEventListener('visibilitychange', () => this.#room && this.#looked());
    addEventListener('beforeprint', () => this.#print());
    setInterval(() => this.#room && this.#timePassed(), 60_000);
    // Other lines have other heights. This event comes before the `scroll` of a list that has become shorter.
    addEventListener('resize', () => this.#isAtBottom || this.#scrollTo(this.#place));
    // The composer, a phone's keyboard or a banner change the height: the end stays in sight.
    const resized = new ResizeObserver(() => this.#isAtBottom && this.toBottom());
    resized.observe(this.#scroller);
    resized.observe(byId('column'));
  }

  get #timeline() {
    return this.#room?.log.past ?? this.client.current.timeline;
  }

  /** The indices of the first row's message and behind the last one's. */
  get #range() {
    return [this.#timeline.place(this.#rows.from), this.#timeline.place(this.#rows.to + 1)];
  }

  #show(from, to, how = {}) {
    this.#rows.show(this.#timeline, this.#divider, from, to, how);
  }

  get #below() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  /** What is in sight; null at the end. */
  get place() {
    return this.#isAtBottom ? null : this.#rows.firstInSight();
  }

  toBottom() {
    this.#isAtBottom = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#top = this.#scroller.scrollTop;
  }

  toPresent() {
    const { current } = this.client;
    const isShown = this.#isAtBottom && !current.log.past && this.#divider === null;
    current.log.toEnd();
    this.#isAtBottom = true;
    this.#divider = null;
    if (isShown) this.toBottom();
    else this.#redraw();
    this.#seen();
  }

  /** Go back to a place in this room. */
  async restore(place) {
    const room = this.client.current;
    if (place === null) return this.toPresent();
    const isHere = await room.log.visit(place.offset).catch(() => true); // what is loaded stays in sight
    if (isHere && room === this.client.current) this.#redraw(place);
  }

  /** Show a message, wherever in the log it stands. If it is not there, show the newest, and return false. */
  async visit(offset) {
    const room = this.client.current;
    if (!(await room.log.visit(offset)) || room !== this.client.current) return true;
    const place = this.#timeline.place(offset);
    this.#isAtBottom = false;
    unfold({ room: room.name, offset });
    this.#rows.clear();
    this.#show(place - STEP, place + STEP);
    const row = this.#rows.at(offset);
    if (!row) return this.toPresent(), false;
    row.scrollIntoView({ block: row.offsetHeight < this.#scroller.clientHeight ? 'center' : 'start' });
    row.focus({ preventScroll: true, ...(hasFingers() && { focusVisible: false }) });
    row.classList.add('found');
    this.#scrolled();
    return true;
  }

  // Changes

  #open() {
    if (this.#room) this.#places.set(this.#room.name, this.place);
    const room = this.client.current;
    const place = this.#room === room ? null : this.#places.get(room.name);
    if (this.#room !== room) this.#room?.log.stopVisit();
    this.#room = room;
    this.#divider = room.firstUnread;
    this.#redraw(place ?? null);
    this.#edges();
    this.#toDivider();
    this.#fetchOn();
    this.#seen();
  }

  /** Unread messages that do not fit are shown from their beginning, which may not be loaded. */
  #toDivider(mayFetch = true) {
    if (this.#divider === null || !this.#isAtBottom) return;
    if (!this.#rows.divider) this.#redraw(null, this.#divider);
    const row = this.#rows.divider;
    if (!row || row.getBoundingClientRect().top >= this.#scroller.getBoundingClientRect().top) return;
    this.#isAtBottom = false;
    row.scrollIntoView({ block: 'start' });
    if (mayFetch && this.#divider < this.#timeline.first) this.#fetchDivider(this.client.current, this.#divider);
  }

  async #fetchDivider(room, divider) {
    const isHere = await room.log.visit(divider).catch(() => true); // what is loaded stays in sight
    if (!isHere || room !== this.client.current) return;
    if (divider !== this.#divider) return room.log.toEnd();
    this.#redraw(null, divider);
    this.#toDivider(false);
  }

  /** What is in sight when the connection is lost is not new any more. */
  #lost() {
    if (this.#wasAway || this.client.state.phase === 'live') return;
    this.#wasAway = true;
    if (this.#isAtBottom && !document.hidden) this.#divider = null;
  }

  #caughtUp() {
    this.#wasAway = false;
    this.#edges();
    if (this.#isAtBottom) this.toBottom();
    this.#fetchOn();
    this.#seen();
  }

  /** Other messages are the user's own. One that a link leads to stays marked, and has the focus. */
  #isAnother() {
    this.#holdStill(() => this.#rows.redraw(this.#timeline.messages, [], this.#timeline, this.#divider));
    if (this.#isAtBottom) this.toBottom();
    this.#showJump();
  }

  #redraw(place = this.place, offset = place?.offset ?? Infinity) {
    this.#rows.clear();
    const at = this.#timeline.place(offset);
    this.#show(at - STEP, at + STEP);
    this.#isAtBottom = !place;
    this.#scrollTo(place);
    this.#showJump();
  }

  /** A day may have ended, or a journey. */
  #timePassed() {
    if (this.#zone !== zone()) this.#rows.redraw(this.#timeline.messages, [], this.#timeline, this.#divider);
    this.#zone = zone();
    this.#show(...this.#range);
  }

  /** On paper nothing can be scrolled, so all rows are made. */
  #print() {
    const { place } = this;
    this.#show(0, Infinity, { most: Infinity });
    addEventListener('afterprint', () => this.#redraw(place), { once: true });
  }

  #take({ added, changed, isLive }) {
    if (this.#rows.from < this.#timeline.first && !this.#isAtBottom) return this.#refetch();
    const wasEmpty = this.#rows.isEmpty;
    const first = added.find((message) => !this.client.identity.owns(message));
    if (wasEmpty && !isLive) this.#divider ??= this.client.current.firstUnread; // the first page, perhaps after a week
    if (isLive && first && (document.hidden || this.#wasAway)) this.#divider ??= first.offset;
    const isFollowing = this.#isAtBottom && !this.#room?.log.past;
    const more = this.#below < NEAR_EDGE ? STEP : 0; // far from the end, rows there would replace those in sight
    const change = () => {
      this.#rows.redraw(changed, [...added, ...changed], this.#timeline, this.#divider);
      const [from, to] = this.#range;
      this.#show(from, isFollowing ? Infinity : to + more);
    };
    isFollowing ? change() : this.#holdStill(change);
    this.#edges();
    if (this.#isAtBottom) this.toBottom();
    if (wasEmpty || this.#wasAway) this.#toDivider();
    this.#fetchOn();
    this.#seen();
  }

  /** The room keeps its newest messages only, and has dropped some of the rows, perhaps those in sight. */
  async #refetch() {
    const room = this.client.current;
    if (this.#fetching === room) return;
    this.#fetching = room;
    await this.restore(this.place);
    this.#fetched(room);
  }

  /** Another room that was opened meanwhile may fetch its own. */
  #fetched(room) {
    if (this.#fetching === room) this.#fetching = null;
  }

  /** Mark the room as read if its end is in sight. */
  #seen() {
    const { current } = this.client;
    if (!document.hidden && !current.log.past && this.#isAtBottom) current.markRead(current.timeline.through);
    this.#showJump();
  }

  /** While the page is hidden days go by, and what was read before is not new any more. */
  #looked() {
    if (document.hidden && this.#isAtBottom) this.#divider = null;
    this.#show(...this.#range);
    if (!document.hidden) this.#toDivider();
    this.#seen();
  }

  #showJump() {
    const { unread, log } = this.client.current;
    this.#jump.hidden = this.#isAtBottom && !log.past;
    setText(this.#jump, unread ? `${plural(unread, 'new message')} ↓` : 'To the newest ↓');
    this.#jump.classList.toggle('has-news', unread > 0);
  }

  // Scrolling

  #scrollTo(place) {
    const row = place && this.#rows.at(place.offset);
    if (!row) return this.toBottom();
    const { top, height } = row.getBoundingClientRect();
    this.#scroller.scrollTop += top + place.hidden * height - this.#scroller.getBoundingClientRect().top;
  }

  /** Change the list without moving the first row in sight. Its bottom is measured: the day above it may come and go. */
  #holdStill(change) {
    const bottom = (offset) => this.#rows.at(offset)?.getBoundingClientRect().bottom;
    const anchor = this.#rows.firstInSight()?.offset;
    const before = bottom(anchor);
    change();
    const after = bottom(anchor); // of another row, if the message has changed
    if (before && after) this.#scroller.scrollTop += after - before;
  }

  #scrolled() {
    const { scrollTop } = this.#scroller;
    const { messages } = this.#timeline;
    const isEnd = this.#rows.to === (messages.at(-1)?.offset ?? -1);
    const wentUp = !this.#isAtBottom || scrollTop < this.#top;
    this.#isAtBottom = isEnd && !this.#room?.log.past && (!wentUp || this.#below < NEAR_BOTTOM);
    this.#top = scrollTop;
    this.#place = this.place;
    const [from, to] = this.#range;
    if (scrollTop < NEAR_EDGE && from > 0) this.#holdStill(() => this.#show(from - STEP, to, { dropAt: 'bottom' }));
    else if (this.#below < NEAR_EDGE && to < messages.length) this.#holdStill(() => this.#show(from, to + STEP));
    this.#fetchOn();
    this.#seen();
  }

  /** Keys that scroll by a page do so also from the field, unless its text is scrolled. */
  #page(event) {
    const { key, target, shiftKey, ctrlKey, altKey, metaKey } = event;
    const pages = { PageUp: -0.9, PageDown: 0.9 }[key];
    if (!pages || shiftKey || ctrlKey || altKey || metaKey || target.closest('#scroller, .panel, dialog, [popover]')) return;
    if (target.scrollHeight > target.clientHeight) return;
    event.preventDefault(); // the caret stays
    this.#scroller.scrollBy(0, pages * this.#scroller.clientHeight);
  }

  /** Keep the beginning of an unfolded text where it is, and a folded one in sight. */
  #folded(button, moved) {
    this.#isAtBottom = false;
    this.#scroller.scrollTop += moved;
    const edge = this.#scroller.getBoundingClientRect().top;
    if (button.getBoundingClientRect().top < edge) button.closest('.message')?.scrollIntoView({ block: 'nearest' });
    this.#scrolled();
  }

  #edges() {
    const { timeline, out } = this.client.current;
    byId('empty').hidden = timeline.epoch === null || timeline.messages.length > 0 || !timeline.complete;
    const { complete, first } = this.#timeline;
    this.#edge.hidden = this.#rows.isEmpty && (complete || out !== null);
    const start = first > 1 ? 'Older messages are gone.' : `This is the beginning of #${this.client.room}.`;
    setText(this.#edge, complete ? start : 'Fetching messages…');
  }

  async #fetchOn() {
    const room = this.client.current;
    const timeline = this.#timeline;
    if (this.#fetching === room || timeline.epoch === null || this.client.state.phase !== 'live') return;
    const isTop = this.#scroller.scrollTop < NEAR_EDGE && !timeline.complete && timeline.place(this.#rows.from) <= 0;
    const isEnd = room.log.past && this.#below < NEAR_EDGE;
    if (!isTop && !isEnd) return;
    this.#fetching = room;
    const error = await (isTop ? room.older(timeline) : room.log.newer()).catch((failure) => failure);
    this.#fetched(room);
    if (room !== this.client.current) return;
    if (!error) this.#scrolled();
    else if (isTop) setText(this.#edge, `Older messages could not be loaded: ${error.message}. Scroll to try again.`);
  }
}
