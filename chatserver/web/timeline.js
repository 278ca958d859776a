/**
 * One room's messages as this page knows them: in order, each once, and honest about what is missing.
 * Owns: the order, the de-duplication by offset, the cursor to resume from. May not: fetch anything, touch the DOM.
 *
 * Offsets have no holes, so a jump *is* a loss. `through` is the highest offset up to which nothing is missing, and the
 * cursor to resume from stands there and not at the newest message: whatever breaks while a hole is being filled,
 * the next connection asks for everything behind the hole again, and doubles fall out here.
 *
 * @import { Message, Page } from './wire.js'
 */
import { splitCursor } from './wire.js';

export class Timeline {
  /** @type {string | null} names one life of the room's log; null until the server said so */
  epoch = null;
  /** @type {Message[]} ascending by offset */
  messages = [];
  through = 0;
  /** The highest offset that we heard of, here or not. */
  head = 0;
  /** @type {Set<number>} offsets right after which messages are gone for good */
  lossesBefore = new Set();
  /** True once nothing older than the first message can be had. */
  complete = false;

  /** Where to resume from; null before anything is known. */
  get cursor() {
    return this.epoch === null ? null : `${this.epoch}-${this.through}`;
  }

  get oldest() {
    return this.messages.at(0) ?? null;
  }

  get newest() {
    return this.messages.at(-1) ?? null;
  }

  /**
   * Begin, or begin anew, with a page of the log.
   * @param {Page} page
   */
  begin({ cursor, messages }) {
    const { epoch, offset } = splitCursor(cursor);
    this.epoch = epoch;
    this.messages = [];
    this.lossesBefore.clear();
    this.through = messages.length ? messages[0].offset - 1 : offset;
    this.head = this.through;
    this.complete = this.through === 0;
  }

  /**
   * Whether a page continues what we have. Another epoch does not; nor does a log that ends before what we have seen of
   * it, as one restored from a backup would.
   * @param {Page} page
   */
  isSameLog({ cursor, recovered }) {
    if (this.epoch === null) return true;
    const { epoch, offset } = splitCursor(cursor);
    return epoch === this.epoch && (recovered || offset >= this.through);
  }

  /** @param {number} offset */
  has(offset) {
    return this.messages[this.#place(offset)]?.offset === offset;
  }

  /**
   * Take messages in, from whatever source and in whatever order.
   * @param {Message[]} messages
   * @returns {Message[]} those that were new, ascending
   */
  add(messages) {
    const fresh = [];
    for (const message of [...messages].sort((a, b) => a.offset - b.offset)) {
      const place = this.#place(message.offset);
      if (this.messages[place]?.offset === message.offset) continue;
      this.messages.splice(place, 0, message);
      fresh.push(message);
    }
    this.#advance();
    if (this.oldest?.offset === 1) this.complete = true;
    return fresh;
  }

  /**
   * The server skipped ahead: messages up to this offset exist, though none of them may follow.
   * @param {number} offset
   */
  expect(offset) {
    this.head = Math.max(this.head, offset);
  }

  /** @returns {{after: number, until: number} | null} the first hole: offsets strictly between are missing */
  hole() {
    if (this.head <= this.through) return null;
    return { after: this.through, until: this.messages[this.#place(this.through + 1)]?.offset ?? this.head + 1 };
  }

  /**
   * The server has nothing between `through` and this offset any more: remember the loss, and go on behind it.
   * @param {number} offset of the first message behind the loss
   */
  accept(offset) {
    if (offset <= this.through + 1) return;
    this.lossesBefore.add(offset);
    this.through = offset - 1;
    this.#advance();
  }

  /**
   * Keep only the newest messages, so that a page left open for a week stays light.
   * @param {number} keep
   * @returns {Message[]} those dropped; they can be had again by scrolling up
   */
  trim(keep) {
    const dropped = this.messages.splice(0, Math.max(0, this.messages.length - keep));
    if (dropped.length) this.complete = false;
    return dropped;
  }

  #advance() {
    for (let i = this.#place(this.through + 1); this.messages[i]?.offset === this.through + 1; i++) this.through++;
    this.expect(Math.max(this.through, this.newest?.offset ?? 0));
  }

  /**
   * Where an offset stands or would stand: nearly always the end, so look from there.
   * @param {number} offset
   */
  #place(offset) {
    let i = this.messages.length;
    while (i > 0 && this.messages[i - 1].offset >= offset) i--;
    return i;
  }
}
