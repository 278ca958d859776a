/**
 * The chat without a view: one connection, the rooms that are followed over it, the outbox, the user.
 * Owns: the rooms, and which of them is open. May not: touch the DOM; it dispatches events.
 */
import { Connection, TRANSPORTS } from './connection.js';
import { HttpApi } from './http.js';
import { HttpLink } from './http-link.js';
import { Identity, isGuest } from './identity.js';
import { Outbox } from './outbox.js';
import { ReadMarkers } from './read-markers.js';
import { Room } from './room.js';
import { ChatError, gone, sleep, splitCursor } from './wire.js';
import { WebSocketLink } from './websocket-link.js';

export class ChatClient extends EventTarget {
  /** @type {Map<string, Room>} by name */
  rooms = new Map();
  room = '';
  #inbox = []; // pushed records, delivered together so that a flood costs one layout
  #delivery = 0;
  mayFollowMost = Infinity; // rooms over one connection
  #isStarted = false;
  #speaker = null; // whom the server named last: the user in whose name a message goes out
  #session = { id: '', until: 0 }; // of a signed-in user, the last for which we have connected anew
  #ends = NaN; // of the sign-in, in ms since the epoch, where HTTP has told it
  #mayBeAnother = true; // whether the next connection may have another user

  /**
   * `kind` forces one transport. Without a token, the browser's cookie says who we are. `tab` keeps the outbox of this tab,
   * `browser` the user, the read markers, and what closed tabs have not sent. `socket` opens a WebSocket.
   */
  constructor(origin, { kind = null, token = null, tab, browser, socket }) {
    super();
    this.api = new HttpApi(origin, token, (session) => this.#isUser(session));
    this.markers = new ReadMarkers(this, browser);
    this.identity = new Identity(browser, { changed: () => this.tell('identity'), tokens: () => this.tell('tokens') });
    this.outbox = new Outbox(tab, browser, {
      changed: () => this.tell('outbox'),
      stored: (item, { offset }) => this.#stored(item, offset),
    });
    const openSocket = socket ?? ((...all) => new WebSocketLink(...all));
    this.connection = new Connection({
      transports: kind ? [kind] : TRANSPORTS,
      open: (kind, handlers) =>
        kind === 'ws' ? openSocket(origin, handlers, this.api.token) : new HttpLink(kind, this.api, handlers),
      ready: () => this.api.ready(),
      handlers: this,
    });
  }

  get state() {
    return this.connection.state;
  }

  get isLive() {
    return this.connection.link !== null;
  }

  /** The open room; undefined before the first `enter`. */
  get current() {
    return this.rooms.get(this.room);
  }

  /**
   * Follow a room.
   * @param {string} [head] the end of its log, if known: a room that is read up to there is followed from there
   */
  join(name, head) {
    const known = this.rooms.get(name);
    if (known) return known;
    const room = new Room(this, name);
    room.read = this.markers.of(name);
    if (head !== undefined) this.markers.mark(room, head);
    if (room.read === head) room.timeline.begin({ cursor: head, messages: [] });
    this.rooms.set(name, room);
    if (!this.room) this.room = name;
    if (!this.#isStarted) {
      this.#isStarted = true;
      if (room.read === null) this.markers.fetch(); // while the connection opens
      this.connection.start();
    } else this.follow(room);
    return room;
  }

  enter(name) {
    if (name === this.room && this.rooms.has(name)) return;
    this.room = name;
    const isNew = !this.rooms.has(name);
    const room = this.join(name);
    this.tell('room');
    if (!isNew && (room.out || this.connection.link?.isSocket === false)) this.follow(room);
  }

  leave(name) {
    if (!this.rooms.has(name)) return;
    this.connection.link?.unfollow(name);
    this.forget(name);
  }

  /** Another tab left the room, over the connection that all tabs share. */
  forget(name) {
    if (!this.rooms.delete(name)) return;
    const { link } = this.connection;
    if (link?.isSocket === false) link.unfollow(name); // each tab has its own
    this.outbox.leave(name);
    this.outbox.inLog(name, null); // what waited for an answer to a join
    this.tell('left', { room: name });
    if (this.current) return; // the page has entered another
    const next = [...this.rooms.values()].find(({ out }) => !out);
    if (next) this.enter(next.name);
    else this.room = '';
  }

  /** For good: what is not sent will not be. */
  close() {
    this.connection.close();
    this.outbox.close();
  }

  reconnect() {
    this.#mayBeAnother = true;
    if (this.#isStarted) this.connection.restart();
  }

  /** The network has changed, or the page is shown. After a final close only the user reconnects, or a new sign-in. */
  async wake() {
    if (this.state.phase !== 'stopped' || (await this.isRenewed())) this.connection.checkNow();
  }

  /** Go on as the user of another token: before the present one ends, or after that. */
  authenticate(token) {
    this.api.token = token;
    this.reconnect();
  }

  /** `mustAsk` for a page, which says whether the log is the same. */
  follow(room, mustAsk = false) {
    const { link } = this.connection;
    const isOpen = room.name === this.room;
    const isReady = this.state.phase === 'live' || (isOpen && !link?.isSocket);
    if (!link || !isReady || this.rooms.get(room.name) !== room) return;
    const most = this.mayFollowMost;
    const mayFollow = isOpen || [...this.rooms.keys()].indexOf(room.name) < most;
    if (!mayFollow) return room.refused(new ChatError('too_many_rooms', `a connection may be in ${most} rooms`));
    room.isJoining = link.isSocket || mustAsk; // else its page is here, or nothing that waits depends on its log
    link.follow(room.name, room.timeline.cursor, isOpen, mustAsk);
  }

  /** Over HTTP until the link is open. */
  async ask(request) {
    const { link, closing } = this.connection;
    try {
      return closing.signal.aborted ? null : await (link && this.state.phase === 'live' ? link : this.api).ask(request);
    } finally {
      if (closing.signal.aborted) throw new ChatError('aborted', 'the chat was closed'); // perhaps before the answer
      this.#deliver(); // in the order of arrival
    }
  }

  /** An edit has no `mentions`, so the names in its text count. */
  mentionsUs({ text, edited, mentions = [] }) {
    const { identity } = this;
    if (identity.user === null) return false;
    return mentions.includes(identity.user.id) || (Boolean(edited) && identity.namesIn(text).includes(identity.user.name));
  }

  sleep(ms) {
    return sleep(ms, this.connection.closing.signal);
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  readElsewhere() {
    this.markers.readElsewhere(this.rooms.values());
    this.tell('unread');
  }

  /** Ask for the list of rooms, how far each of ours is read, and who we are. */
  async survey() {
    const { current } = this;
    const { link } = this.connection;
    if (!current.out && (!current.knowsRights || current.readOnly)) this.askRights(current);
    const [{ rooms }, session] = await Promise.all([this.api.rooms(), this.api.session(), this.markers.renew()]);
    // In a page of another site they have no cookie, so the guest of the WebSocket counts; after a sign-out, the next link.
    if (link && link === this.connection.link) {
      if (!link.isSocket || this.identity.owns(session)) this.#isUser(session);
      else if (this.#speaker && this.#isNew(session)) this.reconnect();
    }
    for (const { room, cursor, members } of rooms) {
      const ours = this.rooms.get(room);
      if (!ours) continue;
      ours.head = cursor;
      if (room !== this.room && !this.connection.link?.isSocket) ours.members = members;
      this.markers.mark(ours, cursor);
      if (ours.out?.code === 'too_many_rooms' && splitCursor(cursor).offset) this.follow(ours); // not empty any more
    }
    this.tell('unread');
    return rooms;
  }

  async askRights(room) {
    room.knowsRights = true;
    try {
      const { why } = await this.api.room(room.name);
      room.readOnly = why ? new ChatError(why.code, why.message) : null;
      room.tell('rights');
    } catch (error) {
      if (!(error instanceof ChatError)) throw error;
      room.knowsRights = false; // the next survey asks again
    }
  }

  /**
   * Whether to connect anew for this session: once for each, since a proxy may withhold its cookie from the socket. Two
   * answers may differ in its end by milliseconds.
   */
  #isNew({ user, expires }) {
    const { id, until } = this.#session;
    const ends = Date.parse(expires ?? '');
    if (isGuest(user) || (user.id === id && !(ends > until + 1000))) return false;
    this.#session = { id: user.id, until: ends };
    return true;
  }

  /** A socket ends with the session that it began with, also if another page has renewed that meanwhile. */
  async isRenewed() {
    const session = this.api.token ? null : await this.api.session().catch(() => null);
    return Boolean(session?.expires) && this.#isNew(session);
  }

  async #expiring(pushed) {
    const { link } = this.connection;
    const isRenewed = await this.isRenewed();
    if (link !== this.connection.link) return; // another tab has connected anew for all
    if (isRenewed) this.connection.restart();
    else this.tell('expiring', pushed);
  }

  // What the connection tells

  stateChanged() {
    const { phase, reason } = this.state;
    if (phase === 'stopped') {
      this.#mayBeAnother = true;
      this.outbox.resume(async (item) => {
        if (item.author) this.#speaker = (await this.#askSession(null)).user; // the sign-in may have ended
        this.#checkAuthor(item);
        throw new ChatError('forbidden', reason);
      });
    } else if (phase !== 'live') this.outbox.pause();
    this.tell('state');
  }

  async opening(link) {
    if (link.isSocket) return;
    if (this.current?.read === null) await this.markers.fetch();
    if (!this.current || this.#staysOutOf(this.current)) link.begin?.();
    else link.follow(this.room, this.current.timeline.cursor, true);
  }

  async up(link, hello) {
    if (this.current?.read === null) await this.markers.fetch(); // else all would count as read
    if (link !== this.connection.link) return;
    if (this.api.needsToken) this.api.token ??= hello?.session || null;
    this.mayFollowMost = hello?.limits?.rooms ?? Infinity;
    for (const room of new Set([this.current, ...this.rooms.values()].filter(Boolean))) {
      room.knowsRights = false; // they may have changed meanwhile
      if ((link.isSocket || room !== this.current) && !this.#staysOutOf(room)) this.follow(room, this.outbox.isAbout(room.name));
    }
    const session = hello ?? (await this.api.session().catch(() => null)); // if it fails, `survey` asks again
    if (session?.user && link === this.connection.link) this.#isUser(session);
    if (link !== this.connection.link) return; // it has ended meanwhile, or just now
    this.#mayBeAnother = false;
    this.outbox.resume(async (item) => {
      if (!hello && (item.speaker || !this.#speaker)) this.#isUser(await this.#askSession(link));
      this.#checkAuthor(item);
      const { room, text, key, extras } = item;
      const { replyTo: reply_to, mentions, change } = extras;
      return this.ask({ type: 'publish', reply_to, mentions, ...change, room, text: text || undefined, key, as_user: this.#speaker?.id });
    }, ({ room }) => !this.rooms.get(room)?.isJoining);
  }

  /** Who we are for an item of the outbox; if this connection ends meanwhile, the next one asks again. */
  async #askSession(link) {
    const session = await this.api.session();
    if (link !== this.connection.link) throw gone();
    return session;
  }

  #checkAuthor(item) {
    const { author } = item;
    if (author && this.#speaker && author.id !== this.#speaker.id) throw new ChatError('held', 'another user wrote it');
    item.speaker = this.#speaker;
    this.outbox.save(); // for a reload before the answer comes
  }

  /**
   * The server says who we are. A user who is a guest now, unasked, has signed out elsewhere: nothing is said in the name of
   * that guest before the user wants it.
   */
  #isUser(session) {
    this.#speaker = session.user;
    if (!this.#mayBeAnother && isGuest(session.user) && this.identity.signedIn) {
      this.connection.stop(this.#ends < Date.now() ? 'the sign-in has expired' : 'signed out');
      return;
    }
    this.#ends = Date.parse(session.expires ?? '');
    this.identity.is(session.user, session);
  }

  /** A reconnect does not rejoin a room from which a moderator removed the user; the user does. */
  #staysOutOf(room) {
    return room.out?.code === 'forbidden' && !this.#mayBeAnother;
  }

  down() {
    this.#deliver();
    this.markers.expire();
  }

  page(name, page) {
    this.#deliver();
    const room = this.rooms.get(name);
    if (room?.read === null) this.markers.mark(room, page.cursor); // a room that the server does not list
    room?.page(page);
    if (room?.readOnly) this.askRights(room); // perhaps as another user
  }

  refused(name, error) {
    this.rooms.get(name)?.refused(error);
  }

  pushed(pushed) {
    if (pushed.cursor) { // a record, also of a newer server
      this.#inbox.push(pushed);
      this.#delivery ||= setTimeout(() => this.#deliver());
      return;
    }
    this.#deliver(); // in the order of arrival
    if (pushed.room) this.rooms.get(pushed.room)?.pushed(pushed);
    else if (pushed.type === 'expiring') this.#expiring(pushed);
    else if (pushed.type === 'error') this.#complained(pushed);
  }

  #complained(pushed) {
    for (const room of this.rooms.values()) room.knowsRights = false; // we may be muted
    if (this.current) this.askRights(this.current);
    this.tell('error', pushed);
  }

  #deliver() {
    clearTimeout(this.#delivery);
    this.#delivery = 0;
    const pushed = Map.groupBy(this.#inbox.splice(0), ({ room }) => room);
    for (const [name, records] of pushed) this.rooms.get(name)?.take(records);
  }

  #stored(item, offset) {
    const room = this.rooms.get(item.room);
    if (room?.out) this.follow(room); // else the message would not be shown
    if (!room || item.extras.change || room.timeline.find(offset)) this.outbox.discard(item.key);
  }
}
