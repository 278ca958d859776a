/**
 * The server's HTTP requests as functions that return the answer (docs/protocol.md) or throw a ChatError.
 * Owns: deadlines of requests, the reading of errors. May not: retry (its callers decide), touch the DOM.
 */
import { ChatError, FOREIGN, countdown } from './wire.js';

const REQUEST_DEADLINE = 15_000; // ms; the server answers or refuses within 10 s (its SERVING deadline)
const BODY_DEADLINE = 60_000; // ms once the answer begins: at 3 KB/s a page of 64 KiB takes 22 s
const QUICK_DEADLINE = 5_000; // ms, to test a connection that was alive

async function refusal(response) {
  const seconds = Number(response.headers.get('Retry-After') ?? NaN);
  const details = { status: response.status, retryAfter: Number.isFinite(seconds) ? seconds : null };
  try {
    const { error } = await response.json();
    return new ChatError(String(error.code), String(error.message), { ...details, room: error.room ?? null });
  } catch {
    // Not JSON of our server: a proxy has answered, and only its status is known.
    return new ChatError('unavailable', `the server answered ${response.status}`, details);
  }
}

const path = (room, rest) => `/rooms/${encodeURIComponent(room)}${rest}`;
const queryOf = (fields) => new URLSearchParams(Object.entries(fields).filter(([, value]) => value));

export class HttpApi {
  #introduced = null;

  /** `knows` is told the session, where no cookie says who the user is. */
  constructor(origin, token = null, knows = () => {}) {
    this.origin = origin;
    this.token = token;
    this.knows = knows;
    this.needsToken = origin !== globalThis.location?.origin || !navigator.cookieEnabled; // Deno, Bun, node: no location
  }

  /** `read` reads a successful answer; `deadline` in ms, until the answer begins. */
  async fetch(path, read, { deadline = REQUEST_DEADLINE, signal, ...init } = {}) {
    const late = new AbortController();
    const within = (ms) => countdown(ms, () => late.abort());
    let end = within(deadline);
    const either = signal ? AbortSignal.any([signal, late.signal]) : late.signal;
    const headers = { ...(this.token && { Authorization: `Bearer ${this.token}` }), ...init.headers };
    try {
      const response = await fetch(this.origin + path, { cache: 'no-store', redirect: 'manual', ...init, headers, signal: either });
      end();
      end = within(BODY_DEADLINE);
      if (response.type === 'opaqueredirect') throw new ChatError('lost', FOREIGN);
      if (!response.ok) throw await refusal(response);
      return await read(response);
    } catch (error) {
      if (error instanceof ChatError) throw error;
      if (signal?.aborted) throw new ChatError('aborted', 'stopped');
      // Refused, reset, late, or cut off in the middle; or it is no JSON.
      throw new ChatError('lost', error instanceof SyntaxError ? FOREIGN : 'no answer from the server');
    } finally {
      end();
    }
  }

  json(path, options) {
    return this.fetch(path, (response) => (response.status === 204 ? null : response.json()), options);
  }

  /** Without a cookie and a token, all visitors with one address and browser would be one guest. */
  async #introduce() {
    try {
      this.knows(await (this.token === null ? this.signIn({}) : this.session()));
    } catch (error) {
      this.#introduced = null; // the next page tries again
      throw error;
    }
  }

  #send(method, path, body, { headers, ...more } = {}) {
    const content = body && { headers: { 'Content-Type': 'application/json', ...headers }, body: JSON.stringify(body) };
    return this.json(path, { method, ...content, ...more });
  }

  /** A part of a room's log, oldest first: `before` or `after` a cursor, at most `limit` records. */
  async page(room, { signal, ...where }) {
    if (this.needsToken) await (this.#introduced ??= this.#introduce());
    return this.json(path(room, `/messages?${queryOf(where)}`), { signal });
  }

  /**
   * What is new in any of these rooms; the server holds the request for `wait` (s) until there is something.
   * @param {Map<string, string>} places cursors, by room
   */
  poll(places, { wait, limit, signal }) {
    const query = new URLSearchParams({ wait: String(wait), limit: String(limit) });
    for (const [room, cursor] of places) query.append('room', `${room}:${cursor}`);
    return this.json(`/poll?${query}`, { signal, deadline: REQUEST_DEADLINE + wait * 1000 });
  }

  ask({ type, room, offset, emoji, on, ...body }) {
    if (type === 'history') return this.page(room, body);
    const message = `/messages/${offset}`;
    const [method, place, content] = {
      publish: ['POST', '/messages', body],
      members: ['GET', '/members'],
      edit: ['PATCH', message, body],
      delete: ['DELETE', message, body],
      react: [on ? 'PUT' : 'DELETE', `${message}/reactions/${encodeURIComponent(emoji)}`, body],
      read: ['PUT', '/read', { offset }],
      sanction: ['POST', '/sanctions', body],
      sanctions: ['GET', `/sanctions${body.user ? `?user=${encodeURIComponent(body.user)}` : ''}`],
      lift: ['DELETE', `/sanctions/${body.id}`],
      kick: ['POST', '/kick', body],
      typing: ['POST', '/typing'],
    }[type];
    return this.#send(method, path(room, place), content);
  }

  rooms() {
    return this.json('/rooms');
  }

  room(name) {
    return this.json(path(name, ''));
  }

  unread() {
    return this.json('/unread');
  }

  search(wanted, signal) {
    return this.json(`/search?${queryOf(wanted)}`, { signal });
  }

  /** Become a guest, of this name if one is given, or the user of the token. */
  async signIn({ name = '', token = '' }) {
    const headers = token && { Authorization: `Bearer ${token}` };
    // Of a page of the same site, the cookie of this server may say who the user is.
    const session = await this.#send('POST', '/session', name ? { name } : {}, { headers, credentials: 'include' });
    if (this.needsToken) this.token = session.token;
    return session;
  }

  session() {
    return this.json('/session');
  }

  async signOut() {
    await this.#send('DELETE', '/session');
    this.token = this.#introduced = null;
  }

  ready() {
    return this.json('/readyz');
  }

  alive() {
    return this.json('/healthz', { deadline: QUICK_DEADLINE });
  }
}
