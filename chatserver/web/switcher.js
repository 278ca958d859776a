/**
 * Ctrl-K: go to a room by a few letters of its name, or search messages, in one room with `in:room`.
 * Owns: the dialog, its list, which row is chosen. May not: open a room itself (the address does).
 */
import { byId, choose, hasCommandKey, isForInputMethod, make, setText } from './dom.js';
import { plain } from './markdown.js';
import { badge, roomNamed } from './panels.js';
import { clock, dayName, plural } from './text.js';
import { ROOM_NAME } from './wire.js';

const MAX_ROOMS = 7;
const ACTIVE = 'aria-activedescendant';
const ACTIVE_AFTER = 3_000; // ms; a row that is active sooner breaks off what screen readers say of the dialog and its field
const SEARCH_AFTER = 350; // ms without another letter; the server takes three a second
const MAX_FOUND = 20;
const SEARCHED = /\p{Ideographic}|[\p{L}\p{N}].|.[\p{L}\p{N}]/u; // not for one letter, or where no word is
const WITHIN = /(?<!\S)in:#?(\S+)/; // limits a search to a room
const EDGE = '\uFDD0'; // marks a hit; no text has this character
/** Marks without their counterpart, since a snippet is cut from a text. */
const HALF = /```|(?<!\w)(?:\*\*|~~|`)(?=\S)|(?<=\S)(?:\*\*|~~|`)(?!\w)/g;

export class Switcher {
  #dialog = byId('switcher');
  #input = byId('switcher-input');
  #list = byId('switcher-list');
  #note = byId('switcher-note');
  #chosen = 0;
  #new = null; // the row that opens a new room, behind all others
  #timer = 0;
  #searching = null;

  constructor(client, rooms) {
    this.client = client;
    this.rooms = rooms;
    byId('find').addEventListener('click', () => this.open());
    addEventListener('keydown', (event) => {
      if (!hasCommandKey(event) || event.key.toLowerCase() !== 'k' || event.shiftKey || event.altKey) return;
      event.preventDefault();
      this.open();
    });
    this.#input.addEventListener('input', () => this.#typed());
    this.#input.addEventListener('keydown', (event) => this.#key(event));
    this.#list.addEventListener('click', () => this.#dialog.close());
    let isOutside = false; // where the press began: to select in the field, it may end outside
    this.#dialog.addEventListener('pointerdown', ({ target, offsetX, offsetY }) => {
      const { clientWidth, clientHeight } = this.#dialog;
      isOutside = target === this.#dialog && Math.min(offsetX, offsetY, clientWidth - offsetX, clientHeight - offsetY) < 0;
    });
    this.#dialog.addEventListener('click', () => isOutside && this.#dialog.close());
  }

  open() {
    if (this.#dialog.open) return;
    this.#input.value = '';
    this.#dialog.showModal();
    this.#typed();
    this.#input.removeAttribute(ACTIVE);
    setTimeout(() => this.#input.hasAttribute(ACTIVE) || this.#input.setAttribute(ACTIVE, `${this.#list.id}-0`), ACTIVE_AFTER);
  }

  #typed() {
    const typed = this.#input.value.trim();
    const name = roomNamed(typed);
    const news = ({ unread = 0, mentions = 0 } = {}) => (unread ? badge(unread, mentions) : '');
    // Until something is typed the present room is last, so that Enter leads to another.
    const rank = (each) => (name ? Number(each !== name) + Number(!each.startsWith(name)) : Number(each === this.client.room));
    const found = [...new Set([...this.rooms.names, ...this.client.markers.rooms])].filter((each) => each.includes(name)).sort((a, b) => rank(a) - rank(b));
    const hasNews = (each) => name === '' && this.client.rooms.get(each)?.unread;
    const rows = found.filter((each, at) => at < MAX_ROOMS || hasNews(each)).map((each) =>
      this.#option(`#${each}`, make('b', {}, `#${each}`), news(this.client.rooms.get(each))),
    );
    this.#new = null;
    if (ROOM_NAME.test(name) && !found.includes(name)) {
      this.#new = this.#option(`#${name}`, 'Open ', make('b', {}, `#${name}`));
      if (!/\s/.test(typed)) rows.push(this.#new); // else a search, and Enter may come before its answer
    }
    this.#list.replaceChildren(...rows);
    this.#choose(0);
    clearTimeout(this.#timer);
    this.#searching?.abort();
    const [, room] = WITHIN.exec(typed) ?? [];
    const words = typed.replace(WITHIN, '').trim();
    const maySearch = SEARCHED.test(words);
    if (maySearch) setText(this.#note, 'Searching…');
    else if (typed) setText(this.#note, rows.length || room ? '' : 'No such room.');
    else setText(this.#note, 'in:room before the words searches one room.');
    if (maySearch) this.#timer = setTimeout(() => this.#search(words, room && roomNamed(room)), SEARCH_AFTER);
  }

  async #search(words, room) {
    this.#searching = new AbortController();
    const { signal } = this.#searching;
    let results = [];
    let note = 'No message has these words.';
    try {
      ({ results } = await this.client.api.search({ q: words, room, limit: MAX_FOUND }, signal));
      if (results.length) note = results.length < MAX_FOUND ? `${plural(results.length, 'message')} found.` : `The ${MAX_FOUND} best messages.`;
    } catch (error) {
      note = `The search failed: ${error.message}`;
    }
    if (signal.aborted) return;
    const options = [...this.#list.querySelectorAll('a')];
    const chosen = this.#chosen ? options[this.#chosen] : null; // a first row that nobody chose may be moved by a hit
    this.#list.append(...results.map((message) => this.#found(message)), this.#new ?? '');
    setText(this.#note, note);
    this.#choose(chosen ? [...this.#list.querySelectorAll('a')].indexOf(chosen) : 0);
  }

  #found({ room, offset, user, time, text, snippet = [[text, false]] }) {
    const at = new Date(time);
    const shown = plain(snippet.map(([part, isHit]) => (isHit ? EDGE + part + EDGE : part)).join('')).replace(HALF, '');
    const parts = shown.split(EDGE).map((part, at) => (at % 2 ? make('mark', {}, part) : part));
    return this.#option(
      `#${room}/${offset}`,
      make('span', { className: 'found-at' }, ...[`#${room}`, ` · ${user.name}`, ` · ${dayName(at)} ${clock(at)}`].map((part) => make('span', {}, part))),
      make('span', { className: 'snippet', dir: 'auto' }, ...parts),
    );
  }

  #option(href, ...content) {
    return make('li', { role: 'none' }, make('a', { href, role: 'option', tabIndex: -1 }, ...content));
  }

  #choose(index) {
    this.#chosen = choose(this.#input, this.#list, index);
  }

  #key(event) {
    if (isForInputMethod(event)) return;
    if (event.key === 'ArrowDown') this.#choose(this.#chosen + 1);
    else if (event.key === 'ArrowUp') this.#choose(this.#chosen - 1);
    else if (event.key === 'Enter') this.#list.querySelectorAll('a')[this.#chosen]?.click();
    else return;
    event.preventDefault();
  }
}
