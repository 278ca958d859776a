/**
 * The server's HTTP requests as functions that return the answer or throw a ChatError.
 * Owns: deadlines of requests, the reading of errors. May not: retry (its callers decide), touch the DOM.
 *
 * @import { Ack, Message, Page, User } from './wire.js'
 */
import { ChatError } from './wire.js';

const REQUEST_DEADLINE = 15_000; // ms; the server answers or refuses within 10 s (its SERVING deadline)

/** @param {Response} response */
async function refusal(response) {
  const seconds = Number(response.headers.get('Retry-After') ?? NaN);
  const details = { status: response.status, retryAfter: Number.isFinite(seconds) ? seconds : null };
  try {
    const { error } = await response.json();
    return new ChatError(String(error.code), String(error.message), details);
  } catch {
    // Not our server's JSON: a proxy in between speaks for it, and its status is all there is to know.
    return new ChatError('unavailable', `the server answered ${response.status}`, details);
  }
}

export class HttpApi {
  /** @param {string} origin */
  constructor(origin) {
    this.origin = origin;
  }

  /**
   * @template T
   * @param {string} path
   * @param {(response: Response) => T | Promise<T>} read what to make of a good answer
   * @param {RequestInit & {deadline?: number}} [options] `deadline` in ms, until `read` is done
   * @returns {Promise<T>}
   */
  async fetch(path, read, { deadline = REQUEST_DEADLINE, signal, ...init } = {}) {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), deadline);
    const either = signal ? AbortSignal.any([signal, late.signal]) : late.signal;
    try {
      const response = await fetch(this.origin + path, { cache: 'no-store', ...init, signal: either });
      if (!response.ok) throw await refusal(response);
      return await read(response);
    } catch (error) {
      if (error instanceof ChatError) throw error;
      if (signal?.aborted) throw new ChatError('aborted', 'stopped');
      throw new ChatError('lost', 'no answer from the server'); // refused, reset, late, or cut off in the middle
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * @param {string} path
   * @param {RequestInit & {deadline?: number}} [options]
   */
  json(path, options) {
    return this.fetch(path, (response) => response.json(), options);
  }

  /**
   * A part of a room's log, oldest first; with `wait` (s) the server holds the request until there is news.
   * @param {string} room
   * @param {{after?: string | null, before?: string, limit?: number, wait?: number, signal?: AbortSignal}} options
   * @returns {Promise<Page>}
   */
  page(room, { after, before, limit, wait, signal }) {
    const query = new URLSearchParams();
    if (after) query.set('after', after);
    if (before) query.set('before', before);
    if (limit) query.set('limit', String(limit));
    if (wait) query.set('wait', String(wait));
    const deadline = REQUEST_DEADLINE + (wait ?? 0) * 1000;
    return this.json(`/rooms/${encodeURIComponent(room)}/messages?${query}`, { signal, deadline });
  }

  /**
   * @param {string} room
   * @param {string} text
   * @param {string} key the same key from the same user gets the first answer again
   * @returns {Promise<Ack>}
   */
  publish(room, text, key) {
    return this.json(`/rooms/${encodeURIComponent(room)}/messages`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ text, key }),
    });
  }

  /** @param {string} room */
  members(room) {
    return this.json(`/rooms/${encodeURIComponent(room)}/members`);
  }

  /** @returns {Promise<{rooms: {room: string, messages: number, members: number}[]}>} */
  rooms() {
    return this.json('/rooms');
  }

  /** Resolves when the server takes traffic; throws a ChatError with its Retry-After, or `lost` when it is away. */
  async ready() {
    await this.fetch('/readyz', () => null, { deadline: 5_000 });
  }
}
