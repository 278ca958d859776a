/**
 * Follows rooms over plain HTTP: with `sse` the open one by an event stream and the others by one long-poll, with
 * `poll` all by one long-poll.
 * Owns: one stream at most, and one held request. May not: reconnect, remember messages, touch the DOM.
 *
 * A room begins with a page of its history, which says `recovered`; a stream has no field for that.
 * All tabs of a browser share six connections to a server over HTTP/1.1: see MAX_HELD.
 */
import { hasLocks } from './storage.js';
import { ChatError, countdown, delayBefore, gone, sleep } from './wire.js';

const PAGE_LIMIT = 100; // messages; the server's default is 50
const POLL_WAIT = 25; // s; many proxies end a silent request after 30 or 60
const MAX_HELD = 4; // requests of all tabs; two connections are left for what is not held
const BRIEF_POLL_EVERY = 3_000; // ms, in a tab that may hold no request
const MIN_HOLD = 1_000; // ms; an empty answer before that was not held
const FIRST_BYTES = 8_000; // ms until the first line; some proxies hold it back, or pass on single bytes
const STREAM_SILENCE = 50_000; // ms; the server's heartbeat comes every 20 s

/**
 * Run `hold`, a request that is held, unless the tabs hold as many as they may: then it is null. Without locks they hold
 * what they like.
 */
async function held(hold, slot = 0) {
  if (!hasLocks()) return hold();
  if (slot === MAX_HELD) return null;
  const found = await navigator.locks.request(`chat.held.${slot}`, { ifAvailable: true }, (lock) => lock && hold()).catch((error) => {
    throw error.name === 'AbortError' ? gone() : error; // Safari takes the locks of a page that it keeps for the Back button
  });
  return found ?? held(hold, slot + 1);
}

/** Whether it refuses the user, not a room: the next link is a guest's. */
const isSignedOut = (error) => error.code === 'unauthenticated' && error.room === null;

export class HttpLink {
  isSocket = false;
  #stop = new AbortController();
  #wanted = new Set(); // rooms that are followed, those without their first page included
  #polled = new Map(); // cursors of the rooms that are polled
  /** Ends the held poll when the set of rooms changes. */
  #holding = new AbortController();
  #isPolling = false;
  #streamed = null; // {room, ends, cursor}
  #opened = false;

  constructor(kind, api, handlers) {
    this.kind = kind;
    this.api = api;
    this.handlers = handlers;
  }

  async begin() {
    const { signal } = this.#stop;
    try {
      await this.api.alive();
      if (!signal.aborted) this.#prove();
    } catch (error) {
      if (!(error instanceof ChatError)) throw error;
      this.#end(error);
    }
  }

  /** `mustAsk` for a page first, although it is not the open room. */
  async follow(room, cursor, isOpen, mustAsk = false) {
    this.#wanted.add(room);
    if (this.kind === 'sse' && isOpen) return this.#followByStream(room, cursor);
    if (this.#polled.has(room)) return;
    const { signal } = this.#stop;
    try {
      const here = cursor !== null && !isOpen && !mustAsk ? cursor : await this.#catchUp(room, cursor, signal);
      this.#prove();
      if (this.#wanted.has(room)) this.#poll(room, here);
    } catch (error) {
      this.#failed(room, error, signal);
    }
  }

  async #followByStream(room, cursor) {
    const before = this.#streamed;
    before?.ends.abort();
    const streamed = { room, ends: new AbortController(), cursor };
    this.#streamed = streamed;
    if (before && before.room !== room) this.follow(before.room, before.cursor, false);
    if (this.#polled.delete(room)) this.#holding.abort();
    const signal = AbortSignal.any([streamed.ends.signal, this.#stop.signal]);
    try {
      streamed.cursor = await this.#catchUp(room, cursor, signal);
      const end = await held(() => this.#stream(streamed, signal));
      if (signal.aborted) return;
      this.#streamed = null;
      if (end !== null) return; // expelled; the room has been told
      this.#prove();
      this.#poll(room, streamed.cursor);
    } catch (error) {
      this.#failed(room, error, signal);
    }
  }

  #failed(room, error, signal) {
    if (!(error instanceof ChatError)) throw error;
    if (signal.aborted) return;
    if (error.isTemporary || isSignedOut(error)) return this.#end(error);
    if (this.#streamed?.room === room) this.#streamed = null;
    this.#prove(); // the server answered, so only this room is refused
    this.handlers.refused(this, room, error);
  }

  unfollow(room) {
    this.#wanted.delete(room);
    if (this.#polled.delete(room)) this.#holding.abort();
    if (this.#streamed?.room !== room) return;
    this.#streamed.ends.abort();
    this.#streamed = null;
  }

  ask(request) {
    return this.api.ask(request);
  }

  /** A held request is silent for half a minute, so send one that is answered at once. */
  async probe() {
    try {
      await this.api.alive();
    } catch (error) {
      if (error.isLost) this.#end(error);
    }
  }

  close() {
    this.#stop.abort();
  }

  /** @returns the cursor at the end */
  async #catchUp(room, cursor, signal) {
    for (;;) {
      const page = await this.api.page(room, { after: cursor, limit: PAGE_LIMIT, signal });
      this.#deliver(room, page, signal);
      const isLast = cursor === null || page.messages.length < PAGE_LIMIT;
      cursor = page.messages.at(-1)?.cursor ?? page.cursor;
      if (isLast) return cursor;
    }
  }

  #poll(room, cursor) {
    this.#polled.set(room, cursor);
    this.#holding.abort();
    if (!this.#isPolling) this.#pollOn();
  }

  async #pollOn() {
    this.#isPolling = true;
    await null; // rooms followed in the same turn share the first poll
    while (this.#polled.size && !this.#stop.signal.aborted) {
      this.#holding = new AbortController();
      const signal = AbortSignal.any([this.#holding.signal, this.#stop.signal]);
      try {
        const asked = performance.now();
        const ask = (wait) => this.api.poll(this.#polled, { limit: PAGE_LIMIT, wait, signal });
        const answer = await held(() => ask(POLL_WAIT));
        const { rooms } = answer ?? (await ask(0));
        const news = Object.entries(rooms).filter(([, page]) => page.messages.length || !page.recovered);
        for (const [room, page] of news) {
          if (!this.#polled.has(room)) continue; // left meanwhile, perhaps for what came in a room before it
          this.#polled.set(room, page.messages.at(-1)?.cursor ?? page.cursor);
          this.#deliver(room, { ...page, room }, this.#stop.signal);
        }
        // Answered early and empty: the server drains, or a proxy does not hold requests.
        const isEarly = !news.length && performance.now() - asked < MIN_HOLD;
        if (answer === null || isEarly) await sleep(answer === null ? BRIEF_POLL_EVERY : delayBefore(1, null), signal);
      } catch (error) {
        if (!(error instanceof ChatError)) throw error;
        if (!signal.aborted) this.#pollFailed(error);
      }
    }
    this.#isPolling = false;
  }

  /** Drop the refused rooms from the poll. If none is named there are too many, so the last one is dropped. */
  #pollFailed(error) {
    if (error.isTemporary || isSignedOut(error)) return this.#end(error);
    const rooms = [...this.#polled.keys()];
    const named = rooms.filter((room) => room === error.room || error.room === '*');
    for (const room of named.length ? named : rooms.slice(-1)) {
      this.#polled.delete(room);
      this.handlers.refused(this, room, error);
    }
  }

  /** Read the stream until it is aborted or the server expels the user; any other end is an error. */
  async #stream(streamed, signal) {
    const path = `/rooms/${encodeURIComponent(streamed.room)}/events?after=${encodeURIComponent(streamed.cursor ?? '')}`;
    const body = await this.api.fetch(path, (response) => response.body, { signal, deadline: FIRST_BYTES });
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventStreamParser();
    const giveUp = () => reader.cancel();
    let heard = countdown(FIRST_BYTES, giveUp);
    signal.addEventListener('abort', () => reader.cancel().catch(() => {}));
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (signal.aborted) return {};
        if (done) throw new ChatError('lost', 'the stream ended');
        if (value.includes('\n')) {
          this.#prove();
          heard();
          heard = countdown(STREAM_SILENCE, giveUp);
        }
        for (const { event, data } of parser.feed(value)) {
          const told = { type: event, ...JSON.parse(data) };
          if (told.cursor) streamed.cursor = told.cursor;
          this.handlers.pushed(this, told);
          if (event === 'expelled') return {};
        }
      }
    } catch (error) {
      throw error instanceof ChatError ? error : new ChatError('lost', 'the stream broke off');
    } finally {
      heard();
    }
  }

  #deliver(room, page, signal) {
    if (!signal.aborted) this.handlers.page(this, room, page);
  }

  #prove() {
    if (this.#opened) return;
    this.#opened = true;
    this.handlers.ready(this, null);
  }

  #end(error) {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    this.handlers.lost(this, {
      opened: this.#opened,
      retryAfter: error.retryAfter,
      forGood: error.code === 'unauthenticated' && !error.isTemporary, // signed out
      reason: error.message,
    });
  }
}

/**
 * Parses `text/event-stream` in chunks of any size. `EventSource` would hide the heartbeats, and the status and
 * Retry-After of a refusal.
 */
export class EventStreamParser {
  #rest = '';
  #event = '';
  #data = [];

  feed(chunk) {
    const text = this.#rest + chunk;
    // A CR at the end may be the first half of CRLF, so it is kept for the next chunk.
    const end = text.endsWith('\r') ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() + text.slice(end);
    return lines.map((line) => this.#line(line)).filter((event) => event !== null);
  }

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
    return null; // `id` is in the data too; comments and `retry` are not needed
  }
}
