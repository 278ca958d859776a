/**
 * Messages that are not stored yet: each is sent with a key until the server acknowledges it.
 * Owns: their order and state, in the tab's storage for a reload. May not: choose a transport, touch the DOM.
 *
 * One message of each room is sent at a time, so their order is kept and no room delays another. For ten minutes the
 * server answers a repeated key with the first result; after that a repeat could be a second message, so the user is asked.
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
const KEY_WINDOW = 9 * 60_000; // ms; the server's 10 minutes, less a margin

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
    // The user has decided to send it again, so a new key: a second message is better than none.
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
   * Match an own message that arrived with its item, which is then not shown twice. Before the acknowledgement the text
   * decides; the acknowledgement corrects a wrong match.
   */
  arrived({ room, offset, text }) {
    const here = this.items.filter((item) => item.room === room);
    const known = here.find((item) => item.state === 'sent' && item.offset === offset);
    if (known) return this.discard(known.key);
    const guess = here.find((item) => item.firstTried !== null && item.offset === null && item.text === text);
    if (guess) guess.offset = offset;
    if (guess) this.#changed();
  }

  /** Drop the stored items of a room that is not followed any more: their messages will not arrive. */
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
      else this.discard(item.key); // it has arrived
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
