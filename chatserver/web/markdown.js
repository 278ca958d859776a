/**
 * A message's text as nodes: code, bold, italic, struck out, lists, quotes, tables, links. Built by DOM calls alone, so no text
 * can become another element, or a link with a scheme other than http, https and mailto.
 * Owns: the names of rooms that texts link to.
 */
import { make } from './dom.js';
import { actionIn, mentionsIn, withEmoji, withoutTail } from './text.js';

/** The first one that opens, since without an end behind it no other has one: else half-open ones take quadratic time. */
const FENCE = /^(?=((?:[^]*?\n)??)```)\1```(?:[^\n`]*\n)?([^]*?)\n?```[ \t]*(?:\n|$)/;
const ITEM = /^( {0,12})(?:[-*•]|(\d{1,4})[.)])\s+([^]*)/;
const EM_PER_LEVEL = 1.4; // the padding of a list
const QUOTE = /^>\s?([^]*)/;
const CELLS = /[^\t]\t/; // a row of a spreadsheet; code begins with tabs
/**
 * Code comes before other marks, since it contains none. Underscores count at the edges of words only (snake_case), and
 * not behind a backslash, which stays: ¯\_(ツ)_/¯. An address is that of a person, not of a repository: git@a.example:b.
 */
const INLINE =
  /\\(?<literal>[*~`])|(?<!`)(?<code>`+)(?!`)(?<coded>[^\n]+?)(?<!`)\k<code>(?!`)|(?<mark>\*\*(?=\S)|(?<!~)~~(?=[^\s~])|(?<![\w\\])_(?=[^\s_]))|(?<![\w*])\*(?=[^\s*])(?<star>(?:[^*\n]|\*\*[^*\n]+\*\*)*?[^\s*])\*(?![\w*])|\[(?<label>[^[\]\n]+)\]\((?<href>https?:\/\/[^\s()]+(?:\([^\s()]*\)[^\s()]*)*)\)|(?<link>(?:\bhttps?:\/\/|(?<![\w/.@-])www\.(?=\w))[^\s<>"`、。〈-】！-／：-＠]+)|(?<email>(?<![\w.+@/#-])\w[\w.+-]*@(?:[a-z\d-]+\.)+[a-z]{2,}(?![\w@/-]|[.:][\w/]))/giu;
/** By mark: its element, and what ends it in its line. */
const MARKS = { '**': ['strong', /\S\*\*(?!\*)|\n/g], '~~': ['del', /[^\s~]~~(?!~)|\n/g], _: ['em', /[^\s_]_(?!\w)|\n/g] };
const MAX_DEPTH = 6; // marks within marks
/** `#room`, or `#room/42` for a message, as in the address; a name at the end of a sentence ends before the dot. */
const ROOM = /(?<![\w#/&])(#[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?(?:\/[1-9]\d{0,14})?)(?![\w/-])/gi;

const addressOf = (url) => (/^http/i.test(url) ? url : `https://${url}`);
const hostOf = (url) => (URL.canParse(url) ? new URL(url).host : '');

/** Whether the label of a link is an address of another site, or contains one. */
function isFalse(label, target) {
  const [address] = /\b(https?:\/\/|www\.)[^]*/i.exec(label) ?? [];
  return address && hostOf(addressOf(address)) !== hostOf(target);
}

/** A link to a message or a room is followed in this page. */
function link(href, shown) {
  const isNoPage = href.startsWith(`${location.origin}${location.pathname}#`) || href.startsWith('mailto:');
  return make('a', { href, title: href, target: isNoPage ? '' : '_blank', rel: 'noopener noreferrer' }, shown);
}

export let rooms = new Set(); // that texts may link to

/** A room that is not known, or not yet, is a placeholder: an `a` without `href`. */
function showRoom(link) {
  const href = link.textContent.toLowerCase();
  if (rooms.has(href.slice(1).split('/')[0])) Object.assign(link, { href, tabIndex: link.closest('.message')?.tabIndex ?? 0 });
  else link.removeAttribute('href');
  return link;
}

/** All texts on the page link to these rooms from now on. */
export function linkRooms(names) {
  if (names.length === rooms.size && names.every((name) => rooms.has(name))) return;
  rooms = new Set(names);
  document.querySelectorAll('a.room').forEach(showRoom);
}

const words = (text) =>
  withEmoji(text).split(ROOM).map((part, at) => (at % 2 ? showRoom(make('a', { className: 'room', dir: 'ltr', translate: false }, part)) : part));

function inline(text, names, depth = 0) {
  if (depth > MAX_DEPTH) return [text];
  const nodes = [];
  const open = {}; // by mark: up to here nothing ends it, which is searched for once
  let end = 0;
  for (let found, from = 0; (INLINE.lastIndex = from), (found = INLINE.exec(text)); ) {
    const { 0: whole, index, groups = {} } = found;
    const { literal, coded, mark, star, label, href, email } = groups;
    const [element, ends] = MARKS[mark] ?? ['em'];
    const start = (from = index + whole.length);
    if (mark) {
      if (index < open[mark]) continue;
      ends.lastIndex = start;
      const { 0: last = '\n', index: at = Infinity } = ends.exec(text) ?? {};
      if (last === '\n') {
        open[mark] = at;
        continue;
      }
      from = at + last.length;
    }
    nodes.push(...mentions(text.slice(end, index), names));
    end = from;
    if (literal) nodes.push(literal);
    else if (coded) nodes.push(make('code', { translate: false }, coded));
    else if (mark || star) nodes.push(make(element, {}, ...inline(star ?? text.slice(start, from - mark.length), names, depth + 1)));
    else if (email) nodes.push(link(`mailto:${email}`, email));
    else {
      const url = href ?? withoutTail(whole);
      const target = addressOf(url);
      if (!hostOf(target) || (label && isFalse(label, target))) nodes.push(whole);
      else nodes.push(link(target, label ?? url), label ? '' : whole.slice(url.length));
    }
  }
  return [...nodes, ...mentions(text.slice(end), names)];
}

function mentions(text, names) {
  const nodes = [];
  let end = 0;
  for (const { at, name } of mentionsIn(text, names)) {
    if (at > end) nodes.push(...words(text.slice(end, at)));
    end = at + 1 + name.length;
    // A name in another script does not change the direction of the text.
    nodes.push(make('bdi', { className: 'mention', translate: false }, text.slice(at, end)));
  }
  if (end < text.length) nodes.push(...words(text.slice(end)));
  return nodes;
}

function blocks(text, names) {
  const nodes = [];
  const runs = [];
  const indents = []; // of the items that the next one may belong to
  const all = text.split('\n');
  for (const [at, line] of all.entries()) {
    const item = ITEM.exec(line);
    const quote = QUOTE.exec(line);
    const isRow = CELLS.test(line) && [all[at - 1], all[at + 1]].some((each) => CELLS.test(each ?? ''));
    const kind = item ? (item[2] ? 'ol' : 'ul') : quote ? 'blockquote' : isRow ? 'table' : 'p';
    const content = item ? item[3] : quote ? quote[1] : line;
    // The depth follows from the items above, since people indent by 2, 3 or 4.
    while (indents.length && (!item || indents[indents.length - 1] >= item[1].length)) indents.pop();
    const level = indents.length;
    if (item) indents.push(item[1].length);
    const last = runs.at(-1);
    if (last?.kind === kind) last.lines.push(content), last.levels.push(level);
    else runs.push({ kind, lines: [content], levels: [level], start: item?.[2] });
  }
  for (const { kind, lines, levels, start } of runs) {
    if (kind === 'ul' || kind === 'ol') {
      const list = make(kind, {}, ...lines.map((line) => make('li', {}, ...inline(line, names))));
      [...list.children].forEach((item, at) => {
        if (levels[at]) item.style.marginInlineStart = `${levels[at] * EM_PER_LEVEL}em`;
      });
      if (start) {
        list.start = Number(start);
        list.style.paddingInlineStart = `${String(list.start + lines.length - 1).length + 1.5}ch`; // room for the longest number
      }
      nodes.push(list);
    } else if (kind === 'table') {
      // With the blanks its text is still one of words.
      const cells = (line) => line.split('\t').flatMap((cell) => [make('td', {}, ...inline(cell, names)), '\t']);
      nodes.push(make('table', { tabIndex: 0 }, ...lines.map((line) => make('tr', {}, ...cells(line)))));
    } else {
      const content = lines.join('\n').replace(/^\n+|(?<!\n)\n+$/g, '');
      if (content) nodes.push(make(kind, {}, ...inline(content, names)));
    }
  }
  return nodes;
}

/** The blocks of a text that mentions people of these names. */
export function markdown(text, names = []) {
  const nodes = [];
  for (let fence; (fence = FENCE.exec(text)); text = text.slice(fence[0].length)) {
    if (fence[1]) nodes.push(...blocks(fence[1].slice(0, -1), names));
    nodes.push(make('pre', { tabIndex: 0 }, make('code', { translate: false }, fence[2])));
  }
  return text ? [...nodes, ...blocks(text, names)] : nodes;
}

/** A text on one line, without its marks. */
export function plain(text) {
  const lines = markdown(text).flatMap((block) => (block.matches('ul, ol') ? [...block.children] : [block]));
  return lines.map((line) => line.textContent).join(' ').replace(/\s+/g, ' ');
}

/** A message on one line, without `/me`. */
export const inShort = (message) => (message.deleted ? '(deleted)' : plain(actionIn(message) ?? message.text) || '…');
