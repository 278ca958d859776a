/**
 * The user of this page, whom the server names, and the names of all users.
 * May not: decide anything about rights.
 */
import { readJson } from './storage.js';
import { mentionsIn } from './text.js';

export const ME_KEY = 'chat.me'; // scripts cannot read the cookie
const MAX_NAMES = 5_000; // of the users seen last
export const isGuest = ({ id }) => id.startsWith('g_');
const GUEST = { guest: true, moderates: [] };

/**
 * A pattern of rooms (`team-*`). Brackets match any character here; the server checks rights exactly.
 */
export function patternOf(pattern) {
  const parts = pattern.match(/\[.[^\]]*\]|./g) ?? [];
  const known = parts.map((part) => (part === '*' ? '.*' : part === '?' || part.length > 1 ? '.' : part.replace(/\W/, '\\$&')));
  return new RegExp(`^${known.join('')}$`);
}

export class Identity {
  user = null;
  takesTokens = true;
  /** Whether the user is a guest, and patterns of the rooms that the user moderates. */
  #told = GUEST;
  #names = new Map(); // by id

  constructor(storage, tell) {
    this.storage = storage;
    this.tell = tell;
    this.user = readJson(storage, ME_KEY, { id: '', name: '' }, null);
  }

  /** @param {{guest?: boolean, moderates?: string[], tokens?: boolean}} told of the same user the rest stays known */
  is({ id, name }, told) {
    const { guest, moderates } = { ...(this.user?.id === id ? this.#told : GUEST), ...told };
    const takesTokens = told?.tokens ?? this.takesTokens;
    if (takesTokens !== this.takesTokens) {
      this.takesTokens = takesTokens;
      this.tell.tokens(); // no message is drawn anew for that
    }
    const isKnown = this.user?.id === id && this.user.name === name;
    if (isKnown && this.#told.guest === guest && String(this.#told.moderates) === String(moderates)) return;
    this.#told = { guest, moderates };
    this.user = { id, name };
    this.storage.setItem(ME_KEY, JSON.stringify(this.user));
    this.tell.changed();
  }

  /** Guests choose their names; the name of a signed-in user comes from the token. */
  get isGuest() {
    return this.#told.guest;
  }

  /** The user, if it is no guest; also before the server has told that this browser is still theirs. */
  get signedIn() {
    return this.user === null || isGuest(this.user) ? null : this.user;
  }

  moderates(room) {
    return this.#told.moderates.some((pattern) => patternOf(pattern).test(room));
  }

  owns({ user }) {
    return user.id === this.user?.id;
  }

  meet({ id, name }) {
    this.#names.delete(id); // the order is that of the last meeting
    this.#names.set(id, name);
    if (this.#names.size > MAX_NAMES) this.#names.delete(this.#names.keys().next().value ?? '');
  }

  nameOf(id) {
    return id === this.user?.id ? this.user.name : this.#names.get(id);
  }

  namesIn(text) {
    if (!text.includes('@')) return [];
    return mentionsIn(text.normalize(), [...this.#names.values(), this.user?.name ?? '']).map(({ name }) => name);
  }
}
