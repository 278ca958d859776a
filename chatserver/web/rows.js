/**
 * The two lists of messages as rows. Of the stored ones those near the visible ones only, since a room may have thousands.
 * Below them those that are not stored yet: pale while they wait, with a choice if they are certainly not sent.
 * Owns: the rows, the row at which the Tab key stops. May not: scroll, know which part of the log is shown, or decide when
 * anything is sent again.
 *
 * @typedef {{offset: number, hidden: number}} Place the first row in sight, and the part of its height that is above
 */
import { byId, make } from './dom.js';
import { TAB_STOP, messageRow, placeBelow, quote, startsGroup, stopAt, stopIn } from './message-row.js';
import { mayTakeBack } from './outbox.js';
import { precise } from './text.js';

export const STEP = 60; // rows made at a time
const MAX_ROWS = 240; // their layout takes a few ms, however many messages there are
const MIN_SHOWN_WAIT = 3_000; // ms; a longer wait is shown
const LABELS = { queued: 'waiting', sending: 'sending', sent: 'sent', failed: 'not sent', held: 'waiting' };

export class Rows {
  #list = byId('messages');
  #scroller = byId('scroller');
  #rows = new Map(); // by offset
  from = Infinity;
  to = -1;

  constructor(client) {
    this.client = client;
    this.#list.addEventListener('focusin', ({ target }) => stopAt(this.#list, target.closest('.message')));
  }

  get isEmpty() {
    return this.#rows.size === 0;
  }

  at(offset) {
    return this.#rows.get(offset ?? 0) ?? null;
  }

  get divider() {
    return this.#list.querySelector('.divider');
  }

  /** Remove a row. If it has the focus, the list of messages gets that, so that keys still scroll it. */
  #remove(offset, row) {
    if (row.contains(document.activeElement)) this.#scroller.focus({ preventScroll: true });
    row.remove();
    this.#rows.delete(offset);
  }

  clear() {
    for (const [offset, row] of this.#rows) this.#remove(offset, row);
    [this.from, this.to] = [Infinity, -1];
  }

  /** Redraw messages that have changed, and the replies to those of `quoted`. The first unread one has the offset `divider`. */
  redraw(changed, quoted, timeline, divider) {
    for (const message of changed) this.#replace(message, timeline, divider);
    const offsets = new Set(quoted.map(({ offset }) => offset));
    for (const message of timeline.messages.slice(timeline.place(this.from), timeline.place(this.to + 1))) {
      if (message.reply_to && offsets.has(message.reply_to)) this.#replace(message, timeline, divider);
    }
  }

  #replace(message, timeline, divider) {
    const shown = this.#rows.get(message.offset);
    if (!shown) return;
    if (shown.matches(':active')) { // what goes during a press gets no click
      setTimeout(() => this.#rows.get(message.offset) === shown && this.#replace(message, timeline, divider), 50);
      return;
    }
    const focused = shown.contains(document.activeElement) ? document.activeElement : null;
    const row = messageRow(this.client, message);
    stopIn(row, shown.tabIndex);
    // A mark that has faded would begin anew.
    row.classList.toggle('found', shown.matches('.found') && shown.getAnimations({ subtree: true }).length > 0);
    shown.className = row.className;
    putParts(shown, row);
    placeBelow(shown, message, timeline.messages[timeline.place(message.offset) - 1] ?? null, timeline, divider);
    const same = [...shown.querySelectorAll('.chip, .fold')].find(({ value }) => value === focused?.value);
    if (focused && focused !== document.activeElement) (same ?? shown).focus({ preventScroll: true });
  }

  /**
   * Make rows for the messages with the indices `from` to `to`, and keep those that exist. Rows over the limit are dropped at
   * one end.
   */
  show(timeline, divider, from, to, { dropAt = 'top', most = MAX_ROWS } = {}) {
    const { messages } = timeline;
    to = Math.min(Math.max(to, 0), messages.length);
    from = Math.max(0, Math.min(from, to === messages.length ? to - STEP : from));
    if (to - from > most) [from, to] = dropAt === 'top' ? [to - most, to] : [from, from + most];
    const wanted = messages.slice(from, to);
    this.from = wanted.at(0)?.offset ?? Infinity;
    this.to = wanted.at(-1)?.offset ?? -1;
    for (const [offset, row] of this.#rows) if (offset < this.from || offset > this.to) this.#remove(offset, row);
    let next = this.#list.firstElementChild;
    let previous = messages[from - 1] ?? null;
    for (const message of wanted) {
      const row = this.#rows.get(message.offset) ?? messageRow(this.client, message);
      if (row === next) next = next.nextElementSibling;
      else this.#list.insertBefore(row, next);
      if (!this.#rows.has(message.offset)) {
        stopIn(row, -1);
        this.#rows.set(message.offset, row);
      }
      placeBelow(row, message, previous, timeline, divider);
      previous = message;
    }
    const isFocused = this.#list.contains(document.activeElement) && this.#list.querySelector(TAB_STOP);
    if (!isFocused) stopAt(this.#list, this.#rows.get(this.to));
  }

  /** @returns {Place | null} */
  firstInSight() {
    const edge = this.#scroller.getBoundingClientRect().top;
    for (const row of this.#list.children) {
      const { top, bottom, height } = row.getBoundingClientRect();
      if (bottom > edge) return { offset: Number(row.dataset.offset), hidden: (edge - top) / height };
    }
    return null;
  }
}

/**
 * Put the parts of a new row into a row, where they differ, and keep its toolbar. What stays is not said again by a screen
 * reader that is there, which does not lose its place in it either.
 */
function putParts(shown, row) {
  const [was, bubble] = [shown, row].map((each) => each.querySelector('.bubble'));
  if (was.title) bubble.title = was.title;
  const stays = bubble.querySelector('.gone') ? '.day, .lost, .divider' : '.day, .lost, .divider, .actions-place';
  const find = (where, part) => [...where.children].find(({ classList }) => classList[0] === part.classList[0]);
  for (const part of [...shown.children]) part.matches(stays) || find(row, part) || part.remove();
  for (const part of [...row.children]) {
    const same = find(shown, part);
    if (!same) shown.insertBefore(part, shown.querySelector('.actions-place'));
    else if (!same.isEqualNode(part)) same.replaceWith(part);
  }
}

export class PendingView {
  #list = byId('pending');
  #rows = new Map(); // by key

  constructor(client, composer) {
    this.client = client;
    this.composer = composer;
    for (const event of ['outbox', 'room', 'messages', 'restarted', 'identity', 'state']) {
      client.addEventListener(event, () => client.current && this.#show());
    }
  }

  #show() {
    const { current } = this.client;
    const items = current.pending;
    const keys = new Set(items.map((item) => item.key));
    for (const [key, row] of this.#rows) if (!keys.has(key)) row.remove(), this.#rows.delete(key);
    this.#list.hidden = !items.length;
    let previous = current.timeline.messages.at(-1) ?? null;
    for (const item of items) {
      const message = this.#asMessage(item);
      let row = this.#rows.get(item.key);
      if (!row) {
        row = messageRow(this.client, message);
        row.classList.add('pending', 'own');
        this.#rows.set(item.key, row);
        this.#list.append(row);
      }
      row.querySelector('.quote')?.replaceWith(...quote(this.client, message));
      row.classList.toggle('first', startsGroup(message, previous));
      this.#mark(row, item);
      previous = message;
    }
  }

  #mark(row, item) {
    const { key, author, state, problem, until, extras } = item;
    const isLate = Boolean(until) && until - Date.now() > MIN_SHOWN_WAIT;
    const isChoice = mayTakeBack(item) && (state !== 'queued' || isLate || this.client.state.phase !== 'live');
    const mark = `${state} ${until ?? ''} ${isChoice}`;
    if (row.dataset.mark === mark) return;
    Object.assign(row.dataset, { state, mark });
    const aside = row.querySelector('.aside');
    aside.textContent = state === 'failed' && extras.change ? 'not changed' : LABELS[state];
    aside.ariaHidden = null;
    row.querySelector('.problem')?.remove();
    if (!isChoice && !isLate) return;
    if (state === 'held') row.querySelector('.author').textContent = author.name; // drawn as 'You', while it was
    const why = {
      queued: isLate ? `Too many messages: this one goes out at ${precise(new Date(until))}. ` : '',
      failed: `${problem}. `,
      held: `${author?.name} wrote this, and it waits until ${author?.name} signs in. `,
    }[state];
    const choices = {
      ...(state === 'failed' && { 'Send again': () => this.client.outbox.retry(key) }),
      ...(isChoice && { Edit: () => this.composer.takeBack(key), Discard: () => this.client.outbox.takeBack(key) }),
    };
    const buttons = Object.entries(choices).map(([label, onclick]) => make('button', { className: 'link', type: 'button', onclick }, label));
    const className = state === 'queued' ? 'problem later' : 'problem';
    row.append(make('p', { className, role: why ? 'alert' : null }, why, make('span', { className: 'choices' }, ...buttons)));
  }

  #asMessage({ room, text, created, extras, author }) {
    const user = author ?? this.client.identity.user ?? { id: '', name: 'You' };
    const { replyTo, change, mentions } = extras;
    return { room, offset: 0, cursor: '', user, text, reply_to: replyTo ?? change?.offset, mentions, time: new Date(created).toISOString() };
  }
}
