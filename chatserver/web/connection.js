/**
 * Keeps one link to the server open: over which transport, and when to try again.
 * Owns: the link, the choice of transport, the state. May not: know rooms or messages, touch the DOM.
 *
 * It goes on to the next transport (WebSocket, event stream, long-poll) only if one fails to open although the server
 * answers `/readyz`. While the server itself is away, and once when it is back, it tries the same transport again.
 * From another transport it tries a WebSocket now and then, and changes over without a break.
 *
 * A link has `follow(room, cursor, isOpen, mustAsk)`, `unfollow(room)`, `ask(request)`, `probe()` (test soon whether the
 * connection is alive), `close()`, and, where a room is what opens it, `begin()` to open without one. `isSocket` links say
 * who we are and who is here, and keep all rooms alike.
 * It tells its handlers, naming itself first so that a dropped link can be ignored: `ready(link, hello)`,
 * `page(link, room, page)`, `pushed(link, pushed)`, `refused(link, room, error)` and
 * `lost(link, {opened, retryAfter, forGood, reason, atOnce})`.
 *
 * @import { State } from './chat.js' that is, chat.d.ts
 */
import { delayBefore, sleep } from './wire.js';

export const TRANSPORTS = ['ws', 'sse', 'poll']; // best first
const STABLE_AFTER = 10_000; // ms that a link is open until the back-off is reset
const SHORT_LIVES = 3; // in a row, and the transport counts as broken: some proxies cut a WebSocket soon after it opens
const RETRY_WEBSOCKET_FIRST = 30_000; // ms on another transport before a WebSocket is tried again
const RETRY_WEBSOCKET_MAX = 10 * 60_000; // ms; each attempt that fails doubles the wait up to this

export class Connection {
  /** @type {State} */
  state;
  link = null;
  closing = new AbortController(); // ends all waits of the client, which would keep a program running
  #transport = 0;
  #failures = 0;
  #shortLives = 0;
  #readyAt = 0;
  #wasAway = false; // the server, when it was last asked
  #retryWebSocketAfter = RETRY_WEBSOCKET_FIRST;
  #waiting = new AbortController(); // ends the wait

  /** `open` makes a Link; `ready` throws a ChatError unless the server takes traffic. */
  constructor({ transports, open, ready, handlers }) {
    this.transports = transports;
    this.open = open;
    this.isServing = ready;
    this.handlers = handlers;
    this.state = { phase: 'connecting', kind: transports[0], until: null, reason: '' };
  }

  start() {
    if (this.closing.signal.aborted) return;
    this.#waiting.abort();
    this.#waiting = new AbortController();
    this.#enter('connecting', { reason: this.state.reason });
    this.link = this.open(this.transports[this.#transport], this);
    this.handlers.opening(this.link);
  }

  /** Test or open the connection now. */
  checkNow() {
    if (this.state.phase === 'live') this.link?.probe();
    else if (this.link === null) this.start();
  }

  /** Connect again, from the best transport on: the server may treat another user differently. */
  restart() {
    this.#drop();
    this.#transport = this.#failures = this.#shortLives = 0;
    this.start();
  }

  stop(reason) {
    this.#drop();
    this.#enter('stopped', { reason });
  }

  /** For good. */
  close() {
    this.closing.abort();
    this.stop('closed');
  }

  #drop() {
    this.#waiting.abort();
    this.link?.close();
    this.link = null;
    this.handlers.down();
  }

  #enter(phase, { until = null, reason = '' } = {}) {
    this.state = { phase, kind: this.transports[this.#transport], until, reason };
    this.handlers.stateChanged();
  }

  // Called by links; calls of any link but the present one are ignored.

  ready(link, hello) {
    if (link !== this.link) return;
    this.#readyAt = performance.now();
    this.#enter('live');
    this.handlers.up(link, hello);
    if (this.#transport > 0) this.#retryWebSocket(link);
  }

  page(link, room, page) {
    if (link === this.link) this.handlers.page(room, page);
  }

  refused(link, room, error) {
    if (link === this.link) this.handlers.refused(room, error);
  }

  pushed(link, pushed) {
    if (link !== this.link) return;
    if (pushed.type === 'goaway') this.#enter('live', { reason: `the server goes away: ${pushed.reason}` });
    else this.handlers.pushed(pushed);
  }

  async lost(link, loss) {
    if (link !== this.link) return;
    this.link = null;
    this.handlers.down();
    if (loss.atOnce) return this.start();
    const { signal } = this.#waiting;
    if (loss.forGood) {
      this.#enter('connecting', { reason: loss.reason });
      const isRenewed = await this.handlers.isRenewed();
      if (signal.aborted) return;
      return isRenewed ? this.start() : this.#enter('stopped', { reason: loss.reason });
    }
    const wasStable = loss.opened && performance.now() - this.#readyAt > STABLE_AFTER;
    if (wasStable) this.#failures = this.#shortLives = 0;
    else if (loss.opened) {
      this.#shortLives += 1;
      this.#failures = Math.min(this.#failures, SHORT_LIVES); // the server is back: older failures do not count
    }
    const isBroken = !loss.opened || this.#shortLives >= SHORT_LIVES;
    let { retryAfter, reason } = loss;
    if (isBroken) {
      this.#enter('connecting', { reason: this.state.reason || reason });
      const away = await this.isServing().then(
        () => null,
        (error) => error,
      );
      if (signal.aborted) return; // `checkNow` was called meanwhile
      const isBack = this.#wasAway && away === null; // it may have come back after the link had failed
      this.#wasAway = away !== null;
      if (isBack) return this.start();
      if (away !== null) ({ retryAfter, message: reason } = away);
      else if (this.#transport + 1 < this.transports.length) {
        this.#transport += 1;
        this.#failures = this.#shortLives = 0;
        return this.start();
      }
    }
    const delay = delayBefore(this.#failures++, retryAfter);
    this.#enter('waiting', { until: performance.now() + delay, reason });
    await sleep(delay, signal);
    if (!signal.aborted) this.start();
  }

  async #retryWebSocket(below) {
    await sleep(this.#retryWebSocketAfter, this.#waiting.signal);
    if (below !== this.link) return;
    this.#retryWebSocketAfter = Math.min(2 * this.#retryWebSocketAfter, RETRY_WEBSOCKET_MAX);
    this.open(this.transports[0], {
      ready: (above, hello) => {
        if (below !== this.link) return above.close();
        this.#transport = 0;
        this.link = above;
        below.close();
        above.handlers = this;
        this.ready(above, hello);
      },
      pushed: () => {},
      page: () => {},
      lost: () => this.#retryWebSocket(below),
    });
  }
}
