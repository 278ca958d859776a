/**
 * Messages that are not stored yet, below the others: pale while they wait, with a choice if they are certainly not sent.
 * Owns: the nodes of the pending list. May not: decide when anything is sent again.
 */
import { byId, make } from './dom.js';
import { messageRow, quote, startsGroup } from './message-row.js';
import { mayTakeBack } from './outbox.js';
import { precise } from './text.js';

const MIN_SHOWN_WAIT = 3_000; // ms; a longer wait is shown
const LABELS = { queued: 'waiting', sending: 'sending', sent: 'sent', failed: 'not sent', held: 'waiting' };

export class PendingView {
  #list = byId('pending');
  /** @type {Map<string, HTMLElement>} by key */
  #rows = new Map();

  constructor(client, composer) {
    this.client = client;
    this.composer = composer;
    for (const event of ['outbox', 'room', 'messages', 'restarted', 'identity', 'state']) {
      client.addEventListener(event, () => client.current && this.#show());
    }
  }

  #show() {
    const { current } = this.client;
    const items = current.pending;
    const keys = new Set(items.map((item) => item.key));
    for (const [key, row] of this.#rows) if (!keys.has(key)) row.remove(), this.#rows.delete(key);
    this.#list.hidden = items.length === 0;
    let previous = current.timeline.messages.at(-1) ?? null;
    for (const item of items) {
      const message = this.#asMessage(item);
      let row = this.#rows.get(item.key);
      if (!row) {
        row = messageRow(this.client, message);
        row.classList.add('pending', 'own');
        this.#rows.set(item.key, row);
        this.#list.append(row);
      }
      row.querySelector('.quote')?.replaceWith(...quote(this.client, message));
      row.classList.toggle('first', startsGroup(message, previous));
      this.#mark(row, item);
      previous = message;
    }
  }

  #mark(row, item) {
    const { key, author, state, problem, until, extras } = item;
    const isLate = Boolean(until) && until - Date.now() > MIN_SHOWN_WAIT;
    const isChoice = mayTakeBack(item) && (state !== 'queued' || isLate || this.client.state.phase !== 'live');
    const mark = `${state} ${until ?? ''} ${isChoice}`;
    if (row.dataset.mark === mark) return;
    Object.assign(row.dataset, { state, mark });
    const aside = row.querySelector('.aside');
    aside.textContent = state === 'failed' && extras.change ? 'not changed' : LABELS[state];
    aside.ariaHidden = null;
    row.querySelector('.problem')?.remove();
    if (!isChoice && !isLate) return;
    if (state === 'held') row.querySelector('.author').textContent = author.name; // drawn as 'You', while it was
    const why = {
      queued: isLate ? `Too many messages: this one goes out at ${precise(new Date(until))}. ` : '',
      failed: `${problem}. `,
      held: `${author?.name} wrote this, and it waits until ${author?.name} signs in. `,
    }[state];
    const choices = {
      ...(state === 'failed' && { 'Send again': () => this.client.outbox.retry(key) }),
      ...(isChoice && { Edit: () => this.composer.takeBack(key), Discard: () => this.client.outbox.takeBack(key) }),
    };
    const buttons = Object.entries(choices).map(([label, onclick]) => make('button', { className: 'link', type: 'button', onclick }, label));
    const isAlert = state !== 'queued';
    const className = isAlert ? 'problem' : 'problem later';
    row.append(make('p', { className, role: isAlert ? 'alert' : null }, why, make('span', { className: 'choices' }, ...buttons)));
  }

  #asMessage({ room, text, created, extras, author }) {
    const user = author ?? this.client.identity.user ?? { id: '', name: 'You' };
    const { replyTo, change, mentions } = extras;
    return { room, offset: 0, cursor: '', user, text, reply_to: replyTo ?? change?.offset, mentions, time: new Date(created).toISOString() };
  }
}
