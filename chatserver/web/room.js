/**
 * One room: its messages, the read marker, its members.
 * Owns: its log, the read marker, who is here and who types. May not: open connections, touch the DOM.
 *
 * It dispatches events on itself and on its client: `message` (each message once, in order of arrival), `messages`
 * (many at a time: added, changed, isLive), `presence`, `typing`, `unread`, `caughtup`, `restarted`, `refused`,
 * `rights`.
 *
 * @import { Ack, Message, User } from './chat.js'
 * @import { Change, Page } from './wire.js'
 */
import { Unconfirmed, isBelow } from './outbox.js';
import { RoomLog } from './room-log.js';
import { ChatError, delayBefore, splitCursor } from './wire.js';

const TYPING_EVERY = 3_000; // ms, as the server limits it; a message of the user ends it
const TYPING_LASTS = 5_000; // ms without another push
const LONGEST_WAIT = 86_400; // s of a ban whose end the page awaits; a timer holds 24 days at most

export class Room extends EventTarget {
  log = new RoomLog(this);
  /** @type {ChatError | null} why the user is not in the room: expelled, or refused */
  out = null;
  /** @type {ChatError | null} why the user may not write here, as far as known (`ChatClient.askRights`) */
  readOnly = null;
  knowsRights = false;
  /** Whether the answer to a join is awaited, which says whether the log is the same. */
  isJoining = false;
  /** @type {number | null} how many are here */
  members = null;
  /** @type {Map<string, User>} the members that the server named, by id */
  people = new Map();
  /** @type {string | null} the cursor up to which it is read; null if it was never open */
  read = null;
  /** @type {string | null} the end of the log, as far as known */
  head = null;
  /** Unread mentions of the user, as the server counted last. */
  counted = 0;
  /** What the server said last of the marker, and the end of the log then. */
  marked = null;
  markedAt = 0;
  unconfirmed = new Unconfirmed();
  #typists = new Map(); // {user, timer}, by id
  #typedAt = -Infinity;

  constructor(client, name) {
    super();
    this.client = client;
    this.name = name;
  }

  // Operations

  /** @returns {Promise<Ack>} resolves when the message is durable */
  publish(text, extras = {}) {
    const { epoch, head } = this.timeline;
    return this.client.outbox.add(this.name, text, { ...extras, epoch }, head, this.client.identity.signedIn);
  }

  edit(offset, text) {
    return this.#change({ type: 'edit', offset }, text);
  }

  delete(offset) {
    return this.#change({ type: 'delete', offset });
  }

  react(offset, emoji, on) {
    return this.#change({ type: 'react', offset, emoji, on });
  }

  /** Send a change, and show it at once: until its record is here, or the server refuses it. */
  async #change(asked, text = '') {
    const change = this.unconfirmed.add({ ...asked, text });
    const sending = this.publish(text, { change: asked });
    this.tellOf([], this.#loaded([asked.offset]), false);
    try {
      const ack = await sending;
      change.until = ack.offset;
      return ack;
    } catch (error) {
      change.until = 0;
      throw error;
    } finally {
      this.tellOf([], [], false);
    }
  }

  /** @returns {Promise<{members: User[], count: number}>} those that the server names, and the number of all */
  async askPeople() {
    const found = await this.#ask('members');
    if (this.out) return found; // expelled meanwhile
    this.members = found.count;
    this.people.clear();
    this.#meet(found.members);
    this.tell('presence');
    return found;
  }

  /**
   * @param {{before?: string, after?: string, limit: number}} where
   * @returns {Promise<Page>}
   */
  async history(where) {
    const page = await this.#ask('history', where);
    for (const { user } of page.messages.toReversed()) {
      if (user && this.client.identity.nameOf(user.id) === undefined) this.client.identity.meet(user); // a known name is newer
    }
    return page;
  }

  older(timeline) {
    return this.log.older(timeline);
  }

  leave() {
    this.client.leave(this.name);
  }

  comeBack() {
    this.client.follow(this);
  }

  typing() {
    const now = performance.now();
    if (now - this.#typedAt < TYPING_EVERY) return;
    this.#typedAt = now;
    this.#ask('typing').catch(() => {}); // not worth a retry
  }

  markRead(offset) {
    if (this.timeline.epoch === null || offset <= this.#readOffset) return;
    this.read = this.timeline.cursorAt(offset);
    this.counted = 0;
    this.client.markers.reads(this, offset);
    this.tell('unread');
  }

  // State

  get #readOffset() {
    if (this.read === null) return -1;
    const { epoch, offset } = splitCursor(this.read);
    return this.timeline.epoch === null || epoch === this.timeline.epoch ? offset : 0;
  }

  get firstUnread() {
    return this.unread ? this.#readOffset + 1 : null;
  }

  /** Unread messages of others, while the user is in. Of those not loaded, as the server counted; until then each record counts. */
  get unread() {
    if (this.read === null || this.out) return 0;
    const { timeline, marked } = this;
    const read = this.#readOffset;
    const head = this.head === null ? 0 : splitCursor(this.head).offset;
    if (timeline.epoch === null) return Math.max(0, head - read);
    const above = Math.max(0, timeline.first - 1 - read);
    const isTold = above && marked?.read === read && marked.unread >= 0;
    const [before, from] = isTold ? [marked.unread, this.markedAt] : [above, read];
    return before + this.#unreadAfter(from).length + Math.max(0, head - Math.max(timeline.head, from));
  }

  get mentions() {
    if (this.read === null || this.out) return 0;
    return Math.max(this.counted, this.#unreadAfter(this.#readOffset).filter((message) => this.client.mentionsUs(message)).length);
  }

  #unreadAfter(offset) {
    const here = this.timeline.messages.slice(this.timeline.place(offset + 1));
    return here.filter((message) => !this.client.identity.owns(message) && !message.deleted);
  }

  get timeline() {
    return this.log.timeline;
  }

  get reactors() {
    return this.log.reactors;
  }

  /** A message as the user sees it: with the user's own changes that are not confirmed. */
  find(offset) {
    return this.#seen(this.log.find(offset));
  }

  quoted(offset) {
    return this.#seen(this.log.quoted(offset));
  }

  #seen(message) {
    return message && this.unconfirmed.applyTo(message);
  }

  #loaded(offsets) {
    return offsets.flatMap((offset) => this.log.find(offset) ?? []);
  }

  /** The user's messages that are not in the timeline yet. */
  get pending() {
    const isSeen = (offset) => offset !== null && (offset <= this.timeline.through || this.timeline.find(offset));
    return this.client.outbox.items.filter((item) => item.room === this.name && isBelow(item) && !isSeen(item.offset));
  }

  get typists() {
    return [...this.#typists.values()].map(({ user }) => user);
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
    this.client.tell(type, { room: this.name, ...detail });
  }

  #ask(type, fields) {
    return this.client.ask({ type, room: this.name, ...fields });
  }

  // From the server

  page(page) {
    this.out = null;
    const { timeline } = this;
    const isFirst = timeline.epoch === null;
    const isNewLog = !timeline.isSameLog(page);
    if (isNewLog) this.unconfirmed = new Unconfirmed();
    const { added, changed } = this.log.page(page);
    this.head = page.cursor;
    if (this.read === null) {
      this.read = timeline.cursorAt(timeline.head);
      this.client.markers.reads(this, timeline.head);
    }
    this.isJoining = false;
    this.client.outbox.inLog(this.name, timeline.epoch, isNewLog);
    if (page.members != null) this.members = page.members;
    if (isNewLog) this.tell('restarted');
    this.#took(added, changed, !isFirst && !isNewLog);
    this.tell('caughtup', { members: page.members ?? null });
  }

  take(records) {
    if (this.timeline.epoch === null) return; // another tab follows the room; the first page has these records
    const { added, changed } = this.log.add(records);
    for (const { user } of added) {
      this.#stopsTyping(user.id);
      if (this.client.identity.owns({ user })) this.#typedAt = -Infinity;
    }
    this.#took(added, changed, true);
  }

  #meet(users) {
    for (const user of users) {
      this.people.set(user.id, user);
      this.client.identity.meet(user);
    }
  }

  pushed({ type, ...pushed }) {
    if (type === 'gap') {
      const { epoch, offset } = splitCursor(pushed.until);
      if (epoch !== this.timeline.epoch) return this.client.follow(this); // a new log
      this.timeline.expect(offset);
      this.log.fill();
    } else if (type === 'presence') {
      this.members = pushed.members;
      this.#meet(pushed.joined);
      for (const user of pushed.left) this.people.delete(user.id);
      this.tell('presence', pushed);
    } else if (type === 'typing') this.#types(pushed.user);
    else if (type === 'read') this.markRead(pushed.offset);
    else if (type === 'left') this.client.follow(this); // by another tab, which could not store that
    else if (type === 'error') this.#isOut(new ChatError(pushed.code, pushed.message, { retryAfter: pushed.retry_after ?? null }));
  }

  async refused(error) {
    if (error.code === 'bad_cursor' && this.timeline.epoch !== null) this.log = new RoomLog(this);
    else if (!error.isTemporary) return this.#isOut(error);
    await this.client.sleep(delayBefore(0, error.retryAfter));
    this.client.follow(this);
  }

  #isOut(error) {
    this.out = error;
    this.isJoining = false;
    this.client.outbox.inLog(this.name, null);
    this.members = 0;
    this.people.clear();
    for (const id of this.#typists.keys()) this.#stopsTyping(id);
    for (const event of ['presence', 'unread']) this.tell(event);
    this.tell('refused', { error });
    this.#awaitEnd(error);
  }

  /** Come back when a ban ends. After a kick only the user does, and after a longer ban. */
  async #awaitEnd(ban) {
    if (ban.retryAfter === null || ban.retryAfter > LONGEST_WAIT) return;
    await this.client.sleep(1000 * ban.retryAfter + delayBefore(0, null));
    if (this.out !== ban) return;
    this.out = null; // else a new connection would stay out of the room
    const { connection, state } = this.client;
    if (ban.message.startsWith(state.reason)) connection.checkNow(); // a ban from all rooms ends it, with as much as fits
    this.comeBack();
  }

  #types(user) {
    if (this.client.identity.owns({ user })) return;
    clearTimeout(this.#typists.get(user.id)?.timer);
    this.#typists.set(user.id, { user, timer: setTimeout(() => this.#stopsTyping(user.id), TYPING_LASTS) });
    this.tell('typing');
  }

  #stopsTyping(id) {
    clearTimeout(this.#typists.get(id)?.timer);
    if (this.#typists.delete(id)) this.tell('typing');
  }

  #took(added, changed, isLive) {
    for (const { user } of added) {
      this.client.identity.meet(user);
      if (isLive && this.people.has(user.id)) this.people.set(user.id, user); // a message may have a new name before presence does
    }
    this.tellOf(added, changed, isLive);
    if (this.timeline.hole()) this.log.fill();
  }

  /** Tell of messages that are new or look different, and of those whose unconfirmed changes are done. */
  tellOf(added, changed, isLive) {
    const { identity, outbox } = this.client;
    const done = this.unconfirmed.forgetDone(this.timeline.through);
    // A reaction that was there before has no new record.
    this.reactors.note(done.map((change) => ({ ...change, target: change.offset, offset: change.until, user: identity.user })));
    changed = [...new Set([...changed, ...this.#loaded(done.map(({ offset }) => offset))])];
    if (!added.length && !changed.length) return;
    for (const message of added) {
      outbox.arrived(message, identity.owns(message));
      this.dispatchEvent(new CustomEvent('message', { detail: message }));
    }
    this.tell('messages', { added, changed, isLive });
    this.tell('unread');
  }
}
