/**
 * The list of messages as rows: those near the visible ones only, since a room may have thousands.
 * Owns: the rows, the row at which the Tab key stops. May not: scroll, or know which part of the log is shown.
 *
 * @import { Timeline } from './timeline.js'
 * @import { Message } from './wire.js'
 *
 * @typedef {{offset: number, hidden: number}} Place the first row in sight, and the part of its height that is above
 */
import { byId } from './dom.js';
import { TAB_STOP, messageRow, placeBelow, stopAt, stopIn } from './message-row.js';

export const STEP = 60; // rows made at a time
const MAX_ROWS = 240; // their layout takes a few ms, however many messages there are

export class Rows {
  #list = byId('messages');
  #scroller = byId('scroller');
  /** @type {Map<number, HTMLElement>} by offset */
  #rows = new Map();
  /** The offsets of the first and the last row. */
  from = Infinity;
  to = -1;

  constructor(client) {
    this.client = client;
    this.#list.addEventListener('focusin', ({ target }) => stopAt(this.#list, target.closest('.message')));
  }

  get isEmpty() {
    return this.#rows.size === 0;
  }

  /** @param {number} [offset] of a message */
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

  /**
   * Redraw messages that have changed, and the replies that quote them.
   * @param {Message[]} changed
   * @param {Message[]} quoted
   * @param {Timeline} timeline
   * @param {number | null} divider the offset of the first unread message
   */
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
    const focused = shown.contains(document.activeElement) ? document.activeElement : null;
    const row = messageRow(this.client, message);
    stopIn(row, shown.tabIndex);
    shown.replaceWith(row);
    this.#rows.set(message.offset, row);
    placeBelow(row, message, timeline.messages[timeline.place(message.offset) - 1] ?? null, timeline, divider);
    const same = [...row.querySelectorAll('.chip, .fold')].find(({ value }) => value === focused?.value);
    if (focused) (same ?? row).focus({ preventScroll: true });
  }

  /**
   * Make rows for a range of messages, and keep those that exist. Rows over the limit are dropped at one end.
   * @param {Timeline} timeline
   * @param {number | null} divider the offset of the first unread message
   * @param {number} from index
   * @param {number} to index behind the last
   * @param {{dropAt?: 'top' | 'bottom', most?: number}} [how]
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

  /** @returns {Place | null} the first row that is in sight */
  firstInSight() {
    const edge = this.#scroller.getBoundingClientRect().top;
    for (const row of this.#list.children) {
      const { top, bottom, height } = row.getBoundingClientRect();
      if (bottom > edge) return { offset: Number(row.dataset.offset), hidden: (edge - top) / height };
    }
    return null;
  }
}
