/**
 * The text field: writes, replies and edits. Nothing typed is lost by a reload or a look at another room.
 * Owns: the field, the drafts (one per room, kept by the tab and the browser), the reply or edit (kept by the tab).
 * May not: know whether there is a connection.
 */
import { Completion } from './completion.js';
import { byId, hasCommandKey, hasFingers, isApple, isForInputMethod, make, setText } from './dom.js';
import { inShort } from './markdown.js';
import { readJson } from './storage.js';
import { actionIn, mentionsIn, withEmoji } from './text.js';

const DRAFT_KEY = 'chat.draft.'; // + room
const ABOUT_KEY = 'chat.about.'; // + room
const COMMAND = /^\/[^\s/]*(?!\S)/; // `//x` sends /x, and `/a/path` is a text, as in the terminal client
const MAX_BYTES = 8 * 1024; // of UTF-8, the server's limit; a message over twice that closes the connection
const MAX_MENTIONS = 20;
const MAX_ANSWERED = 300; // characters; a screen reader says them all
const MARKS = { b: '**', i: '*' }; // by the key that is pressed with Ctrl

const isCommand = (text) => COMMAND.test(text) && actionIn({ text }) === null;

export class Composer {
  #form = byId('composer');
  #text = byId('text');
  #send = byId('send');
  #refused = byId('refused');
  #about = null; // {kind: 'reply' or 'edit', message}

  constructor(client, { tab, browser, sent, tell }) {
    this.client = client;
    this.tab = tab;
    this.browser = browser;
    this.sent = sent;
    this.tell = tell;
    this.completion = new Completion(client, this.#text);
    const early = this.#text.value; // typed before this module was loaded
    client.addEventListener('room', () => this.#show());
    if (early) client.addEventListener('room', () => this.#write(this.#text.value, early), { once: true });
    client.addEventListener('identity', () => client.current && this.#invite());
    for (const event of ['room', 'rights']) client.addEventListener(event, () => this.#allow());
    for (const event of ['messages', 'caughtup']) client.addEventListener(event, () => this.#refresh());
    this.#form.addEventListener('submit', (event) => this.#submit(event));
    this.#text.addEventListener('input', () => this.#typed());
    this.#text.addEventListener('keydown', (event) => this.#key(event));
    addEventListener('keydown', (event) => this.#stray(event));
    byId('about-close').addEventListener('click', () => this.stop());
    if (!hasFingers()) return;
    this.#text.enterKeyHint = 'enter';
    this.#text.removeAttribute('aria-describedby'); // it says that Enter sends
  }

  focus() {
    if (this.client.current?.readOnly) byId('scroller').focus();
    else this.#text.focus();
  }

  /** Where the user may not write, the form says that instead of showing the field. */
  #allow() {
    const { readOnly } = this.client.current;
    const hadFocus = this.#form.contains(document.activeElement);
    setText(byId('read-only'), readOnly ? `${readOnly.message}.` : '');
    byId('sign-in').hidden = readOnly?.code !== 'unauthenticated';
    if (hadFocus && readOnly) byId('scroller').focus({ focusVisible: false }); // its keys scroll
    this.#fit();
  }

  reply(message) {
    if (this.#about?.kind === 'edit') this.stop();
    this.#turnTo('reply', message, this.#text.value);
    this.focus();
  }

  edit(message, text = message.text) {
    this.#turnTo('edit', message, text);
    this.focus();
  }

  /**
   * Write a message anew that was not sent, before what is being written.
   * @returns false if it may have been sent
   */
  takeBack(key) {
    const { current, outbox } = this.client;
    const item = outbox.takeBack(key);
    if (item === null) return false;
    const { replyTo, change } = item.extras;
    const edited = change && current.find(change.offset);
    if (edited && !edited.deleted) this.edit(edited, item.text);
    else this.#rewrite(item.text, replyTo === undefined ? null : current.find(replyTo));
    return true;
  }

  #rewrite(text, answered) {
    if (this.#about) this.stop();
    if (answered) this.reply(answered);
    this.#write(isCommand(text) ? `/${text}` : text, this.#text.value);
    this.focus();
  }

  /** End a reply or an edit; after an edit the draft comes back. */
  stop() {
    this.#end();
    this.focus();
  }

  #end() {
    if (this.#about === null) return;
    const wasEdit = this.#about.kind === 'edit';
    this.#about = null;
    byId('about-text').replaceChildren();
    if (wasEdit) this.#text.value = this.#draft;
    this.#changed();
  }

  /** The one of this tab first: another tab may have sent the browser's. */
  get #draft() {
    return this.tab.getItem(DRAFT_KEY + this.client.room) ?? this.browser.getItem(DRAFT_KEY + this.client.room) ?? '';
  }

  #turnTo(kind, message, text) {
    const was = this.#about?.message.text;
    this.#about = { kind, message: { ...message } }; // the original changes
    const name = this.client.identity.owns(message) ? 'yourself' : message.user.name;
    const shown = kind === 'edit' ? ['Editing your message'] : [make('bdi', {}, `Replying to ${name}`), `: ${inShort(message).slice(0, MAX_ANSWERED)}`];
    byId('about-text').replaceChildren(...shown);
    this.#text.value = text;
    this.#changed();
    if (kind !== 'edit' || !message.deleted) return;
    if (text === was) this.#end();
    else this.#rewrite(text, null);
    this.tell('The message that you were editing was deleted.');
  }

  /** The answered or edited message may have changed, or be gone. */
  #refresh() {
    const { timeline } = this.client.current;
    if (!this.#about || timeline.epoch === null) return;
    const { kind, message } = this.#about;
    const isGone = message.cursor !== timeline.cursorAt(message.offset);
    const found = isGone ? { ...message, offset: undefined, text: '', deleted: true } : this.client.current.find(message.offset);
    if (!found || found.text === message.text) return;
    const { value } = this.#text;
    const isUnchanged = kind === 'edit' && value === message.text && !found.deleted;
    this.#turnTo(kind, found, isUnchanged ? found.text : value);
  }

  /** A guest reads under which name, since the server may have chosen it, and a phone shows it nowhere else. */
  #invite() {
    const { identity: { signedIn, user }, room } = this.client;
    this.#text.placeholder = user && !signedIn ? `Message as ${user.name}` : `Message #${room}`;
  }

  #show() {
    const { room } = this.client;
    this.#invite();
    this.completion.close();
    const kept = readJson(this.tab, ABOUT_KEY + room, { text: '', message: { cursor: '', text: '', user: { id: '', name: '' } } }, null);
    this.#about = kept;
    byId('about-text').replaceChildren();
    this.#text.value = this.#draft;
    if (kept) this.#turnTo(kept.kind, kept.message, kept.text);
    else this.#changed();
    this.#refresh();
  }

  #write(...texts) {
    this.#text.value = texts.filter(Boolean).join('\n');
    this.#typed();
  }

  #typed() {
    const { value } = this.#text;
    this.#changed();
    if (this.#about?.kind === 'edit') return;
    for (const storage of [this.tab, this.browser]) {
      if (value) storage.setItem(DRAFT_KEY + this.client.room, value);
      else storage.removeItem(DRAFT_KEY + this.client.room);
    }
    if (value.trim()) this.client.current.typing();
  }

  #changed() {
    this.#fit();
    this.#keep();
    if (this.#refused.textContent) setText(this.#refused, this.#refusal());
  }

  #keep() {
    const key = ABOUT_KEY + this.client.room;
    if (this.#about) this.tab.setItem(key, JSON.stringify({ ...this.#about, text: this.#text.value }));
    else this.tab.removeItem(key);
  }

  #fit() {
    this.#send.disabled = this.#text.value.trim() === '';
    // The form keeps its height meanwhile: a lower one would move the list of messages.
    this.#form.style.minHeight = `${this.#form.offsetHeight}px`;
    this.#text.style.height = 'auto';
    this.#text.style.height = `${this.#text.scrollHeight}px`;
    this.#form.style.minHeight = '';
  }

  #key(event) {
    if (isForInputMethod(event) || this.completion.key(event)) return;
    if (hasCommandKey(event) && Object.hasOwn(MARKS, event.key)) this.#mark(event, MARKS[event.key]);
    else if (event.key === 'Escape' && this.#about) this.stop();
    else if (event.key === 'ArrowUp' && this.#text.value === '' && !this.#about) this.#editLast(event);
    else if (event.key === 'Enter' && !event.shiftKey && (event.ctrlKey || event.metaKey || !(hasFingers() || this.#isInCode()))) {
      event.preventDefault();
      this.#form.requestSubmit();
    }
  }

  /** Whether the caret is in a code block that is not closed yet. */
  #isInCode() {
    const before = this.#text.value.slice(0, this.#text.selectionStart);
    return /^```/m.test(before) && before.split('```').length % 2 === 0;
  }

  /** Put marks around the selected text, in a way that the browser can undo. */
  #mark(event, mark) {
    event.preventDefault();
    const { selectionStart, selectionEnd, value } = this.#text;
    document.execCommand('insertText', false, mark + value.slice(selectionStart, selectionEnd) + mark);
    this.#text.setSelectionRange(selectionStart + mark.length, selectionEnd + mark.length);
  }

  /** What is typed or pasted outside any field goes into the composer: focused now, it gets this key. */
  #stray(event) {
    const { key = '', ctrlKey, metaKey, altKey, defaultPrevented, target } = event; // none where Chrome fills in a field
    // AltGr types a character but reports Ctrl and Alt; a dead key combines with the next one.
    const isCommand = (ctrlKey || metaKey || (altKey && !isApple)) && !event.getModifierState('AltGraph');
    const isMeant = isCommand ? key === 'v' && !altKey : (key.length === 1 && key !== ' ') || key === 'Dead';
    if (!isMeant || defaultPrevented || target.closest('input, textarea, select, dialog, [popover], .panel.open')) return;
    this.focus();
  }

  #editLast(event) {
    const { identity, current } = this.client;
    const last = current.timeline.messages.findLast((message) => identity.owns(message) && !current.find(message.offset).deleted);
    event.preventDefault();
    const waiting = current.pending.at(-1);
    if (waiting) this.takeBack(waiting.key) || this.tell('Your last message cannot be edited yet.');
    else if (last) this.edit(current.find(last.offset));
  }

  get #written() {
    return withEmoji(this.#text.value.trimEnd());
  }

  /** Why the text cannot be sent; empty if it can. */
  #refusal() {
    const text = this.#written;
    const bytes = new TextEncoder().encode(text).length;
    if (bytes > MAX_BYTES) return `This message is too long: ${bytes.toLocaleString()} bytes, at most ${MAX_BYTES.toLocaleString()}.`;
    if (!isCommand(text) || this.#about?.kind === 'edit') return '';
    const [command] = text.split(/\s/, 1);
    return `No such command: ${command} (there is only /me TEXT). To send it as text, write /${command}.`;
  }

  #submit(event) {
    event.preventDefault();
    const text = this.#written;
    if (text.trim() === '') return;
    setText(this.#refused, this.#refusal());
    if (this.#refused.textContent) return;
    if (this.#about?.kind === 'edit') this.#sendEdit(this.#about.message, text);
    else this.#publish(text.replace(/^\/\//, '/'));
  }

  #sendEdit(message, text) {
    this.stop();
    if (text === withEmoji(message.text)) return;
    // The text of an edit that fails is kept below the messages, which may be out of sight.
    this.client.current.edit(message.offset, text).catch((error) => error.code === 'aborted' || this.tell(`Not changed: ${error.message}`));
  }

  #publish(text) {
    const replyTo = this.#about?.message.offset;
    this.#text.value = '';
    this.#typed();
    const { client } = this;
    const { current } = client;
    const isRefused = ({ code }) => code === 'forbidden' || code === 'unauthenticated';
    current.publish(text, { replyTo, mentions: this.#mentioned(text) }).catch((error) => isRefused(error) && client.askRights(current));
    this.stop();
    this.sent();
  }

  #mentioned(text) {
    if (!text.includes('@')) return [];
    const people = this.completion.people();
    const named = new Set(mentionsIn(text.normalize(), people.map(({ name }) => name)).map(({ name }) => name));
    return people.filter(({ name }) => named.has(name)).map(({ id }) => id).slice(0, MAX_MENTIONS);
  }
}
