/**
 * Following a room over plain HTTP: an event stream (`sse`), or long-polls (`poll`) where nothing else gets through.
 * Owns: one stream or one held request at a time. May not: reconnect, remember messages, touch the DOM.
 *
 * Both begin with ordinary pages up to the present: their `recovered` says what a stream has no field for.
 * A browser opens six connections to a server over HTTP/1.1, for all its tabs together; so one held request per
 * page, for the room that is open, and never more.
 *
 * @import { HttpApi } from './http.js'
 * @import { Json, LinkHandlers } from './connection.js'
 * @import { Page } from './wire.js'
 */
import { delayBefore, sleep } from './backoff.js';
import { EventStreamParser } from './event-stream.js';
import { ChatError } from './wire.js';

const PAGE_LIMIT = 100; // messages; the server's default is 50
const POLL_WAIT = 25; // s a poll is held, as most do: proxies cut at 30 or 60
const HASTY = 1_000; // ms; an empty answer sooner than this is no long-poll
const FIRST_BYTES = 8_000; // ms; a proxy that buffers streams shows by keeping even the first line back
const STREAM_SILENCE = 50_000; // ms; the server's heartbeat comes every 20 s

export class HttpLink {
  followsMany = false;
  #stop = new AbortController();
  /** @type {AbortController | null} what ends the following of the current room */
  #following = null;
  #opened = false;

  /**
   * @param {'sse' | 'poll'} kind
   * @param {HttpApi} api
   * @param {LinkHandlers} handlers
   */
  constructor(kind, api, handlers) {
    this.kind = kind;
    this.api = api;
    this.handlers = handlers;
  }

  /**
   * @param {string} room
   * @param {string | null} cursor
   */
  async follow(room, cursor) {
    this.#following?.abort();
    this.#following = new AbortController();
    const signal = AbortSignal.any([this.#following.signal, this.#stop.signal]);
    try {
      const here = await this.#catchUp(room, cursor, signal);
      await (this.kind === 'sse' ? this.#stream(room, here, signal) : this.#poll(room, here, signal));
    } catch (error) {
      if (!(error instanceof ChatError)) throw error;
      if (signal.aborted) return;
      if (error.isTemporary) this.#end(error);
      else {
        this.#prove(); // the server answered: it is this room alone that we may not enter
        this.handlers.refused(this, room, error);
      }
    }
  }

  unfollow() {} // the next room's request takes the place of this one's

  /** @param {Json} request */
  ask(request) {
    return this.api.ask(request);
  }

  /** A held request says nothing for half a minute: ask for something that is answered at once. */
  async nudge() {
    try {
      await this.api.alive();
    } catch (error) {
      if (error.isLost) this.#end(error);
    }
  }

  close() {
    this.#stop.abort();
  }

  /**
   * @param {string} room
   * @param {string | null} cursor
   * @param {AbortSignal} signal
   * @returns {Promise<string>} the cursor of the present
   */
  async #catchUp(room, cursor, signal) {
    for (;;) {
      const page = await this.api.page(room, { after: cursor, limit: PAGE_LIMIT, signal });
      this.#deliver(room, page, signal);
      const isLast = cursor === null || page.messages.length < PAGE_LIMIT;
      cursor = page.messages.at(-1)?.cursor ?? page.cursor;
      if (isLast) return cursor;
    }
  }

  /**
   * @param {string} room
   * @param {string} cursor
   * @param {AbortSignal} signal
   */
  async #poll(room, cursor, signal) {
    for (;;) {
      this.#prove();
      const asked = performance.now();
      const page = await this.api.page(room, { after: cursor, limit: PAGE_LIMIT, wait: POLL_WAIT, signal });
      this.#deliver(room, page, signal);
      cursor = page.messages.at(-1)?.cursor ?? page.cursor;
      // Sent away early and empty-handed: the server drains, or something in between does not hold requests.
      const isHasty = page.messages.length === 0 && performance.now() - asked < HASTY;
      if (isHasty) await sleep(delayBefore(1, null), signal);
    }
  }

  /**
   * @param {string} room
   * @param {string} cursor
   * @param {AbortSignal} signal
   */
  async #stream(room, cursor, signal) {
    const path = `/rooms/${encodeURIComponent(room)}/events?after=${encodeURIComponent(cursor)}`;
    const body = await this.api.fetch(path, (response) => response.body, { signal });
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventStreamParser();
    let timer = setTimeout(() => reader.cancel(), FIRST_BYTES);
    signal.addEventListener('abort', () => reader.cancel().catch(() => {}));
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (signal.aborted) return;
        if (done) throw new ChatError('lost', 'the stream ended');
        this.#prove();
        clearTimeout(timer);
        timer = setTimeout(() => reader.cancel(), STREAM_SILENCE);
        for (const { event, data } of parser.feed(value)) {
          this.handlers.pushed(this, { type: event, room, ...JSON.parse(data) });
        }
      }
    } catch (error) {
      throw error instanceof ChatError ? error : new ChatError('lost', 'the stream broke off');
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * @param {string} room
   * @param {Page} page
   * @param {AbortSignal} signal
   */
  #deliver(room, page, signal) {
    if (!signal.aborted) this.handlers.page(this, room, page);
  }

  #prove() {
    if (this.#opened) return;
    this.#opened = true;
    this.handlers.ready(this, null);
  }

  /** @param {ChatError} error */
  #end(error) {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    this.handlers.lost(this, {
      opened: this.#opened,
      retryAfter: error.retryAfter,
      forGood: false,
      reason: error.message,
    });
  }
}
