/**
 * One WebSocket for all tabs of a browser: the tab that holds a lock leads and has the socket, the others follow.
 * Owns: the lock, the channel between the tabs, the socket if this tab leads. May not: reconnect, know rooms.
 *
 * When the leader is closed, the browser passes the lock on. A frozen leader keeps it and answers nothing, so a
 * follower that waits for an answer steals it.
 */
import { SocketLink, WebSocketLink } from './websocket-link.js';
import { ChatError, gone, randomKey } from './wire.js';

const NAME = 'chat.socket'; // of the lock and of the channel
const LEADER_TIMEOUT = 3_000; // ms without an answer
const ASK_EVERY = 25_000; // ms; whether there is a leader
const LEADER = 'leader';
const ALL = 'all';
const MAX_JOINS = 8; // answers kept, of up to 64 KB: in a quiet chat a user may open many rooms before anything is pushed

class Tabs {
  id = randomKey(8);
  numbers = 0; // of all links: a frozen leader answers late
  link = null; // of this tab, while it is open
  #channel = new BroadcastChannel(NAME);
  #leads = false;
  #followers = new Set(); // the tabs that have asked this one for something while it leads, and are open
  #socket = null; // if this tab leads
  #name = ''; // of this socket
  #hello = null; // once the socket is open
  #joins = new Map(); // answers, by request, until anything is pushed: after a reconnect all tabs ask for the same
  #silence = 0;

  constructor(origin) {
    this.origin = origin;
    this.#channel.onmessage = ({ data }) => this.#heard(data);
    this.#lead(false);
    // A tab that only listens would not notice that the leader is frozen.
    setInterval(() => this.link && this.ask({ type: 'open' }), ASK_EVERY);
    addEventListener('pagehide', ({ persisted }) => persisted || this.#channel.postMessage({ to: LEADER, type: 'gone', from: this.id }));
  }

  async #lead(steal) {
    if (this.#leads) return;
    try {
      await navigator.locks.request(NAME, { steal }, () => {
        this.#leads = true;
        this.#followers.clear(); // until they ask
        this.#tell({ to: ALL, type: 'lost', loss: HANDED_OVER });
        return new Promise(() => {}); // held until the tab is closed or the lock is stolen
      });
    } catch (error) {
      if (error.name !== 'AbortError') throw error;
      if (this.#leads) {
        this.#leads = false; // the lock was stolen
        this.#socket?.close();
        this.#lost(HANDED_OVER);
      } // else Safari kept this page for the Back button
      this.#lead(false);
    }
  }

  /** Send to the leader, which may be this tab. */
  ask(message) {
    const asked = { ...message, to: LEADER, from: this.id };
    if (this.#leads) return this.#serve(asked);
    this.#channel.postMessage(asked);
    this.#silence ||= setTimeout(() => ((this.#silence = 0), this.#lead(true)), LEADER_TIMEOUT);
  }

  #tell(message) {
    const isHeard = this.#followers.size || message.type === 'lost'; // which is told to tabs before they have asked
    if (message.to !== this.id && isHeard) this.#channel.postMessage(message);
    if (message.to === this.id || message.to === ALL) this.link?.heard(message);
  }

  #heard(message) {
    if (message.to === LEADER) {
      this.#followers.add(message.from);
      if (message.type === 'gone') this.#followers.delete(message.from);
      else if (this.#leads) this.#serve(message);
      return;
    }
    if (message.to !== this.id && message.to !== ALL) return;
    clearTimeout(this.#silence);
    this.#silence = 0;
    this.link?.heard(message);
  }

  async #serve({ type, from, number, socket, request }) {
    if (type === 'open') return this.#open(from);
    if (from !== this.id) this.#tell({ to: from, type: 'alive' });
    if (type === 'probe') return this.#socket?.probe();
    if (type === 'close') {
      this.#socket?.close();
      return this.#lost(HANDED_OVER);
    }
    try {
      if (!this.#socket || (socket ?? this.#name) !== this.#name) throw gone();
      const isJoin = request.type === 'join';
      const key = JSON.stringify(request);
      const known = isJoin && this.#joins.get(key);
      const asking = known || this.#socket.ask(request);
      if (this.#joins.size >= MAX_JOINS) this.#joins.clear();
      if (isJoin) this.#joins.set(key, asking);
      else if (request.type === 'leave') this.#joins.clear();
      const answer = await asking;
      this.#tell({ to: from, type: 'answer', number, answer });
      // All tabs share one membership, and a new join restarts it: so all of them get the page.
      if (request.type === 'leave') this.#tell({ to: ALL, type: 'pushed', from, pushed: answer, socket });
      if (isJoin && !known) this.#tell({ to: ALL, type: 'page', from, room: request.room, page: { ...answer, recovered: true }, socket });
    } catch (error) {
      this.#joins.clear();
      const { code, message, status, retryAfter } = error;
      this.#tell({ to: from, type: 'answer', number, error: { code, message, status, retryAfter } });
    }
  }

  #open(from) {
    if (!this.#socket) this.#name = randomKey(8);
    const socket = this.#name;
    this.#tell({ to: from, type: 'opening', socket });
    if (this.#hello) return this.#tell({ to: from, type: 'ready', hello: this.#hello, socket });
    const handlers = { // followers ask for pages themselves
      ready: (_, hello) => {
        this.#hello = hello;
        this.#tell({ to: ALL, type: 'ready', hello, socket });
      },
      pushed: (_, pushed) => {
        this.#joins.clear();
        this.#tell({ to: ALL, type: 'pushed', pushed, socket });
      },
      lost: (_, loss) => this.#lost(loss),
    };
    this.#socket ??= new WebSocketLink(this.origin, handlers);
  }

  #lost(loss) {
    const socket = this.#name;
    this.#socket = this.#hello = null;
    this.#joins.clear();
    // After the errors of requests that its end caused, which say more.
    setTimeout(() => this.#tell({ to: ALL, type: 'lost', loss, socket }));
  }
}

const HANDED_OVER = { atOnce: true }; // no more is read then

let tabs = null;

export class TabLink extends SocketLink {
  #isReady = false;
  #socket = ''; // the leader's name for it
  #waiting = new Map();

  constructor(origin, handlers) {
    super();
    this.handlers = handlers;
    this.tabs = tabs ??= new Tabs(origin);
    this.tabs.link = this;
    queueMicrotask(() => this.tabs.ask({ type: 'open' })); // after the caller has the link
  }

  ask(request) {
    if (!this.#isReady) return Promise.reject(gone());
    const number = ++this.tabs.numbers;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      this.tabs.ask({ type: 'ask', number, socket: this.#socket, request });
    });
  }

  probe() {
    this.tabs.ask({ type: 'probe' });
  }

  close() {
    this.#release();
    this.tabs.ask({ type: 'close' });
  }

  /** A message of a leader; a frozen one tells of a past socket. */
  heard({ type, from, number, answer, error, socket, hello, pushed, room, page, loss }) {
    if (type === 'opening') this.#socket = (this.#isReady && this.#socket) || socket; // the end of ours comes first
    else if ((socket ?? this.#socket) !== this.#socket) return;
    if (type === 'answer') {
      const waiting = this.#waiting.get(number);
      this.#waiting.delete(number);
      if (error) waiting?.reject(new ChatError(error.code, error.message, error));
      else waiting?.resolve(answer);
    } else if (type === 'ready' && !this.#isReady) {
      this.#isReady = true;
      this.handlers.ready(this, hello);
    } else if (type === 'lost') {
      if (!this.#isReady && loss.atOnce) return this.tabs.ask({ type: 'open' }); // ask the new leader
      this.#release();
      this.handlers.lost(this, loss);
    } else if (from === this.tabs.id) return;
    else if (type === 'pushed') this.handlers.pushed(this, pushed);
    else if (type === 'page') this.handlers.page(this, room, page);
  }

  #release() {
    this.#isReady = false;
    if (this.tabs.link === this) this.tabs.link = null;
    for (const { reject } of this.#waiting.values()) reject(gone());
    this.#waiting.clear();
  }
}
