/**
 * Texts of the views, without a DOM: links and mentions in a text, emoji by name, times and days in words,
 * the look of a name.
 */

/** In "(see https://a.example/x)." the end is not part of the link; `/wiki/Loris_(animal)` keeps its bracket. */
export function withoutTail(link) {
  let end = link.length;
  let unpaired = link.split(')').length - link.split('(').length; // counted once, since a link may be 8 KB of brackets
  for (; end > 0; end--) {
    const last = link[end - 1];
    if (last === ')' ? unpaired-- <= 0 : /[\P{P}\p{Ps}\p{Pd}_/#%&@\\]/u.test(last)) break;
  }
  return link.slice(0, end);
}

/** From the last character of a name on; Chinese has no blank behind it. */
const WORD_BEHIND = /^(?!\w[぀-ヿ㐀-鿿가-힯]).[\p{L}\p{M}\p{N}_]/u;

/** The mentions in a text: at each @ the longest name that fits, but no part of a longer word. */
export function mentionsIn(text, names) {
  const known = new Set(names);
  const lengths = [...new Set([...known].map(({ length }) => length))].sort((a, b) => b - a);
  const found = [];
  for (let at = text.indexOf('@'), next; at >= 0; at = text.indexOf('@', next)) {
    next = at + 1;
    if (at && /\w/.test(text[at - 1])) continue; // an address; Chinese has no blank before an @
    const length = lengths.find((each) => known.has(text.slice(next, next + each)) && !WORD_BEHIND.test(text.slice(next + each - 1)));
    if (!length) continue;
    const name = text.slice(next, next + length);
    found.push({ at, name });
    next += name.length;
  }
  return found;
}

/** Names that the server makes up are three words; of any other name only the first word is certain. */
const ANY_MENTION = /(?<!\w)@(\p{Lu}\p{L}+ \p{Lu}\p{L}+ \d+|[\p{L}\p{M}\p{N}_]+(?:[.-][\p{L}\p{M}\p{N}_]+)*)/gu;

/**
 * The names in a text that mentions so many users. The page may not have met some of them, or under another name: the first
 * words after an @ stand for theirs.
 */
export function mentionedIn(text, known, count) {
  const found = mentionsIn(text, known);
  const missing = count - new Set(found.map(({ name }) => name)).size;
  const others = [...text.matchAll(ANY_MENTION)].filter(({ index }) => !found.some(({ at }) => at === index));
  return [...known, ...new Set(others.map(([, name]) => name))].slice(0, known.length + missing);
}

export const zone = () => new Date().getTimezoneOffset();

/** A function that formats dates. Making its formatter takes milliseconds, so one serves until the time zone changes. */
function dates(options) {
  let format;
  let its;
  return (date) => {
    if (its !== zone()) [its, format] = [zone(), new Intl.DateTimeFormat(undefined, options)];
    return format.format(date);
  };
}

export const clock = dates({ timeStyle: 'short' });
export const precise = dates({ timeStyle: 'medium' });
export const fullTime = dates({ dateStyle: 'full', timeStyle: 'medium' });
const day = dates({ weekday: 'long', day: 'numeric', month: 'long' });
const dayAndYear = dates({ dateStyle: 'long' });

export function dayName(date, today = new Date()) {
  const yesterday = new Date(today);
  yesterday.setDate(today.getDate() - 1);
  if (isSameDay(date, today)) return 'Today';
  if (isSameDay(date, yesterday)) return 'Yesterday';
  return date.getFullYear() === today.getFullYear() ? day(date) : dayAndYear(date);
}

export const isSameDay = (a, b) => a.toDateString() === b.toDateString();

/** The text after `/me`, or null. */
export const actionIn = ({ text }) => (text.startsWith('/me ') ? text.slice(4) : null);

/** "Brisk Otter 42" is BO. */
export function initials(name) {
  const words = name.match(/[\p{L}\p{N}][\p{L}\p{M}\p{N}]*/gu) ?? ['?'];
  const spoken = words.filter((word) => /^\p{L}/u.test(word));
  return (spoken.length ? spoken : words).slice(0, 2).map((word) => [...word][0].toUpperCase()).join('');
}

/** A user's colour in degrees, the same in every window (FNV-1a over the id). */
export function hue(id) {
  let hash = 0x811c9dc5;
  for (const char of id) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193);
  return (hash >>> 0) % 360;
}

/**
 * Whether a text is one to three emoji, which are shown large. `\p{RGI_Emoji}` would say it too, but takes the browser 50 ms
 * at its first use.
 */
export const isOnlyEmoji = (text) =>
  /^(?:\s*(?:\p{RI}{2}|[#*\d]\ufe0f?\u20e3|(?:\p{Emoji_Presentation}|\p{ExtPict}(?=[\ufe0f\u200d\p{EMod}]))[\ufe0f\p{EMod}\u{e0020}-\u{e007f}]*(?:\u200d\p{ExtPict}[\ufe0f\p{EMod}]*)*)){1,3}\s*$/u.test(text);

export const plural = (count, one, many = one + 's') => `${count.toLocaleString()} ${count === 1 ? one : many}`;

/** Emoji by name, for `:name:` and for reactions. */
const TABLE = `
+1👍 -1👎 smile😄 grin😁 joy😂 rofl🤣 wink😉 blush😊 heart_eyes😍 kiss😘 thinking🤔 neutral😐 eyeroll🙄 smirk😏 sweat😅
cry😢 sob😭 angry😠 rage😡 scream😱 astonished😲 sleepy😴 sick🤢 sunglasses😎 nerd🤓 party🥳 hug🤗 shrug🤷 facepalm🤦
upside_down🙃 melting🫠 salute🫡 zany🤪 halo😇 clown🤡 ghost👻 robot🤖 skull💀 poop💩 eyes👀 wave👋 clap👏 pray🙏 muscle💪
ok_hand👌 point_up☝️ point_right👉 raised_hand✋ crossed_fingers🤞 handshake🤝 heart❤️ orange_heart🧡 green_heart💚
blue_heart💙 broken_heart💔 sparkles✨ star⭐ fire🔥 boom💥 zap⚡ 100💯 tada🎉 balloon🎈 gift🎁 trophy🏆 medal🏅 rocket🚀
bug🐛 wrench🔧 hammer🔨 gear⚙️ lock🔒 key🔑 bulb💡 mag🔍 bell🔔 pin📌 memo📝 book📖 calendar📅 clock🕐 hourglass⏳ chart📈
package📦 email📧 phone📱 computer💻 link🔗 check✅ x❌ warning⚠️ question❓ exclamation❗ stop🛑 construction🚧 recycle♻️
coffee☕ tea🍵 beer🍺 wine🍷 cake🍰 pizza🍕 apple🍎 bread🍞 sun☀️ cloud☁️ rain🌧️ snow❄️ rainbow🌈 moon🌙 earth🌍 tree🌳
flower🌸 seedling🌱 cat🐱 dog🐶 otter🦦 turtle🐢 unicorn🦄 bee🐝 snake🐍 loris🐒 whale🐳 car🚗 bike🚲 train🚆 plane✈️ house🏠`;

const ALIASES = 'thumbsup👍 thumbsdown👎 smiley😄 laughing😂 lol😂 thinking_face🤔 hooray🎉 white_check_mark✅ ok👌';

const read = (table) => new Map([...table.matchAll(/([+-]?[a-z0-9_]+)([^\sa-z0-9_]+)/g)].map(([, name, emoji]) => [name, emoji]));

export const EMOJI = read(TABLE); // each emoji by its name

export const NAMED = new Map([...EMOJI, ...read(ALIASES)]); // emoji by all names

/** The first six on a row of their own. */
export const QUICK = ['+1', 'heart', 'joy', 'tada', 'eyes', 'check'].map((name) => EMOJI.get(name) ?? '');

/** `:tada:` becomes 🎉, except in code and links; names that are not in the table stay as they are. */
export const withEmoji = (text) =>
  text.replace(
    /```[^]*?(?:```|$)|(?<!`)(`+)(?!`)[^\n]+?(?<!`)\1(?!`)|\bhttps?:\/\/\S+|(?<![\w:]):([+-]?[a-z0-9_]+):(?![\w:])/g,
    (whole, _, name) => NAMED.get(name) ?? whole,
  );
