/**
 * How far the user has read each room: here, and on other devices, as the server says.
 * Owns: these markers, when the server is told of ours. May not: know what is in sight.
 */
import { ChatError, delayBefore, splitCursor } from './wire.js';

export const READ_KEY = 'chat.read.'; // and the room: two tabs that write the markers of their rooms at once keep both
const READ_AFTER = 500; // ms between reading further and telling the server
const ASK_EACH = 200; // ms a room
const MAX_FAILURES = 3; // then the room is shown, for which people wait

export class ReadMarkers {
  #marks = new Map(); // of the server: {read, unread, mentions}, by room
  #takenAt = -Infinity;
  #asking = null;
  #reading = new Map(); // timers, by room

  constructor(client, browser) {
    this.client = client;
    this.browser = browser;
  }

  /** The rooms that the user has read, also on other devices, those with mentions first. */
  get rooms() {
    const marks = [...this.#marks];
    return new Set([...marks.filter(([, { mentions }]) => mentions), ...marks].map(([room]) => room));
  }

  of(room) {
    return this.browser.getItem(READ_KEY + room);
  }

  reads({ name, read }, offset) {
    this.browser.setItem(READ_KEY + name, read);
    clearTimeout(this.#reading.get(name));
    if (offset === 0) return;
    this.#marks.set(name, { read: offset, mentions: 0 });
    const send = () => this.client.ask({ type: 'read', room: name, offset }).catch(() => {}); // the next marker includes this one
    this.#reading.set(name, setTimeout(send, READ_AFTER));
  }

  /** Take over the markers of another tab, which tells the server. */
  readElsewhere(rooms) {
    for (const room of rooms) {
      const read = this.of(room.name);
      const isFurther = read && (room.read === null || splitCursor(read).offset > splitCursor(room.read).offset);
      if (isFurther) Object.assign(room, { read, counted: 0 });
    }
  }

  /**
   * What this browser never read, another device may have; a guest's browser may have lost its storage. The first room
   * waits for it, since all of its messages would count as read on each device.
   */
  fetch() {
    const { api } = this.client;
    if (api.needsToken && !api.token) return null; // a new guest
    return (this.#asking ??= this.#fetch());
  }

  async #fetch(failures = 0) {
    try {
      this.take(await this.client.api.unread());
    } catch (error) {
      if (!(error instanceof ChatError)) throw error;
      if (!error.isTemporary || failures === MAX_FAILURES || this.client.state.phase === 'stopped') return; // the next survey asks again
      await this.client.sleep(delayBefore(failures, error.retryAfter));
      await this.#fetch(failures + 1);
    }
  }

  async renew() {
    if (performance.now() - this.#takenAt > ASK_EACH * this.#marks.size) this.take(await this.client.api.unread());
  }

  take({ rooms }) {
    this.#marks = new Map(Object.entries(rooms));
    this.#takenAt = performance.now();
  }

  /** Fetch them again with the next connection, which may have another user or log. */
  expire() {
    this.#asking = null;
    this.#takenAt = -Infinity;
  }

  /** Apply the server's marker, which may come from another device; `head` is the end of the log. */
  mark(room, head) {
    const marked = this.#marks.get(room.name);
    if (!marked) return;
    const { epoch, offset } = splitCursor(head);
    const ours = room.read === null ? null : splitCursor(room.read);
    if (ours?.epoch === epoch && ours.offset > marked.read) return this.reads(room, ours.offset); // it has not got ours, or not yet
    room.read = `${epoch}-${marked.read}`;
    room.counted = marked.mentions ?? 0;
    if (room.marked !== marked) Object.assign(room, { marked, markedAt: offset });
  }
}
