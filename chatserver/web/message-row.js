/**
 * One message as a row: who, when, what, what it answers, how others took it.
 * Owns nothing; may not: know where in the list it stands.
 *
 * @import { ChatClient } from './client.js'
 * @import { Message } from './wire.js'
 */
import { avatar, make } from './dom.js';
import { withEmoji } from './emoji.js';
import { foldable } from './fold.js';
import { inShort, markdown } from './markdown.js';
import { actionIn, clock, fullTime, isOnlyEmoji, plural } from './text.js';

const GROUP_SPAN = 5 * 60_000; // ms; a later message of the same author begins a new group
const MOST_NAMED = 10; // people at a reaction
const IN_ROW = '.chip, .quote, .fold, .text a';
const LIST = new Intl.ListFormat('en-GB');

/**
 * @param {Message} message
 * @param {Message | null} previous
 */
export function startsGroup(message, previous) {
  if (!previous || previous.user.id !== message.user.id || previous.user.name !== message.user.name || message.reply_to) return true;
  return Date.parse(message.time) - Date.parse(previous.time) > GROUP_SPAN;
}

/**
 * Write what stands above a message.
 * @param {HTMLElement} row
 * @param {{day: string | null, isAfterLoss: boolean, isDivided: boolean}} above
 */
export function writeAbove(row, { day, isAfterLoss, isDivided }) {
  row.querySelectorAll(':scope > :is(.day, .lost, .divider)').forEach((each) => each.remove());
  if (isDivided) row.prepend(make('p', { className: 'divider' }, make('span', {}, 'New')));
  if (isAfterLoss) row.prepend(make('p', { className: 'lost' }, 'Some messages are gone: the server no longer has them.'));
  if (day) row.prepend(make('p', { className: 'day' }, make('span', {}, day)));
}

/**
 * Whether the Tab key stops at a row, and at what stands in it.
 * @param {HTMLElement} row
 * @param {number} tabIndex
 */
export function stopIn(row, tabIndex) {
  for (const each of [row, .../** @type {NodeListOf<HTMLElement>} */ (row.querySelectorAll(IN_ROW))]) each.tabIndex = tabIndex;
}

/**
 * @param {ChatClient} client
 * @param {Message} message
 */
export function messageRow(client, message) {
  const { user, offset, text, deleted } = message;
  const isOwn = client.identity.owns(message);
  const time = new Date(message.time);
  const row = make(
    'li',
    { className: 'message', tabIndex: -1 },
    avatar(user),
    make(
      'p',
      { className: 'head' },
      make('span', { className: 'author', dir: 'auto' }, isOwn ? 'You' : user.name),
      make('time', { dateTime: message.time }, clock(time)),
    ),
    make('div', { className: 'bubble', title: fullTime(time) }, ...quote(client, message), ...foldable(message, body(client, message))),
    make('span', { className: 'aside', ariaHidden: 'true' }, clock(time)),
    ...reactions(client, message),
  );
  row.classList.toggle('own', isOwn);
  row.classList.toggle('for-us', client.mentionsUs(message));
  row.classList.toggle('jumbo', !deleted && isOnlyEmoji(withEmoji(text)));
  row.classList.toggle('action', actionIn(message) !== null);
  if (offset) row.dataset.offset = String(offset);
  return row;
}

/**
 * @param {ChatClient} client
 * @param {Message} message
 */
function body(client, message) {
  const { user, text, deleted, edited, mentions = [] } = message;
  if (deleted) return make('p', { className: 'text gone' }, 'This message was deleted.');
  const named = () => mentions.map((id) => client.identity.nameOf(id)).filter((name) => name !== undefined);
  const names = edited ? client.identity.namesIn(text) : named();
  const action = actionIn(message);
  const blocks = markdown(action ?? text, names);
  if (action !== null) {
    if (!(blocks[0] instanceof HTMLParagraphElement)) blocks.unshift(make('p'));
    /** @type {HTMLElement} */ (blocks[0]).prepend('* ', make('b', { dir: 'auto' }, user.name), ' ');
  }
  if (edited) {
    const mark = make('span', { className: 'edited' }, 'edited');
    const last = blocks.at(-1);
    if (last instanceof HTMLParagraphElement) last.append(' ', mark);
    else blocks.push(mark);
  }
  return make('div', { className: 'text', dir: 'auto' }, ...blocks);
}

/**
 * @param {ChatClient} client
 * @param {Message} message
 */
function quote(client, { room, reply_to, deleted }) {
  if (!reply_to || deleted) return [];
  const answered = client.rooms.get(room)?.find(reply_to);
  const shown = answered
    ? [make('b', { dir: 'auto' }, client.identity.owns(answered) ? 'You' : answered.user.name), ` ${inShort(answered) || '…'}`]
    : ['an earlier message'];
  return [make('a', { className: 'quote', href: `#${room}/${reply_to}`, dir: 'auto' }, ...shown)];
}

/**
 * @param {ChatClient} client
 * @param {Message} message
 */
function reactions(client, message) {
  const counted = reactionsTo(client, message);
  if (!counted.length) return [];
  const chips = counted.map(({ emoji, count, isOurs, title }) => {
    const label = `${emoji} ${count}, ${title}: ${isOurs ? 'take yours back' : 'react with it too'}`;
    return make('button', { className: 'chip', type: 'button', value: emoji, title, ariaPressed: String(isOurs), ariaLabel: label }, `${emoji} ${count}`);
  });
  return [make('p', { className: 'reactions' }, ...chips)];
}

/**
 * @param {ChatClient} client
 * @param {Message} message
 */
export function reactionsTo(client, message) {
  const counted = Object.entries(message.reactions ?? {}).filter(([, count]) => count > 0);
  return counted.map(([emoji, count]) => {
    const isOurs = client.identity.hasReacted(message, emoji);
    return { emoji, count, isOurs, title: who(client, message, emoji, count, isOurs) };
  });
}

/**
 * Who reacted, as far as is known; when that is more than the count, it is not known.
 * @param {ChatClient} client
 * @param {Message} message
 * @param {string} emoji
 * @param {number} count
 * @param {boolean} isOurs
 */
function who(client, { room, offset }, emoji, count, isOurs) {
  const { identity, rooms } = client;
  const others = (rooms.get(room)?.reactors.of(offset, emoji) ?? []).filter((user) => !identity.owns({ user }));
  const names = [...(isOurs ? ['You'] : []), ...others.map(({ id, name }) => identity.nameOf(id) ?? name)];
  const known = names.length > count ? [] : names.slice(0, MOST_NAMED);
  const rest = count - known.length;
  if (rest > 0) known.push(known.length ? plural(rest, 'other') : plural(rest, 'person', 'people'));
  return LIST.format(known);
}
