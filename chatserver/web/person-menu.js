/**
 * What a moderator can do about a person in the room, or about the author of a message; which sanctions are in force.
 * Owns: the menu. May not: decide who may moderate; the server does.
 */
import { askWhy, byId, make, openAt, replaceRows } from './dom.js';
import { plural } from './text.js';

const EVERYWHERE = '*'; // stands for all rooms
const BAN = { type: 'sanction', kind: 'ban', seconds: 3600 };

const ACTIONS = [
  { value: 'mute', label: 'Mute for 10 minutes', request: { type: 'sanction', kind: 'mute', seconds: 600 }, done: 'may not write for 10 minutes' },
  { value: 'ban', label: 'Ban for 1 hour', request: BAN, done: 'is banned for an hour' },
  { value: 'ban*', label: 'Ban from all rooms for 1 hour', request: { ...BAN, room: EVERYWHERE }, done: 'is banned from all rooms for an hour' },
  { value: 'kick', label: 'Kick out', request: { type: 'kick' }, done: 'is out, and may come back' },
];

/** What ends a sanction, in place of what began it. */
function lift({ id, kind, room }) {
  const [value, where] = room === EVERYWHERE ? [`${kind}*`, ' in all rooms'] : [kind, ''];
  return { value, label: `Lift the ${kind}${where}`, request: { type: 'lift', room, id }, done: kind === 'ban' ? 'may come back' : 'may write again' };
}

const button = (value, label, onclick) => make('button', { className: 'plain', type: 'button', value, onclick }, label);

async function deleteIfThere(room, offset) {
  try {
    await room.delete(offset);
  } catch (error) {
    if (error.code !== 'gone') throw error; // another moderator was first
  }
}

export class PersonMenu {
  #menu = byId('person-menu');
  #actions = byId('person-actions');
  #about = null; // whom the menu is about

  constructor(client, tell) {
    this.client = client;
    this.tell = tell;
    const list = byId('show-sanctions');
    list.addEventListener('click', () => this.#list());
    byId('room-menu').addEventListener('beforetoggle', () => (list.hidden = !client.identity.moderates(client.room)));
  }

  open(user, anchor) {
    const { room } = this.client;
    const about = (this.#about = { room, user });
    byId('person-menu-title').textContent = `${user.name} in #${room}`;
    this.#show([]);
    openAt(this.#menu, anchor);
    this.#offerToLift(about);
  }

  #show(lifts) {
    const isAllowed = ({ value }) => value !== 'ban*' || this.client.identity.moderates(EVERYWHERE);
    const actions = ACTIONS.filter(isAllowed).map((action) => lifts.find(({ value }) => value === action.value) ?? action);
    replaceRows(this.#actions, [
      ...actions.map((action) => button(action.value, action.label, () => this.#do(action))),
      button('delete', 'Delete messages', () => this.#deleteAll()),
    ]);
  }

  /** What is in force can be lifted. The menu does not wait for it: a question follows in any case. */
  async #offerToLift(about) {
    const sanctions = await this.#inForce({ user: about.user.id }).catch(() => []);
    if (about === this.#about) this.#show(sanctions.map(lift));
  }

  /** The sanctions in the open room, and in all rooms. */
  async #inForce(which = {}) {
    const { api, identity, room } = this.client;
    const rooms = identity.moderates(EVERYWHERE) ? [room, EVERYWHERE] : [room];
    const answers = await Promise.all(rooms.map((each) => api.ask({ type: 'sanctions', room: each, ...which })));
    return answers.flatMap(({ sanctions }, at) => sanctions.filter((each) => each.room === rooms[at])); // `*` lists all rooms'
  }

  /** List them: a user who was banned may have written nothing, and is not here. */
  async #list() {
    const { room } = this.client;
    try {
      const sanctions = await this.#inForce();
      if (!sanctions.length) return this.tell(`Nobody is muted or banned in #${room}.`);
      byId('person-menu-title').textContent = `Mutes and bans in #${room}`;
      replaceRows(this.#actions, sanctions.map((each) => {
        const user = { id: each.user, name: each.user_name || this.client.identity.nameOf(each.user) || each.user || each.network };
        const action = lift(each);
        const onclick = () => ((this.#about = { room, user }), this.#do({ ...action, label: `${action.label} of ${user.name}` }));
        return button(String(each.id), `${action.label} of ${user.name}`, onclick);
      }));
      openAt(this.#menu, byId('room-menu-button'));
    } catch (error) {
      this.tell(`The list did not come: ${error.message}`);
    }
  }

  async #do({ label, request, done }) {
    const { room, user } = this.#about;
    const reason = await this.#ask(label, label, request.type !== 'lift');
    if (reason === null) return;
    try {
      await this.client.api.ask({ room, ...request, user: user.id, reason: reason || undefined });
      this.tell(`${user.name} ${done}.`);
    } catch (error) {
      this.tell(`Nothing was done: ${error.message}`);
    }
  }

  #ask(action, label, hasReason = false) {
    const title = byId('person-menu-title').textContent;
    this.#menu.hidePopover();
    return askWhy(`${title}: ${action[0].toLowerCase()}${action.slice(1)}?`, label, hasReason);
  }

  /** Delete the user's messages, as far as they are loaded. The server limits how many a second. */
  async #deleteAll() {
    const { room: name, user } = this.#about;
    const room = this.client.rooms.get(name);
    const messages = room.timeline.messages.filter((message) => message.user.id === user.id && !message.deleted);
    const count = plural(messages.length, 'latest message');
    if (!messages.length) return this.tell('No message of this user is loaded here.');
    if ((await this.#ask(`Delete the ${count} for everybody`, 'Delete')) === null) return;
    try {
      for (const { offset, cursor } of messages) {
        if (cursor !== room.timeline.cursorAt(offset)) throw new Error('the server began a new log');
        await deleteIfThere(room, offset);
      }
      this.tell(`The ${count} of ${user.name} in #${room.name} are deleted.`);
    } catch (error) {
      this.tell(`Not all were deleted: ${error.message}`);
    }
  }
}
