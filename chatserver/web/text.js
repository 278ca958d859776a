/**
 * What the view writes, worked out without a DOM: links in a text, times and days in words, the look of a name.
 */

const LINK = /\bhttps?:\/\/[^\s<>"`]+/gi;

/**
 * Cuts a text into plain parts and links. Only http and https ever become links: `javascript:` stays text.
 * @param {string} text
 * @returns {{text: string, href: string | null}[]}
 */
export function splitLinks(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    const shown = withoutTail(match[0]);
    if (!URL.canParse(shown)) continue;
    if (match.index > end) parts.push({ text: text.slice(end, match.index), href: null });
    parts.push({ text: shown, href: shown });
    end = match.index + shown.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end), href: null });
  return parts;
}

/**
 * "(see https://a.example/x)." ends the sentence, not the address; but `/wiki/Loris_(animal)` keeps its bracket.
 * @param {string} link
 */
function withoutTail(link) {
  let end = link.length;
  let unpaired = link.split(')').length - link.split('(').length; // counted once: a hostile link is 8 KB of brackets
  for (; end > 0; end--) {
    const last = link[end - 1];
    if (last === ')' ? unpaired-- <= 0 : !".,;:!?'*]}”’".includes(last)) break;
  }
  return link.slice(0, end);
}

const WORD_BEFORE = /[\p{L}\p{N}_]$/u;
const WORD_BEHIND = /^[\p{L}\p{N}_]/u;

/**
 * Where a text names somebody: the longest name that fits, and no part of a longer word.
 * @param {string} text
 * @param {string[]} names
 * @returns {{at: number, name: string}[]}
 */
export function mentionsIn(text, names) {
  const longestFirst = [...names].sort((a, b) => b.length - a.length);
  const found = [];
  for (let at = text.indexOf('@'), next; at >= 0; at = text.indexOf('@', next)) {
    next = at + 1;
    if (WORD_BEFORE.test(text.slice(Math.max(at - 2, 0), at))) continue; // an address
    const name = longestFirst.find((each) => text.startsWith(each, at + 1) && !WORD_BEHIND.test(text.slice(at + 1 + each.length)));
    if (name === undefined) continue;
    found.push({ at, name });
    next += name.length;
  }
  return found;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: 'short' });
const PRECISE = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const DAY_AND_YEAR = new Intl.DateTimeFormat(undefined, { dateStyle: 'long' });

/** @param {Date} time */
export const clock = (time) => CLOCK.format(time);

/** @param {Date} time */
export const precise = (time) => PRECISE.format(time);

/** @param {Date} time */
export const fullTime = (time) => FULL.format(time);

/**
 * @param {Date} day
 * @param {Date} [today]
 */
export function dayName(day, today = new Date()) {
  const yesterday = new Date(today);
  yesterday.setDate(today.getDate() - 1);
  if (isSameDay(day, today)) return 'Today';
  if (isSameDay(day, yesterday)) return 'Yesterday';
  return (day.getFullYear() === today.getFullYear() ? DAY : DAY_AND_YEAR).format(day);
}

/**
 * @param {Date} a
 * @param {Date} b
 */
export const isSameDay = (a, b) => a.toDateString() === b.toDateString();

/**
 * What somebody says to be doing, by `/me`.
 * @param {{text: string, deleted?: unknown}} message
 */
export const actionIn = ({ text, deleted }) => (!deleted && text.startsWith('/me ') ? text.slice(4) : null);

/**
 * One or two letters for a name: "Brisk Otter 42" is BO.
 * @param {string} name
 */
export function initials(name) {
  const words = name.match(/[\p{L}\p{N}]+/gu) ?? ['?'];
  const spoken = words.filter((word) => /^\p{L}/u.test(word));
  return (spoken.length ? spoken : words).slice(0, 2).map((word) => [...word][0].toUpperCase()).join('');
}

/**
 * A colour that is the same for one user in every window (FNV-1a over the id).
 * @param {string} id
 * @returns {number} degrees
 */
export function hue(id) {
  let hash = 0x811c9dc5;
  for (const char of id) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193);
  return (hash >>> 0) % 360;
}

/**
 * Up to three emoji and nothing else: shown large. Two letters are none: the pattern of all emoji takes 25 ms or more
 * at its first use, which few texts need.
 * @param {string} text
 */
export const isOnlyEmoji = (text) => !/\p{L}{2}/u.test(text) && /^(?:\s*(?:\p{RGI_Emoji})){1,3}\s*$/v.test(text);

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export const plural = (count, one, many = one + 's') => `${count.toLocaleString()} ${count === 1 ? one : many}`;
