/**
 * What a browser keeps for us, if it does: with storage blocked or full the page works all the same and forgets on reload.
 * Owns: the fall-back, and distrust of what is read (another version of this page may have written it).
 */

export class MemoryStorage {
  /** @type {Map<string, string>} */
  #values = new Map();

  /** @param {string} key */
  getItem(key) {
    return this.#values.get(key) ?? null;
  }

  /**
   * @param {string} key
   * @param {string} value
   */
  setItem(key, value) {
    this.#values.set(key, value);
  }

  /** @param {string} key */
  removeItem(key) {
    this.#values.delete(key);
  }
}

/** The browser's own; what it has no room for is remembered by the page. */
class BrowserStorage extends MemoryStorage {
  /** @param {Storage} storage */
  constructor(storage) {
    super();
    this.storage = storage;
  }

  /** @param {string} key */
  getItem(key) {
    return super.getItem(key) ?? this.storage.getItem(key);
  }

  /**
   * @param {string} key
   * @param {string} value
   */
  setItem(key, value) {
    try {
      this.storage.setItem(key, value);
      super.removeItem(key);
    } catch {
      super.setItem(key, value);
    }
  }

  /** @param {string} key */
  removeItem(key) {
    super.removeItem(key);
    this.storage.removeItem(key);
  }
}

/** @typedef {Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>} Store */

/**
 * @param {'localStorage' | 'sessionStorage'} name
 * @returns {Store}
 */
export function openStorage(name) {
  try {
    const storage = window[name]; // throws where the person blocks storage, and is null in a Firefox that has it off
    if (storage) return new BrowserStorage(storage);
  } catch {}
  return new MemoryStorage();
}

/**
 * @template T
 * @param {Store} storage
 * @param {string} key
 * @param {(value: any) => value is T} isGood
 * @param {T} otherwise
 * @returns {T}
 */
export function readJson(storage, key, isGood, otherwise) {
  try {
    const value = JSON.parse(storage.getItem(key) ?? 'null');
    return isGood(value) ? value : otherwise;
  } catch {
    return otherwise;
  }
}
