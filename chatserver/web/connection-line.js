/**
 * The line below the room's name: whether we are connected, how, and when it is tried again.
 * Owns: its words. May not: decide anything about the connection.
 */
import { byId, make, setText } from './dom.js';

export const KINDS = { ws: 'WebSocket', sse: 'event stream', poll: 'long-poll' };

function inWords({ phase, kind, until, reason }, isOut) {
  if (phase === 'live') return reason || `${isOut ? 'out of this room' : 'live'} · ${KINDS[kind]}`;
  if (phase === 'connecting') return reason ? 'reconnecting…' : 'connecting…';
  if (phase === 'stopped') return 'disconnected'; // the banner says why
  const seconds = Math.max(1, Math.ceil(((until ?? 0) - performance.now()) / 1000));
  return `${navigator.onLine ? '' : 'offline · '}retrying in ${seconds}\u00a0s…`;
}

export class ConnectionLine {
  #line = byId('connection');
  #text = byId('connection-text');
  #spoken = byId('connection-spoken');
  #ticking = 0;

  constructor(client) {
    this.client = client;
    for (const event of ['state', 'room', 'refused', 'caughtup']) client.addEventListener(event, () => this.#show());
    client.addEventListener('typing', () => this.#showTyping());
    byId('reconnect').addEventListener('click', () => client.connection.checkNow());
    // `offline` is a guess, and wrong for a server on this machine: so the connection is tested.
    for (const event of ['online', 'offline']) addEventListener(event, () => client.wake());
    document.addEventListener('visibilitychange', () => document.hidden || client.wake());
  }

  #show() {
    const { state, current } = this.client;
    const isOut = Boolean(current?.out);
    const words = inWords(state, isOut);
    this.#line.dataset.phase = isOut && state.phase === 'live' ? 'out' : state.phase;
    this.#line.title = state.reason;
    setText(this.#text, words);
    this.#showTyping();
    byId('reconnect').hidden = state.phase !== 'waiting' && state.phase !== 'stopped';
    clearInterval(this.#ticking);
    if (state.phase === 'waiting') this.#ticking = setInterval(() => setText(this.#text, inWords(state, isOut)), 250);
    // Screen readers hear each change once, without the countdown.
    const spoken = state.phase === 'waiting' ? 'connection lost, reconnecting' : words;
    if (state.phase !== 'connecting') setText(this.#spoken, spoken);
  }

  #showTyping() {
    const { current, state } = this.client;
    const names = state.phase === 'live' ? current.typists.map(({ name }) => name) : [];
    const who = names.length > 2 ? 'Several people' : names.join(' and ');
    const shown = [make('span', { className: 'name' }, who), names.length > 1 ? ' are typing…' : ' is typing…'];
    byId('typing').replaceChildren(...(names.length ? shown : []));
  }
}
