/**
 * The number of unread messages in the title, notifications, and what a screen reader says of new messages.
 * Owns: the level of each room (kept by this browser). May not: ask for permission unless the user pressed a button.
 */
import { byId, make } from './dom.js';
import { inShort } from './markdown.js';
import { actionIn, plural } from './text.js';
import { sleep } from './wire.js';

const KEY = 'chat.notify.'; // and the room: a choice counts in all tabs at once
const READ_WITHIN = 1_000; // ms; another tab may show the message
const MAX_BODY = 200; // characters of a message
const MAX_SPOKEN = 3; // messages at a time; of more only the number is spoken
const SPOKEN_FOR = 5_000; // ms; a line that goes sooner may not be spoken
const MAX_LINES = 20; // beyond it a screen reader is far behind

/** Some browsers have no notifications over plain http, or on phones. */
let canShow = 'Notification' in window;
const permission = () => (canShow ? Notification.permission : 'denied');

/** A notification; null in Chrome on Android, whose constructor throws. */
function notification(title, options) {
  try {
    return new Notification(title, options);
  } catch {
    canShow = false;
    return null;
  }
}

export class Notifier {
  #choice = byId('notify');
  #forOthers = new WeakSet(); // without a mention of the user so far; an edit may add one

  constructor(client, storage) {
    this.client = client;
    this.storage = storage;
    for (const event of ['room', 'unread', 'left']) client.addEventListener(event, () => this.#showTitle());
    client.addEventListener('messages', ({ detail }) => this.#heard(detail));
    this.#choice.addEventListener('change', () => this.#chosen());
    byId('notify-allow').addEventListener('click', () => (this.#choice.focus(), this.#askPermission())); // it goes
    byId('room-menu').addEventListener('beforetoggle', () => this.#showPermission());
  }

  #level(room) {
    return this.storage.getItem(KEY + room) ?? 'mentions';
  }

  #showTitle() {
    let unread = 0;
    for (const room of this.client.rooms.values()) if (this.#level(room.name) !== 'nothing') unread += room.unread;
    document.title = `${unread ? `(${unread > 999 ? '999+' : unread}) ` : ''}#${this.client.room} · chat`;
  }

  async #chosen() {
    const level = this.#choice.value;
    this.storage.setItem(KEY + this.client.room, level);
    this.#showTitle();
    if (level !== 'nothing' && permission() === 'default') await this.#askPermission();
    this.#showPermission();
  }

  async #askPermission() {
    notification(''); // shows nothing without a permission
    if (canShow) await Notification.requestPermission();
    this.#showPermission();
  }

  #showPermission() {
    const isWanted = (this.#choice.value = this.#level(this.client.room)) !== 'nothing';
    byId('notify-allow').hidden = !isWanted || permission() !== 'default';
    byId('notify-blocked').hidden = !isWanted || permission() !== 'denied';
  }

  #heard({ room, added, changed, isLive }) {
    const mentions = this.#mentions(added, changed);
    if (!isLive) return;
    const isHere = room === this.client.room;
    const isOthers = (message) => !this.client.identity.owns(message);
    if (isHere) this.#speak(added.filter(isOthers));
    if (isHere && !document.hidden && document.hasFocus()) return;
    const level = this.#level(room);
    const wanted = level === 'all' ? [...mentions, ...added] : level === 'nothing' ? [] : mentions;
    const message = wanted.findLast(isOthers);
    if (!message) return;
    if (permission() === 'granted') this.#show(message, added.includes(message));
    else if (!isHere) this.#speak([message], ` in #${room}`);
  }

  #speak(messages, where = '') {
    const region = byId('messages-spoken');
    if (region.childElementCount >= MAX_LINES) return;
    const words = messages.map((message) => `${message.user.name}${where}${actionIn(message) === null ? ':' : ''} ${inShort(message)}`);
    const lines = words.length > MAX_SPOKEN ? [plural(words.length, 'new message')] : words;
    const spoken = lines.map((line) => make('p', {}, line));
    region.append(...spoken);
    setTimeout(() => spoken.forEach((each) => each.remove()), SPOKEN_FOR);
  }

  #mentions(added, changed) {
    for (const message of added) this.#forOthers.add(message);
    return [...changed, ...added].filter((message) => this.client.mentionsUs(message) && this.#forOthers.delete(message));
  }

  async #show(message, isNew) {
    const { room, offset, user } = message;
    await sleep(READ_WITHIN);
    const isRead = isNew && (this.client.rooms.get(room)?.firstUnread ?? Infinity) > offset; // an edit is of any age
    if (isRead || message.deleted) return;
    const shown = notification(`${user.name} in #${room}`, { body: inShort(message).slice(0, MAX_BODY), tag: `chat-${room}` });
    if (shown === null) return;
    shown.onclick = () => {
      window.focus();
      location.hash = `${room}/${offset}`;
      shown.close();
    };
  }
}
