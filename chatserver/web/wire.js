/**
 * The words of the wire: the shapes the server sends, its errors, its cursors, the parser of its event stream.
 * Owns no state and no connection; may not touch the DOM.
 *
 * @typedef {{id: string, name: string}} User
 * @typedef {{room: string, offset: number, cursor: string, user: User, text: string, time: string}} Message
 * @typedef {{room: string, cursor: string, recovered: boolean, messages: Message[], members?: number}} Page
 * @typedef {{room: string, offset: number, cursor: string, time: string}} Ack
 * @typedef {{room: string, joined: User[], left: User[], members: number}} Presence
 */

/** What may name a room: 1 to 64 of `a-z 0-9 . _ -`, starting with a letter or digit. */
export const ROOM_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/** Everything that can go wrong between this page and the server, in the server's own words where it had any. */
export class ChatError extends Error {
  /**
   * @param {string} code the server's code, or `lost` (no answer: nothing is known) or `aborted` (we stopped waiting)
   * @param {string} message
   * @param {{status?: number, retryAfter?: number | null}} [details] `retryAfter` in seconds
   */
  constructor(code, message, { status = 0, retryAfter = null } = {}) {
    super(message);
    this.name = 'ChatError';
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** No answer came: the request may or may not have been carried out, and is safe to repeat only with its key. */
  get isLost() {
    return this.code === 'lost';
  }

  /** The server could not serve us now; the same request may succeed later. */
  get isTemporary() {
    return this.isLost || this.retryAfter !== null || this.status >= 500 || this.code === 'rate_limited';
  }
}

/**
 * A cursor is `EPOCH-OFFSET`. The epoch may hold dashes, the offset may not.
 * @param {string} cursor
 */
export function splitCursor(cursor) {
  const dash = cursor.lastIndexOf('-');
  return { epoch: cursor.slice(0, dash), offset: Number(cursor.slice(dash + 1)) };
}

/**
 * Parses `text/event-stream` as it arrives, in any cuts. `fetch` is used and not `EventSource`, because that hides
 * what we need: the heartbeat comments (is it alive?), the status and Retry-After of a refusal, and when to retry.
 */
export class EventStreamParser {
  #rest = '';
  #event = '';
  /** @type {string[]} */
  #data = [];

  /**
   * @param {string} chunk
   * @returns {{event: string, data: string}[]} the events that this chunk completed
   */
  feed(chunk) {
    const text = this.#rest + chunk;
    // A lone CR at the very end may be the first half of CRLF: it waits for what follows.
    const end = text.endsWith('\r') ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() + text.slice(end);
    return lines.map((line) => this.#line(line)).filter((event) => event !== null);
  }

  /** @param {string} line */
  #line(line) {
    if (line === '') {
      const event = this.#data.length ? { event: this.#event || 'message', data: this.#data.join('\n') } : null;
      this.#event = '';
      this.#data = [];
      return event;
    }
    const colon = line.indexOf(':');
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.#event = value;
    else if (field === 'data') this.#data.push(value);
    return null; // `id` is repeated inside the data; comments and `retry` need no answer here
  }
}
