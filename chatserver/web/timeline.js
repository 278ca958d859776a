/**
 * One stretch of a room's log as this client knows it: in order, each record once, and honest about what is missing.
 * Owns: the order, the de-duplication by offset, what later records do to messages, the cursor to resume from.
 * May not: fetch anything, touch the DOM.
 *
 * Offsets have no holes, so a jump is a loss. `through` is the highest offset up to which nothing is missing, and the
 * cursor to resume from stands there: whatever breaks while a hole is filled, the next connection asks for everything
 * behind it again, and doubles fall out here.
 *
 * @import { Change, Message } from './wire.js'
 */
import { splitCursor } from './wire.js';

/**
 * Of the records in a list, messages alone may come without a type.
 * @param {{type?: string}} record
 * @returns {record is Message}
 */
export const isMessage = ({ type }) => type === undefined || type === 'message';

export class Timeline {
  /** @type {string | null} names one life of the room's log; null until the server said so */
  epoch = null;
  /** @type {Message[]} ascending by offset */
  messages = [];
  /** Records are here from this offset on. */
  first = 1;
  through = 0;
  /** The highest offset that we heard of, here or not. */
  head = 0;
  /** @type {Set<number>} offsets right after which messages are gone for good */
  lossesBefore = new Set();
  /** True once nothing older than the first message can be had. */
  complete = false;
  /** @type {Set<number>} offsets of records that came in behind a hole */
  #ahead = new Set();
  /** @type {WeakMap<Message, Map<string, number>>} up to which offset a message's text, or one emoji, is current */
  #current = new WeakMap();

  /** Where to resume from; null before anything is known. */
  get cursor() {
    return this.epoch === null ? null : this.cursorAt(this.through);
  }

  cursorAt(offset) {
    return `${this.epoch}-${offset}`;
  }

  /** Begin, or begin anew, with a page of the log. */
  begin({ cursor, messages }) {
    const { epoch, offset } = splitCursor(cursor);
    this.epoch = epoch;
    this.messages = [];
    this.lossesBefore.clear();
    this.#ahead.clear();
    this.through = messages.length ? messages[0].offset - 1 : offset;
    this.head = this.through;
    this.first = this.through + 1;
    this.complete = this.through === 0;
  }

  /**
   * Whether a page continues what we have. Another epoch does not; nor does a log that ends before what we have seen of
   * it, as one restored from a backup would.
   */
  isSameLog({ cursor, recovered }) {
    if (this.epoch === null) return true;
    const { epoch, offset } = splitCursor(cursor);
    return epoch === this.epoch && (recovered || offset >= this.through);
  }

  find(offset) {
    const message = this.messages[this.place(offset)];
    return message?.offset === offset ? message : null;
  }

  /**
   * Take records in, from whatever source and in whatever order.
   * @param {(Message | Change)[]} records
   * @param {{asPage?: boolean}} [how] `asPage`: the messages already show what the records of the same page did to them
   * @returns {{added: Message[], changed: Message[]}} messages that were new, ascending, and those that look different
   */
  add(records, { asPage = false } = {}) {
    const sorted = [...records].sort((a, b) => a.offset - b.offset);
    const newest = sorted.at(-1)?.offset ?? 0;
    const added = [];
    const changed = new Set();
    for (const record of sorted) {
      if (record.offset > this.through) this.#ahead.add(record.offset);
      if (!isMessage(record)) {
        const message = this.#apply(record);
        if (message) changed.add(message);
      } else {
        const place = this.place(record.offset);
        if (this.messages[place]?.offset === record.offset) continue;
        this.messages.splice(place, 0, record);
        this.#current.set(record, new Map([['', asPage ? newest : record.offset]]));
        added.push(record);
      }
    }
    if (sorted.length) this.first = Math.min(this.first, sorted[0].offset);
    if (this.first === 1) this.complete = true;
    this.#advance();
    return { added, changed: [...changed] };
  }

  /**
   * What later records do to the messages that are here.
   * @param {(Message | Change)[]} records
   * @returns {Message[]} those that look different
   */
  change(records) {
    const changes = records.filter((record) => !isMessage(record));
    return changes.map((change) => this.#apply(change)).filter((message) => message !== null);
  }

  /** @returns {Message | null} the message, if it looks different now */
  #apply(change) {
    const message = this.find(change.target ?? 0);
    const current = message && this.#current.get(message);
    const aspect = change.emoji ?? 'text';
    if (change.type === 'edit' && !change.text) return null; // another one followed, and its text is gone
    if (!message || message.deleted || !current || change.offset <= (current.get(aspect) ?? current.get('') ?? 0)) return null;
    current.set(aspect, change.offset);
    if (change.type === 'edit') Object.assign(message, { text: change.text, edited: change.time });
    else if (change.type === 'delete') Object.assign(message, { text: '', deleted: true, reactions: {} });
    else if (change.type === 'reaction' && change.emoji) {
      message.reactions = { ...message.reactions, [change.emoji]: change.count ?? 0 };
    } else return null;
    return message;
  }

  /** The server skipped ahead: records up to this offset exist, though none of them may follow. */
  expect(offset) {
    this.head = Math.max(this.head, offset);
  }

  /** @returns {{after: number, until: number} | null} the first hole: offsets strictly between are missing */
  hole() {
    if (this.head <= this.through) return null;
    return { after: this.through, until: Math.min(this.head + 1, ...this.#ahead) };
  }

  /**
   * The server has nothing between `through` and this offset any more: remember the loss, and go on behind it.
   * @param {number} offset of the first record behind the loss
   */
  accept(offset) {
    if (offset <= this.through + 1) return;
    this.lossesBefore.add(offset);
    this.through = offset - 1;
    this.#advance();
  }

  /** Keep only the newest messages, so that a page left open for a week stays light. */
  trim(keep) {
    const dropped = this.messages.splice(0, Math.max(0, this.messages.length - keep));
    if (!dropped.length || !this.messages.length) return;
    this.first = this.messages[0].offset;
    this.complete = false;
  }

  #advance() {
    for (const offset of this.#ahead) this.expect(offset);
    while (this.#ahead.delete(this.through + 1)) this.through++;
    for (const offset of this.#ahead) if (offset <= this.through) this.#ahead.delete(offset);
    this.expect(this.through);
  }

  /** Where an offset stands in `messages`, or would stand. */
  place(offset) {
    let low = 0;
    let high = this.messages.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.messages[middle].offset < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
