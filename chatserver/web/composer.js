/**
 * Where messages are written, answered and corrected: nothing typed is ever lost.
 * Owns: the text field, the drafts (one per room, kept by the browser), what is answered or corrected.
 * May not: know whether we are online.
 *
 * @import { ChatClient } from './client.js'
 * @import { Store } from './storage.js'
 * @import { Message } from './wire.js'
 */
import { Completion } from './completion.js';
import { byId, hasFingers } from './dom.js';
import { withEmoji } from './emoji.js';
import { mentionsIn } from './text.js';

const DRAFT_KEY = 'chat.draft.'; // + room
const MOST_BYTES = 8 * 1024; // of UTF-8, as the server has it; a far longer one would even close the connection
const MOST_MENTIONS = 20;

export class Composer {
  #form = /** @type {HTMLFormElement} */ (byId('composer'));
  #text = /** @type {HTMLTextAreaElement} */ (byId('text'));
  #send = /** @type {HTMLButtonElement} */ (byId('send'));
  /** @type {{kind: 'reply' | 'edit', message: Message} | null} */
  #about = null;
  #room = '';
  /** @type {Map<string, {kind: 'reply' | 'edit', message: Message, text: string}>} what was answered or corrected, by room */
  #left = new Map();

  /**
   * @param {ChatClient} client
   * @param {{storage: Store, sent: () => void, problem: (problem: string) => void}} options
   */
  constructor(client, { storage, sent, problem }) {
    this.client = client;
    this.storage = storage;
    this.sent = sent;
    this.problem = problem;
    this.completion = new Completion(client, this.#text, () => this.#edited());
    client.addEventListener('room', () => this.#show());
    this.#form.addEventListener('submit', (event) => this.#submit(event));
    this.#text.addEventListener('input', () => this.#edited());
    this.#text.addEventListener('keydown', (event) => this.#key(event));
    byId('about-close').addEventListener('click', () => this.stop());
    if (hasFingers()) this.#text.enterKeyHint = 'enter';
  }

  focus() {
    this.#text.focus();
  }

  /** @param {Message} message */
  reply(message) {
    if (this.#about?.kind === 'edit') this.stop();
    this.#turnTo('reply', message);
  }

  /**
   * @param {Message} message
   * @param {string} [text] what becomes of it
   */
  edit(message, text = message.text) {
    this.#turnTo('edit', message);
    this.#text.value = text;
    this.#fit();
  }

  /** Answer and correct nothing any more; a draft comes back. */
  stop() {
    const wasEdit = this.#about?.kind === 'edit';
    this.#about = null;
    byId('about').hidden = true;
    if (wasEdit) this.#text.value = this.storage.getItem(DRAFT_KEY + this.client.room) ?? '';
    this.#fit();
    this.focus();
  }

  /**
   * @param {'reply' | 'edit'} kind
   * @param {Message} message
   */
  #turnTo(kind, message) {
    this.#about = { kind, message };
    const name = this.client.identity.owns(message) ? 'yourself' : message.user.name;
    byId('about-text').textContent = kind === 'edit' ? 'Editing your message' : `Replying to ${name}: ${message.text}`;
    byId('about').hidden = false;
    this.focus();
  }

  #show() {
    const { room } = this.client;
    if (this.#about) this.#left.set(this.#room, { ...this.#about, text: this.#text.value });
    this.#room = room;
    this.#about = null;
    byId('about').hidden = true;
    this.#text.value = this.storage.getItem(DRAFT_KEY + room) ?? '';
    this.#text.placeholder = `Message #${room}`;
    this.completion.close();
    this.#goOn();
    this.#fit();
  }

  /** With what was answered or corrected when the room was left. */
  #goOn() {
    const left = this.#left.get(this.#room);
    if (!left) return;
    this.#left.delete(this.#room);
    this.#turnTo(left.kind, left.message);
    if (left.kind === 'edit') this.#text.value = left.text;
  }

  #edited() {
    const { value } = this.#text;
    this.#fit();
    if (this.#about?.kind === 'edit') return;
    if (value) this.storage.setItem(DRAFT_KEY + this.client.room, value);
    else this.storage.removeItem(DRAFT_KEY + this.client.room);
    if (value.trim()) this.client.current.typing();
  }

  #fit() {
    this.#send.disabled = this.#text.value.trim() === '';
    this.#text.style.height = 'auto';
    this.#text.style.height = `${this.#text.scrollHeight}px`;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    // isComposing: this Enter chooses a word in an input method and is not meant for us.
    if (event.isComposing || this.completion.key(event)) return;
    if (event.key === 'Escape' && this.#about) this.stop();
    else if (event.key === 'ArrowUp' && this.#text.value === '' && !this.#about) this.#editLast(event);
    // A phone's keyboard has no Shift+Enter, and it has our button right beside the text.
    else if (event.key === 'Enter' && !event.shiftKey && !hasFingers()) {
      event.preventDefault();
      this.#form.requestSubmit();
    }
  }

  /** @param {KeyboardEvent} event */
  #editLast(event) {
    const { identity, current } = this.client;
    const last = current.timeline.messages.findLast((message) => identity.owns(message) && !message.deleted);
    if (!last || !this.client.supports('edit')) return;
    event.preventDefault();
    this.edit(last);
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    event.preventDefault();
    const text = withEmoji(this.#text.value.replace(/\s+$/, ''));
    if (text.trim() === '') return;
    const bytes = new TextEncoder().encode(text).length;
    if (bytes > MOST_BYTES) {
      this.problem(`This message is too long: ${bytes.toLocaleString()} bytes, at most ${MOST_BYTES.toLocaleString()}.`);
      return;
    }
    const { current } = this.client;
    const about = this.#about;
    if (about?.kind === 'edit') {
      const { message } = about;
      if (text !== withEmoji(message.text)) {
        current.edit(message.offset, text).catch((error) => {
          this.problem(`Not changed: ${error.isUnsupported ? 'this server cannot do that.' : error.message}`);
          // What was typed is offered again, unless something else is being written.
          const isFree = current === this.client.current && !this.#about && this.#text.value === '';
          if (isFree && !error.isUnsupported) this.edit(message, text);
        });
      }
      return this.stop();
    }
    this.#text.value = '';
    this.#edited();
    const mentions = this.#mentioned(text);
    // Told where it is shown: beside the message that is on its way.
    current.publish(text, { replyTo: about?.message.offset, mentions }).catch(() => {});
    this.stop();
    this.sent();
  }

  /** @param {string} text */
  #mentioned(text) {
    if (!text.includes('@')) return [];
    const people = this.completion.people();
    const named = new Set(mentionsIn(text, people.map(({ name }) => name)).map(({ name }) => name));
    return people.filter(({ name }) => named.has(name)).map(({ id }) => id).slice(0, MOST_MENTIONS);
  }
}
