/**
 * Who is in the open room.
 * Owns: the list, and how often the server is asked for it. May not: decide who may moderate.
 */
import { avatar, byId, make, replaceRows } from './dom.js';
import { plural } from './text.js';

const ASK_EVERY = 15_000; // ms, where presence is not pushed (over HTTP)
const ASK_AFTER = 400; // ms; a hundred newcomers cause one request
const SPREAD = 30; // ms for each member, so that all pages of a room together send about 70 requests a second
const SHOW_AFTER = 50; // ms
const MAX_SHOWN = 100; // people; of more only the number is shown

export class PeopleView {
  #list = byId('people');
  #more = byId('people-more');
  #count = byId('people-count');
  #asking = 0;
  #showing = 0;

  /** @param {import('./person-menu.js').PersonMenu} menu */
  constructor(client, menu) {
    this.client = client;
    this.menu = menu;
    client.addEventListener('room', () => this.#opened());
    client.addEventListener('identity', () => client.current && this.#changed(true)); // over HTTP nothing else says that we have a new name
    client.addEventListener('presence', ({ detail }) => detail.room === client.room && this.#changed(detail.joined?.length + detail.left?.length === 0));
    client.addEventListener('caughtup', ({ detail }) => {
      // Over HTTP each answer of a poll comes here: only the first asks, then the interval does.
      if (detail.room === client.room && (detail.members !== null || client.current.members === null)) this.#changed();
    });
    setInterval(() => this.#repeat(), ASK_EVERY);
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
    clearTimeout(this.#showing);
    if (!this.client.current) return;
    if (this.#list.matches(':active')) {
      this.#showing = setTimeout(() => this.#show(), SHOW_AFTER); // a button that is replaced during a press gets no click
      return;
    }
    const { people, members } = this.client.current;
    const own = this.client.identity.user;
    const named = [...people.values()].map((user) => (user.id === own?.id ? own : user)); // our name may be newer than the list
    const sorted = named.sort(
      (a, b) => Number(b === own) - Number(a === own) || a.name.localeCompare(b.name, undefined, { numeric: true }),
    );
    const shown = sorted.slice(0, MAX_SHOWN);
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
