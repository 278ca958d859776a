/**
 * A small table of emoji by name, for `:name:` and for reactions. Keyboards and pickers of the system have the rest.
 */
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

/** @type {Map<string, string>} emoji by name */
export const EMOJI = new Map([...TABLE.matchAll(/([+-]?[a-z0-9_]+)([^\sa-z0-9_]+)/g)].map(([, name, emoji]) => [name, emoji]));

/** The first six on a row of their own. */
export const QUICK = ['+1', 'heart', 'joy', 'tada', 'eyes', 'check'].map((name) => EMOJI.get(name) ?? '');

/**
 * `:tada:` becomes 🎉, except in code; names that are not in the table stay as they are.
 * @param {string} text
 */
export const withEmoji = (text) =>
  text.replace(/```[^]*?(?:```|$)|`[^`\n]*`|(?<![\w:]):([+-]?[a-z0-9_]+):(?![\w:])/g, (whole, name) => EMOJI.get(name) ?? whole);
