/**
 * What a moderator can do about a person in the open room: mute, ban, take out.
 * Owns: the one menu for it, and its confirmation. May not: decide who may; the server does.
 *
 * @import { ChatClient } from './client.js'
 * @import { User } from './wire.js'
 */
import { byId, isSure, make, openAt } from './dom.js';

/** @type {{[value: string]: {request: object, done: string}}} by the button's value */
const DEEDS = {
  mute: { request: { type: 'sanction', kind: 'mute', seconds: 600 }, done: 'may not write for 10 minutes' },
  ban: { request: { type: 'sanction', kind: 'ban', seconds: 3600 }, done: 'is banned for an hour' },
  kick: { request: { type: 'kick' }, done: 'is out, and may come back' },
};

export class PersonMenu {
  #menu = byId('person-menu');
  /** @type {{room: string, user: User} | null} */
  #about = null;

  /**
   * @param {ChatClient} client
   * @param {(text: string) => void} tell
   */
  constructor(client, tell) {
    this.client = client;
    this.tell = tell;
    this.#menu.addEventListener('click', (event) => this.#click(event));
  }

  /**
   * The button that opens it; nothing where we may not moderate, or for ourselves.
   * @param {User} user
   */
  button(user) {
    if (!this.client.identity.moderates(this.client.room) || this.client.identity.owns({ user })) return [];
    const label = `Moderate ${user.name}`;
    const onclick = (/** @type {MouseEvent} */ { currentTarget }) => this.#open(user, /** @type {HTMLElement} */ (currentTarget));
    return [make('button', { className: 'quiet', type: 'button', value: user.id, title: label, ariaLabel: label, onclick }, '⋯')];
  }

  /**
   * @param {User} user
   * @param {HTMLElement} button
   */
  #open(user, button) {
    this.#about = { room: this.client.room, user };
    byId('person-menu-title').textContent = `${user.name} in #${this.client.room}`;
    openAt(this.#menu, button);
  }

  /** @param {MouseEvent} event */
  async #click({ target }) {
    const button = target instanceof Element && target.closest('button');
    if (!button || !this.#about) return;
    const { room, user } = this.#about;
    const { request, done } = DEEDS[button.value];
    if (!isSure(button, `Press again: ${button.textContent?.toLowerCase()}, ${user.name}.`, this.tell)) return;
    this.#menu.hidePopover();
    try {
      await this.client.api.ask({ .../** @type {any} */ (request), room, user: user.id });
      this.tell(`${user.name} ${done}.`);
    } catch (error) {
      this.tell(`Nothing was done: ${error.message}`);
    }
  }
}
