/**
 * One message as a row: who, when, what, what it answers, how others took it. A long text shows its first lines, and a
 * button for the rest.
 * Owns: which messages are shown whole, as long as the page lives. May not: know the list of rows.
 */
import { avatar, guestMark, make } from './dom.js';
import { inShort, markdown } from './markdown.js';
import { mayTakeBack } from './outbox.js';
import { actionIn, clock, dayName, isOnlyEmoji, isSameDay, mentionedIn, plural, withEmoji } from './text.js';

const GROUP_SPAN = 5 * 60_000; // ms; a later message of the same author begins a new group
const MAX_NAMED = 10; // people at a reaction
const FOLD_FROM = 20; // estimated lines; twelve of them are shown (chat.css)
const COLUMNS = 75; // in a line at most
const PER_COLUMN = 11; // px of a narrow window
export const TAB_STOP = ':scope > [tabindex="0"]';
const IN_ROW = '.chip, .quote, .fold, .text :is(:any-link, pre, table)';

export function startsGroup(message, previous) {
  if (!previous || previous.user.id !== message.user.id || previous.user.name !== message.user.name || message.reply_to) return true;
  return Date.parse(message.time) - Date.parse(previous.time) > GROUP_SPAN;
}

/**
 * Write what stands above a message, if it has changed: the day, a loss, the line above the first unread one (its offset is
 * `divider`), its author.
 */
export function placeBelow(row, message, previous, { lossesBefore }, divider) {
  const { offset } = message;
  const time = new Date(message.time);
  const day = previous && isSameDay(time, new Date(previous.time)) ? '' : dayName(time);
  const isAfterLoss = lossesBefore.has(offset);
  const isDivided = divider !== null && offset >= divider && (previous?.offset ?? 0) < divider;
  row.classList.toggle('first', Boolean(day) || isAfterLoss || isDivided || startsGroup(message, previous));
  const above = [day, isAfterLoss, isDivided].join();
  if (row.dataset.above === above) return;
  row.dataset.above = above;
  row.querySelectorAll(':scope > :is(.day, .lost, .divider)').forEach((each) => each.remove());
  if (isDivided) row.prepend(make('p', { className: 'divider' }, make('span', {}, 'New')));
  if (isAfterLoss) row.prepend(make('p', { className: 'lost' }, 'Some messages are gone: the server no longer has them.'));
  if (day) row.prepend(make('p', { className: 'day' }, make('span', {}, day)));
}

export function stopIn(row, tabIndex) {
  for (const each of [row, ...row.querySelectorAll(IN_ROW)]) each.tabIndex = tabIndex;
}

/** The Tab key stops at one row and the links in it: the focused row, else the newest. */
export function stopAt(list, row) {
  const before = list.querySelector(TAB_STOP);
  if (!row || row === before) return;
  if (before) stopIn(before, -1);
  stopIn(row, 0);
}

export function messageRow(client, message) {
  message = client.rooms.get(message.room)?.find(message.offset) ?? message;
  const { user, offset, text, isUnconfirmed } = message;
  const isOwn = client.identity.owns(message);
  const time = new Date(message.time);
  const isWaiting = isUnconfirmed && client.state.phase !== 'live';
  const row = make(
    'li',
    { className: 'message', tabIndex: -1 },
    avatar(user),
    make(
      'p',
      { className: 'head' },
      make('span', { className: 'author', dir: 'auto', translate: isOwn }, isOwn ? 'You' : user.name),
      ...guestMark(user),
      ' ', // in copied text
      make('time', { dateTime: message.time }, clock(time)),
    ),
    make('div', { className: 'bubble' }, ...quote(client, message), ...foldable(message, body(client, message))),
    make('span', { className: 'aside', ariaHidden: isUnconfirmed ? null : 'true' }, isWaiting ? 'waiting' : isUnconfirmed ? 'saving' : clock(time)),
    ...reactions(client, message),
    ...(isWaiting ? discarding(client, message) : []),
  );
  row.classList.toggle('own', isOwn);
  row.classList.toggle('pending', Boolean(isUnconfirmed));
  row.classList.toggle('for-us', client.mentionsUs(message));
  row.classList.toggle('jumbo', isOnlyEmoji(withEmoji(text)));
  row.classList.toggle('action', actionIn(message) !== null);
  if (offset) row.dataset.offset = String(offset);
  return row;
}

function discarding({ outbox }, { room, offset }) {
  const isOf = (item) => item.room === room && item.extras.change?.offset === offset && item.extras.change.type !== 'react';
  const waiting = () => outbox.items.filter((item) => isOf(item) && mayTakeBack(item));
  if (!waiting().length) return [];
  const onclick = () => waiting().forEach(({ key }) => outbox.takeBack(key)); // the button stays when there are others
  return [make('p', { className: 'problem later' }, make('button', { className: 'link', type: 'button', onclick }, 'Discard'))];
}

function body(client, message) {
  const { user, text, deleted, edited, mentions = [] } = message;
  if (deleted) return make('p', { className: 'text gone' }, 'This message was deleted.');
  const known = mentions.map((id) => client.identity.nameOf(id)).filter((name) => name !== undefined);
  const names = edited ? client.identity.namesIn(text) : mentionedIn(text, known, mentions.length);
  const action = actionIn(message);
  const blocks = markdown(action ?? text, names);
  if (action !== null) {
    if (!blocks[0]?.matches('p')) blocks.unshift(make('p'));
    blocks[0].prepend('* ', make('b', { dir: 'auto' }, user.name), ' ');
  }
  if (edited) {
    const mark = make('span', { className: 'edited' }, 'edited');
    const last = blocks.at(-1);
    if (last?.matches('p')) last.append(' ', mark);
    else blocks.push(mark);
  }
  return make('div', { className: 'text', dir: 'auto' }, ...blocks);
}

export function quote(client, { room, reply_to, deleted }) {
  if (!reply_to || deleted) return [];
  const answered = client.rooms.get(room)?.quoted(reply_to);
  const shown = answered
    ? [make('b', { dir: 'auto' }, client.identity.owns(answered) ? 'You' : answered.user.name), ` ${inShort(answered)}`]
    : ['an earlier message'];
  return [make('a', { className: 'quote', href: `#${room}/${reply_to}`, dir: 'auto' }, ...shown)];
}

function reactions(client, message) {
  const counted = reactionsTo(client, message);
  if (!counted.length) return [];
  const chips = counted.map(({ emoji, count, isOurs, isUnconfirmed, title }) => {
    const label = `${emoji} ${count}, ${title}: ${isOurs ? 'take yours back' : 'react with it too'}`;
    const className = isUnconfirmed ? 'chip pending' : 'chip';
    return make('button', { className, type: 'button', value: emoji, title, ariaPressed: String(isOurs), ariaLabel: label }, `${emoji} ${count}`);
  });
  return [make('p', { className: 'reactions' }, ...chips)];
}

export function reactionsTo({ identity, rooms }, { room, offset, reactions = {} }) {
  const { reactors, unconfirmed } = rooms.get(room) ?? {};
  const wanted = unconfirmed?.reactionsTo(offset) ?? new Map();
  const counted = [...new Set([...Object.keys(reactions), ...wanted.keys()])].map((emoji) => {
    const known = reactors?.of(offset, emoji) ?? [];
    const users = known.length > (reactions[emoji] ?? 0) ? [] : known; // more than the count are out of date
    const others = users.filter((user) => !identity.owns({ user }));
    const wasOurs = others.length < users.length;
    const isOurs = wanted.get(emoji) ?? wasOurs;
    const count = (reactions[emoji] ?? 0) + Number(isOurs) - Number(wasOurs);
    return { emoji, count, isOurs, isUnconfirmed: wanted.has(emoji), title: who(identity, isOurs, others, count) };
  });
  return counted.filter(({ count }) => count > 0);
}

function who(identity, isOurs, others, count) {
  const named = [...(isOurs ? ['You'] : []), ...others.map(({ id, name }) => identity.nameOf(id) ?? name)].slice(0, MAX_NAMED);
  const rest = count - named.length;
  if (rest > 0) named.push(named.length ? plural(rest, 'other') : plural(rest, 'person', 'people'));
  return new Intl.ListFormat('en-GB').format(named);
}

// A long text

const unfolded = new Set(); // `room/offset`

/** Read once a resize, since reading it may cost a layout. */
let width = innerWidth; // px
addEventListener('resize', () => (width = innerWidth));

const keyOf = ({ room, offset }) => `${room}/${offset}`;

/** Show a message whole when its row is made. */
export const unfold = (message) => unfolded.add(keyOf(message));

/** An estimate of a text's lines, without a layout. Blocks of code scroll by themselves and do not count. */
function linesOf(text) {
  const columns = Math.min(COLUMNS, width / PER_COLUMN);
  const lines = [...text.querySelectorAll('p, li, blockquote, tr')].flatMap((block) => (block.textContent ?? '').split('\n'));
  return lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0);
}

/** The text, and a button if it is long. The button dispatches `fold` with how far the text was scrolled. */
function foldable(message, text) {
  if (linesOf(text) < FOLD_FROM) return [text];
  const key = keyOf(message);
  const button = make('button', { className: 'link fold', type: 'button', value: 'fold' });
  const show = (isWhole) => {
    const moved = text.scrollTop;
    if (message.offset && isWhole) unfolded.add(key);
    else unfolded.delete(key);
    text.classList.toggle('folded', !isWhole);
    button.textContent = isWhole ? 'Show less' : 'Show more';
    button.dispatchEvent(new CustomEvent('fold', { bubbles: true, detail: moved }));
  };
  show(unfolded.has(key));
  button.addEventListener('click', () => show(text.classList.contains('folded')));
  // The Tab key and the browser's search scroll within the folded text: it is shown whole then.
  text.addEventListener('scroll', () => text.scrollTop && show(true));
  return [text, button];
}
