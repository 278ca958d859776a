/**
 * Who is in the open room, and what a moderator can do about a person there, or about the author of a message.
 * Owns: the list, how often the server is asked for it, the menu of a person. May not: decide who may moderate.
 *
 * @import { User } from './wire.js'
 */
import { avatar, byId, isConfirmed, make, openAt, replaceRows } from './dom.js';
import { plural } from './text.js';
import { delayBefore, sleep } from './wire.js';

const ASK_EVERY = 15_000; // ms, where presence is not pushed (over HTTP)
const ASK_AFTER = 400; // ms; a hundred newcomers cause one request
const SPREAD = 30; // ms for each member, so that all pages of a room together send about 70 requests a second
const SHOW_AFTER = 50; // ms
const MAX_SHOWN = 100; // people; of more only the number is shown

const EVERYWHERE = '*'; // stands for all rooms

const MENU_ACTIONS = {
  mute: { request: { type: 'sanction', kind: 'mute', seconds: 600 }, done: 'may not write for 10 minutes' },
  ban: { request: { type: 'sanction', kind: 'ban', seconds: 3600 }, done: 'is banned for an hour' },
  'ban-everywhere': { request: { type: 'sanction', kind: 'ban', seconds: 3600, room: EVERYWHERE }, done: 'is banned from all rooms for an hour' },
  kick: { request: { type: 'kick' }, done: 'is out, and may come back' },
};

export class PeopleView {
  #list = byId('people');
  #more = byId('people-more');
  #count = byId('people-count');
  #menu = byId('person-menu');
  /** @type {{room: string, user: User} | null} whom the menu is about */
  #about = null;
  #asking = 0;
  #showing = 0;

  constructor(client, tell) {
    this.client = client;
    this.tell = tell;
    client.addEventListener('room', () => this.#opened());
    client.addEventListener('identity', () => client.current && this.#changed(true)); // over HTTP nothing else says that we have a new name
    client.addEventListener('presence', ({ detail }) => detail.room === client.room && this.#changed(detail.joined?.length + detail.left?.length === 0));
    client.addEventListener('caughtup', ({ detail }) => {
      // Over HTTP each answer of a poll comes here: only the first asks, then the interval does.
      if (detail.room === client.room && (detail.members !== null || client.current.members === null)) this.#changed();
    });
    this.#menu.addEventListener('click', (event) => this.#moderate(event));
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
    const own = this.client.identity.user?.id;
    const sorted = [...people.values()].sort(
      (a, b) => Number(b.id === own) - Number(a.id === own) || a.name.localeCompare(b.name, undefined, { numeric: true }),
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
    const onclick = ({ currentTarget }) => this.openMenu(user, currentTarget);
    return make('button', { className: 'quiet', type: 'button', value: user.id, title: label, ariaLabel: label, onclick }, '⋯');
  }

  openMenu(user, button) {
    const { identity, room } = this.client;
    this.#about = { room, user };
    byId('person-menu-title').textContent = `${user.name} in #${room}`;
    this.#menu.querySelector('[value="ban-everywhere"]').hidden = !identity.moderates(EVERYWHERE);
    openAt(this.#menu, button);
  }

  async #moderate({ target }) {
    const button = target.closest('button');
    if (!button || !this.#about) return;
    const { room, user } = this.#about;
    this.#menu.hidePopover();
    if (button.value === 'delete') return this.#deleteAll(user);
    const { request, done } = MENU_ACTIONS[button.value];
    if (!(await isConfirmed(`${user.name} in #${room}: ${button.textContent.toLowerCase()}?`, button.textContent))) return;
    try {
      await this.client.api.ask({ room, ...request, user: user.id });
      this.tell(`${user.name} ${done}.`);
    } catch (error) {
      this.tell(`Nothing was done: ${error.message}`);
    }
  }

  /** Delete the user's messages, as far as they are loaded. The server limits how many a second. */
  async #deleteAll({ id, name }) {
    const { current } = this.client;
    const messages = current.timeline.messages.filter(({ user, deleted }) => user.id === id && !deleted);
    const count = plural(messages.length, 'latest message', 'latest messages');
    if (!(await isConfirmed(`${name} in #${current.name}: delete the ${count} for everybody?`, 'Delete'))) return;
    try {
      for (const { offset } of messages) await this.#delete(current, offset);
      this.tell(`The ${count} of ${name} in #${current.name} are deleted.`);
    } catch (error) {
      this.tell(`Not all were deleted: ${error.message}`);
    }
  }

  async #delete(room, offset) {
    for (let failures = 0; ; failures++) {
      try {
        return await room.delete(offset);
      } catch (error) {
        if (error.code === 'gone') return; // another moderator was first
        if (error.code !== 'rate_limited') throw error;
        await sleep(delayBefore(failures, error.retryAfter));
      }
    }
  }
}
