/**
 * What client and server agree on: the shapes that the server sends, its errors, its cursors, when to try again.
 * Owns: nothing. May not: connect, touch the DOM.
 *
 * @import { Message, User } from './chat.js' that is, chat.d.ts
 * @typedef {{type: string, room: string, offset: number, target?: number, text?: string, emoji?: string, on?: boolean,
 *   count?: number, user?: User, time?: string}} Change a record that changes a message
 * @typedef {{room: string, cursor: string, recovered: boolean, messages: (Message | Change)[], members?: number}} Page
 */

/** A room's name: 1 to 64 of `a-z 0-9 . _ -`, starting with a letter or digit. */
export const ROOM_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/** Why there is no connection, while something else answers. */
export const FOREIGN = 'something else answers in place of the chat server, perhaps the sign-in page of this network';

const FIRST_DELAY = 0.5; // s; a restart takes about this long
const MAX_DELAY = 20; // s
const MAX_ASKED = 300; // s; of a longer Retry-After. A timer of 24 days or more would end at once
const MAY_PASS = [408, 409, 425, 429]; // statuses, also of a proxy
const SERVER_JITTER = 0.25; // of what the server asked for, added to it

/** Any failure of a request, with the server's code and message if it answered. */
export class ChatError extends Error {
  /**
   * @param {string} code the server's code, or `lost` (no answer) or `aborted` (by this client)
   * @param {{status?: number, retryAfter?: number | null, room?: string | null}} details `room`: which of many ("*": all)
   */
  constructor(code, message, { status = 0, retryAfter = null, room = null } = {}) {
    super(message);
    this.name = 'ChatError';
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
    this.room = room;
  }

  /** Without an answer the request may have been carried out; it is safe to repeat with its key only. */
  get isLost() {
    return this.code === 'lost';
  }

  /** Whether the same request may succeed later. Mutes and bans are not retried, although they end. */
  get isTemporary() {
    if (this.code === 'forbidden') return false;
    const mayPass = MAY_PASS.includes(this.status) || this.status >= 500;
    return this.isLost || this.retryAfter !== null || mayPass || this.code === 'rate_limited';
  }
}

export const gone = () => new ChatError('lost', 'the connection is gone');

/** A cursor is `EPOCH-OFFSET`. The epoch may hold dashes, the offset may not. */
export function splitCursor(cursor) {
  const dash = cursor.lastIndexOf('-');
  return { epoch: cursor.slice(0, dash), offset: Number(cursor.slice(dash + 1)) };
}

/** Random hex digits. crypto.randomUUID would need https, which a local network may not have. */
export function randomKey(bytes = 16) {
  const random = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * The time until the next attempt. Jitter spreads the clients that lost a server at the same time.
 * @param failures in a row, 0 for the first
 * @param retryAfter s, what the server asked for, or null
 * @returns ms
 */
export function delayBefore(failures, retryAfter, random = Math.random) {
  const ceiling = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** failures);
  const own = ceiling * (0.5 + random() / 2);
  const asked = retryAfter === null ? 0 : Math.min(retryAfter, MAX_ASKED) * (1 + SERVER_JITTER * random());
  return 1000 * Math.max(own, asked);
}

/** The signal ends the wait early, quietly. */
export function sleep(ms, signal) {
  return new Promise((resolve) => {
    const end = () => (clearTimeout(timer), signal?.removeEventListener('abort', end), resolve());
    const timer = setTimeout(end, signal?.aborted ? 0 : ms);
    signal?.addEventListener('abort', end);
  });
}

/**
 * Call `late` once this much of the time of day has gone by: timers stand still while a computer sleeps.
 * @returns a function that ends it
 */
export function countdown(ms, late) {
  const start = Date.now();
  const end = () => clearInterval(timer);
  const timer = setInterval(() => Math.abs(Date.now() - start) >= ms && (end(), late()), 1_000);
  return end;
}
