/**
 * A document without a DOM, in which the page's own modules run.
 * Owns: its events, timers, storage, sockets and requests, also while it is frozen. May not: know the chat.
 */
export const withResolvers = (Promise.withResolvers ??= () => {
  let both;
  return { promise: new Promise((...all) => (both = all)), resolve: both[0], reject: both[1] };
}).bind(Promise);
export const aborted = (why) => new DOMException(why, 'AbortError');

class Element extends EventTarget {
  dataset = {};
  style = {};
  value = '';
  classList = { toggle() {}, add() {}, contains: () => false };
  querySelectorAll = () => [];
}
for (const name of ['append', 'replaceChildren', 'remove', 'close', 'focus', 'select', 'showModal']) Element.prototype[name] = () => {};
for (const name of ['matches', 'contains', 'closest', 'querySelector']) Element.prototype[name] = () => null;

/** A view: anything may be called or constructed. */
const anything = new Proxy(function () {}, {
  get: (_, name) => (name === 'then' ? undefined : name === Symbol.toPrimitive ? () => '' : anything),
  apply: () => anything,
  construct: () => anything,
});

export class Page extends EventTarget {
  isAlive = true;
  isFrozen = false;
  open = new Set(); // sockets and requests
  #backlog = [];
  #timers = new Map();
  #elements = new Map();
  #document = Object.assign(new Element(), { hidden: false, body: new Element(), getElementById: (id) => this.element(id) });

  constructor(tab) {
    super();
    Object.assign(this, { tab, browser: tab.browser, clock: tab.browser.clock, channels: new Map() });
    this.others = this.clock.line(15); // what other tabs tell
  }

  element(id) {
    if (!this.#elements.has(id)) this.#elements.set(id, new Element());
    return this.#elements.get(id);
  }

  start() {
    const make = () => new Element();
    const known = { byId: this.#document.getElementById, make, isConfirmed: async () => true, hasFingers: () => true };
    Object.assign(this, this.tab.web(this.#env(), new Proxy(known, { get: (target, name) => target[name] ?? anything })));
  }

  /** Run in this page, unless it is frozen: then later, in the order of each source. */
  run(source, run) {
    if (this.isFrozen) this.#backlog.push({ source, run });
    else if (this.isAlive) run();
  }

  task(source, run) {
    this.clock.after(0, () => this.run(source, run));
  }

  tell(type, fields, target = this) {
    this.run(type, () => target.dispatchEvent(Object.assign(new Event(type), fields)));
  }

  show(isShown) {
    this.#document.hidden = !isShown;
    this.tell('visibilitychange', {}, this.#document);
  }

  freeze() {
    this.show(false);
    this.isFrozen = true;
  }

  thaw() {
    this.isFrozen = false;
    const sources = [...Map.groupBy(this.#backlog.splice(0), ({ source }) => source).values()];
    while (sources.length) {
      const source = this.clock.pick(sources);
      this.task('', source.shift().run);
      if (!source.length) sources.splice(sources.indexOf(source), 1);
    }
  }

  end() {
    this.isFrozen = false;
    this.tell('pagehide', { persisted: false });
    this.isAlive = false;
    this.browser.unlock(this);
    for (const each of this.open) each.abandon();
  }

  #area(map, quota, changed) {
    const setItem = (key, value) => {
      const old = map.get(key);
      const growth = old === undefined ? key.length + value.length : value.length - old.length;
      if (growth > 0 && this.browser.used + growth > quota()) throw new DOMException('full', 'QuotaExceededError');
      map.set(key, value);
      if (old !== value) changed(key, value);
    };
    const methods = { getItem: (key) => map.get(key) ?? null, setItem, removeItem: (key) => map.delete(key) && changed(key, null) };
    return new Proxy(methods, {
      ownKeys: () => [...map.keys()],
      getOwnPropertyDescriptor: (_, key) => ({ value: map.get(key), enumerable: true, configurable: true, writable: true }),
    });
  }

  #timer(run, ms = 0, isRepeated = false, id = this.#timers.size + 1) {
    const due = () => {
      if (this.#timers.get(id) !== event) return;
      if (isRepeated) this.#timer(run, ms, true, id);
      run();
    };
    const event = this.clock.after(ms, () => this.run('timers', due));
    this.#timers.set(id, event);
    return id;
  }

  #stop(id) {
    if (!this.#timers.get(id)) return;
    this.#timers.get(id).run = null;
    this.#timers.set(id, null);
  }

  #env() {
    const { clock, browser, tab } = this;
    const page = this;
    const time = () => Date.UTC(2026, 0) + clock.now;
    const told = (key, newValue) => {
      for (const each of browser.pages) if (each !== page) each.others(() => each.tell('storage', { key, newValue }));
    };
    const location = { origin: 'http://chat', pathname: '/', search: tab.search, hash: tab.hash, reload: () => clock.after(0, () => tab.load()) };
    const replaceState = (_, __, url) => url && (location.hash = tab.hash = url);
    return {
      location, console: { warn() {} }, document: this.#document, globalThis: { location }, TextDecoderStream: class {}, visualViewport: null,
      window: { localStorage: this.#area(browser.local, () => browser.quota, told), sessionStorage: this.#area(tab.session, () => Infinity, () => {}) },
      history: { state: null, replaceState, pushState: replaceState },
      navigator: {
        cookieEnabled: true,
        locks: {
          request: (name, ...rest) => browser.lock(this, name, rest.length > 1 ? rest[0] : {}, rest.at(-1)),
          query: async () => ({ held: browser.held }),
        },
      },
      addEventListener: (...all) => this.addEventListener(...all),
      setTimeout: (...all) => this.#timer(...all),
      setInterval: (run, ms) => this.#timer(run, ms, true),
      clearTimeout: (id) => this.#stop(id),
      clearInterval: (id) => this.#stop(id),
      Date: new Proxy(Date, {
        apply: () => String(time()),
        construct: (_, all) => new Date(...(all.length ? all : [time()])),
        get: (target, name) => (name === 'now' ? time : target[name]),
      }),
      Math: Object.create(Math, { random: { value: clock.random } }),
      performance: { now: () => clock.now },
      crypto: { getRandomValues: (bytes) => bytes.map(() => clock.int(256)) },
      fetch: (url, options = {}) => new Request(this, url.slice(location.origin.length), options).answered,
      WebSocket: Object.assign(function () { return new Socket(page); }, { OPEN: 1 }),
      BroadcastChannel: class {
        constructor(name) {
          page.channels.set(name, this);
          this.postMessage = (data) => {
            const text = JSON.stringify(data);
            const hear = (each) => each.run('channel', () => each.channels.get(name)?.onmessage({ data: JSON.parse(text) }));
            for (const each of browser.pages) if (each !== page) each.others(() => hear(each));
          };
        }
      },
    };
  }
}

class Socket {
  readyState = 0;
  #end = null; // the server's

  constructor(page) {
    const { browser } = page;
    Object.assign(this, { page, up: browser.way(), down: browser.way() });
    page.open.add(this);
    if (browser.isSocketBlocked || browser.net === 'off') return void page.clock.after(50, () => this.broken());
    const heard = (message) => this.down(() => this.page.run('socket', () => this.#heard(JSON.stringify(message))));
    const closed = (code) => this.down(() => this.#closed(code));
    this.up(() => page.open.has(this) && (this.#end = browser.server.connect(browser, heard, closed)));
  }

  #heard(data) {
    if (this.readyState > 1) return;
    this.readyState = 1;
    this.onmessage({ data });
  }

  send(data) {
    this.up(() => this.#end?.heard(JSON.parse(data)));
  }

  close() {
    this.readyState = 2;
    this.abandon();
    this.page.clock.after(200, () => this.#closed(1000));
  }

  abandon() {
    this.up(() => this.#end?.left());
  }

  /** What was on its way is lost; the server notices later. */
  broken() {
    const end = this.#end;
    this.#end = null;
    this.page.clock.after(this.page.clock.int(20_000), () => end?.left());
    this.#closed(1006);
  }

  #closed(code) {
    if (!this.page.open.delete(this)) return;
    this.page.run('socket', () => {
      this.readyState = 3;
      this.onclose({ code, reason: '' });
    });
  }
}

class Request {
  #answer = withResolvers();
  answered = this.#answer.promise;
  #isAnswered = false;
  #cancel = null; // at the server
  #chunks = []; // of an event stream
  #reading = null;

  constructor(page, path, { method = 'GET', headers, body, signal }) {
    const { browser } = page;
    Object.assign(this, { page, at: page.clock.now, up: browser.way(), down: browser.way() });
    page.open.add(this);
    const abort = () => (this.abandon(), this.#fail(aborted('by the page')));
    signal?.addEventListener('abort', abort);
    if (signal?.aborted) return void abort();
    if (browser.net === 'off' || !browser.server.isUp) return void page.clock.after(30, () => this.broken());
    const answer = (given) => this.down(() => this.#take(given));
    this.up(() => page.open.has(this) && (this.#cancel = browser.server.request(browser, { path, method, headers, body: body && JSON.parse(body) }, answer)));
  }

  #take({ status = 200, json = null, cookie, retryAfter, isLost, stream }) {
    if (!this.page.open.has(this) || !this.page.isAlive) return;
    if (cookie !== undefined) this.page.browser.cookie = cookie;
    if (isLost) return this.broken();
    if (!stream) this.page.open.delete(this);
    this.isStream = Boolean(stream);
    stream?.((chunk) => this.down(() => this.#push(chunk)));
    const reader = { read: () => this.#read(), cancel: async () => this.#push(null) };
    const body = { pipeThrough: () => ({ getReader: () => reader }) };
    const answer = { status, ok: status < 300, headers: new Map([['Retry-After', retryAfter]]), json: async () => structuredClone(json), body };
    this.#isAnswered = true;
    this.page.run('net', () => this.#answer.resolve({ ...answer, headers: { get: (name) => answer.headers.get(name) ?? null } }));
  }

  #fail(error) {
    if (!this.page.open.delete(this)) return;
    if (this.#isAnswered) this.#push(error);
    else this.page.run('net', () => this.#answer.reject(error));
  }

  broken() {
    this.#cancel?.();
    this.#fail(new TypeError('cut'));
  }

  abandon() {
    this.up(() => this.#cancel?.());
  }

  #push(chunk) {
    this.#chunks.push(chunk);
    if (chunk === null) this.page.open.delete(this);
    this.page.task('net', () => this.#serve());
  }

  #read() {
    this.#reading = withResolvers();
    this.#serve();
    return this.#reading?.promise ?? this.#last;
  }

  #last = null;

  #serve() {
    if (!this.#reading || !this.#chunks.length) return;
    const { promise, resolve, reject } = this.#reading;
    this.#reading = null;
    this.#last = promise;
    const value = this.#chunks.shift();
    if (value instanceof Error) reject(value);
    else resolve({ done: value === null, value });
  }
}
