/**
 * Messages, and changes of messages, that are not stored yet: each is sent with a key until the server acknowledges it.
 * Owns: their order and state, in the tab's storage for a reload, and in the browser's for when the tab is closed.
 * May not: choose a transport, touch the DOM.
 *
 * One message and one change of each room are sent at a time, so their order is kept and no room delays another. For ten
 * minutes the server answers a repeated key with the first result; after that a repeat could be a second message, so the
 * user is asked.
 * A message of a user who has signed in is held while the browser is somebody else's, and goes out when its user is back.
 *
 * An item has
 *   key, room, text   the text is empty in a deletion or a reaction
 *   extras            replyTo, mentions, change ({type, offset, emoji, on}), and the epoch of the log whose offsets these are
 *   author            who wrote it; null for a guest, who may sign in before it is sent
 *   speaker           the user of the last attempt
 *   created, firstTried, until   ms since the epoch; before `until` the server takes no more messages
 *   after             the newest offset of the room when it was written
 *   state             queued, sending, sent, failed, or held
 *   problem           why it failed, for the person
 *   offset            where the log has it, once we know or believe so
 *   seen              the acknowledgement, or what the message stands for, if we believe that it has arrived
 */
import { readJson } from './storage.js';
import { ChatError, delayBefore, randomKey, sleep, splitCursor } from './wire.js';

const STORAGE_KEY = 'chat.outbox';
const LEFT_KEY = 'chat.left'; // in the tab's storage: the browser's has the same items, until a tab takes them
const KEY_WINDOW = 9 * 60_000; // ms; the server's 10 minutes, less a margin
const ITEM = { key: '', room: '', text: '', created: 0 };

/** Items of this tab, or of tabs that were closed; an older page may have kept less of each. */
const kept = (storage) => readJson(storage, STORAGE_KEY, [ITEM], []).map((item) => ({ extras: {}, after: 0, author: null, ...item, offset: null }));
export const mayTakeBack = ({ state, firstTried }) => state === 'failed' || state === 'held' || (state === 'queued' && firstTried === null);
/** Changes do not wait for a message that slow mode delays. */
const queueOf = ({ room, extras }) => (extras.change ? `${room} changes` : room);
const isAbout = ({ replyTo, change }) => replyTo !== undefined || change !== undefined;
/** Whether it is shown below the messages. A change is shown at its message, as long as it may be made. */
export const isBelow = ({ extras, text, state }) => !extras.change || (text !== '' && (state === 'failed' || state === 'held'));
const closed = () => new ChatError('aborted', 'the chat was closed');

export class Outbox {
  items = []; // in the order they were written
  #deliver = null; // null while there is no connection
  #knowsLog; // whether it is known which log its room has now
  #pumping = new Set(); // queues
  #promises = new Map(); // by key

  #closing = new AbortController();

  constructor(tab, browser, handlers) {
    this.tab = tab;
    this.browser = browser;
    this.handlers = handlers;
    const queued = (item) => ({ ...item, state: 'queued', author: item.author ?? (item.firstTried && item.speaker) ?? null });
    const isOf = (items, { key }) => items.some((each) => each.key === key);
    const left = kept(browser);
    const wasLeft = tab.getItem(LEFT_KEY) !== null;
    const isTaken = (item) => wasLeft && item.text !== '' && !isOf(left, item); // by another tab
    this.items = kept(tab).filter((item) => !isTaken(item)).map((item) => (item.state === 'failed' ? item : queued(item)));
    tab.removeItem(LEFT_KEY);
    const others = left.filter((item) => item.text !== '' && !isOf(this.items, item)); // the rest this tab left itself
    this.items.push(...others.map((item) => ({ ...item, state: 'failed', problem: 'Its tab was closed before it was sent' })));
    browser.removeItem(STORAGE_KEY);
    this.save();
  }

  get unsent() {
    return this.items.filter((item) => item.state !== 'sent');
  }

  /** Leave what is not sent to the next tab that opens, since this one ends. If that is itself, it goes on sending. */
  leaveBehind() {
    this.browser.setItem(STORAGE_KEY, JSON.stringify([...kept(this.browser), ...this.unsent]));
    if (!this.browser.isFull) this.tab.setItem(LEFT_KEY, '');
  }

  /**
   * @returns a promise that resolves when the message is durable, and rejects if it is refused for good
   */
  add(room, text, extras = {}, after = 0, author = null) {
    if (this.#closing.signal.aborted) return Promise.reject(closed());
    const key = randomKey();
    const item = { key, room, text, extras, author, created: Date.now(), after, firstTried: null, problem: null, offset: null };
    this.items.push({ ...item, state: 'queued' });
    const promise = new Promise((resolve, reject) => this.#promises.set(key, { resolve, reject }));
    this.#changed();
    this.#pump({ room, extras });
    return promise;
  }

  resume(deliver, knowsLog = () => true) {
    this.#deliver = deliver;
    this.#knowsLog = knowsLog;
    for (const item of this.items) if (item.state === 'held') item.state = 'queued';
    for (const item of [...this.items]) this.#pump(item);
  }

  /**
   * The log of a room is known, or the room is refused. What is about a message of another log is not sent: its offset is
   * another message's here.
   */
  inLog(name, epoch, isNew = false) {
    for (const item of this.items.filter(({ room }) => room === name)) {
      const { state, extras } = item;
      const known = state === 'sent' ? splitCursor(item.seen.cursor).epoch : extras.epoch;
      const isOther = isNew || (epoch !== null && known && known !== epoch);
      if (isOther && state === 'sent') this.discard(item.key); // it will not arrive
      else if (isOther && isAbout(extras)) {
        item.extras = {};
        this.#fail(item, new ChatError('gone', 'The server began a new log, without the message that this is about'));
      }
      this.#pump(item);
    }
  }

  isAbout(name) {
    return this.items.some(({ room, extras }) => room === name && isAbout(extras));
  }

  pause() {
    this.#deliver = null;
  }

  close() {
    this.#closing.abort();
    this.items = [];
    for (const { reject } of this.#promises.values()) reject(closed());
    this.#promises.clear();
  }

  retry(key) {
    const item = this.items.find((each) => each.key === key);
    if (!item) return;
    // A new key: to the user, a second message is better than none.
    Object.assign(item, { state: 'queued', problem: null, firstTried: null, key: randomKey() });
    this.#changed();
    this.#pump(item);
  }

  /** Take a message out, unless it may have been sent. */
  takeBack(key) {
    const item = this.items.find((each) => each.key === key) ?? null;
    if (item === null || !mayTakeBack(item)) return null;
    this.discard(key);
    return item;
  }

  discard(key) {
    this.items = this.items.filter((item) => item.key !== key);
    this.#takePromise(key)?.reject(new ChatError('aborted', 'discarded'));
    this.#changed();
  }

  /**
   * Match a message that arrived with its item, which is then not shown twice. The acknowledgement has said its offset.
   * Before that the text of an own message decides, if it is newer than the item; a wrong match is corrected later.
   * @param isOurs as far as is known: over HTTP we may be told who we are after our first messages have arrived
   */
  arrived({ room, offset, text, cursor, time }, isOurs) {
    const here = this.items.filter((item) => item.room === room && !item.extras.change);
    const known = here.find((item) => item.state === 'sent' && item.offset === offset);
    if (known) return this.discard(known.key);
    if (!isOurs) return;
    const isGuess = (item) => item.firstTried !== null && item.offset === null && item.text === text && item.after < offset;
    const guess = here.find(isGuess);
    if (!guess) return;
    Object.assign(guess, { offset, seen: { room, offset, cursor, time } });
    this.#changed();
  }

  /** Drop the stored items of a room whose messages will not arrive. */
  leave(room) {
    this.items = this.items.filter((item) => item.room !== room || item.state !== 'sent');
    this.#changed();
  }

  /** Send the queue of some item. */
  async #pump(some) {
    const name = queueOf(some);
    if (this.#pumping.has(name)) return;
    this.#pumping.add(name);
    try {
      for (let failures = 0; this.#deliver; ) {
        const item = this.items.find((each) => queueOf(each) === name && each.state === 'queued');
        if (!item || (isAbout(item.extras) && !this.#knowsLog(item))) return;
        const again = await this.#send(item, this.#deliver);
        if (again === null) {
          failures = 0;
          continue;
        }
        const delay = delayBefore(failures++, again.retryAfter);
        // Slow mode may last longer than one wait, and may be ended before.
        if (again.code === 'rate_limited') item.until = Date.now() + Math.max(delay, 1000 * again.retryAfter);
        this.#changed();
        await sleep(delay, this.#closing.signal);
      }
    } finally {
      this.#pumping.delete(name);
    }
  }

  /** @returns the error when it should be tried again */
  async #send(item, deliver) {
    if (item.firstTried !== null && Math.abs(Date.now() - item.firstTried) > KEY_WINDOW) {
      this.#giveUp(item, new ChatError('lost', 'No answer came in time: it may or may not have been sent'));
      return null;
    }
    const { firstTried } = item;
    item.firstTried ??= Date.now();
    Object.assign(item, { state: 'sending', until: null });
    this.#changed();
    try {
      const ack = await deliver(item);
      Object.assign(item, { state: 'sent', offset: ack.offset, seen: ack });
      this.#takePromise(item.key)?.resolve(ack);
      this.handlers.stored(item, ack);
      this.#changed();
      return null;
    } catch (error) {
      if (error.isTemporary) {
        item.state = 'queued';
        if (error.isLost) item.author ??= item.speaker ?? null; // it may be stored, with that user's key
        else item.firstTried = firstTried; // refused: it has stored nothing
        return error;
      }
      if (error.code === 'held' || (error.code === 'unauthenticated' && item.author)) {
        Object.assign(item, { state: 'held', firstTried });
        this.#changed();
        return null;
      }
      if (!error.isLost) item.firstTried = firstTried; // refused: a message with its text is another one
      this.#giveUp(item, error);
      return null;
    }
  }

  /** An earlier attempt may have arrived. */
  #giveUp(item, error) {
    if (item.offset === null) return this.#fail(item, error);
    this.#takePromise(item.key)?.resolve(item.seen);
    this.discard(item.key);
  }

  #fail(item, error) {
    Object.assign(item, { state: 'failed', problem: error.message, offset: null });
    if (item.text === '') this.items = this.items.filter((each) => each !== item); // there are no words to keep
    this.#takePromise(item.key)?.reject(error);
    this.#changed();
  }

  #takePromise(key) {
    const promise = this.#promises.get(key);
    this.#promises.delete(key);
    return promise;
  }

  save() {
    this.tab.setItem(STORAGE_KEY, JSON.stringify(this.unsent));
  }

  #changed() {
    this.save();
    this.handlers.changed();
  }
}

/**
 * The user's own edits, deletions and reactions that the log does not have yet. They are applied to a message as the log
 * has it each time, so a refused change leaves nothing behind.
 */
export class Unconfirmed {
  /**
   * In the order in which they were made, each until the offset of its record: Infinity before the server has answered, and 0
   * if it has refused.
   */
  #changes = [];

  add(asked) {
    const change = { ...asked, until: Infinity };
    this.#changes.push(change);
    return change;
  }

  /**
   * Forget the changes that the log has, of which nothing is missing up to `through`, or that were refused.
   * @returns these
   */
  forgetDone(through) {
    const done = this.#changes.filter(({ until }) => until <= through);
    if (done.length) this.#changes = this.#changes.filter(({ until }) => until > through);
    return done;
  }

  #of(offset) {
    return this.#changes.filter((change) => change.offset === offset);
  }

  /** The message with its new text, or without one. */
  applyTo(message) {
    const change = this.#of(message.offset).findLast(({ type }) => type !== 'react');
    if (!change || message.deleted) return message;
    const isUnconfirmed = true;
    if (change.type === 'edit') return { ...message, text: change.text ?? '', edited: message.time, isUnconfirmed };
    return { ...message, text: '', deleted: true, reactions: {}, isUnconfirmed };
  }

  /** By emoji, whether the user will have reacted so. */
  reactionsTo(offset) {
    return new Map(this.#of(offset).flatMap(({ emoji, on }) => (emoji === undefined ? [] : [[emoji, Boolean(on)]])));
  }
}
