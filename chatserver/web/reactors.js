/**
 * Who reacted to the messages of a room. A message only counts its reactions; their records, as far as they are here,
 * name the users, ourselves too. May not: count, or see records before a gap, in which a reaction may have been taken back.
 *
 * @import { Change, Message, User } from './wire.js'
 */

export class Reactors {
  /** @type {Map<string, Map<string, Change>>} the last record, by message and emoji, and by user */
  #last = new Map();

  /** @param {(Message | Change)[]} records in any order, also repeatedly */
  note(records) {
    for (const record of records) {
      if (!('target' in record) || !record.emoji || !record.user) continue;
      const key = `${record.target} ${record.emoji}`;
      const users = this.#last.get(key) ?? new Map();
      this.#last.set(key, users);
      if ((users.get(record.user.id)?.offset ?? 0) < record.offset) users.set(record.user.id, record);
    }
  }

  /**
   * @param {number} offset of a message
   * @returns {User[]} as far as is known
   */
  of(offset, emoji) {
    const users = this.#last.get(`${offset} ${emoji}`)?.values() ?? [];
    return [...users].flatMap(({ on, user }) => (on && user ? [user] : []));
  }

  /** Some records are lost, and with them reactions that were taken back. */
  clear() {
    this.#last.clear();
  }

  /** @param {number} first offset of the messages that are kept */
  trim(first) {
    for (const key of this.#last.keys()) if (parseInt(key) < first) this.#last.delete(key);
  }
}
