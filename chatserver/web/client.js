/**
 * The chat without its face: which room, over which transport, from where, and what to do when it breaks.
 * Owns: the one link, the timelines, the outbox, who we are. May not: touch the DOM; it tells by events.
 *
 * It climbs down a ladder (WebSocket, event stream, long-poll) only when a transport fails to open although the server
 * answers `/readyz`; when the server itself is away, it waits with jittered back-off and tries the same rung again.
 * From a lower rung it looks, ever less often, whether a WebSocket works by now, and changes over without a break.
 *
 * @import { ChatError, Message, Page, Presence, User } from './wire.js'
 * @import { Item } from './outbox.js'
 * @import { Store } from './storage.js'
 *
 * @typedef {'ws' | 'sse' | 'poll'} Kind
 * @typedef {WebSocketLink | HttpLink} Link
 * @typedef {{opened: boolean, retryAfter: number | null, forGood: boolean, reason: string}} Loss
 * @typedef {object} LinkHandlers what a link tells; each first names itself, so that a dropped link can be ignored
 * @property {(link: Link, user: User | null) => void} ready
 * @property {(link: Link, room: string, page: Page) => void} page
 * @property {(link: Link, message: Message) => void} message
 * @property {(link: Link, room: string, until: string) => void} gap
 * @property {(link: Link, presence: Presence) => void} presence
 * @property {(link: Link, reason: string) => void} goaway
 * @property {(link: Link, room: string, error: ChatError) => void} refused
 * @property {(link: Link, loss: Loss) => void} lost
 *
 * @typedef {object} State
 * @property {'connecting' | 'live' | 'waiting' | 'stopped'} phase
 * @property {Kind} kind
 * @property {number | null} until when `waiting` ends, in ms of performance.now()
 * @property {string} reason why it is not live, for the person
 */
import { delayBefore, sleep } from './backoff.js';
import { HttpApi } from './http.js';
import { HttpLink } from './http-link.js';
import { Identity } from './identity.js';
import { Outbox } from './outbox.js';
import { Timeline } from './timeline.js';
import { WebSocketLink } from './websocket-link.js';
import { splitCursor } from './wire.js';

/** @type {Kind[]} best first */
const LADDER = ['ws', 'sse', 'poll'];
const SETTLED = 10_000; // ms; a link that lived this long was a good one, and the count of failures starts anew
const SHORT_LIVES = 3; // in a row, and the rung is taken for broken: some proxies let a WebSocket open, then cut it
const LOOK_UP_FIRST = 30_000; // ms on a lower rung before the first look at the WebSocket
const LOOK_UP_LONGEST = 10 * 60_000; // ms; each look that fails doubles the wait up to this
const FILL_LIMIT = 100; // messages a request, when a hole is filled
const HISTORY_LIMIT = 50; // messages a scroll-up

export class ChatClient extends EventTarget {
  /** @type {State} */
  state = { phase: 'connecting', kind: 'ws', until: null, reason: '' };
  room = '';
  /** @type {Map<string, Timeline>} */
  #timelines = new Map();
  /** @type {Link | null} */
  #link = null;
  #rung = 0;
  #failures = 0;
  #shortLives = 0;
  #readyAt = 0;
  #lookUpAfter = LOOK_UP_FIRST;
  /** @type {AbortController} ends what waits for the next attempt */
  #waiting = new AbortController();
  #filling = false;
  /** @type {Message[]} pushed and not yet told: in a flood the page is laid out once for many */
  #inbox = [];
  #delivery = 0;

  /**
   * @param {string} origin
   * @param {{kind: Kind | null, tab: Store, browser: Store}} options `kind` forces one transport; `tab` keeps what
   *   this window has not sent yet, `browser` who we are
   */
  constructor(origin, { kind, tab, browser }) {
    super();
    this.api = new HttpApi(origin);
    this.ladder = kind ? [kind] : LADDER;
    this.identity = new Identity(browser, () => this.#tell('identity'));
    this.outbox = new Outbox(tab, {
      changed: () => this.#tell('outbox'),
      stored: (item, { offset }) => this.#stored(item, offset),
    });
  }

  get timeline() {
    return this.#timelineOf(this.room);
  }

  /** @param {string} room */
  enter(room) {
    if (room === this.room) return;
    const left = this.room;
    this.room = room;
    if (left) {
      this.#link?.unfollow(left);
      this.outbox.leave(left);
    }
    this.#tell('room');
    if (this.#link) this.#link.follow(room, this.timeline.cursor);
    else if (this.state.phase === 'connecting') this.#connect();
  }

  /** @param {string} text */
  send(text) {
    this.outbox.add(this.room, text);
  }

  /** Fetch what came before the oldest message we have. */
  async older() {
    const { room, timeline } = this;
    const oldest = timeline.oldest;
    if (!oldest || timeline.complete || !this.#link) return;
    const { messages } = await this.#link.history(room, { before: oldest.cursor, limit: HISTORY_LIMIT });
    if (messages.length === 0) timeline.complete = true;
    this.#tell('messages', { room, added: timeline.add(messages), isLive: false });
  }

  /** @returns {Promise<{members: User[], count: number}>} who is in the room, as many as the server names */
  members() {
    return (this.#link ?? this.api).members(this.room);
  }

  /** The person is here and does not want to wait, or the network says that it is back. */
  hurry() {
    if (this.state.phase === 'live') this.#link?.nudge();
    else if (this.#link === null) this.#connect();
  }

  /** @param {string} room */
  #timelineOf(room) {
    let timeline = this.#timelines.get(room);
    if (!timeline) this.#timelines.set(room, (timeline = new Timeline()));
    return timeline;
  }

  /**
   * @param {string} type
   * @param {object} [detail]
   */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /**
   * @param {State['phase']} phase
   * @param {{until?: number | null, reason?: string}} [more]
   */
  #enterPhase(phase, { until = null, reason = '' } = {}) {
    this.state = { phase, kind: this.ladder[this.#rung], until, reason };
    this.#tell('state');
  }

  #connect() {
    this.#waiting.abort();
    this.#waiting = new AbortController();
    this.#enterPhase('connecting', { reason: this.state.reason });
    this.#link = this.#open(this.ladder[this.#rung]);
    this.#link.follow(this.room, this.timeline.cursor);
  }

  /**
   * @param {Kind} kind
   * @returns {Link}
   */
  #open(kind) {
    return kind === 'ws' ? new WebSocketLink(this.api.origin, this) : new HttpLink(kind, this.api, this);
  }

  // What links tell. Only the link in use is listened to.

  /** @type {LinkHandlers['ready']} */
  ready(link, user) {
    if (link !== this.#link) return;
    this.#readyAt = performance.now();
    if (user) this.identity.is(user);
    this.#enterPhase('live');
    if (this.#rung > 0) this.#lookUp(link);
  }

  /** @type {LinkHandlers['page']} */
  page(link, room, page) {
    if (link !== this.#link || room !== this.room) return;
    this.#deliver();
    const timeline = this.timeline;
    const isFirst = timeline.epoch === null;
    const isNewLog = !timeline.isSameLog(page);
    if (isFirst || isNewLog) timeline.begin(page);
    const added = timeline.add(page.messages);
    if (!page.recovered) timeline.accept(added[0]?.offset ?? splitCursor(page.cursor).offset + 1);
    if (isNewLog) this.#tell('restarted', { room });
    this.#took(added, !isFirst && !isNewLog);
    this.#tell('caughtup', { room, members: page.members ?? null });
    this.outbox.resume((item) => link.publish(item.room, item.text, item.key));
  }

  /** @type {LinkHandlers['message']} */
  message(link, message) {
    if (link !== this.#link) return;
    this.#inbox.push(message);
    this.#delivery ||= setTimeout(() => this.#deliver());
  }

  #deliver() {
    clearTimeout(this.#delivery);
    this.#delivery = 0;
    const here = this.#inbox.splice(0).filter((message) => message.room === this.room);
    this.#took(this.timeline.add(here), true);
  }

  /** @type {LinkHandlers['gap']} */
  gap(link, room, until) {
    if (link !== this.#link || room !== this.room) return;
    this.timeline.expect(splitCursor(until).offset);
    this.#fill();
  }

  /** @type {LinkHandlers['presence']} */
  presence(link, presence) {
    if (link === this.#link && presence.room === this.room) this.#tell('presence', presence);
  }

  /** @type {LinkHandlers['goaway']} */
  goaway(link, reason) {
    if (link === this.#link) this.#enterPhase('live', { reason: `the server goes away: ${reason}` });
  }

  /** @type {LinkHandlers['refused']} */
  async refused(link, room, error) {
    if (link !== this.#link || room !== this.room) return;
    if (error.code === 'bad_cursor' && this.timeline.epoch !== null) this.#timelines.delete(room);
    else if (!error.isTemporary) return this.#tell('refused', { room, error });
    await sleep(delayBefore(0, error.retryAfter));
    if (link === this.#link && room === this.room) link.follow(room, this.timeline.cursor);
  }

  /** @type {LinkHandlers['lost']} */
  async lost(link, loss) {
    if (link !== this.#link) return;
    this.#deliver();
    this.#link = null;
    this.outbox.pause();
    if (loss.forGood) return this.#enterPhase('stopped', { reason: loss.reason });
    const isSettled = loss.opened && performance.now() - this.#readyAt > SETTLED;
    if (isSettled) this.#failures = this.#shortLives = 0;
    else if (loss.opened) {
      this.#shortLives += 1;
      this.#failures = Math.min(this.#failures, SHORT_LIVES); // it does open: do not hold old outages against it
    }
    const { signal } = this.#waiting;
    const isBroken = !loss.opened || this.#shortLives >= SHORT_LIVES;
    let { retryAfter } = loss;
    if (isBroken && this.#rung + 1 < this.ladder.length) {
      this.#enterPhase('connecting', { reason: loss.reason });
      const away = await this.api.ready().then(
        () => null,
        (error) => error,
      );
      if (signal.aborted) return; // somebody hurried us meanwhile
      if (away === null) {
        this.#rung += 1;
        this.#failures = this.#shortLives = 0;
        return this.#connect();
      }
      retryAfter = away.retryAfter;
    }
    const delay = delayBefore(this.#failures++, retryAfter);
    this.#enterPhase('waiting', { until: performance.now() + delay, reason: loss.reason });
    await sleep(delay, signal);
    if (!signal.aborted) this.#connect();
  }

  /**
   * From a lower rung, look whether a WebSocket opens by now, and take it if so.
   * @param {Link} below
   */
  async #lookUp(below) {
    await sleep(this.#lookUpAfter, this.#waiting.signal);
    if (below !== this.#link) return;
    this.#lookUpAfter = Math.min(2 * this.#lookUpAfter, LOOK_UP_LONGEST);
    /** @type {Partial<LinkHandlers>} all that a link can tell before it follows a room */
    const handlers = {
      ready: (above, user) => {
        if (below !== this.#link) return above.close();
        this.#rung = 0;
        this.#link = above;
        below.close();
        above.handlers = this;
        above.follow(this.room, this.timeline.cursor);
        this.ready(above, user);
      },
      goaway: () => {},
      lost: () => this.#lookUp(below),
    };
    new WebSocketLink(this.api.origin, handlers);
  }

  /**
   * @param {Message[]} added
   * @param {boolean} isLive
   */
  #took(added, isLive) {
    const { room } = this;
    for (const message of added) {
      this.identity.learn(message);
      if (this.identity.owns(message)) this.outbox.arrived(message);
    }
    if (added.length) this.#tell('messages', { room, added, isLive });
    if (this.timeline.hole()) this.#fill();
  }

  /** Fetch what is missing between two messages that we have, until nothing is. */
  async #fill() {
    if (this.#filling) return;
    this.#filling = true;
    const { room, timeline } = this;
    try {
      for (let hole; (hole = timeline.hole()) && this.#link && room === this.room; ) {
        const { after, until } = hole;
        const page = await this.#link.history(room, { after: `${timeline.epoch}-${after}`, limit: FILL_LIMIT });
        if (!timeline.isSameLog(page)) return; // the log began anew meanwhile; the next page will say so
        const added = timeline.add(page.messages);
        if (timeline.through === after) timeline.accept(added[0]?.offset ?? until);
        this.#tell('messages', { room, added, isLive: true });
      }
    } catch (error) {
      // Lost: the next connection resumes from before the hole. Refused for a while: so does the next message.
      console.warn('could not fetch what is missing:', error.message);
    } finally {
      this.#filling = false;
    }
  }

  /**
   * @param {Item} item
   * @param {number} offset
   */
  #stored(item, offset) {
    this.identity.published(item.room, offset);
    const timeline = this.#timelineOf(item.room);
    const seen = timeline.messages.find((message) => message.offset === offset);
    if (seen) this.identity.learn(seen);
    if (seen || item.room !== this.room) this.outbox.discard(item.key);
  }
}
