/**
 * Where messages are written: Enter sends, Shift+Enter begins a line, and nothing typed is ever lost.
 * Owns: the text field and the drafts, one per room, kept in the tab's storage. May not: know whether we are online.
 *
 * @import { ChatClient } from './client.js'
 * @import { Store } from './storage.js'
 */
import { byId } from './dom.js';

const DRAFT_KEY = 'chat.draft.'; // + room
const MOST_BYTES = 8 * 1024; // of UTF-8, as the server has it; a far longer one would even close the connection

export class Composer {
  #form = /** @type {HTMLFormElement} */ (byId('composer'));
  #text = /** @type {HTMLTextAreaElement} */ (byId('text'));
  #send = /** @type {HTMLButtonElement} */ (byId('send'));

  /**
   * @param {ChatClient} client
   * @param {{storage: Store, sent: () => void, problem: (problem: string) => void}} options
   */
  constructor(client, { storage, sent, problem }) {
    this.client = client;
    this.storage = storage;
    this.sent = sent;
    this.problem = problem;
    client.addEventListener('room', () => this.#show());
    this.#form.addEventListener('submit', (event) => this.#submit(event));
    this.#text.addEventListener('input', () => this.#edited());
    this.#text.addEventListener('keydown', (event) => this.#key(event));
  }

  focus() {
    this.#text.focus();
  }

  #show() {
    const { room } = this.client;
    this.#text.value = this.storage.getItem(DRAFT_KEY + room) ?? '';
    this.#text.placeholder = `Message #${room}`;
    this.#edited();
  }

  #edited() {
    const { value } = this.#text;
    if (value) this.storage.setItem(DRAFT_KEY + this.client.room, value);
    else this.storage.removeItem(DRAFT_KEY + this.client.room);
    this.#send.disabled = value.trim() === '';
    this.#text.style.height = 'auto';
    this.#text.style.height = `${this.#text.scrollHeight}px`;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    // isComposing: this Enter chooses a word in an input method and is not meant for us.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#form.requestSubmit();
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    event.preventDefault();
    const text = this.#text.value.replace(/\s+$/, '');
    if (text.trim() === '') return;
    const bytes = new TextEncoder().encode(text).length;
    if (bytes > MOST_BYTES) {
      this.problem(`This message is too long: ${bytes.toLocaleString()} bytes, at most ${MOST_BYTES.toLocaleString()}.`);
      return;
    }
    this.#text.value = '';
    this.#edited();
    this.client.send(text);
    this.sent();
    this.focus();
  }
}
