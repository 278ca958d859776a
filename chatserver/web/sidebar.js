/**
 * The two panels: the rooms there are, and the people who are here.
 * Owns: both lists, and how often they are asked for. May not: switch rooms (a link to `#room` does).
 *
 * @import { ChatClient } from './client.js'
 * @import { Store } from './storage.js'
 * @import { Presence, User } from './wire.js'
 */
import { avatar, byId, make } from './dom.js';
import { readJson } from './storage.js';
import { plural } from './text.js';
import { ROOM_NAME } from './wire.js';

const ROOMS_EVERY = 20_000; // ms, while the page is looked at
const MEMBERS_EVERY = 15_000; // ms, where presence is not pushed (over HTTP)
const MEMBERS_SETTLE = 400; // ms; a hundred people that come at once are one question
const MEMBERS_SPREAD = 30; // ms a person there: however large the room, its pages ask about 70 times a second in all
const MOST_SHOWN = 100; // people; a longer list is a number
const VISITED_KEY = 'chat.rooms';
const MOST_VISITED = 20;

export class RoomsView {
  #list = byId('rooms');
  #form = /** @type {HTMLFormElement} */ (byId('room-form'));
  #hint = byId('room-hint');
  /** @type {string[]} opened from this browser, newest first */
  #visited;
  /** @type {Map<string, {messages: number, members: number}>} what the server says of its rooms */
  #known = new Map();
  /** @type {Map<string, number>} how many messages a room had when we left it or first heard of it */
  #seen = new Map();
  #isStale = true;

  /**
   * @param {ChatClient} client
   * @param {Store} storage
   */
  constructor(client, storage) {
    this.client = client;
    this.storage = storage;
    this.#visited = readJson(storage, VISITED_KEY, Array.isArray, ['lobby']);
    client.addEventListener('room', () => this.#visit(client.room));
    client.addEventListener('caughtup', () => this.#isStale && this.#refresh());
    this.#form.addEventListener('submit', (event) => this.#open(event));
    this.#form.addEventListener('input', () => (this.#hint.textContent = ''));
    setInterval(() => this.#refresh(), ROOMS_EVERY);
  }

  /** @param {string} room */
  #visit(room) {
    this.#isStale = true;
    this.#visited = [room, ...this.#visited.filter((each) => each !== room)].slice(0, MOST_VISITED);
    this.storage.setItem(VISITED_KEY, JSON.stringify(this.#visited));
    this.#show();
  }

  /** @param {SubmitEvent} event */
  #open(event) {
    event.preventDefault();
    const input = /** @type {HTMLInputElement} */ (byId('room-name'));
    const room = input.value.trim().toLowerCase().replace(/^#/, '').replace(/\s+/g, '-');
    if (!ROOM_NAME.test(room)) {
      this.#hint.textContent = room ? 'Letters a–z, digits, and . _ - inside.' : '';
      input.focus();
      return;
    }
    input.value = '';
    location.hash = room;
  }

  async #refresh() {
    const { phase } = this.client.state;
    if (document.hidden || phase === 'waiting' || phase === 'stopped') return;
    this.#isStale = false;
    try {
      const { rooms } = await this.client.api.rooms();
      this.#known = new Map(rooms.map((each) => [each.room, each]));
      this.#show();
    } catch (error) {
      console.warn('the list of rooms did not come:', error.message); // the old one stays; the next refresh is near
    }
  }

  #show() {
    const here = this.client.room;
    const busiest = [...this.#known].sort(([, a], [, b]) => b.members - a.members).slice(0, MOST_VISITED);
    const rooms = new Set([...this.#visited, ...busiest.map(([room]) => room), here]);
    const rows = [...rooms].filter(Boolean).sort().map((room) => this.#row(room, room === here));
    const focused = this.#list.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
    this.#list.replaceChildren(...rows);
    if (focused) /** @type {HTMLElement | null} */ (this.#list.querySelector(`[href="${CSS.escape(focused)}"]`))?.focus();
  }

  /**
   * @param {string} room
   * @param {boolean} isHere
   */
  #row(room, isHere) {
    const { messages, members } = this.#known.get(room) ?? { messages: 0, members: 0 };
    if (isHere) this.#seen.delete(room);
    else if (this.#known.has(room) && !this.#seen.has(room)) this.#seen.set(room, messages);
    const unread = isHere ? 0 : messages - (this.#seen.get(room) ?? messages);
    const link = make('a', { href: `#${room}` }, make('span', { className: 'name' }, room));
    if (isHere) link.ariaCurrent = 'page';
    if (unread > 0) {
      const spoken = make('span', { className: 'visually-hidden' }, ` new ${unread === 1 ? 'message' : 'messages'}`);
      link.append(make('span', { className: 'badge' }, unread > 99 ? '99+' : String(unread), spoken));
    } else if (members > 0) {
      link.append(make('span', { className: 'count', title: `${plural(members, 'person', 'people')} here` }, String(members)));
    }
    return make('li', {}, link);
  }
}

export class PeopleView {
  #list = byId('people');
  #more = byId('people-more');
  #count = byId('people-count');
  /** @type {Map<string, User>} by id */
  #people = new Map();
  #total = 0;
  #asking = 0;

  /** @param {ChatClient} client */
  constructor(client) {
    this.client = client;
    client.addEventListener('room', () => this.#forget());
    client.addEventListener('caughtup', ({ detail }) => this.#arrive(detail.members));
    client.addEventListener('presence', ({ detail }) => this.#change(detail));
    client.addEventListener('identity', () => this.#show());
    setInterval(() => this.#repeat(), MEMBERS_EVERY);
  }

  #forget() {
    clearTimeout(this.#asking);
    this.#asking = 0;
    this.#people.clear();
    this.#total = 0;
    this.#show();
  }

  /** @param {number | null} members */
  #arrive(members) {
    // Over HTTP every answer of a poll passes here; asking once per room is enough, the interval does the rest.
    if (members === null && this.#total > 0) return;
    this.#total = members ?? this.#total;
    this.#show();
    this.#askSoon();
  }

  /** @param {Presence} presence */
  #change({ joined, left, members }) {
    this.#total = members;
    for (const user of joined) this.#people.set(user.id, user);
    for (const user of left) this.#people.delete(user.id);
    // A large room tells only its count; and a count that does not fit the names shows that we missed something.
    if (this.#people.size !== members) this.#askSoon();
    this.#show();
  }

  #repeat() {
    const { phase, kind } = this.client.state;
    if (phase === 'live' && kind !== 'ws' && !document.hidden) this.#askSoon();
  }

  #askSoon() {
    const spread = Math.random() * this.#total * MEMBERS_SPREAD;
    this.#asking ||= setTimeout(() => this.#ask(), MEMBERS_SETTLE + spread);
  }

  async #ask() {
    this.#asking = 0;
    const { room } = this.client;
    try {
      const { members, count } = await this.client.members();
      if (room !== this.client.room) return;
      this.#people = new Map(members.map((user) => [user.id, user]));
      this.#total = count;
      this.#show();
    } catch (error) {
      console.warn('who is here did not come:', error.message); // the old list stays
    }
  }

  #show() {
    const own = this.client.identity.user?.id;
    const people = [...this.#people.values()].sort(
      (a, b) => Number(b.id === own) - Number(a.id === own) || a.name.localeCompare(b.name, undefined, { numeric: true }),
    );
    const shown = people.slice(0, MOST_SHOWN);
    const rows = shown.map((user) => {
      const name = make('span', { className: 'name', title: user.name }, user.name);
      return make('li', {}, avatar(user), name, ...(user.id === own ? [make('span', { className: 'you' }, 'you')] : []));
    });
    this.#list.replaceChildren(...rows);
    const rest = this.#total - shown.length;
    this.#more.hidden = rest <= 0 || this.#total === 0;
    this.#more.textContent = shown.length ? `and ${rest.toLocaleString()} more` : `${plural(rest, 'person', 'people')} here`;
    this.#count.textContent = this.#total ? this.#total.toLocaleString() : '–';
  }
}
