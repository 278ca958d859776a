/**
 * Names after `@`, emoji after `:` and rooms after `#`, offered while the user types.
 * Owns: the list of offers, and which is chosen. May not: send anything.
 */
import { byId, choose, make } from './dom.js';
import { rooms } from './markdown.js';
import { NAMED } from './text.js';

const MAX_OFFERED = 8;
// An address has ASCII before it.
const WORD = /(?:^|[^!-')-~])(?:@([\p{L}\p{M}\p{N}\p{Join_C}_.-]*(?: [\p{L}\p{M}\p{N}\p{Join_C}_.-]+){0,3})|:([a-z0-9_+-]{2,})|#([a-z0-9][a-z0-9._-]+))$/u;

/** A text as words with a blank in front of each, so that the beginnings of words can be found. */
const words = (text) => ` ${text.normalize().toLowerCase().replaceAll('_', ' ')}`;

export class Completion {
  #list = byId('completions');
  #offers = []; // {put, shown}
  #chosen = 0;
  #start = 0; // of the word that an offer replaces
  #end = 0;

  constructor(client, field) {
    this.client = client;
    this.field = field;
    field.addEventListener('input', () => this.#offer());
    field.addEventListener('blur', () => this.close());
    document.addEventListener('selectionchange', () => field.selectionEnd !== this.#end && this.close());
  }

  /** The members of the room and the authors of its latest messages. */
  people() {
    const { current, identity } = this.client;
    const found = new Map(current.timeline.messages.slice(-200).map(({ user }) => [user.id, user]));
    for (const [id, user] of current.people) found.set(id, user);
    found.delete(identity.user?.id ?? '');
    return [...found.values()];
  }

  close() {
    this.#offers = [];
    this.#list.hidden = true;
    this.field.removeAttribute('aria-activedescendant');
  }

  #offer() {
    this.#end = this.field.selectionStart;
    const before = this.field.value.slice(0, this.#end);
    const word = WORD.exec(before);
    if (!word) return this.close();
    const [, name, emoji, room = ''] = word;
    this.#start = before.length - (name ?? emoji ?? room).length - 1;
    const isLike = (text, part) => words(text).includes(words(part));
    const found =
      name !== undefined
        ? this.people().filter((user) => isLike(user.name, name)).map((user) => ({ put: `@${user.name} `, shown: user.name }))
        : room
          ? [...rooms].filter((each) => each.startsWith(room)).map((each) => ({ put: `#${each} `, shown: `#${each}` }))
          : [...NAMED].filter(([key]) => isLike(key, emoji)).map(([key, value]) => ({ put: `${value} `, shown: `${value} :${key}:` }));
    const typed = `${before.slice(this.#start)} `;
    if (!found.length || found.some(({ put }) => put === typed)) return this.close(); // there is nothing to complete, and Enter sends
    this.#offers = found.slice(0, MAX_OFFERED);
    const options = this.#offers.map(({ shown }, index) =>
      make('li', { role: 'option', onmousedown: (event) => this.#click(event, index) }, shown),
    );
    this.#list.replaceChildren(...options);
    this.#list.hidden = false;
    this.#choose(0);
  }

  #click(event, index) {
    event.preventDefault(); // the field keeps the focus
    this.#choose(index);
    this.#put();
  }

  #choose(index) {
    this.#chosen = choose(this.field, this.#list, index);
  }

  /** Replace the word, in a way that the browser can undo; the `input` event closes the list. */
  #put() {
    this.field.setSelectionRange(this.#start, this.#end);
    document.execCommand('insertText', false, this.#offers[this.#chosen].put);
  }

  /** @returns whether the key was for the list */
  key(event) {
    if (!this.#offers.length) return false;
    if (event.key === 'ArrowDown') this.#choose(this.#chosen + 1);
    else if (event.key === 'ArrowUp') this.#choose(this.#chosen - 1);
    else if (event.key === 'Enter' || event.key === 'Tab') this.#put();
    else if (event.key === 'Escape') this.close();
    else return false;
    event.preventDefault();
    return true;
  }
}
