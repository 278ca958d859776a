/**
 * Who is in the open room.
 * Owns: the list, and how often the server is asked for it. May not: know how presence is told.
 *
 * @import { ChatClient } from './client.js'
 * @import { PersonMenu } from './person-menu.js'
 */
import { avatar, byId, make } from './dom.js';
import { plural } from './text.js';

const ASK_EVERY = 15_000; // ms, where presence is not pushed (over HTTP)
const ASK_AFTER = 400; // ms; a hundred people that come at once are one question
const SPREAD = 30; // ms a person there: however large the room, its pages ask about 70 times a second in all
const MOST_SHOWN = 100; // people; a longer list is a number

export class PeopleView {
  #list = byId('people');
  #more = byId('people-more');
  #count = byId('people-count');
  #asking = 0;

  /**
   * @param {ChatClient} client
   * @param {PersonMenu} menu
   */
  constructor(client, menu) {
    this.client = client;
    this.menu = menu;
    client.addEventListener('room', () => this.#opened());
    client.addEventListener('identity', () => this.#show());
    client.addEventListener('presence', ({ detail }) => detail.room === client.room && this.#changed(detail.joined?.length + detail.left?.length === 0));
    client.addEventListener('caughtup', ({ detail }) => {
      // Over HTTP every answer of a poll passes here; asking once per room is enough, the interval does the rest.
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
    // A large room tells only its count; and a count that does not fit the names shows that something was missed.
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
    const own = this.client.identity.user?.id;
    const sorted = [...people.values()].sort(
      (a, b) => Number(b.id === own) - Number(a.id === own) || a.name.localeCompare(b.name, undefined, { numeric: true }),
    );
    const shown = sorted.slice(0, MOST_SHOWN);
    const rows = shown.map((user) => {
      const name = make('span', { className: 'name', title: user.name }, user.name);
      return make('li', {}, avatar(user), name, ...(user.id === own ? [make('span', { className: 'you' }, 'you')] : []), ...this.menu.button(user));
    });
    const focused = document.activeElement instanceof HTMLButtonElement && this.#list.contains(document.activeElement) ? document.activeElement.value : '';
    this.#list.replaceChildren(...rows);
    if (focused) /** @type {HTMLElement | null} */ (this.#list.querySelector(`[value="${CSS.escape(focused)}"]`))?.focus();
    const total = members ?? 0;
    const rest = total - shown.length;
    this.#more.hidden = rest <= 0;
    this.#more.textContent = shown.length ? `and ${rest.toLocaleString()} more` : `${plural(rest, 'person', 'people')} here`;
    this.#count.textContent = total ? total.toLocaleString() : '–';
  }
}
