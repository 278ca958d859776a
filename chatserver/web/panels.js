/**
 * What stands beside the messages: the user's rooms with their unread counts, then other rooms; who is in the open room.
 * Owns: these lists, the user's rooms (kept by this browser), how often the server is asked.
 * May not: open a room (a link does), or decide who may moderate.
 */
import { avatar, byId, guestMark, make, replaceRows } from './dom.js';
import { linkRooms } from './markdown.js';
import { hasLocks, readJson } from './storage.js';
import { plural } from './text.js';
import { ROOM_NAME } from './wire.js';

const ASK_ROOMS_EVERY = 20_000; // ms, while the page is visible
const ASK_PEOPLE_EVERY = 15_000; // ms, where presence is not pushed (over HTTP)
const ASK_AFTER = 400; // ms; many newcomers cause one request
const SPREAD = 30; // ms for each member: about 70 requests a second in a room
const SHOW_AFTER = 50; // ms
export const OURS_KEY = 'chat.rooms';
export const LEAVE_KEY = 'chat.leave'; // for a moment, a room that all tabs leave
const MAX_OURS = 50;
const MAX_OTHERS = 20;
const MAX_PEOPLE = 100; // of more only the number is shown

export class RoomsView {
  #list = byId('rooms');
  #button = byId('show-rooms');
  #hint = byId('room-hint');
  #ours; // newest first
  #listed = []; // what the server lists
  #askedAt = -Infinity;
  #showing = 0;
  #isNew; // whether the browser knows no rooms of the user
  #hide = () => {};

  constructor(client, storage) {
    this.client = client;
    this.storage = storage;
    this.#isNew = storage.getItem(OURS_KEY) === null;
    this.#ours = this.#kept();
    client.addEventListener('room', () => this.#opened(client.room));
    client.addEventListener('caughtup', () => this.#ask());
    client.addEventListener('left', ({ detail }) => this.#forget(detail.room));
    for (const event of ['unread', 'presence', 'caughtup']) client.addEventListener(event, () => this.#showSoon());
    const form = byId('room-form');
    form.addEventListener('submit', (event) => this.#submit(event));
    form.addEventListener('input', () => (this.#hint.textContent = ''));
    setInterval(() => this.#ask(), 1000);
    addEventListener('keydown', (event) => this.#step(event), { capture: true }); // arrows alone have another meaning
  }

  /** The user's rooms, those with mentions first, then other unread ones; then the others. */
  get names() {
    const rank = ({ mentions = 0, unread = 0 } = {}) => (mentions ? 2 : Number(unread > 0));
    const ours = [...this.#ours].sort((a, b) => rank(this.client.rooms.get(b)) - rank(this.client.rooms.get(a)));
    return [...new Set([...ours, ...this.#listed.map(({ room }) => room)])];
  }

  #kept() {
    return readJson(this.storage, OURS_KEY, [''], ['lobby']).filter((room) => ROOM_NAME.test(room));
  }

  get #most() {
    return Math.max(1, Math.min(MAX_OURS, this.client.mayFollowMost - 1)); // the next one is entered before one is left
  }

  /** Tabs that write the list at the same time lose rooms of each other: the room that this tab shows is put back. */
  changedElsewhere() {
    const { room } = this.client;
    const kept = this.#kept();
    const left = this.#ours.filter((each) => each !== room && !kept.includes(each));
    if (kept.includes(room)) this.#ours = kept;
    else this.#remember([room, ...kept]);
    for (const each of left) this.client.forget(each);
    for (const each of kept) this.client.join(each);
    this.#show();
  }

  /** In all tabs. */
  leave(room) {
    this.storage.setItem(LEAVE_KEY, room);
    this.storage.removeItem(LEAVE_KEY);
    this.client.leave(room);
  }

  #opened(room) {
    this.#remember([room, ...this.#ours.filter((each) => each !== room)]);
    this.#hide();
    this.#hide = showToTabs(room);
    this.#leaveOldest();
    this.#askedAt = -Infinity;
  }

  /** Of too many rooms, leave those opened longest ago, and last those that a tab shows. */
  async #leaveOldest() {
    const most = this.#most;
    if (this.#ours.length <= most) return;
    const shown = await shownByTabs();
    const [open, ...rest] = this.#ours;
    const sorted = rest.toSorted((a, b) => Number(shown.has(b)) - Number(shown.has(a)));
    const old = sorted.slice(most - 1);
    for (const each of old) this.leave(each);
    this.#remember([open, ...rest.filter((each) => !old.includes(each))]);
  }

  /** In a new browser the user's rooms are those of other devices. */
  #adopt() {
    this.#isNew = false;
    this.#remember([...new Set([...this.#ours, ...this.client.markers.rooms])].slice(0, this.#most));
  }

  #forget(room) {
    this.#remember(this.#ours.filter((each) => each !== room));
  }

  #remember(ours) {
    this.#ours = ours;
    this.storage.setItem(OURS_KEY, JSON.stringify(ours));
    this.#show();
    this.#list.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest' });
  }

  #submit(event) {
    event.preventDefault();
    const input = byId('room-name');
    const room = roomNamed(input.value);
    if (!ROOM_NAME.test(room)) {
      this.#hint.textContent = room ? 'Use letters a–z, digits and . _ -, with a letter or digit first.' : '';
      input.focus();
      return;
    }
    input.value = '';
    location.hash = room;
  }

  /** Alt with an arrow goes to the next of the user's rooms, with Shift too to the next that has news. */
  #step(event) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!event.altKey || !step || document.querySelector('dialog[open], select:focus')) return; // a list opens with it
    event.preventDefault();
    event.stopPropagation();
    const links = [...this.#list.querySelectorAll('a')].slice(0, this.#ours.length);
    const at = links.findIndex((each) => each.matches('[aria-current]'));
    const others = [...links.slice(at + 1), ...links.slice(0, at)];
    (event.shiftKey ? others.filter((each) => each.matches('.has-news')) : others).at(step < 0 ? -1 : 0)?.click();
  }

  async #ask() {
    const { phase } = this.client.state;
    if (document.hidden || phase !== 'live' || performance.now() - this.#askedAt < ASK_ROOMS_EVERY) return;
    this.#askedAt = performance.now();
    try {
      this.#listed = await this.client.survey();
      if (this.#isNew) this.#adopt();
      await this.#leaveOldest();
      const heads = new Map(this.#listed.map(({ room, cursor }) => [room, cursor]));
      for (const name of this.#ours) this.client.join(name, heads.get(name));
    } catch (error) {
      console.warn('the list of rooms did not come:', error.message); // the old list stays until the next request
    }
  }

  #showSoon() {
    this.#showing ||= setTimeout(() => this.#show(), SHOW_AFTER);
  }

  #show() {
    clearTimeout(this.#showing);
    this.#showing = 0;
    const { rooms } = this.client;
    const ours = [...this.#ours].sort((a, b) => a.localeCompare(b, undefined, { numeric: true })); // room-2 before room-10
    const others = this.#listed.filter(({ room }) => !ours.includes(room));
    linkRooms([...ours, ...others.map(({ room }) => room)]);
    const rows = ours.map((name) => this.#row(name, rooms.get(name)?.members ?? 0));
    const rest = others.slice(0, MAX_OTHERS).map(({ room, members }) => this.#row(room, members));
    if (rest.length) rows.push(make('li', { className: 'panel-title' }, 'Other rooms'), ...rest);
    if (others.length > rest.length) rows.push(make('li', { className: 'hint' }, `and ${others.length - rest.length} more, which the search above finds`));
    replaceRows(this.#list, rows);
    this.#showOnButton(ours.filter((name) => name !== this.client.room).flatMap((name) => rooms.get(name) ?? []));
  }

  /** A narrow window has the list in a drawer, so the button that opens it says what is new in other rooms. */
  #showOnButton(rooms) {
    const unread = rooms.reduce((sum, room) => sum + room.unread, 0);
    const mentions = rooms.reduce((sum, room) => sum + room.mentions, 0);
    this.#button.querySelector('.badge')?.remove();
    if (unread) this.#button.append(badge(unread, mentions));
    this.#button.ariaLabel = mentions ? `Rooms, ${plural(mentions, 'mention')} of you` : unread ? `Rooms, ${unread} unread` : 'Rooms';
  }

  #row(name, members) {
    const room = this.client.rooms.get(name);
    const unread = room?.unread ?? 0;
    const mentions = room?.mentions ?? 0;
    const ariaCurrent = name === this.client.room ? 'page' : null;
    const link = make('a', { href: `#${name}`, ariaCurrent }, make('span', { className: 'name', title: name, translate: false }, name));
    if (room?.out) link.append(make('span', { className: 'count', title: room.out.message }, 'out'));
    else if (unread > 0) {
      link.append(badge(unread, mentions));
      link.classList.add('has-news');
    } else if (members > 0) {
      const spoken = make('span', { className: 'visually-hidden' }, ` ${members === 1 ? 'person' : 'people'} here`);
      link.append(make('span', { className: 'count', title: `${plural(members, 'person', 'people')} here` }, String(members), spoken));
    }
    return make('li', {}, link);
  }
}

export function badge(unread, mentions) {
  const spoken = make('span', { className: 'visually-hidden' }, mentions ? ' mentions of you' : ' unread');
  const shown = mentions ? `@${mentions}` : unread > 99 ? '99+' : String(unread);
  return make('span', { className: mentions ? 'badge mentioned' : 'badge' }, shown, spoken);
}

// Each tab holds a lock that is named after the room that it shows

const SHOWN = 'chat.shown.';

function showToTabs(room) {
  const { promise, resolve } = Promise.withResolvers();
  if (hasLocks()) navigator.locks.request(SHOWN + room, { mode: 'shared' }, () => promise).catch(() => {}); // by Safari's Back button
  return resolve;
}

async function shownByTabs() {
  const { held = [] } = hasLocks() ? await navigator.locks.query() : {};
  return new Set(held.map(({ name = '' }) => name.replace(SHOWN, '')));
}

export const roomNamed = (text) => text.trim().toLowerCase().replace(/^#/, '').replace(/\s+/g, '-');

export class PeopleView {
  #list = byId('people');
  #more = byId('people-more');
  #count = byId('people-count');
  #asking = 0;

  constructor(client, menu) {
    this.client = client;
    this.menu = menu;
    client.addEventListener('room', () => this.#opened());
    client.addEventListener('identity', () => client.current && this.#changed(true)); // over HTTP nothing else says that we have a new name
    client.addEventListener('presence', ({ detail }) => detail.room === client.room && this.#changed(detail.joined?.length + detail.left?.length === 0));
    client.addEventListener('caughtup', ({ detail }) => {
      // As many may have come as gone. Over HTTP each answer of a poll comes here: only the first asks, then the interval does.
      if (detail.room === client.room && (detail.members !== null || client.current.members === null)) this.#changed(true);
    });
    setInterval(() => this.#repeat(), ASK_PEOPLE_EVERY);
  }

  #opened() {
    clearTimeout(this.#asking);
    this.#asking = 0;
    this.#changed();
  }

  #changed(isUnnamed = false) {
    const { people, members, timeline } = this.client.current;
    // In large rooms only the count is pushed. A count that does not fit the names means that a push was missed.
    if ((isUnnamed || people.size !== members) && timeline.epoch !== null) this.#askSoon();
    this.#show();
  }

  #repeat() {
    if (this.client.state.phase === 'live' && !this.client.connection.link?.isSocket && !document.hidden) this.#askSoon();
  }

  #askSoon() {
    const spread = Math.random() * (this.client.current.members ?? 0) * SPREAD;
    this.#asking ||= setTimeout(() => this.#ask(), ASK_AFTER + spread);
  }

  async #ask() {
    this.#asking = 0;
    try {
      await this.client.current.askPeople();
    } catch (error) {
      console.warn('who is here did not come:', error.message); // the old list stays
    }
  }

  #show() {
    if (!this.client.current) return;
    const { people, members } = this.client.current;
    const own = this.client.identity.user;
    const named = [...people.values()].map((user) => (user.id === own?.id ? own : user)); // our name may be newer than the list
    const sorted = named.sort(
      (a, b) => Number(b === own) - Number(a === own) || a.name.localeCompare(b.name, undefined, { numeric: true }),
    );
    const shown = sorted.slice(0, MAX_PEOPLE);
    replaceRows(this.#list, shown.map((user) => this.#row(user)));
    const total = members ?? 0;
    const rest = total - shown.length;
    this.#more.hidden = rest <= 0;
    if (rest > 0) this.#more.textContent = shown.length ? `and ${rest.toLocaleString()} more` : `${plural(rest, 'person', 'people')} here`;
    this.#count.textContent = total ? total.toLocaleString() : '–';
  }

  #row(user) {
    const { identity, room } = this.client;
    const row = make('li', {}, avatar(user), make('span', { className: 'name', title: user.name, translate: false }, user.name));
    row.append(...guestMark(user));
    if (identity.owns({ user })) row.append(make('span', { className: 'you' }, 'you'));
    else if (identity.moderates(room)) row.append(this.#menuButton(user));
    return row;
  }

  #menuButton(user) {
    const label = `Moderate ${user.name}`;
    const onclick = ({ currentTarget }) => this.menu.open(user, currentTarget);
    return make('button', { className: 'quiet', type: 'button', value: user.id, title: label, ariaLabel: label, onclick }, '⋯');
  }
}
