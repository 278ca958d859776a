/**
 * Messages on their way: each goes out under a key of its own, again and again, until the server says it is stored.
 * Owns: their order and their state. May not: choose a transport (it is handed a `deliver`), touch the DOM.
 *
 * One at a time in each room, so that what was typed first is stored first, and a room that takes few messages keeps
 * none from the others. The key makes repeating safe: the server answers the
 * same key from the same user with the first result for ten minutes. Behind that window a repeat could be a double, so
 * the person is asked instead. The list outlives a reload, in the tab's own storage.
 *
 * @import { Ack, ChatError } from './wire.js'
 *
 * @typedef {'queued' | 'sending' | 'sent' | 'failed'} ItemState
 * @typedef {{replyTo?: number, mentions?: string[]}} Extras
 * @typedef {object} Item
 * @property {string} key
 * @property {string} room
 * @property {string} text
 * @property {Extras} extras
 * @property {number} created ms since the epoch
 * @property {number | null} firstTried ms since the epoch
 * @property {ItemState} state
 * @property {string | null} problem why it failed, for the person
 * @property {number | null} [until] ms since the epoch; before that the server takes no more messages
 * @property {number | null} offset where the log has it, once we know or believe so
 */
import { readJson } from './storage.js';
import { ChatError, delayBefore, randomKey, sleep } from './wire.js';

const STORAGE_KEY = 'chat.outbox';
const KEY_WINDOW = 9 * 60_000; // ms; the server remembers keys for 10 minutes, less a margin for clocks

export class Outbox {
  /** @type {Item[]} in the order they were written */
  items = [];
  /** @type {((item: Item) => Promise<Ack>) | null} null while there is no connection */
  #deliver = null;
  /** @type {Set<string>} rooms */
  #pumping = new Set();
  /** @type {Map<string, {resolve: (ack: Ack) => void, reject: (error: ChatError) => void}>} by key */
  #promises = new Map();

  constructor(storage, handlers) {
    this.storage = storage;
    this.handlers = handlers;
    for (const item of readJson(storage, STORAGE_KEY, Array.isArray, [])) {
      this.items.push({ extras: {}, ...item, state: item.state === 'failed' ? 'failed' : 'queued', offset: null });
    }
  }

  /** @returns {Promise<Ack>} settles when the message is durable, or refused for good */
  add(room, text, extras = {}) {
    const key = randomKey();
    const item = { key, room, text, extras, created: Date.now(), firstTried: null, problem: null, offset: null };
    this.items.push({ ...item, state: 'queued' });
    const promise = new Promise((resolve, reject) => this.#promises.set(key, { resolve, reject }));
    this.#changed();
    this.#pump(room);
    return promise;
  }

  resume(deliver) {
    this.#deliver = deliver;
    for (const { room } of [...this.items]) this.#pump(room);
  }

  pause() {
    this.#deliver = null;
  }

  retry(key) {
    const item = this.items.find((each) => each.key === key);
    if (!item) return;
    // A fresh key where the old one may have been forgotten: the person has decided that a double is better than none.
    Object.assign(item, { state: 'queued', problem: null, firstTried: null, key: randomKey() });
    this.#changed();
    this.#pump(item.room);
  }

  discard(key) {
    this.items = this.items.filter((item) => item.key !== key);
    this.#promises.delete(key);
    this.#changed();
  }

  /**
   * A message of our own came in: it is one of these, and must not be seen twice. Before its acknowledgement the text
   * tells which; a wrong guess (two windows, same words) heals when the acknowledgement brings the true offset.
   */
  arrived({ room, offset, text }) {
    const here = this.items.filter((item) => item.room === room);
    const known = here.find((item) => item.state === 'sent' && item.offset === offset);
    if (known) return this.discard(known.key);
    const guess = here.find((item) => item.firstTried !== null && item.offset === null && item.text === text);
    if (guess) guess.offset = offset;
    if (guess) this.#changed();
  }

  /** Nobody follows this room any more, so nobody waits for its stored messages to come in. */
  leave(room) {
    this.items = this.items.filter((item) => item.room !== room || item.state !== 'sent');
    this.#changed();
  }

  /** @param {string} name of a room */
  async #pump(name) {
    if (this.#pumping.has(name)) return;
    this.#pumping.add(name);
    try {
      for (let failures = 0; this.#deliver; ) {
        const item = this.items.find(({ room, state }) => room === name && state === 'queued');
        if (!item) return;
        const again = await this.#send(item, this.#deliver);
        if (again === null) {
          failures = 0;
          continue;
        }
        const delay = delayBefore(failures++, again.retryAfter);
        if (again.code === 'rate_limited') item.until = Date.now() + delay;
        this.#changed();
        await sleep(delay);
      }
    } finally {
      this.#pumping.delete(name);
    }
  }

  /**
   * @param {(item: Item) => Promise<Ack>} deliver
   * @returns {Promise<ChatError | null>} the error when it should be tried again
   */
  async #send(item, deliver) {
    if (item.firstTried !== null && Date.now() - item.firstTried > KEY_WINDOW) {
      if (item.offset === null) this.#fail(item, new ChatError('lost', 'No answer came in time: it may or may not have been sent.'));
      else this.discard(item.key); // we saw it come in
      return null;
    }
    const { firstTried } = item;
    item.firstTried ??= Date.now();
    Object.assign(item, { state: 'sending', until: null });
    this.#changed();
    try {
      const ack = await deliver(item);
      item.state = 'sent';
      item.offset = ack.offset;
      this.#promises.get(item.key)?.resolve(ack);
      this.#promises.delete(item.key);
      this.handlers.stored(item, ack);
      this.#changed();
      return null;
    } catch (error) {
      if (error.isTemporary) {
        item.state = 'queued';
        if (!error.isLost) item.firstTried = firstTried; // refused: this attempt has stored nothing
        return error;
      }
      this.#fail(item, error);
      return null;
    }
  }

  #fail(item, error) {
    Object.assign(item, { state: 'failed', problem: error.message, offset: null });
    this.#promises.get(item.key)?.reject(error);
    this.#promises.delete(item.key);
    this.#changed();
  }

  #changed() {
    const unstored = this.items.filter((item) => item.state !== 'sent');
    this.storage.setItem(STORAGE_KEY, JSON.stringify(unstored));
    this.handlers.changed();
  }
}
