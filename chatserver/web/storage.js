/**
 * The browser's storage. If it is blocked or full, the page keeps the values itself, until it is reloaded.
 * Owns: that fall-back, and checking what is read, since another version of the page may have written it.
 */

/** Pages over plain http from another machine have none; where cookies are blocked, locks and channels are refused. */
export const hasLocks = () => 'locks' in navigator && navigator.cookieEnabled;

export class Store {
  /** Values that the browser does not keep, and what it has instead: if that changes, another tab has written it. */
  #kept = new Map();

  constructor(storage = null) {
    this.storage = storage;
  }

  /** Or blocked. */
  get isFull() {
    return this.#kept.size > 0;
  }

  getItem(key) {
    const stored = this.storage?.getItem(key) ?? null;
    const kept = this.#kept.get(key);
    return kept?.stored === stored ? kept.value : stored;
  }

  setItem(key, value) {
    try {
      this.storage.setItem(key, value);
      this.#kept.delete(key);
    } catch {
      this.#kept.set(key, { value, stored: this.storage?.getItem(key) ?? null });
    }
  }

  removeItem(key) {
    this.#kept.delete(key);
    this.storage?.removeItem(key);
  }

  clear() {
    this.#kept.clear();
    for (const key of Object.keys(this.storage ?? {})) if (key.startsWith('chat.')) this.removeItem(key);
  }
}

export function openStorage(name) {
  try {
    window[name].getItem(''); // throws if storage is blocked, null or damaged
    return new Store(window[name]);
  } catch {
    return new Store();
  }
}

/** Whether a value has all the fields of an example, of the same types; each element of an array is like the first. */
function isLike(value, example) {
  if (typeof value !== typeof example || value === null || Array.isArray(value) !== Array.isArray(example)) return false;
  if (Array.isArray(example)) return value.every((each) => isLike(each, example[0]));
  return typeof example !== 'object' || Object.keys(example).every((field) => isLike(value[field], example[field]));
}

export function readJson(storage, key, example, otherwise) {
  try {
    const value = JSON.parse(storage.getItem(key) ?? 'null');
    return isLike(value, example) ? value : otherwise;
  } catch {
    return otherwise;
  }
}
