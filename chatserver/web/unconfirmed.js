/**
 * The user's own edits, deletions and reactions that the log does not have yet, so that they are shown at once.
 * Owns: which these are. May not: ask the server, or alter a message. What is shown is made from the message as the log
 * has it each time, so a change by somebody else counts, and a refused change leaves nothing behind.
 *
 * @import { Message } from './wire.js'
 *
 * @typedef {object} Change
 * @property {'edit' | 'delete' | 'react'} type
 * @property {number} offset of the message
 * @property {string} [text]
 * @property {string} [emoji]
 * @property {boolean} [on]
 * @property {number} until the offset of its record; Infinity before the server has answered, 0 if it has refused
 */
export class Unconfirmed {
  /** @type {Change[]} in the order in which they were made */
  #changes = [];

  /** @returns {Change} */
  add(asked) {
    const change = { ...asked, until: Infinity };
    this.#changes.push(change);
    return change;
  }

  /**
   * Forget the changes that the log has, or that were refused.
   * @param {number} through the offset up to which nothing of the log is missing
   * @returns {number[]} the offsets of their messages
   */
  forgetDone(through) {
    const done = this.#changes.filter(({ until }) => until <= through);
    if (done.length) this.#changes = this.#changes.filter(({ until }) => until > through);
    return done.map(({ offset }) => offset);
  }

  #of(offset) {
    return this.#changes.filter((change) => change.offset === offset);
  }

  /**
   * @param {Message} message
   * @returns {Message & {isUnconfirmed?: boolean}} the message with its new text, or without one
   */
  applyTo(message) {
    const change = this.#of(message.offset).findLast(({ type }) => type !== 'react');
    if (!change || message.deleted) return message;
    const isUnconfirmed = true;
    if (change.type === 'edit') return { ...message, text: change.text ?? '', edited: message.time, isUnconfirmed };
    return { ...message, text: '', deleted: true, reactions: {}, isUnconfirmed };
  }

  /** @returns {Map<string, boolean>} by emoji, whether the user will have reacted so */
  reactionsTo(offset) {
    return new Map(this.#of(offset).flatMap(({ emoji, on }) => (emoji === undefined ? [] : [[emoji, Boolean(on)]])));
  }
}
