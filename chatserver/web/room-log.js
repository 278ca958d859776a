/**
 * What is loaded of a room's log: its end, perhaps an older range, and single messages that replies quote.
 * Owns: these, who reacted, which parts are fetched. May not: know members, or what is read; touch the DOM.
 */
import { Reactors, Timeline } from './timeline.js';
import { delayBefore, splitCursor } from './wire.js';

const FILL_LIMIT = 100; // messages a request, when a hole is filled
const HISTORY_LIMIT = 50; // records a request, when the user scrolls
const SPARSE_LIMIT = 200; // where most are changes, as of a bot that writes piece by piece; the server's limit
const TRIM_AT = 20_000; // messages kept of one room, about 10 MB
const KEEP = 10_000;

export class RoomLog {
  timeline = new Timeline();
  past = null; // an older range that is shown, from a search or a link
  reactors = new Reactors();
  #quoted = new Timeline();
  #wanted = new Set(); // offsets of quoted messages that were asked for
  #unasked = []; // those of them for which no request was sent yet
  #isAsking = false;
  #filling = false;
  #meanwhile = new Set(); // what has come since each request for history that is not answered
  #olderLimit = HISTORY_LIMIT;
  #visit = null; // the last one, unless the user has gone elsewhere

  constructor(room) {
    this.room = room;
  }

  /** Over HTTP, changes of a page's messages may come before it. */
  async #history(where) {
    const meanwhile = [];
    const { head } = this.timeline;
    this.#meanwhile.add(meanwhile);
    const page = await this.room.history(where).finally(() => this.#meanwhile.delete(meanwhile));
    const range = new Timeline();
    range.add(page.messages, head);
    range.change(meanwhile);
    this.reactors.note(page.messages);
    return page;
  }

  /** A message as the log has it. */
  find(offset) {
    return this.past?.find(offset) ?? this.timeline.find(offset) ?? this.#quoted.find(offset);
  }

  /** The message that a reply quotes; it is fetched if it is not loaded. */
  quoted(offset) {
    const found = this.find(offset);
    if (found === null && this.timeline.epoch !== null && !this.#wanted.has(offset)) {
      this.#wanted.add(offset);
      this.#unasked.push(offset);
      if (!this.#isAsking) this.#fetchQuoted();
    }
    return found;
  }

  /** One request at a time, for the lowest row first: the newest messages are in sight. */
  async #fetchQuoted() {
    this.#isAsking = true;
    for (let offset; (offset = this.#unasked.pop()); ) {
      const quoted = this.#quoted;
      if (this.find(offset)) continue; // loaded meanwhile
      try {
        const { messages } = await this.#history({ after: this.timeline.cursorAt(offset - 1), limit: 1 });
        if (quoted !== this.#quoted || messages[0]?.offset !== offset) continue; // it is gone
        quoted.add(messages);
        this.room.tell('messages', { added: [], changed: messages, isLive: false });
      } catch {
        this.#wanted.delete(offset); // asked for again when a row is made
      }
    }
    this.#isAsking = false;
  }

  /** Take a page of the end of the log; the first one, or one of another log, begins anew. */
  page(page) {
    const { timeline } = this;
    const isNewLog = !timeline.isSameLog(page);
    if (isNewLog) this.past = null;
    if (!page.recovered) {
      this.reactors.clear(); // reactions may have been taken back meanwhile
      this.#quoted = new Timeline();
      this.#wanted.clear();
      this.#unasked = [];
    }
    if (timeline.epoch === null || isNewLog) timeline.begin(page);
    const found = this.add(page.messages, timeline.head);
    if (!page.recovered) timeline.accept(page.messages[0]?.offset ?? splitCursor(page.cursor).offset + 1);
    return found;
  }

  /** Add records to the end of the log, up to `head` if they are a page's. All that is loaded takes the changes among them. */
  add(records, head) {
    const { timeline } = this;
    this.reactors.note(records);
    for (const meanwhile of this.#meanwhile) meanwhile.push(...records);
    // A tab that was frozen joins again from where it was; what is far behind this one's messages would leave a hole.
    const { added, changed } = timeline.add(records.filter(({ offset }) => offset >= timeline.first), head);
    for (const other of [this.past, this.#quoted]) changed.push(...(other?.change(records) ?? []));
    if (timeline.messages.length > TRIM_AT) {
      timeline.trim(KEEP);
      this.reactors.trim(timeline.first);
    }
    return { added, changed };
  }

  async older(timeline) {
    const { first } = timeline;
    if (timeline.complete || timeline.epoch === null) return;
    const page = await this.#history({ before: timeline.cursorAt(first), limit: this.#olderLimit });
    if (timeline.first !== first) return; // the room has dropped its oldest messages meanwhile
    if (!page.messages.length) timeline.complete = true;
    const found = timeline.add(page.messages);
    this.#olderLimit = found.added.length < page.messages.length / 2 ? SPARSE_LIMIT : HISTORY_LIMIT;
    this.room.tell('messages', { ...found, isLive: false });
  }

  /** Fetch the records after the older range. Once it meets the present, they are joined. */
  async newer() {
    const { past, timeline } = this;
    if (!past?.cursor) return;
    const { messages, recovered } = await this.#history({ after: past.cursor, limit: HISTORY_LIMIT });
    if (this.past !== past) return; // left, or of an old log
    const found = past.add(messages);
    if (!recovered) past.accept(messages[0]?.offset ?? timeline.first);
    if (!messages.length || past.through + 1 >= timeline.first) {
      timeline.add(past.messages);
      timeline.first = Math.min(timeline.first, past.first);
      timeline.complete ||= past.complete;
      for (const offset of past.lossesBefore) timeline.lossesBefore.add(offset);
      this.past = null;
    }
    this.room.tell('messages', { ...found, isLive: false });
  }

  /** Load a message and those around it. @returns false if the user has gone elsewhere meanwhile */
  async visit(offset) {
    const visit = (this.#visit = {});
    const { timeline } = this;
    const isLoaded = timeline.epoch === null || offset >= timeline.first;
    const after = Math.max(0, offset - HISTORY_LIMIT / 2);
    const page = isLoaded ? null : await this.#history({ after: timeline.cursorAt(after), limit: HISTORY_LIMIT });
    if (visit !== this.#visit) return false;
    this.past = null; // until now it was shown
    if (!(page?.messages.length && timeline.isSameLog(page))) return true;
    const past = new Timeline();
    past.begin(page);
    past.add(page.messages);
    if (past.through + 1 < timeline.first) this.past = past;
    else timeline.add(past.messages);
    return true;
  }

  stopVisit() {
    this.#visit = null;
  }

  /** Show the end of the log, and no older range. */
  toEnd() {
    this.past = null;
    this.stopVisit();
  }

  /** Fetch what the server has skipped, or what a page leaves out. */
  async fill() {
    if (this.#filling) return;
    this.#filling = true;
    const { timeline, room } = this;
    for (let hole, failures = 0; (hole = timeline.hole()) && room.client.isLive && room.log === this; ) {
      const { after, until } = hole;
      try {
        const page = await this.#history({ after: timeline.cursorAt(after), limit: FILL_LIMIT });
        if (!timeline.isSameLog(page)) break; // a new log; the next page starts it
        const { added, changed } = this.add(page.messages);
        if (timeline.through === after) {
          timeline.accept(Math.min(until, timeline.hole().until));
          this.reactors.clear();
        }
        failures = 0;
        room.tellOf(added, changed, true);
      } catch (error) {
        console.warn('could not fetch what is missing:', error.message);
        if (!error.isTemporary) break; // the next connection, or the next message, tries again from before the hole
        await room.client.sleep(delayBefore(failures++, error.retryAfter));
      }
    }
    this.#filling = false;
  }
}
