/**
 * One WebSocket to the server (`chat.v1`): requests with answers, pushes, and detection of a dead connection.
 * Owns: one socket from opening to its end. May not: reconnect, remember messages, touch the DOM.
 */
import { ChatError, FOREIGN, gone } from './wire.js';

const OPEN_DEADLINE = 10_000; // ms from the first packet to `hello`
const ANSWER_DEADLINE = 60_000; // ms; then the request counts as lost. At 3 KB/s, pages of 64 KiB for two rooms take 44 s
const DEFAULT_PING = 25; // s, when `hello` names none: the server's own default
const PONG_DEADLINE = 10_000; // ms until any byte arrives, as the server grants its clients
const REPLY_DEADLINE = 15_000; // ms until any byte after a message
const PROBE_DEADLINE = 4_000; // ms, when the user waits
const WATCH_EVERY = 2_000; // ms
const TOO_BIG = 1009; // the close code of RFC 6455 section 7.4.1

/** What a socket of this tab and one of all tabs have in common. */
export class SocketLink {
  isSocket = true;

  async follow(room, cursor) {
    try {
      this.handlers.page(this, room, await this.ask({ type: 'join', room, ...(cursor && { after: cursor }) }));
    } catch (error) {
      if (!error.isLost) this.handlers.refused(this, room, error);
    }
  }

  unfollow(room) {
    this.ask({ type: 'leave', room }).catch(() => {}); // pushes of the room are ignored; another tab may have left it
  }
}

export class WebSocketLink extends SocketLink {
  #socket;
  #watch; // the interval that detects silence
  #timer; // of what is awaited
  #opened = false;
  #ended = false;
  #nextId = 1;
  #waiting = new Map(); // by id: {resolve, reject, timer, type}
  #retryAfter = null; // seconds until a reconnect is welcome, from `goaway`
  #pingAfter = DEFAULT_PING * 1000;
  #heardAt = Date.now(); // the other clock may stand still while a computer sleeps
  #deadAt = null; // when the connection counts as dead; set while anything is awaited: the open, an answer, a pong

  constructor(origin, handlers, token = null) {
    super();
    this.handlers = handlers;
    this.token = token;
    this.#watch = setInterval(() => this.#look(), WATCH_EVERY);
    this.#expect(OPEN_DEADLINE);
    // Where the policy of a site allows https: only, Firefox throws, and in Chrome no `close` follows the `error`.
    try {
      this.#socket = new WebSocket(origin.replace(/^http/, 'ws') + '/ws');
      this.#socket.onmessage = ({ data }) => this.#read(data);
      this.#socket.onclose = ({ code, reason }) => this.#end(code, reason);
      this.#socket.onerror = () => setTimeout(() => this.#end(0, ''));
    } catch ({ message }) {
      queueMicrotask(() => this.#end(0, message));
    }
  }

  probe() {
    if (this.#opened && this.#isBrief) this.#ping(PROBE_DEADLINE);
  }

  /** Whether an answer comes soon: a page under way is seen at its end, 22 s later at 3 KB/s. */
  get #isBrief() {
    return this.#deadAt === null && ![...this.#waiting.values()].some(({ type }) => type === 'join' || type === 'history');
  }

  /** Close without calling a handler. */
  close() {
    this.#ended = true;
    this.#release();
    this.#socket?.close(1000);
  }

  ask(request) {
    if (this.#ended) return Promise.reject(gone());
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#late(id, request), ANSWER_DEADLINE);
      this.#waiting.set(id, { resolve, reject, timer, type: request.type });
      this.#send({ ...request, id });
      if (request.key && this.#isBrief) this.#expect(REPLY_DEADLINE);
    });
  }

  /** Before `onclose` is called the browser may complain of what is sent. */
  #send(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** No answer came. A join is asked again by the next connection; other requests by their callers, if at all. */
  #late(id, { type }) {
    if (type === 'join') this.#end(0, 'no answer to join');
    else this.#answer(id, new ChatError('lost', 'no answer in time'));
  }

  #answer(id, outcome) {
    const waiting = this.#waiting.get(id);
    if (!waiting) return; // a late or second answer
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    (outcome instanceof ChatError ? waiting.reject : waiting.resolve)(outcome);
  }

  #read(data) {
    let message = null;
    try {
      message = JSON.parse(data);
    } catch {} // it is no text of the server
    if (message === null) this.#end(0, FOREIGN);
    else this.#heard(message);
  }

  #heard(message) {
    this.#heardAt = Date.now();
    if (this.#opened) this.#deadAt = null;
    if (message.type === 'hello') return this.#greet(message);
    if (message.type === 'goaway') this.#retryAfter = message.retry_after ?? null;
    // A push comes after an awaited answer that came in the same task.
    if (message.id == null) queueMicrotask(() => this.handlers.pushed(this, message));
    else if (message.type !== 'error') this.#answer(message.id, message);
    else this.#answer(message.id, new ChatError(message.code, message.message, { retryAfter: message.retry_after }));
  }

  async #greet(hello) {
    this.#opened = true;
    this.#deadAt = null;
    this.#pingAfter = (hello.ping || DEFAULT_PING) * 1000;
    if (this.token !== null) {
      try {
        hello = { ...hello, ...(await this.ask({ type: 'auth', token: this.token })), type: 'hello' };
      } catch (error) {
        return this.#end(error.isTemporary ? 0 : 4500, error.message);
      }
    }
    this.handlers.ready(this, hello);
  }

  /** The deadline has its own timer, since a hidden tab may be woken once a minute only. */
  #expect(deadline) {
    this.#deadAt = performance.now() + deadline;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), deadline + 1);
  }

  #ping(deadline) {
    this.#expect(deadline);
    this.#send({ type: 'ping', id: 0 }); // any byte counts as the answer, so nothing waits for id 0
  }

  /** Scripts see no ping frames, so a silent connection is tested with a message. */
  #look() {
    if (this.#ended) return;
    if (this.#deadAt !== null && performance.now() > this.#deadAt) this.#end(0, 'the line went silent');
    else if (this.#deadAt === null && Math.abs(Date.now() - this.#heardAt) > this.#pingAfter) this.#ping(PONG_DEADLINE);
  }

  /** The code is that of the close frame, 0 if this client gives up. */
  #end(code, reason) {
    if (this.#ended) return;
    this.#ended = true;
    // A lost message would be sent again; this one would close each connection.
    const isRefused = code === TOO_BIG;
    this.#release(isRefused ? new ChatError('too_large', 'The message is too long.') : undefined);
    this.#socket?.close();
    this.handlers.lost(this, {
      opened: this.#opened,
      retryAfter: this.#retryAfter,
      forGood: code >= 4500 && code < 5000, // the server's "do not come back"
      reason: reason || (code ? `closed with ${code}` : 'closed'),
    });
  }

  #release(error = gone()) {
    clearInterval(this.#watch);
    clearTimeout(this.#timer);
    for (const id of [...this.#waiting.keys()]) this.#answer(id, error);
  }
}
