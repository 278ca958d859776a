/**
 * The page's table of contents: builds the client and its views, and carries what belongs to none of them: the address
 * (`#room`, `?transport=`), the line that tells the connection's state, the banner, the panels of a narrow screen.
 */
import { ChatClient } from './client.js';
import { Composer } from './composer.js';
import { avatar, byId } from './dom.js';
import { MessagesView } from './messages-view.js';
import { PendingView } from './pending-view.js';
import { PeopleView, RoomsView } from './sidebar.js';
import { openStorage } from './storage.js';
import { ROOM_NAME } from './wire.js';

const KINDS = { ws: 'WebSocket', sse: 'event stream', poll: 'long-poll' };
const FIRST_ROOM = 'lobby';

const tab = openStorage('sessionStorage');
const browser = openStorage('localStorage');
const forced = new URLSearchParams(location.search).get('transport');
const client = new ChatClient(location.origin, {
  kind: Object.hasOwn(KINDS, forced ?? '') ? /** @type {keyof KINDS} */ (forced) : null,
  tab,
  browser,
});
const messages = new MessagesView(client, showTitle);
new PendingView(client);
new RoomsView(client, browser);
new PeopleView(client);
const composer = new Composer(client, {
  storage: tab,
  sent: () => (hideBanner(), messages.toBottom()),
  problem: showBanner,
});

// The address

function enterFromAddress() {
  const room = location.hash.slice(1);
  if (ROOM_NAME.test(room)) {
    hideBanner();
    closePanels();
    client.enter(room);
    return;
  }
  if (room) showBanner(`“${room}” cannot be a room: 1 to 64 of a–z 0–9 . _ -, beginning with a letter or digit.`);
  if (!client.room) history.replaceState(null, '', `#${FIRST_ROOM}`);
  if (!client.room) client.enter(FIRST_ROOM);
}

addEventListener('hashchange', enterFromAddress);

function showTitle() {
  const unseen = messages.unseen ? `(${messages.unseen}) ` : '';
  document.title = `${unseen}#${client.room} · chat`;
}

client.addEventListener('room', () => {
  byId('room-title').textContent = client.room;
  showTitle();
});

// The state of the connection

let ticking = 0;

/** @param {import('./client.js').State} state */
function stateInWords({ phase, kind, until, reason }) {
  if (phase === 'live') return reason || `live · ${KINDS[kind]}`;
  if (phase === 'connecting') return reason ? 'reconnecting…' : 'connecting…';
  if (phase === 'stopped') return `disconnected: ${reason}`;
  const seconds = Math.max(1, Math.ceil(((until ?? 0) - performance.now()) / 1000));
  return `${navigator.onLine ? '' : 'offline · '}reconnecting in ${seconds} s…`;
}

function showState() {
  const { state } = client;
  const words = stateInWords(state);
  byId('connection').dataset.phase = state.phase;
  byId('connection').title = state.reason;
  byId('connection-text').textContent = words;
  byId('reconnect').hidden = state.phase !== 'waiting' && state.phase !== 'stopped';
  clearInterval(ticking);
  if (state.phase === 'waiting') ticking = setInterval(() => (byId('connection-text').textContent = stateInWords(state)), 250);
  // Spoken once per change, and without the countdown.
  const spoken = state.phase === 'waiting' ? 'connection lost, reconnecting' : words;
  if (state.phase !== 'connecting' && byId('connection-spoken').textContent !== spoken) byId('connection-spoken').textContent = spoken;
}

client.addEventListener('state', showState);
byId('reconnect').addEventListener('click', () => client.hurry());
addEventListener('online', () => client.hurry());
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  client.hurry();
  messages.seen();
});

client.addEventListener('identity', showMe);

function showMe() {
  const { user } = client.identity;
  if (user) byId('me').replaceChildren(avatar(user), user.name);
}

// The banner

/** @param {string} text */
function showBanner(text) {
  byId('banner-text').textContent = text;
  byId('banner').hidden = false;
}

function hideBanner() {
  byId('banner').hidden = true;
}

client.addEventListener('restarted', () => showBanner('The server began a new log: some messages are gone.'));
client.addEventListener('refused', ({ detail }) => showBanner(`#${detail.room} did not open: ${detail.error.message}`));
byId('banner-close').addEventListener('click', () => (hideBanner(), composer.focus()));

// The panels: always there on a wide screen, drawers on a narrow one

const drawers = [
  { button: byId('show-rooms'), panel: byId('rooms-panel') },
  { button: byId('show-people'), panel: byId('people-panel') },
];

/** @param {HTMLElement | null} [opened] */
function closePanels(opened = null) {
  for (const { button, panel } of drawers) {
    panel.classList.toggle('open', panel === opened);
    button.ariaExpanded = String(panel === opened);
  }
  byId('shade').classList.toggle('open', opened !== null);
}

for (const { button, panel } of drawers) {
  button.addEventListener('click', () => {
    const isOpening = !panel.classList.contains('open');
    closePanels(isOpening ? panel : null);
    if (isOpening) /** @type {HTMLElement} */ (panel.querySelector('[aria-current]') ?? panel).focus();
  });
}
byId('shade').addEventListener('click', () => closePanels());
addEventListener('keydown', (event) => {
  const open = drawers.find(({ panel }) => panel.classList.contains('open'));
  if (event.key !== 'Escape' || !open) return;
  closePanels();
  open.button.focus();
});

showMe();
enterFromAddress();
// A finger did not ask for a keyboard; a mouse user can type at once.
if (matchMedia('(hover: hover)').matches) composer.focus();
