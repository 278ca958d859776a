/**
 * What a browser keeps for us, if it does: with storage blocked or full the page works all the same and forgets on reload.
 * Owns: the fall-back, and distrust of what is read (another version of this page may have written it).
 */

export class MemoryStorage {
  /** @type {Map<string, string>} */
  #values = new Map();

  getItem(key) {
    return this.#values.get(key) ?? null;
  }

  setItem(key, value) {
    this.#values.set(key, value);
  }

  removeItem(key) {
    this.#values.delete(key);
  }
}

/** The browser's own; what it has no room for is remembered by the page. */
class BrowserStorage extends MemoryStorage {
  constructor(storage) {
    super();
    this.storage = storage;
  }

  getItem(key) {
    return super.getItem(key) ?? this.storage.getItem(key);
  }

  setItem(key, value) {
    try {
      this.storage.setItem(key, value);
      super.removeItem(key);
    } catch {
      super.setItem(key, value);
    }
  }

  removeItem(key) {
    super.removeItem(key);
    this.storage.removeItem(key);
  }
}

/** @typedef {Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>} Store */

export function openStorage(name) {
  try {
    const storage = window[name]; // throws where the person blocks storage, and is null in a Firefox that has it off
    if (storage) return new BrowserStorage(storage);
  } catch {}
  return new MemoryStorage();
}

export function readJson(storage, key, isGood, otherwise) {
  try {
    const value = JSON.parse(storage.getItem(key) ?? 'null');
    return isGood(value) ? value : otherwise;
  } catch {
    return otherwise;
  }
}
