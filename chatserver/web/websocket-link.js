/**
 * One WebSocket to the server (`chat.v1`): requests with answers, pushes, and the watch over a silent line.
 * Owns: one socket from opening to its end. May not: reconnect, remember messages, touch the DOM.
 *
 * @import { LinkHandlers } from './client.js'
 * @import { Ack, Page } from './wire.js'
 */
import { ChatError } from './wire.js';

const OPEN_DEADLINE = 10_000; // ms from the first packet to `hello`
const ANSWER_DEADLINE = 20_000; // ms; behind it the request counts as lost and is asked again with the same key
const DEFAULT_PING = 25; // s, when `hello` names none: the server's own default
const PONG_DEADLINE = 10_000; // ms to answer anything at all: what the server grants us
const NUDGE_DEADLINE = 4_000; // ms, when the person is looking and waits
const WATCH_EVERY = 2_000; // ms
const TOO_BIG = 1009; // the close code of RFC 6455 section 7.4.1

export class WebSocketLink {
  kind = /** @type {const} */ ('ws');
  /** @type {WebSocket} */
  #socket;
  /** @type {number} the interval that looks for silence */
  #watch;
  #opened = false;
  #ended = false;
  /** @type {(() => void) | null} the join that waits for `hello` */
  #joinLater = null;
  #nextId = 1;
  /** @type {Map<number, {resolve: (answer: any) => void, reject: (error: ChatError) => void, timer: number}>} */
  #waiting = new Map();
  /** @type {number | null} seconds the server asked us to stay away, from `goaway` */
  #retryAfter = null;
  #pingAfter = DEFAULT_PING * 1000;
  #heardAt = performance.now();
  /** @type {number | null} when silence turns into a dead line; set while a ping is unanswered */
  #deadAt = performance.now() + OPEN_DEADLINE;

  /**
   * @param {string} origin
   * @param {LinkHandlers} handlers
   */
  constructor(origin, handlers) {
    this.handlers = handlers;
    this.#socket = new WebSocket(origin.replace(/^http/, 'ws') + '/ws');
    this.#socket.onmessage = ({ data }) => this.#heard(data);
    this.#socket.onclose = ({ code, reason }) => this.#end(code, reason);
    this.#watch = setInterval(() => this.#look(), WATCH_EVERY);
  }

  /**
   * @param {string} room
   * @param {string | null} cursor
   */
  async follow(room, cursor) {
    if (!this.#opened) {
      this.#joinLater = () => this.follow(room, cursor);
      return;
    }
    try {
      const page = await this.#ask({ type: 'join', room, ...(cursor && { after: cursor }) });
      this.handlers.page(this, room, page);
    } catch (error) {
      if (!error.isLost) this.handlers.refused(this, room, error);
      else if (!this.#ended) this.#end(0, 'no answer to join');
    }
  }

  /** @param {string} room */
  unfollow(room) {
    this.#joinLater = null;
    if (this.#opened) this.#ask({ type: 'leave', room }).catch(() => {}); // whatever comes of it, the room's pushes are ignored from here
  }

  /**
   * @param {string} room
   * @param {string} text
   * @param {string} key
   * @returns {Promise<Ack>}
   */
  publish(room, text, key) {
    return this.#ask({ type: 'publish', room, text, key });
  }

  /**
   * @param {string} room
   * @param {{before?: string, after?: string, limit: number}} where
   * @returns {Promise<Page>}
   */
  history(room, where) {
    return this.#ask({ type: 'history', room, ...where });
  }

  /** @param {string} room */
  members(room) {
    return this.#ask({ type: 'members', room });
  }

  /** Make sure, quickly, that the line is alive: the person came back to the page, or the network changed. */
  nudge() {
    if (this.#opened && this.#deadAt === null) this.#ping(NUDGE_DEADLINE);
  }

  /** End it without telling anybody. */
  close() {
    this.#ended = true;
    this.#release();
    this.#socket.close(1000);
  }

  /**
   * @param {{type: string, [field: string]: unknown}} request
   * @returns {Promise<any>}
   */
  #ask(request) {
    if (this.#ended) return Promise.reject(new ChatError('lost', 'the connection is gone'));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#answer(id, new ChatError('lost', 'no answer in time')), ANSWER_DEADLINE);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#socket.send(JSON.stringify({ ...request, id }));
    });
  }

  /**
   * @param {number} id
   * @param {object} outcome an answer, or a ChatError
   */
  #answer(id, outcome) {
    const waiting = this.#waiting.get(id);
    if (!waiting) return; // answered twice, or later than we waited
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    if (outcome instanceof ChatError) waiting.reject(outcome);
    else waiting.resolve(outcome);
  }

  /** @param {string} data */
  #heard(data) {
    this.#heardAt = performance.now();
    if (this.#opened) this.#deadAt = null;
    const message = JSON.parse(data);
    switch (message.type) {
      case 'hello':
        this.#opened = true;
        this.#deadAt = null;
        this.#pingAfter = (message.ping || DEFAULT_PING) * 1000;
        this.handlers.ready(this, message.user);
        return this.#joinLater?.();
      case 'message':
        return this.handlers.message(this, message);
      case 'presence':
        return this.handlers.presence(this, message);
      case 'gap':
        return this.handlers.gap(this, message.room, message.until);
      case 'goaway':
        this.#retryAfter = message.retry_after ?? null;
        return this.handlers.goaway(this, message.reason);
      case 'error': {
        const details = { retryAfter: message.retry_after ?? null };
        const error = new ChatError(message.code, message.message, details);
        if (message.id != null) return this.#answer(message.id, error);
        return console.warn('the server complained:', error.code, error.message);
      }
      default:
        if (message.id != null) this.#answer(message.id, message);
    }
  }

  /** @param {number} deadline ms */
  #ping(deadline) {
    this.#deadAt = performance.now() + deadline;
    this.#socket.send(JSON.stringify({ type: 'ping', id: 0 })); // any byte back is the answer, so nobody waits for id 0
  }

  /** Browsers hide the server's pings, so a dead line looks like a quiet one until we ask. */
  #look() {
    const now = performance.now();
    if (this.#deadAt !== null && now > this.#deadAt) this.#end(0, 'the line went silent');
    else if (this.#deadAt === null && now - this.#heardAt > this.#pingAfter) this.#ping(PONG_DEADLINE);
  }

  /**
   * @param {number} code of the close, 0 when we gave up
   * @param {string} reason
   */
  #end(code, reason) {
    if (this.#ended) return;
    this.#ended = true;
    // Too big will be too big again: told as lost, it would be sent for ever, and close every connection it is sent on.
    const isRefused = code === TOO_BIG;
    this.#release(isRefused ? new ChatError('too_large', 'The message is too long.') : undefined);
    this.#socket.close();
    this.handlers.lost(this, {
      opened: this.#opened,
      retryAfter: this.#retryAfter,
      forGood: code >= 4500 && code < 5000, // the server's "do not come back"
      reason: reason || (code ? `closed with ${code}` : 'closed'),
    });
  }

  #release(error = new ChatError('lost', 'the connection is gone')) {
    clearInterval(this.#watch);
    for (const id of [...this.#waiting.keys()]) this.#answer(id, error);
  }
}
