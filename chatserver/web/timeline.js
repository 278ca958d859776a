/**
 * A range of a room's log: its records in order, each once, and what is missing.
 * Owns: the order, the de-duplication by offset, what later records do to messages, the cursor to resume from.
 * May not: fetch anything, touch the DOM.
 *
 * Offsets have no holes, so a jump means that records are missing. Nothing is missing up to `through`, from where
 * connections resume; records that come again are dropped.
 */
import { splitCursor } from './wire.js';

const isMessage = ({ type }) => type === undefined || type === 'message';

const current = new WeakMap(); // the offset of the last change of a message's text, or of one emoji

export class Timeline {
  epoch = null; // identifies one history of the log; null before the first page
  messages = []; // ascending by offset
  first = 1;
  through = 0;
  /** The highest known offset, loaded or not. */
  head = 0;
  lossesBefore = new Set(); // offsets before which messages are lost
  /** Whether no earlier messages can be loaded: it begins with the first, or the server has no older ones. */
  complete = false;
  #ahead = new Set(); // offsets of records after a hole

  /** The cursor to resume from; null before the first page. */
  get cursor() {
    return this.epoch === null ? null : this.cursorAt(this.through);
  }

  cursorAt(offset) {
    return `${this.epoch}-${offset}`;
  }

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
   * Whether a page continues this timeline. Another epoch does not, nor does a log that ends before `through`, as after
   * a restore.
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
   * Add records of any source, in any order.
   * @param {number} [head] of a page: its messages include the changes up to here, and its own
   * @returns new messages, ascending, and changed ones
   */
  add(records, head) {
    const sorted = [...records].sort((a, b) => a.offset - b.offset);
    const newest = Math.max(head ?? 0, sorted.at(-1)?.offset ?? 0);
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
        if (!current.has(record)) current.set(record, new Map([['', head === undefined ? record.offset : newest]]));
        added.push(record);
      }
    }
    if (sorted.length) this.first = Math.min(this.first, sorted[0].offset);
    if (this.first === 1) this.complete = true;
    this.#advance();
    return { added, changed: [...changed] };
  }

  change(records) {
    const changes = records.filter((record) => !isMessage(record));
    return changes.map((change) => this.#apply(change)).filter((message) => message !== null);
  }

  /** @returns the message, if it has changed */
  #apply(change) {
    const message = this.find(change.target ?? 0);
    const known = message && current.get(message);
    const aspect = change.emoji ?? 'text';
    if (change.type === 'edit' && !change.text) return null; // another edit followed it
    if (!message || message.deleted || !known || change.offset <= (known.get(aspect) ?? known.get(''))) return null;
    known.set(aspect, change.offset);
    if (change.type === 'edit') Object.assign(message, { text: change.text, edited: change.time });
    else if (change.type === 'delete') Object.assign(message, { text: '', deleted: true, edited: undefined, mentions: undefined, reactions: {} });
    else if (change.type === 'reaction' && change.emoji) {
      message.reactions = { ...message.reactions, [change.emoji]: change.count };
      if (!change.count) delete message.reactions[change.emoji];
    } else return null;
    return message;
  }

  /** Records up to this offset exist, though the server has skipped them. */
  expect(offset) {
    this.head = Math.max(this.head, offset);
  }

  /** The first hole: the offsets between `after` and `until` are missing. */
  hole() {
    if (this.head <= this.through) return null;
    return { after: this.through, until: Math.min(this.head + 1, ...this.#ahead) };
  }

  /** The server has no records between `through` and this offset any more: note the loss, and continue after it. */
  accept(offset) {
    if (offset <= this.through + 1) return;
    this.lossesBefore.add(offset);
    this.through = offset - 1;
    this.#advance();
  }

  /** Keep the newest messages only, which bounds the memory of a page that stays open. */
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

  /** The index in `messages` at which an offset is, or would be inserted. */
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

/**
 * Who reacted to the messages of a room. A message only counts its reactions; their records, as far as they are here,
 * name the users, ourselves too. Before a gap a reaction may have been taken back.
 */
export class Reactors {
  #last = new Map(); // the last record, by message and emoji, and by user

  /** Take records in any order, also repeatedly. */
  note(records) {
    for (const record of records) {
      if (!('target' in record) || !record.emoji || !record.user) continue;
      const key = `${record.target} ${record.emoji}`;
      const users = this.#last.get(key) ?? new Map();
      this.#last.set(key, users);
      if ((users.get(record.user.id)?.offset ?? 0) < record.offset) users.set(record.user.id, record);
    }
  }

  /** The users who reacted so, as far as is known. */
  of(offset, emoji) {
    const users = this.#last.get(`${offset} ${emoji}`)?.values() ?? [];
    return [...users].flatMap(({ on, user }) => (on && user ? [user] : []));
  }

  /** Some records are lost, and with them reactions that were taken back. */
  clear() {
    this.#last.clear();
  }

  trim(first) {
    for (const key of this.#last.keys()) if (parseInt(key) < first) this.#last.delete(key);
  }
}
