/**
 * Random walks of the page's tabs in one browser, by seed: what people, browsers, networks and the server may do. After a
 * quiet time each tab must show what the log has, and each text must be stored once or be shown as not sent.
 *
 *     node tests/web_walk/walk.mjs --walks 1000 --steps 60 [--from SEED] [--kind ws|sse|poll] [--often newLog,fill] [--verbose]
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Browser, Clock, Tab, loadPage } from './browser.mjs';
import { Server } from './server.mjs';

const ROOMS = ['lobby', 'tea', 'ops'];
const EMOJI = ['👍', '🎉'];
const OTHER = { id: 'g_other', name: 'Other' };

class Walk {
  faults = [];
  log = [];
  written = new Map(); // by text: its author, and whether it may be stored twice, or not at all
  clearsUntil = 0;
  #count = 0;

  constructor(seed, { web, kind, often }) {
    this.clock = new Clock(seed);
    this.server = new Server(this.clock);
    this.browser = new Browser(this.clock, this.server);
    const transport = kind ?? this.clock.pick(['ws', 'ws', 'sse', 'poll']);
    this.options = { web, search: transport === 'ws' ? '' : `?transport=${transport}` };
    this.browser.lag = this.clock.pick([20, 100, 2500]);
    this.steps = Object.entries(STEPS).flatMap(([name, [weight]]) => Array(often.includes(name) ? 8 * weight : weight).fill(name));
    this.talk('lobby', 3);
    for (let tabs = 1 + this.clock.int(3); tabs--; ) new Tab(this.browser, this.options);
  }

  async play(count) {
    for (let i = 0; i < count; i++) {
      const name = this.clock.pick(this.steps);
      const tab = this.clock.pick(this.pages(({ isFrozen }) => !isFrozen))?.tab;
      const room = this.clock.pick(ROOMS);
      this.log.push(`${(this.clock.now / 1000).toFixed(1)} ${name} tab ${this.browser.tabs.indexOf(tab)} ${room}`);
      if (tab) STEPS[name][1](this, this.#at(tab, room));
      await this.clock.run(this.clock.pick([0, 50, 500, 3_000, 15_000]) * this.clock.random() * 2);
    }
    await this.#calm();
    for (const page of this.browser.pages) this.#checkPage(`tab ${this.browser.tabs.indexOf(page.tab)}`, page);
    const areRight = () => this.server.sockets.size === Number(this.pages(({ client }) => client.connection.link?.isSocket).length > 0);
    if (!areRight()) await this.clock.run(20_000); // one is tried in place of another transport
    this.expect('sockets', areRight(), `${this.server.sockets.size}`);
    this.#checkWritten();
  }

  /** What a step may use. */
  #at(tab, room) {
    const { page } = tab;
    const { client } = page;
    const own = client.current?.timeline.messages.findLast((message) => client.identity.owns(message));
    return { tab, room, page, client, current: client.current, own };
  }

  get mayOpen() {
    return this.browser.tabs.length < 5;
  }

  pages(isWanted) {
    return this.browser.pages.filter(({ client }) => client).filter(isWanted);
  }

  talk(room, count) {
    const mentions = this.clock.int(5) ? [] : [this.server.userOf(this.browser).id];
    for (let i = 0; i < count; i++) this.server.write(OTHER, { type: 'publish', room, text: this.text('other'), mentions });
  }

  text(kind) {
    return `${kind} ${++this.#count}`;
  }

  /** Things are well again, each room is looked at, and something is said in each. */
  async #calm() {
    const { browser, clock, server } = this;
    Object.assign(server, { trouble: 0, refusing: null });
    Object.assign(browser, { isSocketBlocked: false, quota: Infinity });
    browser.turn('good');
    for (const page of this.pages(({ isFrozen }) => isFrozen)) page.thaw();
    await clock.run(45_000);
    for (const { client } of this.pages((page) => !page.show(true))) {
      client.connection.checkNow();
      for (const room of client.rooms.values()) if (room.out) room === client.current ? room.comeBack() : client.enter(room.name);
    }
    await clock.run(45_000);
    for (const room of ROOMS) this.talk(room, 1);
    await clock.run(15_000);
  }

  expect(kind, isTrue, text) {
    if (!isTrue) this.faults.push(`${kind}: ${text}`);
  }

  #checkPage(name, { client, open, clock }) {
    const me = this.server.userOf(this.browser);
    const { state, outbox, identity, rooms } = client;
    if (state.phase === 'stopped') return; // the sign-in has ended
    this.expect('phase', state.phase === 'live', `${name} is ${state.phase}: ${state.reason}`);
    this.expect('user', identity.user?.id === me.id, `${name} is ${identity.user?.id}, not ${me.id}`);
    for (const item of outbox.items) {
      const isDone = item.state === 'sent' ? !rooms.get(item.room)?.pending.includes(item) : ['failed', 'held'].includes(item.state);
      this.expect('outbox', isDone, `${name} ${item.room} ${item.text} ${item.state}`);
    }
    for (const { at, isStream } of open) this.expect('request', !at || isStream || clock.now - at < 70_000, `${name} waits for an answer`);
    for (const room of rooms.values()) this.#checkRoom(`${name} #${room.name}`, room, me);
  }

  #checkRoom(name, room, me) {
    const { server } = this;
    const { timeline, client } = room;
    const { first, records } = server.room(room.name);
    if (room.out) return this.expect('out', false, name);
    this.expect('joining', !room.isJoining, name);
    this.expect('cursor', timeline.cursor === server.cursor(records.length), `${name} at ${timeline.cursor} of ${server.cursor(records.length)}`);
    const isHeld = client.outbox.items.some(({ state, extras }) => state === 'held' && extras.change); // shown, not stored
    const line = ({ offset, text, deleted, reactions = {} }) =>
      `${offset} ${deleted ? '-' : text} ${Object.entries(reactions).filter(([, count]) => count).sort()}`;
    const from = Math.max(first, timeline.first);
    const wanted = records.slice(from - 1).filter(({ type }) => !type).map(line);
    const seen = timeline.messages.filter(({ offset }) => offset >= from).map(({ offset }) => line((isHeld ? room.log : room).find(offset)));
    const [lacks, has] = [wanted.filter((each) => !seen.includes(each)), seen.filter((each) => !wanted.includes(each))];
    this.expect('shows', String(seen) === String(wanted), `${name} lacks ${lacks.slice(0, 3)}, has ${has.slice(0, 3)}`);
    const marked = server.unread(me, room.name);
    if (!marked || client.identity.user?.id !== me.id) return;
    this.expect('marker', room.read === server.cursor(marked.read), `${name} read ${room.read}, not ${marked.read}`);
    if (Math.max(timeline.first, first) - 1 > marked.read) return; // what is not known is counted
    this.expect('unread', room.unread === marked.unread, `${name} ${room.unread}, not ${marked.unread}`);
    this.expect('mentions', room.mentions === marked.mentions, `${name} ${room.mentions}, not ${marked.mentions}`);
  }

  #checkWritten() {
    const items = [...this.browser.pages.flatMap(({ client }) => client.outbox.items), ...JSON.parse(this.browser.local.get('chat.outbox') ?? '[]')];
    for (const [text, { author, mayBeTwice, mayBeLost }] of this.written) {
      const stored = this.server.stored.filter((each) => each.text === text);
      const inOneLog = Math.max(0, ...[...Map.groupBy(stored, ({ epoch }) => epoch).values()].map(({ length }) => length));
      this.expect('twice', inOneLog < 2 || mayBeTwice, `${text} of ${stored.map((each) => each.author)}`);
      this.expect('lost', stored.length || mayBeLost || items.some((item) => item.text === text), text);
      for (const each of stored) this.expect('author', !author || each.author === author, `${text} of ${author} is ${each.author}'s`);
    }
  }

  /** The page forgets what was written, once the server has answered. */
  clears() {
    this.know({ mayBeLost: true });
    this.clearsUntil = this.clock.now + 60_000;
  }

  /** Something that is known of the texts of items, or of all. */
  know(fact, items) {
    for (const [text, known] of this.written) if (!items || items.some((item) => item.text === text)) Object.assign(known, fact);
  }
}

const quietly = (promise) => promise?.catch(() => {});

/** Each step, and how often it is taken. Those with a `current` room need one. */
const STEPS = {
  write: [12, (walk, { client, current, room }) => {
    const into = walk.clock.int(4) ? current : client.rooms.get(room);
    if (!into) return;
    const text = walk.text('mine');
    walk.written.set(text, { author: client.identity.signedIn?.id ?? null, mayBeLost: walk.clock.now < walk.clearsUntil });
    quietly(into.publish(text, { replyTo: walk.clock.int(5) ? undefined : into.timeline.messages.at(-1)?.offset }));
  }],
  edit: [3, (walk, { own, current }) => own && quietly(current.edit(own.offset, walk.text('edited')))],
  remove: [2, (_, { own, current }) => own && quietly(current.delete(own.offset))],
  react: [4, ({ clock }, { current }) => {
    const message = clock.pick(current?.timeline.messages.slice(-8) ?? []);
    if (message) quietly(current.react(message.offset, clock.pick(EMOJI), clock.int(3) > 0));
  }],
  otherTalks: [8, (walk, { room }) => walk.talk(room, 1 + walk.clock.int(3))],
  otherFloods: [1, (walk, { room }) => walk.talk(room, 60 + walk.clock.int(150))],
  otherChanges: [5, (walk, { room }) => {
    const { clock, server } = walk;
    const { offset } = clock.pick(server.room(room).records.slice(-12)) ?? {};
    const message = offset && server.find(room, offset);
    if (!message || message.deleted) return;
    const type = message.user.id === OTHER.id ? clock.pick(['edit', 'delete', 'react']) : 'react';
    server.write(OTHER, { type, room, offset, text: walk.text('changed'), emoji: clock.pick(EMOJI), on: clock.int(2) > 0 });
  }],
  enter: [5, (_, { client, room, tab }) => (client.enter(room), (tab.hash = `#${room}`))],
  leave: [2, ({ clock }, { client }) => client.leave(clock.pick([...client.rooms.keys()]))],
  read: [4, (_, { current }) => current?.markRead(current.timeline.head)],
  older: [2, (_, { current }) => quietly(current?.older(current.timeline))],
  visit: [2, ({ clock }, { current }) => quietly(current?.log.past ? current.log.newer() : current?.log.visit(1 + clock.int(current.timeline.head)))],
  openTab: [3, (walk, { room }) => walk.mayOpen && new Tab(walk.browser, { ...walk.options, hash: `#${room}` })],
  duplicate: [1, (walk, { tab, client }) => {
    if (!walk.mayOpen) return;
    walk.know({ mayBeTwice: true }, client.outbox.items); // of a guest: two tabs send them, perhaps as two users
    new Tab(walk.browser, { ...walk.options, hash: tab.hash, session: tab.session });
  }],
  closeTab: [3, (walk, { tab, client }) => {
    if (walk.browser.tabs.length < 2) return;
    if (walk.browser.quota < Infinity) walk.know({ mayBeLost: true }, client.outbox.items); // nothing can keep them
    tab.close();
  }],
  reload: [3, (_, { tab }) => tab.load()],
  hide: [2, ({ clock }, { page }) => page.show(clock.int(2) > 0)],
  freeze: [2, (_, { page }) => page.freeze()],
  freezeLeader: [2, ({ browser }) => browser.held.find(({ name }) => name === 'chat.socket')?.page.freeze()],
  thaw: [4, (walk) => walk.clock.pick(walk.pages(({ isFrozen }) => isFrozen))?.thaw()],
  signIn: [1, (walk, { page }) => {
    if (walk.browser.local.has('chat.owner')) walk.clears(); // who may be another user
    submit(page, { token: walk.clock.pick(['u_ann', 'u_ben', 'u_ann:30000']) });
  }],
  rename: [1, (walk, { page }) => submit(page, { name: walk.text('name') })],
  signOut: [1, (walk, { page }) => (walk.clears(), page.element('account-out').dispatchEvent(new Event('click')))],
  restart: [2, ({ server, clock }) => server.restart(clock.int(8_000), false)],
  newLog: [1, ({ server, clock }) => server.restart(clock.int(8_000), true)],
  trim: [1, ({ server, clock }, { room }) => (server.room(room).first = Math.max(server.room(room).first, server.last(room) - clock.pick([0, 5, 30]) + 1))],
  skip: [2, (walk, { room }) => (walk.talk(room, 1 + walk.clock.int(3)), walk.server.sockets.forEach((socket) => socket.skip(room)))],
  moderate: [2, ({ server, clock, browser }, { room }) => server.moderate(clock.pick(['mute', 'ban', 'kick']), server.userOf(browser), room, clock.int(20_000))],
  trouble: [2, ({ server, clock }) => (server.trouble = clock.pick([0, 0.1, 0.4]))],
  refuse: [2, ({ server, clock }) => (server.refusing = clock.pick([null, null, 503, 429]))],
  cut: [2, ({ browser }) => browser.cut()],
  net: [4, ({ browser, clock }) => browser.turn(clock.pick(['good', 'good', 'silent', 'off']))],
  blockSockets: [1, (walk) => {
    walk.browser.isSocketBlocked = !walk.browser.isSocketBlocked;
    walk.browser.cut();
  }],
  fill: [1, ({ browser, clock }) => (browser.quota = clock.pick([Infinity, browser.used + clock.int(200)]))],
  again: [1, (walk, { client }) => {
    const item = client.outbox.items.find(({ state }) => state === 'failed' || state === 'held');
    if (!item) return;
    const isRetried = walk.clock.int(2) > 0;
    walk.know(isRetried ? { mayBeTwice: true } : { mayBeLost: true }, [item]);
    client.outbox[isRetried ? 'retry' : 'takeBack'](item.key);
  }],
};

/** In the dialog of the account. */
function submit(page, { token = '', name = '' }) {
  const values = { 'account-by-token': { open: token !== '' }, 'account-token': { value: token }, 'account-name': { value: name } };
  for (const [id, value] of Object.entries(values)) Object.assign(page.element(id), value);
  page.element('account-form').dispatchEvent(new Event('submit'));
}

const { values } = parseArgs({
  options: {
    web: { type: 'string', default: fileURLToPath(new URL('../../chatserver/web', import.meta.url)) }, often: { type: 'string', default: '' },
    from: { type: 'string', default: '1' }, walks: { type: 'string', default: '200' }, steps: { type: 'string', default: '40' },
    kind: { type: 'string' }, verbose: { type: 'boolean' },
  },
});
const options = { web: loadPage(values.web), kind: values.kind, often: values.often.split(',') };
let failed = 0;
for (let seed = Number(values.from), end = seed + Number(values.walks); seed < end; seed++) {
  const walk = new Walk(seed, options);
  const caught = (error) => walk.faults.push(`error: ${error.stack}`);
  for (const event of ['uncaughtException', 'unhandledRejection']) process.on(event, caught);
  await walk.play(Number(values.steps)).catch(caught);
  for (const event of ['uncaughtException', 'unhandledRejection']) process.off(event, caught);
  if (!walk.faults.length) continue;
  failed++;
  console.log(`walk ${seed}: ${walk.faults.slice(0, 4).join('; ').slice(0, 600)}`);
  if (values.verbose) console.log(walk.log.join('\n'));
}
console.log(`${failed} of ${values.walks} walks failed`);
process.exitCode = failed ? 1 : 0;
