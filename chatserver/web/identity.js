/**
 * Who we are, as far as this page can know: the server's `hello` says it over a WebSocket; over HTTP we learn it from
 * the first message that comes back with an offset we were given. May not: decide anything about rights.
 *
 * @import { Store } from './storage.js'
 * @import { Message, User } from './wire.js'
 */
import { readJson } from './storage.js';

const STORAGE_KEY = 'chat.me'; // beside the cookie, which scripts cannot read and all tabs share

export class Identity {
  /** @type {User | null} */
  user = null;
  /** @type {Set<string>} `room/offset` of what this page published and has not yet seen come in */
  #published = new Set();

  /**
   * @param {Store} storage
   * @param {() => void} changed
   */
  constructor(storage, changed) {
    this.storage = storage;
    this.changed = changed;
    this.user = readJson(storage, STORAGE_KEY, (value) => typeof value?.id === 'string', null);
  }

  /** @param {User} user */
  is({ id, name }) {
    if (this.user?.id === id && this.user.name === name) return;
    this.user = { id, name };
    this.storage.setItem(STORAGE_KEY, JSON.stringify(this.user));
    this.changed();
  }

  /** @param {Message} message */
  owns(message) {
    return message.user.id === this.user?.id;
  }

  /**
   * @param {string} room
   * @param {number} offset
   */
  published(room, offset) {
    this.#published.add(`${room}/${offset}`);
  }

  /** @param {Message} message */
  learn({ room, offset, user }) {
    if (this.#published.delete(`${room}/${offset}`)) this.is(user);
  }
}
