/**
 * Builds the client and its views, and owns what belongs to none of them: the address (`#room`, `#room/offset`,
 * `?transport=`), the drawers, the banner and the toast.
 */
import { Account } from './account.js';
import { Actions } from './actions.js';
import { ChatClient } from './client.js';
import { Composer } from './composer.js';
import { ConnectionLine, KINDS } from './connection-line.js';
import { byId, hasFingers, isApple } from './dom.js';
import { ME_KEY } from './identity.js';
import { MessagesView } from './messages-view.js';
import { Notifier } from './notify.js';
import { LEAVE_KEY, OURS_KEY, PeopleView, RoomsView, roomNamed } from './panels.js';
import { PersonMenu } from './person-menu.js';
import { READ_KEY } from './read-markers.js';
import { PendingView } from './rows.js';
import { hasLocks, openStorage } from './storage.js';
import { Switcher } from './switcher.js';
import { TabLink } from './tab-link.js';
import { FOREIGN, ROOM_NAME } from './wire.js';

const FIRST_ROOM = 'lobby';
const SIGN_IN_KEY = 'chat.signed-in'; // when: the user may be the same as before
const DRAWERS = [
  { button: byId('show-rooms'), panel: byId('rooms-panel') },
  { button: byId('show-people'), panel: byId('people-panel') },
];

// Chrome may prepare a page before it is opened, without locks and sockets.
if (document.prerendering) await new Promise((resolve) => document.addEventListener('prerenderingchange', resolve, { once: true }));

const tab = openStorage('sessionStorage');
const browser = openStorage('localStorage');
const forced = new URLSearchParams(location.search).get('transport');
const kind = Object.hasOwn(KINDS, forced ?? '') ? forced : null;
const client = new ChatClient(location.origin, {
  kind,
  tab,
  browser,
  socket: hasLocks() ? (origin, handlers) => new TabLink(origin, handlers) : undefined,
});
new ConnectionLine(client);
const messages = new MessagesView(client);
const rooms = new RoomsView(client, browser);
const personMenu = new PersonMenu(client, showToast);
new PeopleView(client, personMenu);
new Account(client, {
  changed: () => (closePanels(), browser.setItem(SIGN_IN_KEY, Date())),
  signedOut: () => startAnew(tab, browser),
});
new Notifier(client, browser);
new Switcher(client, rooms);
const composer = new Composer(client, {
  tab,
  browser,
  sent: () => (hideBanner(), messages.toPresent(), leaveLink()),
  tell: showToast,
});
new PendingView(client, composer);
new Actions(client, {
  composer,
  tell: showToast,
  toPresent: () => (messages.toPresent(), leaveLink()),
  moderate: (user, at) => personMenu.open(user, at),
});

// The address

/** An address may be typed by hand. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** After Back or Forward, `left` is how this address was left. */
function enterFromAddress(left = null) {
  const [typed, offset] = decoded(location.hash.slice(1)).split('/');
  const room = roomNamed(typed);
  if (ROOM_NAME.test(room)) {
    hideBanner();
    closePanels();
    const isHere = room === client.room;
    client.enter(room);
    if (isHere && left) messages.restore(left.place);
    else if (Number(offset) > 0) visit(Number(offset));
    return;
  }
  if (typed) showBanner(`“${typed}” cannot be a room: use up to 64 letters a–z, digits and . _ -, with a letter or digit first.`);
  if (!client.room) history.replaceState(null, '', `#${FIRST_ROOM}`);
  if (!client.room) client.enter(FIRST_ROOM);
}

async function visit(offset) {
  const { current } = client;
  if (current.timeline.epoch === null) await new Promise((resolve) => current.addEventListener('caughtup', resolve, { once: true }));
  if (current !== client.current) return;
  try {
    if (!(await messages.visit(offset))) showToast('There is no such message, or not any more.');
  } catch (error) {
    showBanner(`That message could not be loaded: ${error.message}`);
  }
}

/** The address of an older message would lead there again at a reload. */
function leaveLink() {
  if (location.hash.includes('/')) history.pushState(null, '', `#${client.room}`);
}

byId('jump').addEventListener('click', leaveLink);

addEventListener('hashchange', ({ oldURL }) => {
  enterFromAddress(history.state);
  if (location.hash.includes('/')) return;
  if (!history.state && oldURL.includes(`${location.hash}/`)) messages.toPresent();
  focusRoom(); // the user chose a room
});

addEventListener('click', ({ target, ctrlKey, metaKey, shiftKey }) => {
  const link = target.closest('a');
  if (!link || ctrlKey || metaKey || shiftKey) return; // with these it opens elsewhere
  history.replaceState({ place: messages.place }, '');
  if (link.href === location.href) enterFromAddress(); // there is no `hashchange`
});

/** On touch screens focus in the field would open the keyboard. */
function focusRoom() {
  if (hasFingers()) byId('scroller').focus({ focusVisible: false }); // it would be framed after the Enter key
  else composer.focus();
}

let focused = null; // or pressed: Safari gives no focus to a button that is clicked

/** Without this the focus of the keyboard is lost with what is hidden or removed, by a press or by an event. */
function keepFocus() {
  const { activeElement, body } = document;
  const last = activeElement === body ? focused : activeElement;
  if (last?.checkVisibility() === false) focusRoom();
}

addEventListener('focusin', ({ target }) => (focused = target));
addEventListener('click', ({ target }) => ((focused = target.closest('button') ?? focused), keepFocus()));
for (const type of ['close', 'toggle', 'scroll']) addEventListener(type, keepFocus, true); // they do not bubble
for (const event of ['messages', 'outbox', 'presence', 'rights', 'state', 'caughtup']) client.addEventListener(event, keepFocus);

/** What is open is about this room, or about a message that is another one in a new log. */
function closeMenus() {
  byId('question').close();
  document.querySelector(':popover-open')?.hidePopover(); // and what is open in it
}

client.addEventListener('room', () => {
  byId('room-title').textContent = client.room;
  closeMenus();
});
if (isApple) {
  byId('find').ariaKeyShortcuts = 'Meta+K';
  for (const each of document.querySelectorAll('kbd')) each.textContent = each.textContent.replace('Ctrl', '⌘');
}
// The browser gives the focus back when the outer of two menus closes, but not to the outer one.
byId('keys').addEventListener('toggle', ({ newState }) => newState === 'closed' && byId('show-keys').focus());

client.addEventListener('left', ({ detail }) => {
  if (detail.room !== client.room) return;
  const next = rooms.names.find((name) => name !== detail.room) ?? FIRST_ROOM;
  location.hash = next;
  client.enter(next); // no `hashchange` either, if the only room is left
});
byId('read-all').addEventListener('click', () => {
  for (const room of client.rooms.values()) room.markRead(room.timeline.head);
});
byId('leave').addEventListener('click', () => rooms.leave(client.room));

/** Close the drawers, and perhaps open one instead. If one had the focus, its button gets it. */
function closePanels(opened = null) {
  for (const { button, panel } of DRAWERS) {
    const isClosing = panel.classList.contains('open') && panel !== opened;
    panel.classList.toggle('open', panel === opened);
    if (isClosing && panel.contains(document.activeElement)) button.focus();
    button.ariaExpanded = String(panel === opened);
  }
  byId('shade').classList.toggle('open', opened !== null);
}

for (const { button, panel } of DRAWERS) {
  button.addEventListener('click', () => {
    const isOpening = !panel.classList.contains('open');
    closePanels(isOpening ? panel : null);
    if (isOpening) (panel.querySelector('[aria-current]') ?? panel).focus();
  });
  panel.querySelector('.close')?.addEventListener('click', () => closePanels());
}
byId('shade').addEventListener('click', () => closePanels());
// What the Tab key reaches behind a drawer is covered. A dialog that the drawer opens gives the focus back to it.
addEventListener('focusin', ({ target }) => target.closest('.panel.open, dialog, [popover]') || closePanels());
addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !document.querySelector('dialog[open], :popover-open')) closePanels();
});

// Before 18.3 Safari on a phone does not close a menu when the user taps outside it

addEventListener('pointerup', ({ target, pointerType }) => {
  if (pointerType === 'touch' && !target.closest('[popover], [popovertarget]')) document.querySelector(':popover-open')?.hidePopover();
});

// In Safari a phone's keyboard covers the page instead of resizing it, as index.html asks

visualViewport?.addEventListener('resize', () => {
  const { height, scale } = visualViewport;
  const isCovered = scale === 1 && height < document.documentElement.clientHeight;
  document.body.style.height = isCovered ? `${height}px` : '';
  scrollTo(0, 0); // Safari has scrolled the page to show the field
});

const TOAST = 4_000; // ms
let toasting = 0;

function showToast(text) {
  byId('toast').textContent = text;
  clearTimeout(toasting);
  toasting = setTimeout(() => (byId('toast').textContent = ''), TOAST);
}

/** Refuse files, and all that is dropped outside a field: the browser would open it in place of the chat. */
function refuseFiles(event) {
  const { types } = event.dataTransfer ?? event.clipboardData;
  const hasFiles = types.includes('Files') && !types.includes('text/plain'); // some programs copy text as a picture too
  if (!hasFiles && (event.type === 'paste' || event.target.closest('textarea, input'))) return;
  event.preventDefault();
  if (hasFiles && event.type !== 'dragover') showToast('Files cannot be sent here.');
}

for (const type of ['dragover', 'drop', 'paste']) addEventListener(type, refuseFiles);

let outOf = ''; // the room that the banner is about
let shown = ''; // in the banner; a browser may have translated it there

function showBanner(text, room = '', mayComeBack = false) {
  outOf = room;
  byId('banner-text').textContent = shown = text;
  byId('banner-action').hidden = !mayComeBack;
  byId('banner').hidden = false;
}

function hideBanner() {
  byId('banner').hidden = true;
}

client.addEventListener('restarted', ({ detail }) => {
  if (detail.room !== client.room) return;
  closeMenus();
  showBanner('The server began a new log: some messages are gone.');
});
client.addEventListener('refused', ({ detail }) => {
  const { room, error } = detail;
  if (room !== client.room) return;
  const wasIn = client.current.timeline.epoch !== null;
  showBanner(`${wasIn ? `You are out of #${room}` : `#${room} did not open`}: ${error.message}.`, room, error.code === 'forbidden');
});
client.addEventListener('caughtup', ({ detail }) => detail.room === outOf && hideBanner());
// The header is too narrow for the reason on a phone
let whyStopped = '';
client.addEventListener('state', () => {
  const { phase, reason } = client.state;
  const why = phase === 'stopped' || reason === FOREIGN ? `You are disconnected: ${reason}.` : '';
  if (why && why !== whyStopped) showBanner(why);
  else if (!why && shown === whyStopped) hideBanner();
  whyStopped = why;
});
byId('banner-action').addEventListener('click', () => (focusRoom(), client.rooms.get(outOf)?.comeBack()));
client.addEventListener('expiring', () => showBanner((whyStopped = 'Your sign-in is about to end.')));
byId('banner-close').addEventListener('click', hideBanner);

addEventListener('beforeunload', (event) => {
  if (browser.isFull && (byId('text').value || client.outbox.unsent.length)) event.preventDefault(); // it goes with the page
});

// Once: a page that the browser kept is loaded again when it is shown
addEventListener('pagehide', () => client.outbox.leaveBehind(), { once: true });

/** Nothing that a user saw or wrote stays on screen or in these storages. */
function startAnew(...storages) {
  client.close();
  byId('text').value = '';
  for (const storage of storages) storage.clear();
  location.reload();
}

const OWNER_KEY = 'chat.owner'; // the user who signed in last; a guest may be the same person

client.addEventListener('identity', () => {
  const { isGuest, user } = client.identity;
  if (isGuest) return;
  const owner = browser.getItem(OWNER_KEY);
  browser.setItem(OWNER_KEY, user.id);
  if (owner !== null && owner !== user.id) startAnew(tab, browser);
});

addEventListener('storage', ({ key, newValue }) => {
  // The tab of the sign-out has cleared the browser's storage, which may be the next user's by now.
  if (key === ME_KEY && newValue === null) return startAnew(tab);
  if (key?.startsWith(READ_KEY)) client.readElsewhere();
  if (key === LEAVE_KEY) client.forget(newValue);
  if (key === OURS_KEY && newValue !== null) rooms.changedElsewhere();
  if (key === SIGN_IN_KEY && !hasLocks()) client.reconnect(); // a connection of its own keeps the name with which it began
  if ([ME_KEY, SIGN_IN_KEY].includes(key) && client.state.phase === 'stopped') client.connection.checkNow(); // signed in or out
});

// The Back button may show a page that the browser has kept, and that was told of nothing
addEventListener('pageshow', ({ persisted }) => {
  if (!persisted) return;
  if (client.identity.user && browser.getItem(ME_KEY) === null) startAnew(tab);
  else location.reload();
});

enterFromAddress();
if (!hasFingers()) composer.focus();
