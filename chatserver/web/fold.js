/**
 * A long text shows its first lines, and a button for the rest.
 * Owns: which messages are shown whole, as long as the page lives. May not: scroll the list. It tells by `fold` events,
 * with how far the text itself had been scrolled.
 *
 * @import { Message } from './wire.js'
 */
import { make } from './dom.js';

const FOLD_FROM = 20; // lines, as estimated; twelve of them are shown (chat.css), so that a press is worth it
const COLUMNS = 75; // in a line at most
const PER_COLUMN = 11; // px of the window, where it is narrower

/** @type {Set<string>} `room/offset` */
const whole = new Set();

/** Read as the window changes: on a phone it costs a layout, and there are many messages. */
let width = innerWidth; // px
addEventListener('resize', () => (width = innerWidth));

/** @param {{room: string, offset: number}} message */
const keyOf = ({ room, offset }) => `${room}/${offset}`;

/**
 * Have a message shown whole, now or as soon as it has a row.
 * @param {{room: string, offset: number}} message
 */
export const unfold = (message) => whole.add(keyOf(message));

/**
 * The lines of a text, about: measuring them would cost a layout. A block of code scrolls by itself and counts as none.
 * @param {HTMLElement} text
 */
function linesOf(text) {
  const columns = Math.min(COLUMNS, width / PER_COLUMN);
  const lines = [...text.querySelectorAll('p, li, blockquote')].flatMap((block) => (block.textContent ?? '').split('\n'));
  return lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0);
}

/**
 * @param {Message} message
 * @param {HTMLElement} text
 * @returns {HTMLElement[]} the text, and its button if it is long
 */
export function foldable(message, text) {
  if (linesOf(text) < FOLD_FROM) return [text];
  const key = keyOf(message);
  const button = make('button', { className: 'link fold', type: 'button' });
  const show = (/** @type {boolean} */ isWhole) => {
    const moved = text.scrollTop;
    if (message.offset && isWhole) whole.add(key);
    else whole.delete(key);
    text.classList.toggle('folded', !isWhole);
    button.textContent = isWhole ? 'Show less' : 'Show more';
    button.dispatchEvent(new CustomEvent('fold', { bubbles: true, detail: moved }));
  };
  show(whole.has(key));
  button.addEventListener('click', () => show(text.classList.contains('folded')));
  // A link that was reached by the Tab key, or what the browser's own search found, scrolls into sight.
  text.addEventListener('scroll', () => text.scrollTop && show(true));
  return [text, button];
}
