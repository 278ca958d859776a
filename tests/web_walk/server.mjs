/**
 * A server that speaks chat.v1 over WebSocket, event stream and long-poll, as docs/protocol.md says.
 * Owns: the log, the users, who is connected. May not: know how the page is made.
 */
const KEY_LIFETIME = 600_000; // ms
const EPOCH = Date.UTC(2026, 0);

class Refusal extends Error {
  constructor(status, code, retryAfter = null, room = null) {
    super(code);
    Object.assign(this, { status, code, retryAfter, room });
  }
}

const split = (cursor) => ({ epoch: cursor.slice(0, cursor.lastIndexOf('-')), offset: Number(cursor.slice(cursor.lastIndexOf('-') + 1)) });
const shown = ({ who, ...record }) => structuredClone(record);

export class Server {
  isUp = true;
  refusing = null; // the status of all answers
  trouble = 0; // the share of requests that are refused, or whose answer is lost
  stored = []; // every message, of past logs too
  sockets = new Set();
  holds = new Set(); // polls and event streams
  muted = new Set();
  banned = new Set(); // `user room`
  #users = new Map(); // by cookie
  #count = 0;

  constructor(clock) {
    this.clock = clock;
    this.#newLog();
  }

  #newLog() {
    this.epoch = `e${++this.#count}`;
    this.rooms = new Map();
    this.marks = new Map();
    for (const [cookie, { guest }] of this.#users) if (guest) this.#users.set(cookie, this.#guest());
  }

  get #connected() {
    return [...this.sockets, ...this.holds];
  }

  // Users

  #guest() {
    const id = `g_${++this.#count}`;
    return { id, name: id, guest: true, expires: null };
  }

  #cookie(user) {
    this.#users.set(`c${++this.#count}`, user);
    return `c${this.#count}`;
  }

  visited(browser) {
    if (this.userOf(browser).id === 'g_address') browser.cookie = this.#cookie(this.#guest());
  }

  userOf({ cookie }) {
    const user = this.#users.get(cookie);
    return user && !(user.expires <= this.clock.now && user.expires) ? user : { id: 'g_address', name: 'somebody', guest: true, expires: null };
  }

  #sessions(user, method, headers, body, json) {
    const session = ({ id, name, guest, expires }) => ({ user: { id, name }, guest, moderates: [], tokens: true, expires: expires && new Date(EPOCH + expires).toISOString() });
    if (method === 'GET') return json(session(user));
    if (method === 'DELETE') {
      for (const [cookie, { id }] of this.#users) if (id === user.id) this.#users.delete(cookie);
      this.#end((each) => each.user.id === user.id);
      return json(null, { status: 204, cookie: null });
    }
    const [id, lifetime] = headers.Authorization?.slice('Bearer '.length).split(':') ?? [];
    const now = id ? { id, name: id.toUpperCase(), guest: false, expires: lifetime ? this.clock.now + Number(lifetime) : null } : { ...user, name: body.name ?? user.name };
    if (lifetime) this.clock.after(Number(lifetime), () => this.#end((each) => each.user === now));
    json({ token: '', ...session(now) }, { cookie: this.#cookie(now) });
  }

  #end(isMeant) {
    for (const each of this.#connected.filter(isMeant)) each.close(4503, new Refusal(401, 'unauthenticated'));
  }

  // The log

  room(name) {
    if (!this.rooms.has(name)) this.rooms.set(name, { records: [], first: 1, keys: new Map() });
    return this.rooms.get(name);
  }

  last(name) {
    return this.room(name).records.length;
  }

  cursor = (offset) => `${this.epoch}-${offset}`;

  /** The message with this offset, if it is kept. */
  find(name, offset) {
    const { first, records } = this.room(name);
    const record = records[offset - 1];
    return offset >= first && record && !record.type ? record : null;
  }

  /** @returns {object} the acknowledgement */
  write(user, { type, room: name, text, key, as_user, reply_to, mentions, offset, emoji, on }) {
    const room = this.room(name);
    const { records } = room;
    this.#mayEnter(user, name);
    if (this.muted.has(user.id)) throw new Refusal(403, 'forbidden', 60);
    if (as_user && as_user !== user.id) throw new Refusal(409, 'another_user');
    const known = key && room.keys.get(`${user.id} ${key}`);
    if (known && this.clock.now - known.at < KEY_LIFETIME) return known.ack;
    const message = type === 'publish' ? null : this.find(name, offset);
    if (!message && (type !== 'publish' || (reply_to && !this.find(name, reply_to)))) throw new Refusal(404, 'not_found');
    if (message?.deleted) throw new Refusal(410, 'gone');
    if (['edit', 'delete'].includes(type) && message.user.id !== user.id) throw new Refusal(403, 'forbidden');
    let fields = { publish: { text, reply_to, mentions: mentions ?? [] }, edit: { type, target: offset, text }, delete: { type, target: offset } }[type];
    if (type === 'publish') this.stored.push({ text, author: user.id, epoch: this.epoch });
    else if (type === 'react') {
      const who = ((message.who ??= {})[emoji] ??= new Set());
      if (who.has(user.id) !== on) fields = { type: 'reaction', target: offset, emoji, on, count: who.size + (on ? 1 : -1) };
      who[on ? 'add' : 'delete'](user.id);
      message.reactions = Object.fromEntries(Object.entries(message.who).flatMap(([each, { size }]) => (size ? [[each, size]] : [])));
    } else {
      for (const each of records) if (each.type === 'edit' && each.target === offset) each.text = '';
      Object.assign(message, type === 'edit' ? { text, edited: 'now' } : { text: '', deleted: true, reactions: {}, who: {} });
    }
    const at = records.length + (fields ? 1 : 0);
    const ack = { room: name, offset: at, cursor: this.cursor(at), time: new Date(EPOCH + this.clock.now).toISOString() };
    if (fields) records.push({ ...fields, ...ack, user: { id: user.id, name: user.name } });
    room.keys.set(`${user.id} ${key}`, { ack, at: this.clock.now });
    for (const each of this.#connected) this.clock.after(this.clock.int(50), () => each.news(name));
    return type === 'react' ? { ...ack, count: message.who[emoji].size } : ack;
  }

  page(name, { after, before, limit = 50 }) {
    const { first, records } = this.room(name);
    const last = records.length;
    const asked = split(after ?? before ?? this.cursor(0));
    const isKnown = asked.epoch === this.epoch && asked.offset <= last + 1;
    let [from, until] = [Math.max(first, last - limit + 1), last];
    if (after && isKnown) [from, until] = [Math.max(first, asked.offset + 1), Math.min(last, Math.max(first, asked.offset + 1) + limit - 1)];
    if (before && isKnown) [from, until] = [Math.max(first, asked.offset - limit), asked.offset - 1];
    until = Math.max(until, from - 1);
    return { room: name, cursor: this.cursor(until), recovered: isKnown && !(after && from > asked.offset + 1), messages: records.slice(from - 1, until).map(shown) };
  }

  #mayEnter(user, name) {
    if (this.banned.has(`${user.id} ${name}`)) throw new Refusal(403, 'forbidden', 60, name);
  }

  read(user, name, offset, from = null) {
    const key = `${user.id} ${name}`;
    const [old, read] = [this.marks.get(key) ?? 0, Math.min(offset, this.last(name))];
    if (this.last(name)) this.marks.set(key, Math.max(old, read));
    for (const each of this.#connected) if (read > old && each !== from && each.user.id === user.id && each.rooms.has(name)) each.tell({ type: 'read', room: name, offset: read });
  }

  unread(user, name) {
    const read = this.marks.get(`${user.id} ${name}`);
    const { first, records } = this.room(name);
    const news = records.slice(Math.max(read, first - 1)).filter((each) => !each.type && !each.deleted && each.user.id !== user.id);
    return read === undefined ? null : { read, unread: Math.max(0, first - 1 - read) + news.length, mentions: news.filter(({ mentions }) => mentions.includes(user.id)).length };
  }

  // What happens to it

  restart(ms, hasNewLog) {
    for (const socket of this.sockets) socket.send({ type: 'goaway', reason: 'restart', retry_after: 1 });
    for (const each of this.#connected) each.close(1012);
    this.isUp = false;
    if (hasNewLog) this.#newLog();
    this.clock.after(ms, () => (this.isUp = true));
  }

  /** @param {'mute' | 'ban' | 'kick'} what */
  moderate(what, { id }, room, ms) {
    const sanction = { mute: [this.muted, id], ban: [this.banned, `${id} ${room}`] }[what];
    sanction?.[0].add(sanction[1]);
    this.clock.after(ms, () => sanction?.[0].delete(sanction[1]));
    const error = { type: 'error', code: 'forbidden', message: what, ...(what !== 'mute' && { room }), ...(what !== 'kick' && { retry_after: ms / 1000 }) };
    for (const each of this.#connected) if (each.user.id === id && (what === 'mute' || each.rooms.has(room))) what === 'mute' ? each.tell(error) : each.expel(room, error);
  }

  // WebSocket

  connect(browser, push, closed) {
    if (!this.isUp || this.refusing) return void closed(this.isUp ? 1013 : 1006);
    this.visited(browser);
    return new Socket(this, browser, push, closed);
  }

  // HTTP

  request(browser, { path, method, headers, body }, answer) {
    const { random, int } = this.clock;
    const refuse = ({ status, code, retryAfter, room }) => answer({ status, retryAfter, json: { error: { code, message: code, room } } });
    const isFine = this.isUp && (path.endsWith('z') || random() >= this.trouble);
    try {
      if (this.refusing || (!isFine && int(2))) throw new Refusal(this.refusing ?? (int(2) ? 503 : 429), 'unavailable', int(2) ? 1 + int(3) : null);
      const wait = int(60);
      const json = (value, more) => void this.clock.after(wait, () => answer({ json: value, ...more, isLost: !isFine }));
      return this.#route(browser, new URL(path, 'http://chat'), method, headers, body ?? {}, json, refuse);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      refuse(error);
    }
  }

  #route(browser, { pathname, searchParams }, method, headers, body, json, refuse) {
    const [, top, name, what, offset, , emoji] = pathname.split('/').map(decodeURIComponent);
    const user = this.userOf(browser);
    if (top.endsWith('z')) return json({});
    if (top === 'session') return this.#sessions(user, method, headers, body, json);
    if (top === 'unread') return json({ rooms: Object.fromEntries([...this.rooms.keys()].flatMap((each) => (this.unread(user, each) ? [[each, this.unread(user, each)]] : []))) });
    if (top === 'poll') return this.#poll(user, searchParams, json, refuse);
    const about = (each) => ({ room: each, cursor: this.cursor(this.last(each)), members: 1 });
    if (!name) return json({ rooms: [...this.rooms.keys()].filter((each) => this.last(each)).map(about) });
    this.#mayEnter(user, name);
    if (!what) return json({ ...about(name), may_write: !this.muted.has(user.id), why: { code: 'forbidden', message: 'mute' } });
    if (what === 'members') return json({ members: [], count: 0 });
    if (what === 'read') this.read(user, name, body.offset);
    if (what === 'read' || what === 'typing') return json(null, { status: 204 });
    const after = searchParams.get('after') ?? undefined;
    if (what === 'events') return this.#stream(user, name, split(after), json);
    if (method === 'GET') return json(this.page(name, { after, before: searchParams.get('before') ?? undefined, limit: Number(searchParams.get('limit') ?? 50) }));
    const type = { POST: 'publish', PATCH: 'edit', DELETE: emoji ? 'react' : 'delete', PUT: 'react' }[method];
    json(this.write(user, { ...body, type, room: name, offset: Number(offset), emoji, on: method === 'PUT' }), { status: 201 });
  }

  #poll(user, parameters, json, refuse) {
    const asked = parameters.getAll('room').map((each) => each.split(':'));
    for (const [name] of asked) this.#mayEnter(user, name);
    const pages = () => Object.fromEntries(asked.map(([name, after]) => [name, this.page(name, { after, limit: Number(parameters.get('limit')) })]));
    const rooms = new Set(asked.map(([name]) => name));
    const end = (error) => hold.left() && (error ? refuse(error) : json({ rooms: pages() }));
    const hold = {
      user, rooms, tell() {}, left: () => this.holds.delete(hold), close: (_, error) => end(error),
      news: (name) => rooms.has(name) && end(), expel: (name) => end(new Refusal(403, 'forbidden', null, name)),
    };
    this.holds.add(hold);
    if (Object.values(pages()).some(({ messages, recovered }) => messages.length || !recovered)) end();
    else this.clock.after(1000 * Number(parameters.get('wait')), end);
    return hold.left;
  }

  #stream(user, name, { epoch, offset }, json) {
    let push = () => {};
    const event = (type, data) => push(`event: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
    const tell = (message) => event(message.type ?? 'message', message);
    const follower = new Follower(this, tell);
    const hold = {
      user, rooms: follower.sent, tell: (message) => message.type !== 'error' && tell(message), left: () => this.holds.delete(hold), news: (changed) => follower.news(changed),
      close: () => hold.left() && push(null), expel: (_, error) => (event('expelled', error), hold.close()),
    };
    const beat = () => this.holds.has(hold) && (push(':\n'), this.clock.after(20_000, beat));
    this.holds.add(hold);
    json(null, {
      stream: (given) => {
        push = given;
        follower.sent.set(name, epoch === this.epoch ? offset : 0);
        if (epoch !== this.epoch) follower.skip(name, this.last(name));
        beat();
        follower.news(name);
      },
    });
    return hold.left;
  }
}

/** What a client has been sent of its rooms. */
class Follower {
  /** @type {Map<string, number>} */
  sent = new Map();

  constructor(server, tell) {
    Object.assign(this, { server, tell });
  }

  news(name) {
    if (!this.sent.has(name)) return;
    const { first, records } = this.server.room(name);
    if (this.sent.get(name) < first - 1) this.skip(name, first - 1);
    for (const record of records.slice(this.sent.get(name))) this.tell(shown(record));
    this.sent.set(name, records.length);
  }

  skip(name, until = this.server.last(name)) {
    if (!(this.sent.get(name) < until)) return;
    this.tell({ type: 'gap', room: name, after: this.server.cursor(this.sent.get(name)), until: this.server.cursor(until) });
    this.sent.set(name, until);
  }
}

class Socket extends Follower {
  rooms = this.sent;

  constructor(server, browser, push, closed) {
    super(server, (message) => this.send({ type: 'message', ...message }));
    Object.assign(this, { push, closed, user: server.userOf(browser) });
    server.sockets.add(this);
    this.send({ type: 'hello', user: { id: this.user.id, name: this.user.name }, ping: 25, limits: { rooms: 100 } });
  }

  send(message) {
    if (this.server.sockets.has(this)) this.push(message);
  }

  close(code) {
    if (this.left()) this.closed(code);
  }

  left() {
    return this.server.sockets.delete(this);
  }

  expel(name, error) {
    this.sent.delete(name);
    this.send(error);
  }

  heard(message) {
    const { server } = this;
    const { int, random } = server.clock;
    const { id, type } = message;
    try {
      if (random() < server.trouble && !['ping', 'leave'].includes(type)) throw new Refusal(503, int(2) ? 'unavailable' : 'rate_limited', 1 + int(3));
      if (server.sockets.has(this)) this.#do(message, (answer, fields) => this.send({ ...fields, type: answer, id }));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.send({ type: 'error', id, code: error.code, message: error.code, ...(error.retryAfter && { retry_after: error.retryAfter }) });
    }
  }

  #do(message, answer) {
    const { server, user } = this;
    const { type, room, offset } = message;
    if (type === 'ping') return answer('pong');
    if (type === 'typing') return;
    if (type === 'members') return answer(type, { members: [], count: 0 });
    if (type === 'read') return server.read(user, room, offset, this);
    if (type === 'leave' && !this.sent.delete(room)) throw new Refusal(400, 'not_joined');
    if (type === 'leave') return answer('left', { room });
    if (server.banned.has(`${user.id} ${room}`)) throw new Refusal(403, 'forbidden', 60);
    if (type === 'history') return answer(type, server.page(room, message));
    if (type !== 'join') {
      const ack = server.write(user, message);
      return server.clock.after(server.clock.int(100), () => answer('ack', ack)); // before or after the message itself
    }
    const page = server.page(room, message);
    this.sent.set(room, split(page.cursor).offset);
    answer('joined', { ...page, members: 1 });
    server.clock.after(server.clock.int(50), () => this.news(room));
  }
}
