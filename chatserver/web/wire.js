/**
 * What client and server agree on: the shapes that the server sends, its errors, its cursors, when to try again.
 * Owns no state and no connection; may not touch the DOM.
 *
 * @typedef {{id: string, name: string}} User
 * @typedef {object} Message a message in its present state
 * @property {string} room
 * @property {number} offset
 * @property {string} cursor
 * @property {User} user
 * @property {string} text
 * @property {string} time
 * @property {number} [reply_to] the offset of the message it answers
 * @property {string[]} [mentions] ids of users
 * @property {unknown} [edited]
 * @property {unknown} [deleted]
 * @property {{[emoji: string]: number}} [reactions]
 * @typedef {{type: string, room: string, offset: number, target?: number, text?: string, emoji?: string, on?: boolean,
 *   count?: number, user?: User, time?: string}} Change what happened later to a message: a record of its own
 * @typedef {{room: string, cursor: string, recovered: boolean, messages: (Message | Change)[], members?: number}} Page
 * @typedef {{room: string, offset: number, cursor: string, time: string}} Ack
 */

/** What may name a room: 1 to 64 of `a-z 0-9 . _ -`, starting with a letter or digit. */
export const ROOM_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

const FIRST_DELAY = 0.5; // s; a restart takes about this long
const LONGEST_DELAY = 20; // s; a person still believes a page that tries three times a minute
const SERVER_JITTER = 0.25; // of what the server asked for, added to it

/** Codes of a server, or a transport, that does not know what was asked. */
const NOT_KNOWN = ['unknown_type', 'method_not_allowed'];

/** Everything that can go wrong between a client and the server, in the server's own words where it had any. */
export class ChatError extends Error {
  /**
   * @param {string} code the server's code, or `lost` (no answer: nothing is known) or `aborted` (we stopped waiting)
   * @param {{status?: number, retryAfter?: number | null, room?: string | null}} [details] `retryAfter` in seconds;
   *   `room` is what was refused of a request for many ("*": all of them)
   */
  constructor(code, message, { status = 0, retryAfter = null, room = null } = {}) {
    super(message);
    this.name = 'ChatError';
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
    this.room = room;
  }

  /** No answer came: the request may or may not have been carried out, and is safe to repeat only with its key. */
  get isLost() {
    return this.code === 'lost';
  }

  /** The server could not serve us now; the same request may succeed later. A mute or a ban is for people to wait for. */
  get isTemporary() {
    if (this.code === 'forbidden') return false;
    return this.isLost || this.retryAfter !== null || this.status >= 500 || this.code === 'rate_limited';
  }

  /** The server is older than this client, and does without. */
  get isUnsupported() {
    return NOT_KNOWN.includes(this.code);
  }
}

/** A cursor is `EPOCH-OFFSET`. The epoch may hold dashes, the offset may not. */
export function splitCursor(cursor) {
  const dash = cursor.lastIndexOf('-');
  return { epoch: cursor.slice(0, dash), offset: Number(cursor.slice(dash + 1)) };
}

/** Random, in hex. Not crypto.randomUUID, which exists only in secure contexts: a chat on a local network has none. */
export function randomKey(bytes = 16) {
  const random = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * How long to wait before the next attempt. Jitter keeps the pages that lost a server together from coming back together.
 * @param {number} failures in a row, 0 for the first
 * @param {number | null} retryAfter s, what the server asked for, if it did
 * @param {() => number} [random]
 * @returns {number} ms
 */
export function delayBefore(failures, retryAfter, random = Math.random) {
  const ceiling = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** failures);
  const own = ceiling * (0.5 + random() / 2);
  const asked = retryAfter === null ? 0 : retryAfter * (1 + SERVER_JITTER * random());
  return 1000 * Math.max(own, asked);
}

/** @param {AbortSignal} [signal] ends the wait early, quietly */
export function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}
