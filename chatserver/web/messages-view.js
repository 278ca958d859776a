/**
 * The messages on the screen: grouped by author, parted by day, held still while others come and go around them.
 * Owns: the nodes in the list, the scroll position, the count of what is new below. May not: fetch, or keep messages.
 *
 * @import { ChatClient } from './client.js'
 * @import { Message } from './wire.js'
 */
import { avatar, byId, make } from './dom.js';
import { clock, dayName, fullTime, isSameDay, plural, splitLinks } from './text.js';

const GROUP_SPAN = 5 * 60_000; // ms; a later message of the same author begins a new group
const NEAR_BOTTOM = 60; // px; closer than this counts as reading along
const NEAR_TOP = 400; // px; older messages are fetched before the person gets there
const KEEP = 600; // messages on the screen when reading along
const TRIM_AT = 900;

/**
 * @param {Message} message
 * @param {Message | null} previous
 */
export function startsGroup(message, previous) {
  if (!previous || previous.user.id !== message.user.id) return true;
  return Date.parse(message.time) - Date.parse(previous.time) > GROUP_SPAN;
}

/**
 * A message's row; `decorate` says what stands above it.
 * @param {Message} message
 * @param {boolean} isOwn
 */
export function messageRow(message, isOwn) {
  const time = new Date(message.time);
  const text = make('p', { className: 'text', dir: 'auto' });
  for (const { text: shown, href } of splitLinks(message.text)) {
    text.append(href ? make('a', { href, target: '_blank', rel: 'noopener noreferrer' }, shown) : shown);
  }
  return make(
    'li',
    { className: isOwn ? 'message own' : 'message' },
    avatar(message.user),
    make(
      'p',
      { className: 'head' },
      make('span', { className: 'author', dir: 'auto' }, isOwn ? 'You' : message.user.name),
      make('time', { dateTime: message.time }, clock(time)),
    ),
    make('div', { className: 'bubble', title: fullTime(time) }, text),
    make('span', { className: 'aside', ariaHidden: 'true' }, clock(time)),
  );
}

export class MessagesView {
  #list = byId('messages');
  #scroller = byId('scroller');
  #edge = byId('edge');
  #empty = byId('empty');
  #jump = byId('jump');
  /** @type {Map<number, HTMLElement>} by offset */
  #rows = new Map();
  #unseen = 0;
  #isAtBottom = true;
  #isFetching = false;

  /**
   * @param {ChatClient} client
   * @param {() => void} counted told when `unseen` may have changed
   */
  constructor(client, counted) {
    this.client = client;
    this.counted = counted;
    client.addEventListener('room', () => this.#show());
    client.addEventListener('restarted', () => this.#show());
    client.addEventListener('identity', () => this.#show());
    client.addEventListener('caughtup', () => this.#afterChange());
    client.addEventListener('messages', ({ detail }) => this.#take(detail));
    this.#scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#jump.addEventListener('click', () => this.toBottom('smooth'));
    // The list grows and shrinks under a growing composer, a phone's keyboard, a banner: the bottom stays the bottom.
    const resized = new ResizeObserver(() => this.#isAtBottom && this.toBottom());
    resized.observe(this.#scroller);
    resized.observe(byId('pending'));
  }

  get unseen() {
    return this.#unseen;
  }

  /** @param {'instant' | 'smooth'} [behavior] */
  toBottom(behavior = 'instant') {
    this.#isAtBottom = true;
    this.#scroller.scrollTo({ top: this.#scroller.scrollHeight, behavior });
    this.#count(0);
  }

  /** The person came back to the window: what is on the screen is seen. */
  seen() {
    if (this.#isAtBottom) this.#count(0);
  }

  #show() {
    this.#list.replaceChildren();
    this.#rows.clear();
    this.#insert(this.client.timeline.messages);
    this.#afterChange();
    this.toBottom();
  }

  /** @param {{room: string, added: Message[], isLive: boolean}} news */
  #take({ room, added, isLive }) {
    if (room !== this.client.room) return;
    const isReading = this.#isAtBottom;
    if (isReading) {
      this.#insert(added);
      this.#trim();
      this.toBottom();
    } else {
      this.#holdStill(() => this.#insert(added));
    }
    const foreign = isLive ? added.filter((message) => !this.client.identity.owns(message)).length : 0;
    if (!isReading || document.hidden) this.#count(this.#unseen + foreign);
    this.#afterChange();
  }

  /** @param {Message[]} messages ascending */
  #insert(messages) {
    const all = this.client.timeline.messages;
    let place = all.length;
    for (const message of [...messages].reverse()) {
      if (this.#rows.has(message.offset)) continue; // shown anew meanwhile, because we learned who we are
      do place--;
      while (all[place].offset > message.offset);
      const below = all[place + 1];
      const row = messageRow(message, this.client.identity.owns(message));
      this.#rows.set(message.offset, row);
      this.#list.insertBefore(row, (below && this.#rows.get(below.offset)) ?? null);
      this.#decorate(message, all[place - 1] ?? null);
      if (below) this.#decorate(below, message);
    }
  }

  /**
   * @param {Message} message
   * @param {Message | null} previous
   */
  #decorate(message, previous) {
    const row = this.#rows.get(message.offset);
    if (!row) return;
    row.querySelectorAll('.day, .lost').forEach((above) => above.remove());
    const time = new Date(message.time);
    const isNewDay = !previous || !isSameDay(time, new Date(previous.time));
    const isAfterLoss = this.client.timeline.lossesBefore.has(message.offset);
    if (isAfterLoss) row.prepend(make('p', { className: 'lost' }, 'Some messages are gone: the server no longer has them.'));
    if (isNewDay) row.prepend(make('p', { className: 'day' }, make('span', {}, dayName(time))));
    row.classList.toggle('first', isNewDay || isAfterLoss || startsGroup(message, previous));
  }

  /**
   * Change the list above or within what is being read, without moving it.
   * @param {() => void} change
   */
  #holdStill(change) {
    const { top } = this.#scroller.getBoundingClientRect();
    const anchor = [...this.#rows.values()].find((row) => row.isConnected && row.getBoundingClientRect().bottom > top);
    const before = anchor?.getBoundingClientRect().bottom ?? 0;
    change();
    if (anchor) this.#scroller.scrollTop += anchor.getBoundingClientRect().bottom - before;
  }

  #trim() {
    const { timeline } = this.client;
    if (timeline.messages.length <= TRIM_AT) return;
    for (const { offset } of timeline.trim(KEEP)) {
      this.#rows.get(offset)?.remove();
      this.#rows.delete(offset);
    }
    if (timeline.oldest) this.#decorate(timeline.oldest, null);
  }

  #afterChange() {
    const { timeline } = this.client;
    const isEmpty = timeline.epoch !== null && timeline.messages.length === 0;
    this.#empty.hidden = !isEmpty;
    this.#edge.hidden = timeline.messages.length === 0;
    this.#edge.textContent = timeline.complete ? `This is the beginning of #${this.client.room}.` : 'Fetching older messages…';
    this.#edge.classList.toggle('is-fetching', !timeline.complete);
    // A first page that does not fill a tall screen leaves nothing to scroll: fetch on.
    if (this.#scroller.scrollTop < NEAR_TOP) this.#fetchOlder();
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#isAtBottom = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM;
    this.#count(this.#isAtBottom ? 0 : this.#unseen);
    if (scrollTop < NEAR_TOP) this.#fetchOlder();
  }

  async #fetchOlder() {
    const { timeline } = this.client;
    if (this.#isFetching || timeline.complete || !timeline.oldest || this.client.state.phase !== 'live') return;
    this.#isFetching = true;
    this.#list.ariaBusy = 'true'; // what is fetched is old: a screen reader need not read it out
    try {
      await this.client.older();
    } catch (error) {
      this.#edge.textContent = `Older messages did not come: ${error.message}. Scroll to try again.`;
      return;
    } finally {
      this.#isFetching = false;
      this.#list.ariaBusy = 'false';
    }
    if (this.#scroller.scrollTop < NEAR_TOP) this.#fetchOlder();
  }

  /** @param {number} unseen */
  #count(unseen) {
    this.#unseen = unseen;
    this.#jump.hidden = this.#isAtBottom;
    this.#jump.textContent = unseen ? `${plural(unseen, 'new message')} ↓` : 'To the newest ↓';
    this.#jump.classList.toggle('has-news', unseen > 0);
    this.counted();
  }
}
