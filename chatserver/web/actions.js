/**
 * The toolbar of a message: react, reply, copy, link, edit, delete, moderate its author. Links to the room are copied too.
 * Owns: the toolbar, which is shown at the hovered or focused message. May not: change a message itself.
 */
import { byId, hasFingers, isConfirmed, make, openAt } from './dom.js';
import { reactionsTo } from './message-row.js';
import { EMOJI, QUICK, fullTime } from './text.js';

export class Actions {
  #list = byId('messages');
  #bar = byId('actions');
  #place = byId('actions-place');
  #picker = byId('reaction-picker');
  #message = null;
  /** Whether the focused row was reached by keyboard. After a click, letters go into the text field instead. */
  #isReached = false;

  constructor(client, { composer, tell, toPresent, moderate }) {
    this.client = client;
    this.toPresent = toPresent;
    this.moderate = moderate;
    this.composer = composer;
    this.tell = tell;
    for (const event of ['pointerover', 'focusin']) this.#list.addEventListener(event, (seen) => this.#at(seen));
    this.#list.addEventListener('pointerleave', () => this.#leave());
    addEventListener('keydown', ({ key }) => key === 'Escape' && this.#leave());
    this.#list.addEventListener('focusin', ({ target }) => (this.#isReached = target.matches(':focus-visible')));
    this.#list.addEventListener('keydown', (event) => this.#key(event));
    // Not at the list: screen readers would call each message clickable.
    addEventListener('click', (event) => (this.#at(event), this.#chip(event)));
    this.#bar.addEventListener('click', (event) => this.#click(event));
    this.#bar.addEventListener('keydown', (event) => this.#move(event));
    this.#picker.addEventListener('click', (event) => this.#pick(event));
    this.#picker.addEventListener('keydown', (event) => this.#roam(event));
    for (const id of ['copy-room', 'invite']) byId(id).addEventListener('click', () => this.#copyLink(client.room));
    for (const event of ['room', 'messages']) client.addEventListener(event, () => this.#keep());
  }

  #at({ type, target, pointerType }) {
    if (type === 'focusin' && !target.matches(':focus-visible')) return; // a click shows it, and a link does not
    if (type === 'pointerover' && pointerType === 'touch') return; // it would come between the finger and the message
    if (this.#picker.matches(':popover-open') || this.#bar.contains(target)) return;
    if (target.matches('.fold')) return; // the toolbar would cover the text that it unfolds
    const row = target.closest('.message');
    const message = row && this.client.current.find(Number(row.dataset.offset));
    if (!row || !message || message.deleted) return;
    row.querySelector('.bubble').title = fullTime(new Date(message.time));
    this.#message = message;
    const isOwn = this.client.identity.owns(message);
    const isModerator = this.client.identity.moderates(this.client.room);
    const mayWrite = this.client.current.readOnly === null;
    const may = {
      react: mayWrite,
      reply: mayWrite,
      edit: mayWrite && isOwn,
      delete: mayWrite && (isOwn || isModerator),
      moderate: isModerator && !isOwn,
    };
    for (const [name, value] of Object.entries(may)) {
      this.#bar.querySelector(`[value="${name}"]`).hidden = !value;
    }
    if (this.#place.parentElement !== row) row.append(this.#place);
    this.#bar.hidden = false;
    this.#stopAt(this.#buttons[0]);
  }

  get #buttons() {
    return [...this.#bar.querySelectorAll('button:not([hidden])')];
  }

  /** The toolbar is one stop of the Tab key; the arrow keys go from button to button. */
  #stopAt(button) {
    for (const each of this.#buttons) each.tabIndex = each === button ? 0 : -1;
  }

  #move(event) {
    const buttons = this.#buttons;
    const at = buttons.indexOf(event.target);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: -1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const button = buttons.at(to % buttons.length);
    this.#stopAt(button);
    button.focus();
  }

  #leave() {
    if (this.#list.contains(document.activeElement) || document.querySelector('#question[open], :is(#reaction-picker, #person-menu):popover-open')) return;
    this.#bar.hidden = true;
  }

  #keep() {
    if (!this.#bar.isConnected) byId('column').append(this.#place);
    if (!this.#list.contains(this.#bar)) this.#bar.hidden = true;
  }

  #key(event) {
    const row = event.target.closest('.message');
    if (event.defaultPrevented || event.target.closest('pre') || event.ctrlKey || event.metaKey) return; // the toolbar has keys too
    this.#at(event); // the pointer may be at another message
    if (event.key === 'End') {
      event.preventDefault();
      this.toPresent();
      this.#list.lastElementChild.focus();
    }
    const { previousElementSibling: above, nextElementSibling: below } = row;
    const to = { ArrowUp: above, ArrowDown: below }[event.key];
    if (to) {
      event.preventDefault();
      to.focus();
    }
    const does = { r: 'reply', e: 'edit', c: 'copy', '+': 'react', Delete: 'delete' }[event.key];
    const button = does && this.#bar.querySelector(`[value="${does}"]:not([hidden])`);
    if (event.key === 'Escape') this.composer.focus();
    if (!button || !this.#isReached || !row.contains(this.#bar)) return;
    event.preventDefault();
    button.click();
  }

  async #click({ target }) {
    const button = target.closest('button');
    const message = this.#message;
    if (!button || !message) return;
    const { room, offset, text } = message;
    const { composer, client } = this;
    if (hasFingers()) this.#bar.hidden = true; // after a tap nothing hovers
    if (button.value === 'react') return this.#openPicker(message);
    if (button.value === 'moderate') {
      this.#bar.hidden = false; // the menu opens at it
      return this.moderate(message.user, this.#bar);
    }
    if (button.value === 'reply') return composer.reply(message);
    if (button.value === 'edit') return composer.edit(message);
    if (button.value === 'copy') return this.#copy(text, 'The text is copied.');
    if (button.value === 'link') return this.#copyLink(`${room}/${offset}`);
    if (!(await isConfirmed('Delete this message for everybody?', 'Delete'))) return;
    this.#try(() => client.rooms.get(room)?.delete(offset), 'Not deleted');
    if (!hasFingers()) composer.focus(); // on touch screens it would open the keyboard
  }

  async #try(action, otherwise) {
    try {
      await action();
    } catch (error) {
      if (error.code !== 'aborted') this.tell(`${otherwise}: ${error.message}`);
    }
  }

  #copyLink(place) {
    return this.#copy(`${location.origin}${location.pathname}#${place}`, 'The link is copied.');
  }

  async #copy(text, done) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Browsers have no `navigator.clipboard` over plain http, and refuse it in frames.
      const { activeElement } = document;
      const field = make('textarea', { value: text });
      document.body.append(field);
      field.select();
      const isCopied = document.execCommand('copy');
      field.remove();
      activeElement?.focus({ preventScroll: true });
      if (!isCopied) return this.tell('This browser does not let this page copy.');
    }
    this.tell(done);
  }

  #openPicker(message) {
    this.#bar.hidden = false;
    // The reactions' titles say it too, but touch screens show no titles.
    const lines = reactionsTo(this.client, message).map(({ emoji, title }) => make('li', {}, `${emoji} ${title}`));
    byId('reactors').replaceChildren(...lines);
    const reaction = (emoji, name = emoji) => make('button', { type: 'button', value: emoji, title: name, ariaLabel: name }, emoji);
    byId('quick-reactions').replaceChildren(...QUICK.map((emoji) => reaction(emoji)));
    byId('all-reactions').replaceChildren(...[...EMOJI].map(([name, emoji]) => reaction(emoji, name.replaceAll('_', ' '))));
    openAt(this.#picker, this.#bar);
  }

  /** The arrow keys go from emoji to emoji, as they are laid out. */
  #roam(event) {
    const { key, target } = event;
    const all = [...this.#picker.querySelectorAll('button')];
    const at = all.indexOf(target);
    const isInColumn = ({ offsetLeft, offsetTop }) => offsetLeft === target.offsetLeft && offsetTop !== target.offsetTop;
    const to = {
      ArrowLeft: all[at - 1],
      ArrowRight: all[at + 1],
      ArrowUp: all.slice(0, at).findLast(isInColumn),
      ArrowDown: all.slice(at + 1).find(isInColumn),
    }[key];
    if (at < 0 || !to) return;
    event.preventDefault();
    to.focus();
  }

  #pick({ target }) {
    const button = target.closest('button');
    if (!button || !this.#message) return;
    this.#picker.hidePopover();
    // The row that had the keyboard's focus may have been replaced meanwhile.
    if (this.#isReached && !this.#list.contains(document.activeElement)) this.#list.querySelector(`[data-offset="${this.#message.offset}"]`)?.focus();
    this.#react(this.#message, button.value, true);
  }

  #chip({ target }) {
    const chip = target.closest('.chip');
    if (!chip || !this.#message) return;
    this.#react(this.#message, chip.value, chip.ariaPressed !== 'true');
  }

  #react(message, emoji, on) {
    const room = this.client.rooms.get(message.room);
    this.#try(() => room?.react(message.offset, emoji, on), 'No reaction');
  }
}
