/**
 * A browser with many tabs on one virtual clock, and the loader of the page's own modules.
 * Owns: the clock, the network, locks, the life of a tab. May not: know the chat.
 */
import { readFileSync } from 'node:fs';
import { Page, aborted, withResolvers } from './page.mjs';

Map.groupBy ??= (items, keyOf) => {
  const groups = new Map();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
};
const { setImmediate } = globalThis;
const settled = () => new Promise((resolve) => setImmediate(resolve));
/** Modules that only draw. */
const STUBS = /^(actions|completion|composer|dom|markdown|message-row|messages-view|notify|person-menu|rows|switcher)\.js$/;
const IMPORT = /^import \{([^}]*)\} from '\.\/([\w-]+\.js)';/gm;
const WAIT = /^if \(document\.prerendering\) await .*/m; // no function may wait so, and no page here is prepared before it is opened
const EXPORT = /^export (?:async )?(?:const|let|class|function) (\w+)/gm;
const GLOBALS = `window, globalThis, document, location, history, navigator, addEventListener, setTimeout, clearTimeout, setInterval,
  clearInterval, Date, Math, performance, crypto, fetch, WebSocket, BroadcastChannel, TextDecoderStream, visualViewport, console`;

/** @returns {(env: object, stubs: object) => {client: object}} runs page.js of a folder, and what it imports */
export function loadPage(folder) {
  const modules = new Map();
  const load = (name) => {
    if (modules.has(name) || STUBS.test(name)) return;
    const text = readFileSync(`${folder}/${name}`, 'utf8');
    for (const [, , needed] of text.matchAll(IMPORT)) load(needed);
    const exported = name === 'page.js' ? ['client'] : [...text.matchAll(EXPORT)].map(([, each]) => each);
    const body = text.replace(WAIT, '').replace(IMPORT, (_, names, from) => `const {${names.replaceAll(' as ', ': ')}} = M['${from}'] ?? stubs;`);
    modules.set(name, `M['${name}'] = (() => {${body.replace(/^export /gm, '')}\nreturn {${exported}};})();`);
  };
  load('page.js');
  return new Function('env', 'stubs', `'use strict'; const {${GLOBALS}} = env; const M = {};\n${[...modules.values()].join('\n')}\nreturn M['page.js'];`);
}

/** Runs events in the order of their time; all that one causes at once is over before the next. */
export class Clock {
  now = 0;
  #events = []; // the next one is the last
  #state;

  constructor(seed) {
    this.#state = seed;
    for (let i = 0; i < 5; i++) this.random();
  }

  /** mulberry32 */
  random = () => {
    let t = (this.#state = (this.#state + 0x6d2b79f5) >>> 0);
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };

  int = (below) => Math.floor(this.random() * below);
  pick = (list) => list[this.int(list.length)];

  after(delay, run) {
    const event = { time: this.now + delay, run };
    let [low, high] = [0, this.#events.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#events[middle].time > event.time) low = middle + 1;
      else high = middle;
    }
    this.#events.splice(low, 0, event);
    return event;
  }

  async run(ms) {
    const end = this.now + ms;
    await settled();
    while (this.#events.at(-1)?.time <= end) {
      const { time, run } = this.#events.pop();
      if (!run) continue;
      this.now = time;
      run();
      await settled();
    }
    this.now = end;
  }

  /** @returns {(run: () => void) => void} delays what it is given, and keeps its order */
  line(most) {
    let last = 0;
    return (run) => this.after((last = Math.max(last, this.now + this.random() * most)) - this.now, run);
  }
}

export class Browser {
  tabs = [];
  cookie = null;
  local = new Map();
  quota = Infinity;
  net = 'good'; // or 'silent', or 'off'
  isSocketBlocked = false;
  lag = 100; // ms
  #stalled = [];
  #locks = new Map();

  constructor(clock, server) {
    Object.assign(this, { clock, server });
  }

  get pages() {
    return this.tabs.flatMap(({ page }) => page ?? []);
  }

  get used() {
    return [...this.local].reduce((sum, [name, { length }]) => sum + name.length + length, 0);
  }

  /** @returns {(run: () => void) => void} the way to the server or back, which may be silent for a while */
  way() {
    const line = this.clock.line(this.lag);
    return (run) => line(() => (this.net === 'silent' ? this.#stalled.push(run) : run()));
  }

  turn(net) {
    this.net = net;
    if (net === 'off') this.cut();
    if (net === 'off') for (const socket of this.server.sockets) socket.left(); // its pings get no answer
    for (const run of net === 'silent' ? [] : this.#stalled.splice(0)) net === 'good' && this.clock.after(1, run);
  }

  cut() {
    for (const page of this.pages) for (const each of [...page.open]) each.broken();
  }

  lock(page, name, { steal, ifAvailable, mode }, grant) {
    const { promise, resolve, reject } = withResolvers();
    const lock = this.#locks.get(name) ?? { held: [], queue: [] };
    this.#locks.set(name, lock);
    const asked = { page, isShared: mode === 'shared', reject, run: () => Promise.resolve(grant({})).then(resolve, reject) };
    if (steal) for (const each of lock.held.splice(0)) each.page.task('lock', () => each.reject(aborted('stolen')));
    const isFree = lock.held.every(({ isShared }) => isShared && asked.isShared);
    if (!ifAvailable || isFree) lock.queue[steal ? 'unshift' : 'push'](asked);
    else page.task('lock', () => Promise.resolve(grant(null)).then(resolve, reject));
    this.#grant(lock);
    return promise;
  }

  #grant(lock) {
    for (let next; (next = lock.queue[0]) && lock.held.every(({ isShared }) => isShared && next.isShared); ) {
      const held = lock.queue.shift();
      lock.held.push(held);
      held.page.task('lock', () => held.run().then(() => this.#release(lock, (each) => each === held)));
    }
  }

  #release(lock, isOver) {
    lock.held = lock.held.filter((each) => !isOver(each));
    this.#grant(lock);
  }

  unlock(page) {
    for (const lock of this.#locks.values()) {
      lock.queue = lock.queue.filter((each) => each.page !== page);
      this.#release(lock, (each) => each.page === page);
    }
  }

  get held() {
    return [...this.#locks].flatMap(([name, { held }]) => held.map(({ page }) => ({ name, page })));
  }
}

/** A tab; `page` is null while it loads. */
export class Tab {
  page = null;

  constructor(browser, { web, search, hash = '#lobby', session = [] }) {
    Object.assign(this, { browser, web, search, hash, session: new Map(session) });
    browser.tabs.push(this);
    this.load();
  }

  load() {
    this.page?.end();
    this.page = null;
    this.browser.clock.after(400 * this.browser.clock.random(), () => this.#arrive());
  }

  #arrive() {
    const { browser } = this;
    if (!browser.tabs.includes(this) || this.page) return;
    if (browser.net !== 'good' || !browser.server.isUp) return this.load();
    browser.server.visited(browser);
    this.page = new Page(this);
    this.page.start();
  }

  close() {
    this.page.end();
    this.browser.tabs.splice(this.browser.tabs.indexOf(this), 1);
  }
}
